//! The wrapped keys of a store tell beforehand whether a KMS would open it.

use std::path::PathBuf;

use serde_json::{Value, json};
use testing::servers::{Settings, secret_file};
use testing::{Finished, Server, Setup, finish, program};

use crate::{encrypted, for_every, rotate, wait_until_logged};

const TARGET: &str = "/admin/encryption/wrapped-keys";

/// `progressdb kms check` with these keys, under these settings.
#[track_caller]
fn check(setup: &Setup, settings: &Settings, keys: &Value) -> (Finished, Value) {
    let path = write(setup, &keys.to_string());
    let words = ["kms", "check", "--json", "--wrapped-keys", path.to_str().unwrap()];
    let mut command = program(&words, setup.root());
    command.envs(settings.pairs());
    let finished = finish(command);
    let report = serde_json::from_str(&finished.stdout).unwrap_or_else(|_| panic!("no report: {}", finished.said()));
    (finished, report)
}

fn write(setup: &Setup, keys: &str) -> PathBuf {
    let path = setup.root().join("wrapped-keys.json");
    std::fs::write(&path, keys).unwrap();
    path
}

/// Two epochs of a running server: it wraps so slowly that the first one stays.
#[track_caller]
fn of_two_epochs(server: &Server) -> Value {
    for user in 0..5 {
        server.user(&format!("user-{user}")).create_thread("t");
    }
    rotate(server).check_status(202);
    let keys = server.admin(TARGET).check_status(200).json();
    let epochs: Vec<_> = keys["keys"].as_array().unwrap().iter().map(|key| &key["epoch"]).collect();
    assert_eq!(epochs, ["1", "2"], "{keys}");
    keys
}

#[test]
fn wrapped_keys_open_with_the_kms_that_wrapped_them_and_no_other() {
    for_every("wrapped_keys_open_with_the_kms_that_wrapped_them_and_no_other", |provider| {
        let setup = encrypted(&provider.base()).set("encryption.rewrap_rate", 1);
        let server = setup.start();
        let mut keys = of_two_epochs(&server);
        assert_eq!(keys["keys"][0]["provider"], json!(provider.name), "{keys}");
        assert_eq!(keys["database_id"].as_str().map(str::len), Some(32), "{keys}");

        let (finished, report) = check(&setup, &provider.base(), &keys);
        finished.check_code(0);
        assert_eq!(report["ok"], json!(true), "{report}");
        assert_eq!((&report["provider"], &report["opened"]), (&json!(provider.name), &json!(2)), "{report}");

        let other = secret_file(setup.root(), "other.key", "6a".repeat(32));
        let other = Settings::of("local").set("master_key_file", other);
        let (finished, report) = check(&setup, &other, &keys);
        finished.check_code(1);
        assert_eq!((&report["ok"], &report["error"]["code"]), (&json!(false), &json!("wrong_key")), "{report}");
        assert_eq!(report["failed"].as_array().unwrap().len(), 2, "{report}");
        assert_eq!(report["failed"][0]["epoch"], keys["keys"][0]["epoch"], "{report}");
        assert!(report["failed"][0]["message"].as_str().unwrap().contains("is configured"), "{report}");

        // A key of another database is not a key of this one, and no key at all is noticed as well.
        for (name, value) in [("database_id", json!("00".repeat(16))), ("wrapped", json!("AAAA"))] {
            let mut altered = keys.clone();
            match name {
                "database_id" => altered[name] = value,
                _ => altered["keys"][0][name] = value,
            }
            let (finished, report) = check(&setup, &provider.base(), &altered);
            finished.check_code(1);
            assert_eq!(report["ok"], json!(false), "{name}: {report}");
            let failed = if name == "wrapped" { 1 } else { 2 };
            assert_eq!(report["failed"].as_array().map(Vec::len), Some(failed), "{name}: {report}");
        }
        // The KMS opens what it wrapped, but it is not what the store's rows are sealed with.
        keys["keys"][0]["commitment"] = json!("00".repeat(32));
        let (finished, report) = check(&setup, &provider.base(), &keys);
        finished.check_code(1);
        assert_eq!(report["error"]["code"], json!("invalid"), "{report}");
        wait_until_logged(&server, "admin.wrapped_keys_read");
    });
}

#[test]
fn a_store_without_encryption_has_no_wrapped_keys() {
    let setup = Setup::new();
    let keys = setup.start().admin(TARGET).check_status(200).json();
    assert_eq!(keys["keys"], json!([]), "{keys}");
    let key = secret_file(setup.root(), "master.key", "6a".repeat(32));
    let (finished, report) = check(&setup, &Settings::of("local").set("master_key_file", key), &keys);
    finished.check_code(0);
    assert_eq!(report["opened"], json!(0), "{report}");
}

#[test]
fn a_file_of_something_else_is_refused_by_name() {
    let setup = Setup::new();
    let key = secret_file(setup.root(), "master.key", "6a".repeat(32));
    let settings = Settings::of("local").set("master_key_file", key);
    for keys in [json!({ "error": "unauthorized" }), json!([]), json!({ "database_id": "00", "keys": [] })] {
        let (finished, report) = check(&setup, &settings, &keys);
        finished.check_code(78).check_says(&["wrapped-keys.json", "GET /admin/encryption/wrapped-keys"]);
        assert_eq!(report["error"]["code"], json!("settings"), "{report}");
    }
    let path = write(&setup, "{");
    let mut command = program(&["kms", "check", "--wrapped-keys", path.to_str().unwrap()], setup.root());
    command.envs(settings.pairs());
    finish(command).check_code(78).check_says(&["error: ", "wrapped-keys.json"]);
}
