//! The server's settings: those of the resource, and over them those that follow from where and how it runs here.

use serde_json::{Map, Value, json};

use super::{
    Inputs, labels, names, owned, pod,
    server::{hold, template},
};
use crate::crd::{CassandraStorage, Kms, ProgressDBSpec, Storage, UpgradeStrategy};

/// The longest settings, in bytes of YAML: a ConfigMap takes four times as much.
pub const LONGEST: usize = 262_144;

/// The entry of a release's ConfigMap that holds its pod template.
pub const TEMPLATE_FILE: &str = "template.json";
/// The entry that holds its settings.
pub const SETTINGS_FILE: &str = pod::CONFIG_FILE;

/// Entries of a Secret with API keys.
pub const KEY_ENTRIES: [&str; 4] = ["admin", "backend", "frontend", "signing"];

/// Settings, and sections, that the operator sets itself.
const OWNED: [&str; 25] = [
    "server.address",
    "server.port",
    "server.management_address",
    "server.db_path",
    "server.api_keys",
    "storage.cassandra",
    "drain",
    "format.finalize",
    "encryption.enabled",
    "encryption.kms.provider",
    "encryption.kms.mode",
    "encryption.kms.endpoint",
    "encryption.kms.master_key_file",
    "encryption.kms.master_key_hex",
    "encryption.kms.escrow_key_files",
    "encryption.kms.ca_file",
    "encryption.kms.token",
    "encryption.kms.token_file",
    "encryption.kms.aws",
    "encryption.kms.vault.mount",
    "encryption.kms.vault.auth",
    "encryption.kms.vault.role",
    "encryption.kms.vault.role_id",
    "encryption.kms.vault.secret_id",
    "encryption.kms.vault.secret_id_file",
];
/// Settings that stand in sections.
const SECTIONS: [&str; 7] =
    ["server", "storage", "logging", "format", "encryption", "encryption.kms", "encryption.kms.vault"];

/// What is wrong with the settings of a resource, one sentence each, before the server is asked.
pub fn refused(spec: &ProgressDBSpec) -> Vec<String> {
    let own_key = spec.kms.as_ref().is_some_and(|kms| kms.aws.is_some() || kms.vault.is_some());
    let owned =
        OWNED.into_iter().chain(own_key.then_some("encryption.kms.key_id")).chain(["encryption.kms.vault.jwt_file"]);
    let taken = owned.filter(|path| lookup(&spec.settings, path).is_some()).map(|path| {
        let instead = match path {
            "server.api_keys" => "use spec.apiKeys",
            "storage.cassandra" => "use spec.storage.cassandra",
            "drain" => "use spec.drain",
            "format.finalize" => "use spec.upgrade.strategy",
            _ if path.starts_with("encryption.") => "use spec.kms",
            _ => "remove it",
        };
        format!("spec.settings.{path} is set by the operator: {instead}")
    });
    let shapeless = SECTIONS
        .into_iter()
        .filter(|path| lookup(&spec.settings, path).is_some_and(|value| !value.is_object() && !value.is_null()))
        .map(|path| format!("spec.settings.{path} is a section: write settings below it"));
    taken.chain(shapeless).collect()
}

/// The settings as text; stable, since a hash of them is kept. Secrets are in none of them.
pub fn render(inputs: &Inputs<'_>) -> String {
    let mut settings = inputs.release.settings.clone();
    if lookup(&settings, "logging.format").is_none() {
        insert(&mut settings, "logging.format", json!("json"));
    }
    for (path, value) in own_settings(inputs) {
        insert(&mut settings, &path, value);
    }
    serde_saphyr::to_string(&settings).expect("JSON can be written as YAML")
}

/// The ConfigMap of the release: the settings, which the pod mounts, and the pod template. It is never changed, so that what
/// a pod reads when it starts again is what it started with, and going back brings the old settings back.
pub fn config_map(inputs: &Inputs<'_>) -> Value {
    let name = config_map_name(inputs);
    release_map(inputs, &name, &json!(render(inputs)), &template(inputs, &name))
}

/// The ConfigMap of a release with these settings and this pod template.
pub fn release_map(inputs: &Inputs<'_>, name: &str, settings: &Value, template: &Value) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": owned(inputs.resource, name, labels::of(&inputs.name(), labels::Component::Server)),
        "immutable": true,
        "data": { pod::CONFIG_FILE: settings, TEMPLATE_FILE: template.to_string() },
    })
}

/// The name of that ConfigMap: another one for other settings, and for another pod template.
pub(super) fn config_map_name(inputs: &Inputs<'_>) -> String {
    let made_of = json!([template(inputs, ""), render(inputs)]);
    names::config_map(&inputs.name(), &super::hash(made_of.to_string().as_bytes()))
}

/// The settings of a ConfigMap of this kind.
pub fn config_text(config_map: &Value) -> Option<&str> {
    config_map.get("data")?.get(pod::CONFIG_FILE)?.as_str()
}

