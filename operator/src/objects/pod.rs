//! What the pods of the server and of Jobs have in common: who they run as, what they mount, what they may not do.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::{API_PORT, Inputs, MANAGEMENT_PORT, hash, names};
use crate::crd::{Kms, ProgressDB, ProgressDBSpec, SecurityContext};

/// Raise it when a new operator must restart every server; else an operator's upgrade restarts none.
const TEMPLATE_REVISION: u32 = 1;
/// Secrets are readable by the pod's group, which is the server's.
const SECRET_MODE: u32 = 0o440;

pub(super) const CONFIG_FILE: &str = "config.yaml";
const CONFIG: &str = "/etc/progressdb";
pub(super) const API_KEYS: &str = "/run/secrets/progressdb/api-keys";
pub(super) const KMS: &str = "/run/secrets/progressdb/kms";
pub(super) const KMS_CA: &str = "/run/secrets/progressdb/kms-ca";
pub(super) const STORE: &str = "/run/secrets/progressdb/cassandra";
pub(super) const STORE_TLS: &str = "/run/secrets/progressdb/cassandra-tls";
pub(super) const IDENTITY: &str = "/run/secrets/progressdb/identity";

/// Where the settings are found in the container.
pub(super) fn config_path() -> String {
    format!("{CONFIG}/{CONFIG_FILE}")
}

/// The Secret with the API keys, named or generated.
pub fn api_key_secret(resource: &ProgressDB) -> String {
    let named = resource.spec.api_keys.as_ref().map(|keys| keys.secret_name.clone());
    named.unwrap_or_else(|| names::api_keys(resource.metadata.name.as_deref().unwrap_or_default()))
}

/// The value of the annotation [`super::labels::ROLL`]: another one means that the pod must be restarted. It is made
/// from what people wrote and not from the template, so that a new operator with another template restarts nothing.
pub fn roll(inputs: &Inputs<'_>) -> String {
    let spec = &inputs.resource.spec;
    let mut made_of = json!({
        "revision": TEMPLATE_REVISION,
        "image": inputs.release.image,
        "settings": inputs.release.settings,
        "apiKeys": [json!(spec.api_keys), json!(inputs.key_entries)],
        "kms": [json!(spec.kms), json!(inputs.role_id)],
        "secrets": inputs.read_at_start,
        "drain": spec.drain,
        "resources": spec.resources,
        "placement": placement(spec),
        "metadata": [json!(spec.pod_annotations), json!(spec.pod_labels)],
    });
    // Fields that came later count only where they are set, so that a new operator restarts nothing.
    if let Some(security) = &spec.security_context {
        made_of["securityContext"] = json!(security);
    }
    if let Some(cassandra) = spec.storage.cassandra() {
        // Of a keyspace that is there the replication factor changes nothing.
        let reached = json!([cassandra.contact_points, cassandra.datacenter, cassandra.keyspace]);
        let secrets =
            json!([cassandra.credentials_secret_ref, cassandra.tls_secret_ref, inputs.has_client_certificate]);
        made_of["cassandra"] = json!([reached, secrets]);
    }
    hash(made_of.to_string().as_bytes())
}

/// What decides which nodes can take a pod.
pub(super) fn placement(spec: &ProgressDBSpec) -> Value {
    json!([
        json!(spec.node_selector),
        json!(spec.affinity),
        json!(spec.tolerations),
        json!(spec.topology_spread_constraints),
        json!(spec.priority_class_name),
    ])
}

/// A pod's spec without its containers; `config` is the volume with the settings.
pub(super) fn spec(inputs: &Inputs<'_>, config: Value) -> Map<String, Value> {
    let spec = &inputs.resource.spec;
    let mut volumes = vec![config];
    volumes.extend(secrets(inputs).into_iter().map(|(name, source, _)| with_name(source, name)));
    let mut pod = object(json!({
        "serviceAccountName": service_account_name(inputs.resource),
        "automountServiceAccountToken": false,
        "enableServiceLinks": false,
        "securityContext": security(spec),
        "volumes": volumes,
    }));
    set(&mut pod, "imagePullSecrets", json!(spec.image_pull_secrets));
    set(&mut pod, "nodeSelector", json!(spec.node_selector));
    set(&mut pod, "tolerations", json!(spec.tolerations));
    set(&mut pod, "priorityClassName", json!(spec.priority_class_name));
    pod
}

/// Not root, and the ids that were asked for; what is unset the cluster assigns.
fn security(spec: &ProgressDBSpec) -> Map<String, Value> {
    let mut security = object(json!({
        "runAsNonRoot": true,
        "fsGroupChangePolicy": "OnRootMismatch",
        "seccompProfile": { "type": "RuntimeDefault" },
    }));
    security.extend(object(json!(spec.security_context.as_ref().unwrap_or(&SecurityContext::OF_IMAGE))));
    security
}

