//! Refusals and warnings, with their messages.

use super::*;

#[test]
fn problems_name_key_value_allowed_and_source_all_at_once() {
    Given::yaml(
        "server: {port: 70000, max_payload_size: 1XB, ip_whitelist: [localhost]}\ndrain: {timeout: [1]}\nlogging: {level: loud}",
    )
    .environment([("PROGRESSDB_RETENTION_ENABLED", "maybe"), ("PROGRESSDB_RATE_RPS", "-1")])
    .refused(&[
        "server.port: 70000 from DIR/config.yaml is not allowed: want 0-65535",
        "server.max_payload_size: 1XB from DIR/config.yaml is not allowed: want a size from 1KiB to 64MiB",
        "server.rate_limit.rps: -1 from PROGRESSDB_RATE_RPS is not allowed: want a number from 0 to 1000000",
        "server.ip_whitelist: [\"localhost\"] from DIR/config.yaml is not allowed: want a list of IP addresses",
        "drain.timeout: [1] from DIR/config.yaml is not allowed: want a duration from 0s to 1h",
        "retention.enabled: maybe from PROGRESSDB_RETENTION_ENABLED is not allowed: want true or false",
        "logging.level: loud from DIR/config.yaml is not allowed: want one of trace, debug, info, warn, error",
    ]);
}

#[test]
fn settings_that_contradict_each_other_are_refused() {
    Given::yaml("server: {max_payload_size: 2MiB, max_body_memory: 1MiB, management_address: '127.0.0.1:8080'}").refused(&[
        "server.max_body_memory: 1MiB from DIR/config.yaml is not allowed: want at least server.max_payload_size",
        "server.management_address: \"127.0.0.1:8080\" from DIR/config.yaml is not allowed: want an address other than that of the API",
    ]);
}

#[test]
fn a_network_address_needs_keys_unless_a_flag_names_it() {
    Given::yaml("server: {address: 0.0.0.0}").refused(&[&NO_KEYS.replace("ADDRESS_SOURCE", "DIR/config.yaml")]);
    for name in ["PROGRESSDB_ADDR", "PROGRESSDB_SERVER_ADDRESS"] {
        let given = Given::nothing().environment([(name, "0.0.0.0")]);
        given.refused(&[&NO_KEYS.replace("ADDRESS_SOURCE", name)]);
    }
    let flags = Flags { addr: Some(":8080".to_owned()), ..Flags::default() };
    let config = Given::yaml("server: {address: 127.0.0.1}").flags(flags).config();
    assert_eq!((config.development, config.listen), (true, "[::]:8080".parse().unwrap()));
    let config = Given::yaml(KEYS).flags(Flags { addr: Some(":8080".to_owned()), ..Flags::default() }).config();
    assert!(!config.development, "keys that are configured are not replaced");
}

#[test]
fn keys_that_were_refused_are_not_also_missing() {
    Given::yaml("server: {address: 0.0.0.0, api_keys: {backend: [a b]}}").refused(&[
        "server.api_keys.backend: ******** from DIR/config.yaml is not allowed: want a list of keys, each non-empty printable ASCII without white space",
    ]);
}

#[test]
fn signing_keys_are_needed_with_frontend_keys_only() {
    Given::yaml("server: {api_keys: {frontend: [pk_a]}}").refused(&[
        "server.api_keys.signing: not set: want at least one key, here or in server.api_keys.signing_file, because frontend keys are set",
    ]);
    let given = Given::yaml("server: {api_keys: {backend: [sk_a]}}");
    assert!(!given.config().development);
    given.warned(&["server.api_keys.signing is not set: /backend/v1/sign will not work"]);
    Given::yaml("server: {api_keys: {signing: [sign_a]}}").refused(&[
        "server.api_keys: only signing keys are set: want at least one key in server.api_keys.backend, frontend or admin, or in their _file settings",
    ]);
}

#[test]
fn key_files_stand_beside_inline_keys() {
    let given = Given::yaml(KEYS).file("keys", "# ours\nsk_b\n\n  sk_c\r\n");
    let file = given.path("keys").display().to_string();
    let config = given.environment([("PROGRESSDB_API_BACKEND_KEYS_FILE", &file)]).config();
    assert_eq!(exposed(&config.keys.backend), ["sk_a", "sk_b", "sk_c"]);
}

