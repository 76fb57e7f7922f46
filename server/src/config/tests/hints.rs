//! Values that were meant otherwise than they are read.

use super::*;

/// The only problem of a file.
#[track_caller]
fn refused(yaml: &str) -> String {
    let given = Given::yaml(yaml);
    let error = given.load().config.expect_err(yaml).to_string();
    assert_eq!(error.lines().count(), 1, "{yaml}: {error}");
    given.shorten(&error)
}

#[test]
fn digits_and_words_that_yaml_takes_for_something_else_are_to_be_quoted() {
    let (number, truth) = ("quote it, because without quotes it is a number", "without quotes it is true or false");
    for (yaml, words) in [
        ("server: {api_keys: {backend: [12345], signing: [s]}}", number),
        ("server: {api_keys: {backend: 0123, signing: [s]}}", number),
        ("server: {api_keys: {backend: [0x1f], signing: [s]}}", number),
        ("server: {api_keys: {backend: [1.5e3], signing: [s]}}", number),
        ("server: {api_keys: {backend: [true], signing: [s]}}", truth),
        ("server: {api_keys: {backend: [null], signing: [s]}}", "one of them is empty"),
        ("server: {api_keys: {backend: [a, ~], signing: [s]}}", "one of them is empty"),
        ("server: {db_path: 2024}", number),
        ("server: {db_path: false}", truth),
        ("server: {cors: {allowed_origins: [8080]}}", number),
        ("server: {management_address: 9090}", "in quotes and with a colon"),
        ("encryption: {enabled: true, kms: {provider: vault, endpoint: 'http://v', token: 123}}", number),
        ("encryption: {enabled: true, kms: {master_key_file: 0o17}}", number),
    ] {
        let error = refused(yaml);
        assert!(error.contains(words), "{yaml}: {error}");
        assert!(!error.contains("12345") && !error.contains("0x1f"), "a key is shown: {error}");
    }
}

#[test]
fn keys_of_digits_in_quotes_and_in_variables_are_keys() {
    let config = Given::yaml("server: {api_keys: {backend: ['0123', \"12345\"], signing: ['1']}}").config();
    assert_eq!(exposed(&config.keys.backend), ["0123", "12345"]);
    let config = Given::yaml(KEYS).environment([("PROGRESSDB_API_BACKEND_KEYS", "0123")]).config();
    assert_eq!(exposed(&config.keys.backend), ["0123"]);
}

#[test]
fn sizes_and_durations_say_what_a_number_without_a_unit_is() {
    for (yaml, words) in [
        ("storage: {memory: 256}", "a number without a unit is bytes"),
        ("storage: {memory: '256'}", "a number without a unit is bytes"),
        ("server: {timeouts: {body: 10000}}", "a number without a unit is seconds"),
        ("retention: {enabled: true, mttl: 30d}", "write days in hours, a day is 24h"),
        ("retention: {enabled: true, mttl: 2 weeks}", "write days in hours, a day is 24h"),
        ("logging: {level: '\"info\"'}", "leave out the quotes"),
        ("logging: {level: 'info # all'}", "leave out the comment"),
        ("server: {port: '${PORT}'}", "variables are not replaced here"),
    ] {
        let error = refused(yaml);
        assert!(error.contains(words), "{yaml}: {error}");
    }
}

#[test]
fn tabs_in_yaml_are_named() {
    for yaml in ["server:\n\tport: 1\n", "server:\n  cors:\n  \tallowed_origins: []\n"] {
        let error = refused(yaml);
        assert!(error.contains("by spaces and not by tabs") && error.contains("line "), "{yaml:?}: {error}");
    }
}

