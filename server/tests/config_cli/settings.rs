//! Settings: where they come from, which source wins, and how wrong ones are refused.

use std::fs;
use std::process::Command;

use serde_json::Value;
use testing::{Finished, Setup, finish, program};

use crate::{check_no_secrets, write};

#[test]
fn the_effective_configuration_is_printed_with_its_sources_and_without_secrets() {
    let setup = Setup::new().set("server.max_payload_size", "300KB").environment("PROGRESSDB_LOG_LEVEL", "warn");
    let setup = setup.argument("--addr").argument("127.0.0.1:9999");
    let printed = setup.run(&["config"]);
    printed.check_code(0);
    check_no_secrets(&printed.said());
    let line = |name: &str| {
        let lines: Vec<&str> = printed.stdout.lines().filter(|line| line.trim_start().starts_with(name)).collect();
        lines.first().copied().unwrap_or_else(|| panic!("no {name} in:\n{}", printed.stdout)).to_owned()
    };
    for (name, parts) in [
        ("max_payload_size:", ["300KB", "config.yaml"]),
        ("level:", ["warn", "PROGRESSDB_LOG_LEVEL"]),
        ("port:", ["9999", "--addr"]),
        ("db_path:", ["database", "config.yaml"]),
        ("rps:", ["0", "default"]),
    ] {
        for part in parts {
            assert!(line(name).contains(part), "{part:?} is not in {:?}", line(name));
        }
    }
    assert!(!setup.db().exists(), "printing made a data directory");
}

#[test]
fn later_sources_win() {
    let root = Setup::new();
    let payload = |command: &mut Command| {
        let printed = finish_ref(command);
        printed.check_code(0);
        let line = printed.stdout.lines().find(|line| line.contains("max_payload_size:")).unwrap().to_owned();
        line.trim().split([':', '#']).nth(1).unwrap().trim().trim_matches(['"', '\'']).to_owned()
    };
    let run = |words: &[&str]| program(words, root.root());
    assert_eq!(payload(&mut run(&["config"])), "100KiB", "the default");
    write(root.root(), "config.yaml", "server:\n  max_payload_size: 200KB\n");
    assert_eq!(payload(&mut run(&["config"])), "200KB", "the default file");
    write(root.root(), ".env", "PROGRESSDB_SERVER_MAX_PAYLOAD_SIZE=300KB\n");
    assert_eq!(payload(&mut run(&["config"])), "300KB", ".env");
    let mut real = run(&["config"]);
    real.env("PROGRESSDB_SERVER_MAX_PAYLOAD_SIZE", "400KB");
    assert_eq!(payload(&mut real), "400KB", "the real environment");
    let other = write(root.root(), "other.yaml", "server:\n  max_payload_size: 500KB\n");
    fs::remove_file(root.root().join(".env")).unwrap();
    assert_eq!(payload(&mut run(&["config", "--config", &other])), "500KB", "--config");
    for variable in ["PROGRESSDB_SERVER_CONFIG", "PROGRESSDB_CONFIG"] {
        let mut named = run(&["config"]);
        named.env(variable, &other);
        assert_eq!(payload(&mut named), "500KB", "{variable}");
    }
}

fn finish_ref(command: &mut Command) -> Finished {
    finish(std::mem::replace(command, Command::new("true")))
}

/// One wrong setting: the file's text, and what the refusal must name.
const WRONG: [(&str, [&str; 3]); 13] = [
    ("server:\n  port: 70000\n", ["server.port", "70000", "65535"]),
    ("server:\n  port: eighty\n", ["server.port", "eighty", "65535"]),
    ("server:\n  max_payload_size: lots\n", ["server.max_payload_size", "lots", "KiB"]),
    ("server:\n  timeouts:\n    body: 5 parsecs\n", ["server.timeouts.body", "5 parsecs", "s"]),
    ("server:\n  ip_whitelist: [localhost]\n", ["server.ip_whitelist", "localhost", "address"]),
    ("server:\n  rate_limit:\n    rps: -1\n", ["server.rate_limit.rps", "-1", "0"]),
    ("storage:\n  reserve: 5\n", ["storage.reserve", "5", "MiB"]),
    ("storage:\n  allow_volatile_fs: maybe\n", ["storage.allow_volatile_fs", "maybe", "true"]),
    ("retention:\n  enabled: true\n  cron: \"* *\"\n", ["retention.cron", "* *", "cron"]),
    ("logging:\n  level: loud\n", ["logging.level", "loud", "info"]),
    ("logging:\n  format: xml\n", ["logging.format", "xml", "json"]),
    ("encryption:\n  enabled: true\n", ["encryption.kms.master_key_hex", "not set", "encryption.kms.master_key_file"]),
    ("encryption:\n  enabled: perhaps\n", ["encryption.enabled", "perhaps", "true or false"]),
];

