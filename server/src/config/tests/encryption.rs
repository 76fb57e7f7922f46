//! Which KMS the settings name, and what each provider needs.

use super::*;
use crate::crypt::kms::settings::{MasterKey, Provider, Secret, VaultAuth};

const HEX: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

fn enabled(kms: &str) -> Given {
    Given::yaml(&format!("encryption: {{enabled: true, kms: {{{kms}}}}}"))
}

#[track_caller]
fn provider(given: &Given) -> Provider {
    given.warned(&[]);
    given.config().encryption.kms.expect("the settings are complete").provider
}

#[test]
fn without_any_setting_nothing_is_encrypted_and_the_rest_has_its_defaults() {
    let encryption = Given::nothing().config().encryption;
    assert!(!encryption.enabled && encryption.kms.is_none());
    let missing: Vec<_> = encryption.missing.iter().map(|problem| problem.message.as_str()).collect();
    assert_eq!(
        missing,
        [
            "encryption.kms.master_key_hex: not set: want one here or in encryption.kms.master_key_file, because the KMS provider is local"
        ]
    );
    assert_eq!(
        (encryption.epoch_age, encryption.erasure_horizon),
        (Duration::from_hours(2160), Duration::from_hours(24))
    );
    assert_eq!((encryption.key_cache, encryption.rewrap_rate), (20_000, 1000));
    let probes = [encryption.probe_interval, encryption.probe_interval_failing];
    assert_eq!(probes, [Duration::from_secs(60), Duration::from_secs(10)]);
}

#[test]
fn a_file_of_go_0_2_that_encrypts_names_a_provider() {
    let given = enabled(&format!("mode: embedded, master_key_hex: {HEX}"));
    let settings = given.config().encryption.kms.expect("complete");
    assert_eq!([settings.timeout, settings.grace], [Duration::from_secs(5), Duration::from_hours(1)]);
    assert_eq!(settings.seal_grace, Duration::from_mins(3));
    assert!(matches!(provider(&given), Provider::Local(local) if matches!(local.keys[..], [MasterKey::Hex(_)])));
    let Provider::Http(http) = provider(&enabled("mode: external")) else { panic!("another provider") };
    assert_eq!((http.endpoint.as_str(), http.key.as_str()), ("127.0.0.1:6820", "progressdb"));
    assert!(http.token.is_none() && http.ca_file.is_none());
}