/// A container of the server's image.
pub(super) fn container(inputs: &Inputs<'_>, name: &str, args: &[&str]) -> Map<String, Value> {
    let spec = &inputs.resource.spec;
    let mut mounts = vec![mount("config", CONFIG)];
    mounts.extend(secrets(inputs).into_iter().map(|(name, _, path)| mount(name, path)));
    let mut container = object(json!({
        "name": name,
        "image": inputs.release.image,
        "args": args,
        "securityContext": {
            "allowPrivilegeEscalation": false,
            "readOnlyRootFilesystem": true,
            "capabilities": { "drop": ["ALL"] },
        },
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": mounts,
    }));
    set(&mut container, "imagePullPolicy", json!(spec.image_pull_policy));
    container
}

/// The volume with the settings of a release, and without the pod template that its ConfigMap holds as well.
pub fn release_volume(config_map: &str) -> Value {
    let items = json!([{ "key": CONFIG_FILE, "path": CONFIG_FILE }]);
    json!({ "name": "config", "configMap": { "name": config_map, "items": items } })
}

/// The volume with the data.
pub(super) fn data_volume(claim: &str) -> Value {
    json!({ "name": "data", "persistentVolumeClaim": { "claimName": claim } })
}

/// Where the data is found in a container.
pub(super) fn data_mount() -> Value {
    json!({ "name": "data", "mountPath": "/data" })
}

/// The ports of a container that serves.
pub(super) fn ports() -> Value {
    let ports = [("http", API_PORT), ("management", MANAGEMENT_PORT)];
    ports.map(|(name, port)| json!({ "name": name, "containerPort": port, "protocol": "TCP" })).into()
}

/// Sets a field, unless the value is nothing.
pub(super) fn set(object: &mut Map<String, Value>, field: &str, value: Value) {
    let is_nothing = match &value {
        Value::Null => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        _ => false,
    };
    if !is_nothing {
        object.insert(field.to_owned(), value);
    }
}

/// The fields of an object that was written out.
pub(super) fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(fields) => fields,
        other => unreachable!("an object was written, not {other}"),
    }
}

/// The service account that the pods run as: an own one, or that which AWS trusts.
fn service_account_name(resource: &ProgressDB) -> String {
    let aws = resource.spec.kms.as_ref().and_then(|kms| kms.aws.as_ref());
    let named =
        aws.and_then(|aws| aws.credentials.as_ref()).and_then(|credentials| credentials.service_account_name.clone());
    named.unwrap_or_else(|| names::service_account(resource.metadata.name.as_deref().unwrap_or_default()))
}

/// Volumes with secrets: name, source and where it is mounted. Whole directories, so that a change reaches the server.
fn secrets(inputs: &Inputs<'_>) -> Vec<(&'static str, Value, &'static str)> {
    let secret = |name: &str| json!({ "secret": { "secretName": name, "defaultMode": SECRET_MODE } });
    let mut volumes = vec![("api-keys", secret(&api_key_secret(inputs.resource)), API_KEYS)];
    let cassandra = inputs.resource.spec.storage.cassandra();
    let credentials = cassandra.and_then(|cassandra| cassandra.credentials_secret_ref.as_ref());
    volumes.extend(credentials.map(|named| ("cassandra", secret(&named.name), STORE)));
    let tls = cassandra.and_then(|cassandra| cassandra.tls_secret_ref.as_ref());
    volumes.extend(tls.map(|named| ("cassandra-tls", secret(&named.name), STORE_TLS)));
    let Some(kms) = &inputs.resource.spec.kms else { return volumes };
    volumes.extend(kms_secret(kms).map(|name| ("kms", secret(name), KMS)));
    let vault = kms.vault.as_ref();
    let authority = vault.and_then(|vault| vault.ca_secret_name.as_ref());
    let authority = authority.or_else(|| kms.http.as_ref().and_then(|http| http.ca_secret_name.as_ref()));
    volumes.extend(authority.map(|name| ("kms-ca", secret(name), KMS_CA)));
    if vault.is_some_and(|vault| vault.auth.kubernetes_role.is_some()) {
        let token = json!({ "serviceAccountToken": { "path": "token", "expirationSeconds": 3600 } });
        let identity = json!({ "projected": { "sources": [token], "defaultMode": SECRET_MODE } });
        volumes.push(("identity", identity, IDENTITY));
    }
    volumes
}

/// The Secret by which the server proves to the KMS who it is, or that holds the key itself.
fn kms_secret(kms: &Kms) -> Option<&String> {
    let aws = kms.aws.as_ref().and_then(|aws| aws.credentials.as_ref()?.secret_name.as_ref());
    let vault = kms.vault.as_ref().map(|vault| &vault.auth);
    let vault = vault.and_then(|auth| auth.token_secret_name.as_ref().or(auth.app_role_secret_name.as_ref()));
    let http = kms.http.as_ref().and_then(|http| http.token_secret_name.as_ref());
    aws.or(vault).or(http).or(kms.embedded.as_ref().map(|embedded| &embedded.secret_name))
}

fn mount(name: &str, path: &str) -> Value {
    json!({ "name": name, "mountPath": path, "readOnly": true })
}

fn with_name(mut volume: Value, name: &str) -> Value {
    volume["name"] = json!(name);
    volume
}

/// Labels of a pod: what people add, and over it what Services select by.
pub(super) fn labels_over(more: &BTreeMap<String, String>, own: BTreeMap<String, String>) -> BTreeMap<String, String> {
    more.clone().into_iter().chain(own).collect()
}