#[test]
fn files_of_other_systems_are_read() {
    let yaml = "server:\r\n  port: 81  \r\n  db_path: /data \r\nretention:\r\n  enabled: yes\r\n";
    for text in [yaml.to_owned(), format!("\u{feff}{yaml}")] {
        let config = Given::yaml(&text).config();
        assert_eq!((config.listen.port(), config.retention.enabled), (81, true), "{text:?}");
        assert_eq!(config.db_path, PathBuf::from("/data"));
    }
    let given = Given::yaml(KEYS).file("keys", "\u{feff}sk_b\r\n");
    let file = given.path("keys").display().to_string();
    let config = given.environment([("PROGRESSDB_API_BACKEND_KEYS_FILE", &file)]).config();
    assert_eq!(exposed(&config.keys.backend), ["sk_a", "sk_b"]);
}

#[test]
fn quotes_that_docker_leaves_are_warned_of() {
    let quotes =
        "has quotes that are part of the value (docker --env-file keeps them): leave them out if they are not meant";
    for (name, key, value) in [
        ("PROGRESSDB_DB_PATH", "server.db_path", "\"/data\""),
        ("PROGRESSDB_DB_PATH", "server.db_path", "'/data'"),
        ("PROGRESSDB_API_BACKEND_KEYS", "server.api_keys.backend", "'sk_a'"),
        ("PROGRESSDB_API_BACKEND_KEYS", "server.api_keys.backend", "\"sk_a,sk_b\""),
        ("PROGRESSDB_API_BACKEND_KEYS", "server.api_keys.backend", "[\"sk_a\"]"),
        ("PROGRESSDB_KMS_MASTER_KEY_FILE", "encryption.kms.master_key_file", "\"/key\""),
        ("PROGRESSDB_ENCRYPTION_KMS_TOKEN", "encryption.kms.token", "\"hush\""),
    ] {
        let given = Given::yaml("server: {api_keys: {frontend: [pk_a], signing: [s]}}").environment([(name, value)]);
        given.warned(&[&format!("{key} from {name} {quotes}")]);
    }
    let given = Given::yaml(KEYS).file("keys", "\"sk_b\"\n");
    let file = given.path("keys").display().to_string();
    let given = given.environment([("PROGRESSDB_API_BACKEND_KEYS_FILE", &file)]);
    given.warned(&["a key in DIR/keys has quotes that are part of it: leave them out if they are not meant"]);
}

#[test]
fn values_that_look_right_and_are_not_are_warned_of() {
    let path = "PROGRESSDB_DB_PATH";
    for (value, words) in [
        ("/data # the disk", "has a # that is part of the value: only a .env file has comments behind values"),
        ("/da\u{200b}ta", "has an invisible character, U+200B: leave it out if it is not meant"),
        ("${HOME}/data", "has a ${...} that is taken as it is: variables are not replaced here"),
        ("~/data", "begins with ~, which is a directory of that name here: write the whole path"),
    ] {
        Given::nothing().environment([(path, value)]).warned(&[&format!("server.db_path from {path} {words}")]);
    }
    let given = Given::yaml("server: {api_keys: {backend: ['${API_KEY}'], signing: [s]}}");
    given.warned(&[
        "server.api_keys.backend from DIR/config.yaml has a ${...} that is taken as it is: variables are not replaced here",
    ]);
    Given::yaml("server: {\"port\u{200b}\": 1}")
        .warned(&["unknown key server.port\\u{200b} in DIR/config.yaml is ignored; did you mean server.port?"]);
}

#[test]
fn origins_that_no_browser_sends_are_refused_with_what_to_write() {
    Given::yaml("server: {cors: {allowed_origins: ['https://a.example/', app.example, 'https://ok.example', 'https://*.a.example']}}")
        .refused(&[
            "server.cors.allowed_origins: https://a.example/ from DIR/config.yaml can never match: want https://a.example",
            "server.cors.allowed_origins: app.example from DIR/config.yaml can never match: want https://app.example",
            "server.cors.allowed_origins: https://*.a.example from DIR/config.yaml can never match: want each origin by its name, or * alone for all",
        ]);
}