#[test]
fn a_wrong_setting_is_refused_with_78_by_name_value_and_source() {
    for (text, named) in WRONG {
        let setup = Setup::new();
        let file = write(setup.root(), "wrong.yaml", text);
        for words in [&["serve"][..], &["config", "check"], &["config"]] {
            let mut command = program(words, setup.root());
            command.args(["--config", &file, "--db"]).arg(setup.db());
            let finished = finish(command);
            finished.check_code(78).check_says(&named).check_says(&["wrong.yaml"]);
        }
        assert!(!setup.db().exists(), "a refused start made a data directory");
    }
}

#[test]
fn a_wrong_variable_or_flag_is_named_as_the_source() {
    let setup = Setup::new();
    let mut command = program(&["serve"], setup.root());
    command.env("PROGRESSDB_SERVER_PORT", "99999");
    finish(command).check_code(78).check_says(&["server.port", "99999", "65535", "PROGRESSDB_SERVER_PORT"]);
    let finished = finish(program(&["serve", "--addr", "127.0.0.1:port"], setup.root()));
    assert!([Some(2), Some(78)].contains(&finished.code), "{finished:?}");
    finished.check_says(&["--addr", "port"]);
}

#[test]
fn every_problem_is_reported_at_once_and_as_json() {
    let setup = Setup::new();
    let text = "server:\n  port: 70000\nlogging:\n  level: loud\nstorage:\n  memory: 1KB\n";
    let file = write(setup.root(), "wrong.yaml", text);
    let finished = finish(program(&["config", "check", "--json", "--file", &file], setup.root()));
    finished.check_code(78).check_says(&["wrong.yaml"]);
    let report: Value = serde_json::from_str(&finished.stdout).unwrap_or_else(|error| panic!("{error}: {finished:?}"));
    for (key, value) in [("server.port", "70000"), ("logging.level", "loud"), ("storage.memory", "1KB")] {
        assert!(report.to_string().contains(key) && report.to_string().contains(value), "{key} is not in {report}");
    }

    let good = Setup::new();
    let finished = good.run(&["config", "check", "--json"]);
    finished.check_code(0);
    let report: Value = serde_json::from_str(&finished.stdout).unwrap();
    assert!(report.is_object(), "{report}");
    check_no_secrets(&finished.said());
    assert!(!good.db().exists(), "checking made a data directory");
}

#[test]
fn secrets_are_not_shown_even_when_they_are_wrong() {
    let setup = Setup::new();
    let text = "server:\n  api_keys:\n    backend: [\"super secret\", \"\"]\n    signing: [hush]\n  port: 70000\n";
    let file = write(setup.root(), "wrong.yaml", text);
    let finished = finish(program(&["serve", "--config", &file], setup.root()));
    finished.check_code(78).check_says(&["server.api_keys.backend"]);
    assert!(!finished.said().contains("super secret") && !finished.said().contains("hush"), "{}", finished.said());
}

#[test]
fn what_cannot_be_read_as_a_file_is_refused() {
    let setup = Setup::new();
    let missing = setup.root().join("missing.yaml");
    let finished = finish(program(&["serve", "--config", missing.to_str().unwrap()], setup.root()));
    assert!([Some(2), Some(78)].contains(&finished.code), "{finished:?}");
    finished.check_says(&["missing.yaml"]);
    for text in ["server: [", "\t- x", "server:\n  port: 1\n  port: 2\n", "just text", "server: 5"] {
        let file = write(setup.root(), "broken.yaml", text);
        let finished = finish(program(&["config", "check", "--config", &file], setup.root()));
        assert_eq!(finished.code, Some(78), "{text:?}: {finished:?}");
        finished.check_says(&["broken.yaml"]);
    }
}

#[test]
fn an_address_beyond_loopback_from_a_file_or_the_environment_needs_keys() {
    let setup = Setup::new();
    let file = write(setup.root(), "address.yaml", "server:\n  address: 0.0.0.0\n  port: 0\n");
    let mut from_file = program(&["serve", "--config", &file, "--db"], setup.root());
    from_file.arg(setup.db());
    finish(from_file).check_code(78).check_says(&["server.api_keys", "address.yaml", "--addr"]);
    for (name, value) in [("PROGRESSDB_SERVER_ADDRESS", "0.0.0.0"), ("PROGRESSDB_ADDR", ":0")] {
        let mut from_variable = program(&["serve", "--db"], setup.root());
        from_variable.arg(setup.db()).env(name, value);
        finish(from_variable).check_code(78).check_says(&["server.api_keys", name]);
    }
    assert!(!setup.db().exists(), "a refused start made a data directory");
}