#[test]
fn bad_key_files_are_refused_without_quoting_them() {
    let check = |text: Option<&str>, reason: &str| {
        let given = Given::nothing();
        let file = given.path("keys").display().to_string();
        let given = given.environment([("PROGRESSDB_API_ADMIN_KEYS_FILE", &file)]);
        let given = match text {
            Some(text) => given.file("keys", text),
            None => given,
        };
        given.refused(&[&format!(
            "server.api_keys.admin_file: DIR/keys from PROGRESSDB_API_ADMIN_KEYS_FILE {reason}: want a readable file with one key a line"
        )]);
    };
    check(None, "cannot be read (No such file or directory (os error 2))");
    check(Some("# nothing\n"), "holds no key");
    let odd = "has something else than printable ASCII without white space in line 2";
    check(Some("good\nhidden hidden\n"), odd);
    check(Some("good\nhidd\u{e9}n\n"), odd);
}

#[test]
fn secrets_appear_nowhere() {
    let secret = "hunter2";
    let yamls = [
        "server: {api_keys: {backend: [hunter2], frontend: [hunter2], admin: [hunter2], signing: [hunter2]}}",
        "server: {api_keys: {backend: ['hunter2 hunter2']}}",
        "server: {api_keys: {backend: {hunter2: 1}}}",
        "server: {api_keys: hunter2}",
        "server: {api_keys: [hunter2]}",
        "server: {api_key: hunter2}",
        "server:\n  api_keys:\n    backend: [*hunter2]",
        "server:\n  api_keys:\n    backend: [!hunter2 x]",
        "server:\n  api_keys:\n    backend: [hunter2\n",
        "server:\n  api_keys:\n    backend: \"hunter2\\q\"",
        "server:\n  api_keys:\n    backend: @hunter2",
        "server:\n  api_keys:\n\tbackend: hunter2",
        "encryption: {kms: {master_key_hex: hunter2}}",
        "hunter2",
    ];
    for yaml in yamls {
        let loaded = Given::yaml(yaml).load();
        let report = loaded.to_report().to_string();
        let all = format!("{report}\n{}\n{loaded:?}", loaded.to_yaml());
        assert!(!all.contains(secret), "{yaml}\n{all}");
        if let Err(error) = loaded.config {
            assert!(!error.to_string().contains(secret), "{yaml}\n{error}");
        }
    }
    let loaded = Given::nothing().environment([("PROGRESSDB_API_ADMIN_KEYS", "hunter2 hunter2")]).load();
    assert_eq!(
        loaded.config.unwrap_err().to_string(),
        "server.api_keys.admin: ******** from PROGRESSDB_API_ADMIN_KEYS is not allowed: want a list of keys, each non-empty printable ASCII without white space"
    );
}

#[test]
fn unknown_names_warn_with_the_nearest_known_one() {
    Given::yaml("server: {prot: 1, tls: {cert_file: x}}\nsecurity: {rate_limit: {rps: 5}}\nzzz: 1\nvalidation: {}")
        .environment([("PROGRESSDB_SERVER_PROT", "1"), ("PROGRESSDB_ZZZZZZZZ", "1"), ("OTHER", "1")])
        .warned(&[
            "unknown key security.rate_limit.rps in DIR/config.yaml is ignored; did you mean server.rate_limit.rps?",
            "unknown key server.prot in DIR/config.yaml is ignored; did you mean server.port?",
            "unknown key server.tls.cert_file in DIR/config.yaml is ignored",
            "unknown key validation in DIR/config.yaml is ignored",
            "unknown key zzz in DIR/config.yaml is ignored",
            "unknown variable PROGRESSDB_SERVER_PROT is ignored; did you mean PROGRESSDB_SERVER_PORT?",
            "unknown variable PROGRESSDB_ZZZZZZZZ is ignored",
        ]);
}

#[test]
fn variables_that_kubernetes_sets_for_a_service_of_our_name_are_not_ours() {
    let given = Given::nothing().environment([
        ("PROGRESSDB_PORT", "tcp://10.0.0.1:8080"),
        ("PROGRESSDB_SERVER_PORT", "tcp://10.0.0.1:8080"),
        ("PROGRESSDB_SERVICE_HOST", "10.0.0.1"),
        ("PROGRESSDB_SERVER_SERVICE_PORT_HTTP", "8080"),
        ("PROGRESSDB_PORT_8080_TCP_ADDR", "10.0.0.1"),
    ]);
    given.warned(&[]);
    assert_eq!(given.config().listen.port(), 8080);
}