#[test]
fn master_keys_come_from_variables_too_with_escrow_behind_them() {
    let given = Given::yaml("encryption: {enabled: true, kms: {escrow_key_files: [/b, /c]}}")
        .environment([("PROGRESSDB_KMS_MASTER_KEY_FILE", "/a")]);
    let Provider::Local(local) = provider(&given) else { panic!("another provider") };
    assert_eq!(format!("{:?}", local.keys), r#"[File("/a"), File("/b"), File("/c")]"#);
}

#[test]
fn every_setting_of_aws_arrives() {
    let given = enabled(
        "provider: aws, key_id: alias/chat, endpoint: 'http://127.0.0.1:1', aws: {region: eu-central-1, credentials_file: /c, profile: p}",
    );
    let Provider::Aws(aws) = provider(&given) else { panic!("another provider") };
    let texts = [Some(aws.key_id), aws.region, aws.endpoint, aws.profile];
    let wanted = ["alias/chat", "eu-central-1", "http://127.0.0.1:1", "p"].map(|text| Some(text.to_owned()));
    assert_eq!((texts, aws.credentials_file), (wanted, Some("/c".into())));
}

#[test]
fn every_setting_of_vault_arrives() {
    let base = "provider: vault, endpoint: 'https://v', ca_file: /ca";
    let vault = |more: &str| match provider(&enabled(&format!("{base}, {more}"))) {
        Provider::Vault(vault) => vault,
        other => panic!("another provider: {other:?}"),
    };
    let plain = vault("token_file: /t");
    let texts = [plain.address.as_str(), &plain.key, &plain.mount];
    assert_eq!(texts, ["https://v", "progressdb", "transit"]);
    assert_eq!((plain.namespace, plain.ca_file), (None, Some("/ca".into())));
    assert!(matches!(plain.auth, VaultAuth::Token(Secret::File(path)) if path.as_os_str() == "/t"));

    let role = vault("key_id: k, vault: {mount: m, namespace: ns, auth: approle, role_id: r, secret_id: s}");
    assert_eq!((role.key, role.mount, role.namespace), ("k".to_owned(), "m".to_owned(), Some("ns".to_owned())));
    let VaultAuth::AppRole { mount, role_id, secret_id: Secret::Inline(secret_id) } = role.auth else {
        panic!("another auth: {:?}", role.auth)
    };
    assert_eq!((mount.as_str(), role_id.as_str(), secret_id.expose_secret()), ("approle", "r", "s"));

    let account = vault("vault: {auth: kubernetes, auth_mount: k8s, role: r}");
    let VaultAuth::Kubernetes { mount, role, jwt_file } = account.auth else {
        panic!("another auth: {:?}", account.auth)
    };
    assert_eq!((mount.as_str(), role.as_str()), ("k8s", "r"));
    assert_eq!(jwt_file, PathBuf::from("/var/run/secrets/kubernetes.io/serviceaccount/token"));
}

#[test]
fn what_the_provider_needs_is_asked_for_by_name() {
    let but = "not set, but encryption.enabled is true from DIR/config.yaml";
    for (kms, wanted) in [
        (
            "",
            &[
                "master_key_hex: NOT_SET: want one here or in encryption.kms.master_key_file, because the KMS provider is local",
            ][..],
        ),
        ("provider: aws", &["key_id: NOT_SET: want id, ARN or alias of a key, because the KMS provider is aws"]),
        (
            "provider: vault",
            &[
                "endpoint: NOT_SET: want the URL of Vault, because the KMS provider is vault",
                "token: NOT_SET: want one here or in encryption.kms.token_file, because the auth is token",
            ],
        ),
        (
            "provider: vault, endpoint: v, vault: {auth: approle}",
            &[
                "vault.role_id: NOT_SET: want a role id, because the auth is approle",
                "vault.secret_id: NOT_SET: want one here or in encryption.kms.vault.secret_id_file, because the auth is approle",
            ],
        ),
        (
            "provider: vault, endpoint: v, vault: {auth: kubernetes}",
            &["vault.role: NOT_SET: want a role, because the auth is kubernetes"],
        ),
    ] {
        let messages: Vec<_> =
            wanted.iter().map(|text| format!("encryption.kms.{}", text.replace("NOT_SET", but))).collect();
        enabled(kms).refused(&messages.iter().map(String::as_str).collect::<Vec<_>>());
    }
}

#[test]
fn settings_that_contradict_each_other_are_refused_and_secrets_are_not_shown() {
    for (kms, wanted) in [
        (
            format!("provider: vault, mode: embedded, endpoint: v, token: t, master_key_hex: {HEX}"),
            "mode: \"embedded\" from DIR/config.yaml is not allowed: want nothing, because encryption.kms.provider is vault",
        ),
        (
            format!("master_key_file: /a, master_key_hex: {HEX}"),
            "master_key_hex: ******** from DIR/config.yaml is not allowed: want nothing, because encryption.kms.master_key_file is set",
        ),
        (
            "master_key_hex: hunter2".to_owned(),
            "master_key_hex: ******** from DIR/config.yaml is not allowed: want 64 hexadecimal digits",
        ),
        (
            "master_key_hex: 1234".to_owned(),
            "master_key_hex: ******** from DIR/config.yaml is not allowed: want printable ASCII without white space; quote it, because without quotes it is a number",
        ),
        (
            "provider: http, key_id: 'a:b'".to_owned(),
            "key_id: \"a:b\" from DIR/config.yaml is not allowed: want a name without / and :",
        ),
        (
            "provider: http, grace: 1m, seal_grace: 2m".to_owned(),
            "seal_grace: 2m from DIR/config.yaml is not allowed: want at most encryption.kms.grace",
        ),
        (
            "provider: gcp, mode: external".to_owned(),
            "provider: gcp from DIR/config.yaml is not allowed: want one of local, aws, vault, http",
        ),
    ] {
        let given = enabled(&kms);
        given.refused(&[&format!("encryption.kms.{wanted}")]);
    }
}

#[test]
fn settings_of_another_provider_warn_and_only_if_anything_is_encrypted() {
    let given = enabled("provider: http, aws: {region: r}, vault: {mount: m}, master_key_file: /a");
    given.warned(&[
        "encryption.kms.master_key_file from DIR/config.yaml has no effect with the KMS provider http",
        "encryption.kms.aws.region from DIR/config.yaml has no effect with the KMS provider http",
        "encryption.kms.vault.mount from DIR/config.yaml has no effect with the KMS provider http",
    ]);
    assert!(given.config().encryption.kms.is_some());
    let off = Given::yaml("encryption: {enabled: false, kms: {provider: http, aws: {region: r}}}");
    off.warned(&[]);
    assert!(off.config().encryption.kms.is_some(), "what is complete can be checked before it is enabled");
}

#[test]
fn what_is_wrong_with_encryption_stops_nobody_who_does_not_encrypt() {
    let given = Given::yaml("encryption: {epoch_age: never, kms: {provider: gcp, mode: embedded, master_key_hex: 12}}");
    given.warned(&[
        "encryption.epoch_age: never from DIR/config.yaml is not allowed: want a duration from 1s to 876000h",
        "encryption.kms.provider: gcp from DIR/config.yaml is not allowed: want one of local, aws, vault, http",
        "encryption.kms.master_key_hex: ******** from DIR/config.yaml is not allowed: want printable ASCII without white space; quote it, because without quotes it is a number",
    ]);
    let encryption = given.config().encryption;
    assert!(!encryption.enabled && encryption.kms.is_none());
    Given::yaml("encryption: {enabled: perhaps}")
        .refused(&["encryption.enabled: perhaps from DIR/config.yaml is not allowed: want true or false"]);
}

#[test]
fn no_secret_of_the_kms_appears_anywhere() {
    for kms in [
        format!("provider: local, master_key_hex: {HEX}"),
        format!("provider: http, token: {HEX}"),
        format!("provider: vault, endpoint: v, vault: {{auth: approle, role_id: r, secret_id: {HEX}}}"),
    ] {
        let loaded = enabled(&kms).load();
        let yaml = loaded.to_yaml();
        let all = format!("{yaml}\n{loaded:?}\n{}", loaded.to_report());
        assert!(loaded.config.is_ok() && yaml.contains("\"********\"") && !all.contains(HEX), "{all}");
    }
}
