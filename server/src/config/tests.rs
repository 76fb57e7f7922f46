use std::{fs, path::PathBuf};

use secrecy::{ExposeSecret, SecretString};
use tempfile::TempDir;

use super::{settings::SETTINGS, *};
use crate::telemetry::LogFormat;

mod encryption;
mod env_file;
mod hints;
mod outgoing;
mod refusals;

/// Sources under test, in a directory of their own.
struct Given {
    directory: TempDir,
    environment: Environment,
    flags: Flags,
}

impl Given {
    fn nothing() -> Self {
        Self { directory: tempfile::tempdir().unwrap(), environment: Environment::default(), flags: Flags::default() }
    }

    fn yaml(text: &str) -> Self {
        Self::nothing().file("config.yaml", text)
    }

    fn file(self, name: &str, text: &str) -> Self {
        fs::write(self.path(name), text).unwrap();
        self
    }

    fn environment<const N: usize>(self, pairs: [(&str, &str); N]) -> Self {
        Self { environment: Environment::from(pairs), ..self }
    }

    fn flags(self, flags: Flags) -> Self {
        Self { flags, ..self }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn load(&self) -> Loaded {
        load(&Sources {
            environment: self.environment.clone(),
            directory: self.directory.path().to_owned(),
            flags: self.flags.clone(),
            only_file: false,
        })
    }

    #[track_caller]
    fn config(&self) -> Config {
        self.load().config.unwrap()
    }

    /// Messages without the name of the directory.
    fn shorten(&self, text: &str) -> String {
        text.replace(&self.directory.path().display().to_string(), "DIR")
    }

    #[track_caller]
    fn refused(&self, messages: &[&str]) {
        let error = self.load().config.unwrap_err().to_string();
        assert_eq!(self.shorten(&error).lines().collect::<Vec<_>>(), messages);
    }

    #[track_caller]
    fn warned(&self, messages: &[&str]) {
        let loaded = self.load();
        let warnings: Vec<_> = loaded.warnings.iter().map(|warning| self.shorten(&warning.message)).collect();
        assert_eq!(warnings, messages);
    }
}

fn exposed(keys: &[SecretString]) -> Vec<&str> {
    keys.iter().map(ExposeSecret::expose_secret).collect()
}

const KEYS: &str = "server: {api_keys: {backend: [sk_a], signing: [sign_a]}}";
const NO_KEYS: &str = "server.api_keys: none are set, but the address is 0.0.0.0 from ADDRESS_SOURCE: want at least one key in server.api_keys.backend, frontend or admin, or in their _file settings, or 127.0.0.1 to try the server without, or the address as --addr";

#[test]
fn nothing_at_all_is_development_on_loopback() {
    let loaded = Given::nothing().load();
    assert_eq!(loaded.log, Log { level: tracing::Level::INFO, directives: None, format: LogFormat::Text });
    let config = loaded.config.expect("the defaults are valid");
    assert!(config.development);
    assert_eq!(config.listen, "127.0.0.1:8080".parse().unwrap());
    assert_eq!(config.db_path, PathBuf::from("./database"));
    assert_eq!(config.management, None);
    assert_eq!(config.rate_limit, None);
    assert_eq!(config.max_payload_bytes, 102_400);
    assert_eq!(config.max_connections, 10_000);
    assert_eq!((config.max_body_memory_bytes, config.max_reply_memory_bytes), (64 << 20, 64 << 20));
    assert_eq!(config.drain, Drain { hold: Duration::ZERO, timeout: Duration::from_secs(30) });
    let seconds = Duration::from_secs;
    assert_eq!(
        config.timeouts,
        Timeouts { header: seconds(10), body: seconds(10), reply: seconds(60), idle: seconds(75) }
    );
    let storage = Storage {
        reserve_bytes: 256 << 20,
        memory_bytes: 256 << 20,
        allow_volatile_fs: false,
        max_clock_jump: Duration::from_hours(24),
        accept_clock: false,
    };
    assert_eq!(config.storage, storage);
    assert!(!config.retention.enabled);
}

#[test]
fn each_source_overrides_the_one_before_it() {
    let flags = Flags { addr: Some("127.0.0.1:5".to_owned()), ..Flags::default() };
    let given = Given::nothing();
    assert_eq!(given.config().listen.port(), 8080);
    let given = given.file("config.yaml", "server: {port: 2}");
    assert_eq!(given.config().listen.port(), 2);
    let given = given.file(".env", "# comment\nexport PROGRESSDB_SERVER_PORT=\"3\"\nOTHER=1\n");
    assert_eq!(given.config().listen.port(), 3);
    let given = given.environment([("PROGRESSDB_SERVER_PORT", "4")]);
    assert_eq!(given.config().listen.port(), 4);
    let given = given.flags(flags);
    assert_eq!(given.config().listen.port(), 5);
}

#[test]
fn sources_are_merged_setting_by_setting() {
    let config = Given::yaml(KEYS)
        .environment([("PROGRESSDB_DB_PATH", "/env"), ("PROGRESSDB_MAX_PAYLOAD_SIZE", "1MiB")])
        .flags(Flags { db: Some("/flag".into()), allow_volatile_fs: true, ..Flags::default() })
        .config();
    assert_eq!(config.db_path, PathBuf::from("/flag"));
    assert_eq!(config.max_payload_bytes, 1 << 20);
    assert!(config.storage.allow_volatile_fs);
    assert_eq!(exposed(&config.keys.backend), ["sk_a"]);
}

#[test]
fn the_first_name_of_a_variable_wins_and_empty_ones_do_not_count() {
    let path = |pairs: [(&str, &str); 3]| Given::nothing().environment(pairs).config().db_path;
    let (first, second, root) = ("PROGRESSDB_SERVER_DB_PATH", "PROGRESSDB_DB_PATH", "PROGRESSDB_ARTIFACT_ROOT");
    assert_eq!(path([(first, "/a"), (second, "/b"), (root, "/c")]), PathBuf::from("/a"));
    assert_eq!(path([(first, " "), (second, "/b"), (root, "/c")]), PathBuf::from("/b"));
    assert_eq!(path([(first, ""), (second, ""), (root, "/c")]), PathBuf::from("/c/database"));
    let given = Given::yaml("server: {db_path: /file}").environment([(root, "/c")]);
    assert_eq!(given.config().db_path, PathBuf::from("/file"));
}

#[test]
fn lists_in_variables_are_comma_separated() {
    let config = Given::nothing()
        .environment([
            ("PROGRESSDB_API_BACKEND_KEYS", "sk_a, sk_b,"),
            ("PROGRESSDB_CORS_ORIGINS", "http://a,http://b"),
            ("PROGRESSDB_IP_WHITELIST", "::1,127.0.0.1"),
        ])
        .config();
    assert_eq!(exposed(&config.keys.backend), ["sk_a", "sk_b"]);
    assert_eq!(config.cors_allowed_origins, ["http://a", "http://b"]);
    assert_eq!(config.ip_whitelist, ["::1".parse::<IpAddr>().unwrap(), "127.0.0.1".parse().unwrap()]);
}

#[test]
fn every_variable_of_the_table_is_read() {
    for setting in SETTINGS {
        for name in setting.variables() {
            let loaded = Given::yaml("retention: {enabled: true}").environment([(&name, "\u{1}")]).load();
            let used = loaded.effective.0.get(setting.key).is_some_and(|(_, source)| source.to_string() == name);
            let warned = loaded.warnings.iter().any(|warning| warning.key == setting.key && warning.source == name);
            let problems = loaded.config.err().map(|error| error.0).unwrap_or_default();
            let refused = problems.iter().any(|problem| problem.key == setting.key && problem.source == name);
            assert!(used || warned || refused, "{name}");
        }
    }
}

#[test]
fn addresses_are_read_in_every_form() {
    let check = |addr: &str, listen: &str| {
        let flags = Flags { addr: Some(addr.to_owned()), ..Flags::default() };
        assert_eq!(Given::yaml(KEYS).flags(flags).config().listen, listen.parse().unwrap(), "{addr}");
        let config = Given::yaml(KEYS).environment([("PROGRESSDB_ADDR", addr)]).config();
        assert_eq!(config.listen, listen.parse().unwrap(), "{addr}");
    };
    check(":8081", "[::]:8081");
    check("0.0.0.0:8081", "0.0.0.0:8081");
    check("127.0.0.1:0", "127.0.0.1:0");
    check("localhost:1", "127.0.0.1:1");
    check("[::]:8080", "[::]:8080");
    check("[::1]:65535", "[::1]:65535");
    check("10.0.0.1", "10.0.0.1:8080");
    let listen = |yaml: &str| Given::yaml(yaml).config().listen.to_string();
    assert_eq!(listen(KEYS), "[::]:8080");
    assert_eq!(listen("server: {address: '::1', port: 0}"), "[::1]:0");
    let config = Given::yaml("server: {management_address: ':9090'}").config();
    assert_eq!(config.management, Some("[::]:9090".parse().unwrap()));
}

#[test]
fn addresses_that_are_none_are_refused() {
    let check = |addr: &str, message: &str| {
        let flags = Flags { addr: Some(addr.to_owned()), ..Flags::default() };
        let error = Given::yaml(KEYS).flags(flags).load().config.unwrap_err().to_string();
        assert_eq!(error, message, "{addr}");
    };
    let host = "want an IP address or localhost";
    check("::1", &format!("server.address: : from --addr is not allowed: {host}"));
    check("nowhere:80", &format!("server.address: nowhere from --addr is not allowed: {host}"));
    check("8080", &format!("server.address: 8080 from --addr is not allowed: {host}"));
    check("127.0.0.1:", "server.port: \"\" from --addr is not allowed: want 0-65535");
    check(":70000", "server.port: 70000 from --addr is not allowed: want 0-65535");
}

#[test]
fn the_file_is_found_by_flag_then_variable_then_name() {
    let given = Given::yaml("server: {port: 1}").file("a", "server: {port: 2}").file("b", "server: {port: 3}");
    let [a, b] = ["a", "b"].map(|name| given.path(name));
    assert_eq!(given.config().listen.port(), 1);
    let given = given.environment([("PROGRESSDB_CONFIG", b.to_str().unwrap())]);
    assert_eq!(given.config().listen.port(), 3);
    let pairs = [("PROGRESSDB_CONFIG", b.to_str().unwrap()), ("PROGRESSDB_SERVER_CONFIG", a.to_str().unwrap())];
    let given = given.environment(pairs);
    assert_eq!(given.config().listen.port(), 2);
    let given = given.flags(Flags { config: Some(b), ..Flags::default() });
    assert_eq!(given.config().listen.port(), 3);
}

#[test]
fn a_file_that_was_named_must_exist() {
    let given = Given::nothing();
    let config = Some(given.path("missing.yaml"));
    given.flags(Flags { config, ..Flags::default() }).refused(&[
        "config: DIR/missing.yaml cannot be read (No such file or directory (os error 2)): want a readable YAML file",
    ]);
}

#[test]
fn files_that_are_no_settings_are_refused_with_the_place() {
    let check = |yaml: &str, what: &str, allowed: &str| {
        Given::yaml(yaml).refused(&[&format!("config: DIR/config.yaml {what}: want {allowed}")]);
    };
    check("server:\n  port: [1\nx: 2", "is not valid YAML at line 3, column 2", "valid YAML");
    check("server:\n  port: 1\n  port: 2", "repeats a key at line 3, column 3", "valid YAML");
    check("- 1", "is not a mapping", "YAML with a mapping of sections at the top");
    Given::yaml("server: 5\nlogging: [info]").refused(&[
        "logging: the value in DIR/config.yaml is not allowed: want a section of settings",
        "server: the value in DIR/config.yaml is not allowed: want a section of settings",
    ]);
    for empty in ["", "# only a comment\n", "---\n", "server:\n", "server:\n  port:\n"] {
        assert_eq!(Given::yaml(empty).config().listen.port(), 8080, "{empty}");
    }
}

#[test]
fn rate_limits_of_zero_are_none_and_a_burst_follows_from_the_rate() {
    let limit = |yaml: &str| Given::yaml(&format!("server: {{rate_limit: {yaml}}}")).config().rate_limit;
    assert_eq!(limit("{rps: 0, burst: 5}"), None);
    assert_eq!(limit("{burst: 5}"), None);
    assert_eq!(limit("{rps: 0.5}"), Some(RateLimit { rps: 0.5, burst: 1 }));
    assert_eq!(limit("{rps: 1_000, burst: 5}"), Some(RateLimit { rps: 1000.0, burst: 5 }));
}

#[test]
fn retention_is_checked_only_if_enabled() {
    let bad = "retention: {enabled: true, cron: sometimes, mttl: 0s, tttl: 1d}";
    let messages = [
        "retention.cron: sometimes from DIR/config.yaml is not allowed: want a cron expression of 5 to 7 fields, or an alias such as @daily",
        "retention.mttl: 0s from DIR/config.yaml is not allowed: want a duration from 1ms to 876000h",
        "retention.tttl: 1d from DIR/config.yaml is not allowed: want a duration from 1ms to 876000h; write days in hours, a day is 24h",
    ];
    Given::yaml(bad).refused(&messages);
    let off = Given::yaml(&bad.replace("true", "false"));
    off.warned(&messages);
    assert!(!off.config().retention.enabled);
    for cron in ["*/5 * * * *", "0 0 2 * * *", "0 0 2 * * * 2030", "@daily", "@hourly"] {
        let config = Given::yaml(&format!("retention: {{enabled: true, cron: '{cron}', mttl: 1h}}")).config();
        assert_eq!((config.retention.enabled, config.retention.message_ttl), (true, Duration::from_hours(1)), "{cron}");
    }
}

#[test]
fn the_sample_of_go_0_2_loads() {
    let given = Given::yaml(include_str!("../../tests/fixtures/go-0.2-config.yaml"));
    let config = given.config();
    assert_eq!(config.listen, "0.0.0.0:8080".parse().unwrap());
    assert_eq!(config.max_payload_bytes, 100_000);
    assert_eq!(config.rate_limit, Some(RateLimit { rps: 1000.0, burst: 1000 }));
    assert_eq!(config.ip_whitelist.len(), 2);
    assert_eq!(exposed(&config.keys.signing), ["sign_example"]);
    let unknown: Vec<_> =
        given.load().warnings.into_iter().filter(|warning| !warning.no_effect).map(|warning| warning.key).collect();
    assert_eq!(unknown, ["plugins.moderation.enabled", "server.keep_alive"]);
}

#[test]
fn logs_follow_the_configuration_even_when_the_rest_is_refused() {
    let given =
        Given::yaml("server: {port: x}\nlogging: {level: WARN, format: json}").environment([("RUST_LOG", "db=trace")]);
    let log = Log { level: tracing::Level::WARN, directives: Some("db=trace".to_owned()), format: LogFormat::Json };
    assert_eq!(given.load().log, log);
}

#[test]
fn the_effective_configuration_loads_to_itself_and_names_its_sources() {
    let given = Given::yaml(
        "server: {port: 0, cors: {allowed_origins: ['https://a']}, db_path: 'a: # b'}\ndrain: {hold: 1500ms}",
    )
    .environment([("PROGRESSDB_LOG_LEVEL", "debug")]);
    let yaml = given.shorten(&given.load().to_yaml());
    for line in [
        "  address: \"127.0.0.1\"  # the defaults",
        "  port: 0  # DIR/config.yaml",
        "    allowed_origins: [\"https://a\"]  # DIR/config.yaml",
        "  db_path: \"a: # b\"  # DIR/config.yaml",
        "  hold: 1500ms  # DIR/config.yaml",
        "  level: \"debug\"  # PROGRESSDB_LOG_LEVEL",
        "  management_address: null  # the defaults",
    ] {
        assert!(yaml.lines().any(|other| other == line), "no {line} in\n{yaml}");
    }
    let again = Given::yaml(&yaml);
    assert_eq!(format!("{:?}", again.config()), format!("{:?}", given.config()));
    again.warned(&[]);
    let keys = Given::yaml("server: {api_keys: {backend: [sk_a, sk_b], signing: [sign_a]}}").load().to_yaml();
    assert!(keys.contains("    backend: [\"********\", \"********\"]  # "), "{keys}");
}

#[test]
fn the_report_has_every_field() {
    let given = Given::yaml("server: {port: x}").environment([("PROGRESSDB_SENSOR_POLL_INTERVAL", "1s")]);
    let report: serde_json::Value =
        serde_json::from_str(&given.shorten(&given.load().to_report().to_string())).unwrap();
    let expected = serde_json::json!({
        "valid": false,
        "errors": [{
            "key": "server.port",
            "value": "x",
            "allowed": "0-65535",
            "source": "DIR/config.yaml",
            "message": "server.port: x from DIR/config.yaml is not allowed: want 0-65535",
        }],
        "warnings": [{
            "key": "sensor.poll_interval",
            "source": "PROGRESSDB_SENSOR_POLL_INTERVAL",
            "message": "sensor.poll_interval from PROGRESSDB_SENSOR_POLL_INTERVAL is accepted and has no effect",
        }],
    });
    assert_eq!(report, expected);
    let valid = serde_json::json!({ "valid": true, "errors": [], "warnings": [] });
    assert_eq!(Given::nothing().load().to_report(), valid);
}

#[test]
fn the_table_names_nothing_twice() {
    let mut names: Vec<String> = SETTINGS.iter().flat_map(settings::Setting::variables).collect();
    names.extend(SETTINGS.iter().map(|setting| setting.key.to_owned()));
    let count = names.len();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), count);
}

#[test]
fn the_reference_is_current() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/configuration.md");
    if Environment::of_process().get("UPDATE").is_some() {
        fs::write(path, reference()).unwrap();
    }
    let page = fs::read_to_string(path).unwrap_or_default();
    assert!(page == reference(), "docs/configuration.md is out of date: run the tests with UPDATE=1");
}