fn own_settings(inputs: &Inputs<'_>) -> Vec<(String, Value)> {
    let spec = &inputs.resource.spec;
    let mut settings: Vec<(String, Value)> = [
        ("server.address", json!("::")),
        ("server.port", json!(super::API_PORT)),
        ("server.management_address", json!(format!("[::]:{}", super::MANAGEMENT_PORT))),
        ("drain.hold", json!(hold(spec))),
        ("drain.timeout", json!(spec.drain.timeout)),
        // A guarded upgrade changes the format in a step of its own, with a snapshot.
        ("format.finalize", json!(if spec.upgrade.strategy == UpgradeStrategy::Guarded { "manual" } else { "auto" })),
    ]
    .map(|(path, value)| (path.to_owned(), value))
    .into();
    match &spec.storage {
        Storage::Embedded(_) => settings.push(("server.db_path".into(), json!("/data/db"))),
        Storage::Cassandra(cassandra) => settings.extend(cassandra_settings(cassandra, inputs.has_client_certificate)),
    }
    for entry in inputs.key_entries {
        settings.push((format!("server.api_keys.{entry}_file"), json!(format!("{}/{entry}", pod::API_KEYS))));
    }
    let Some(kms) = &spec.kms else { return settings };
    settings.push(("encryption.enabled".into(), json!(true)));
    let kms = kms_settings(kms, inputs.role_id).into_iter().filter(|(_, value)| !value.is_null());
    settings.extend(kms.map(|(path, value)| (format!("encryption.kms.{path}"), value)));
    settings
}

/// How the servers of a fleet reach their store.
fn cassandra_settings(cassandra: &CassandraStorage, has_client_certificate: bool) -> Vec<(String, Value)> {
    let mut settings = vec![
        ("contact_points", json!(cassandra.contact_points)),
        ("datacenter", json!(cassandra.datacenter)),
        ("keyspace", json!(cassandra.keyspace)),
        ("replication_factor", json!(cassandra.replication_factor)),
    ];
    if cassandra.credentials_secret_ref.is_some() {
        settings.push(("credentials.username_file", json!(format!("{}/username", pod::STORE))));
        settings.push(("credentials.password_file", json!(format!("{}/password", pod::STORE))));
    }
    if cassandra.tls_secret_ref.is_some() {
        settings.push(("tls.enabled", json!(true)));
        settings.push(("tls.ca_file", json!(format!("{}/ca.crt", pod::STORE_TLS))));
        if has_client_certificate {
            settings.push(("tls.certificate_file", json!(format!("{}/tls.crt", pod::STORE_TLS))));
            settings.push(("tls.key_file", json!(format!("{}/tls.key", pod::STORE_TLS))));
        }
    }
    settings.into_iter().map(|(path, value)| (format!("storage.cassandra.{path}"), value)).collect()
}

/// Settings below `encryption.kms`; null is unset.
fn kms_settings(kms: &Kms, role_id: Option<&str>) -> Vec<(&'static str, Value)> {
    let secret = |entry: &str| json!(format!("{}/{entry}", pod::KMS));
    let secret_if = |named: bool, entry: &str| if named { secret(entry) } else { Value::Null };
    let ca = |name: &Option<String>| name.as_ref().map_or(Value::Null, |_| json!(format!("{}/ca.crt", pod::KMS_CA)));
    if let Some(aws) = &kms.aws {
        let has_secret = aws.credentials.as_ref().is_some_and(|credentials| credentials.secret_name.is_some());
        return vec![
            ("provider", json!("aws")),
            ("key_id", json!(aws.key_id)),
            ("endpoint", json!(aws.endpoint)),
            ("aws.region", json!(aws.region)),
            ("aws.credentials_file", secret_if(has_secret, "credentials")),
        ];
    }
    if let Some(vault) = &kms.vault {
        let mut settings = vec![
            ("provider", json!("vault")),
            ("endpoint", json!(vault.address)),
            ("key_id", json!(vault.key)),
            ("ca_file", ca(&vault.ca_secret_name)),
            ("vault.mount", json!(vault.mount)),
        ];
        let auth = &vault.auth;
        settings.extend(match (&auth.kubernetes_role, &auth.app_role_secret_name) {
            (Some(role), _) => vec![
                ("vault.auth", json!("kubernetes")),
                ("vault.role", json!(role)),
                ("vault.jwt_file", json!(format!("{}/token", pod::IDENTITY))),
            ],
            (None, Some(_)) => vec![
                ("vault.auth", json!("approle")),
                ("vault.role_id", json!(role_id)),
                ("vault.secret_id_file", secret("secret-id")),
            ],
            (None, None) => vec![("vault.auth", json!("token")), ("token_file", secret("token"))],
        });
        return settings;
    }
    if let Some(http) = &kms.http {
        return vec![
            ("provider", json!("http")),
            ("endpoint", json!(http.url)),
            ("ca_file", ca(&http.ca_secret_name)),
            ("token_file", secret_if(http.token_secret_name.is_some(), "token")),
        ];
    }
    vec![("provider", json!("local")), ("master_key_file", secret("master.key"))]
}

fn lookup<'a>(settings: &'a Map<String, Value>, path: &str) -> Option<&'a Value> {
    let (section, rest) = path.split_once('.').map_or((path, None), |(section, rest)| (section, Some(rest)));
    let value = settings.get(section)?;
    match rest {
        None => Some(value),
        Some(rest) => lookup(value.as_object()?, rest),
    }
}

fn insert(settings: &mut Map<String, Value>, path: &str, value: Value) {
    let Some((section, rest)) = path.split_once('.') else {
        settings.insert(path.to_owned(), value);
        return;
    };
    let section = settings.entry(section).or_insert_with(|| json!({}));
    if !section.is_object() {
        *section = json!({});
    }
    insert(section.as_object_mut().expect("made one a line above"), rest, value);
}
