//! Turning encryption on and off, and refusing what does not fit.

use serde_json::json;
use testing::{Setup, messages, thread};

use crate::files::{check_none, holding};
use crate::{CANARY, MASTER_KEY, OTHER_KEY, encrypted, key_file, post, status, wait_until_sealed, write_canaries};

#[test]
fn turning_on_seals_what_was_there_visibly_and_turning_off_needs_decrypting_first() {
    let plain = Setup::new();
    let server = plain.start();
    let key = write_canaries(&server);
    assert_eq!(status(&server)["enabled"], json!(false));
    post(&server, "rotate", None).check_error(409, "encryption is disabled: set encryption.enabled and restart");
    server.stop().check_code(0);

    let sealed = encrypted(Setup::with_db(plain.db()));
    let server = sealed.start();
    let user = server.user(&format!("user-{CANARY}"));
    assert_eq!(user.get(&thread(&key)).json()["thread"]["title"], json!(CANARY), "readable while it goes on");
    let done = wait_until_sealed(&server, 1);
    assert_eq!((&done["all_sealed"], &done["sealing"]["threads"]), (&json!(true), &json!(1)));
    post(&server, "compact", None).check_status(200);
    let log = server.stop();
    log.check_code(0).check_says(&["encryption.sealed", "encryption.epoch_created"]);
    check_none(&holding(plain.db(), CANARY.as_bytes()));

    plain.refused_start().check_code(78).check_says(&["encrypted", "encryption.enabled", "progressdb decrypt"]);
    plain.run(&["decrypt"]).check_code(78).check_says(&["encryption.enabled"]);
    let decrypted = sealed.run(&["decrypt"]);
    decrypted.check_code(0).check_says(&["\"values\":"]);
    let server = plain.start();
    let user = server.user(&format!("user-{CANARY}"));
    assert_eq!(user.get(&thread(&key)).json()["thread"]["title"], json!(CANARY));
    assert_eq!(user.get(&messages(&key)).json()["messages"][0]["body"], json!({ "edited": CANARY }));
    assert_eq!(server.admin("/admin/keys?store=index&prefix=k:").json()["keys"], json!([]), "no key is left");
}

#[test]
fn a_server_that_is_killed_while_it_seals_goes_on_where_it_stopped() {
    let plain = Setup::new();
    let server = plain.start();
    let user = server.user("ann");
    let threads: Vec<_> = (0..30).map(|n| user.create_thread(&format!("{CANARY} {n}"))).collect();
    server.stop().check_code(0);
    let sealed = encrypted(Setup::with_db(plain.db())).set("encryption.rewrap_rate", 20);
    for _ in 0..3 {
        let server = sealed.start();
        assert_eq!(
            server.user("ann").get(&thread(&threads[7])).json()["thread"]["title"],
            json!(format!("{CANARY} 7"))
        );
        server.kill();
    }
    let sealed = encrypted(Setup::with_db(plain.db()));
    let server = sealed.start();
    let done = wait_until_sealed(&server, 1);
    assert_eq!(done["sealing"]["threads"], json!(30));
    let all = server.user("ann").get("/frontend/v1/threads?limit=100").keys("threads");
    assert_eq!(all.len(), 30);
}

#[test]
fn threads_can_be_sealed_at_once_in_the_way_of_go_0_2() {
    let plain = Setup::new();
    let server = plain.start();
    let key = server.user("ann").create_thread("t");
    server.stop().check_code(0);
    let sealed = encrypted(Setup::with_db(plain.db())).set("encryption.rewrap_rate", 1);
    let server = sealed.start();
    post(&server, "encrypt-threads", None).check_error_begins(400, "invalid request");
    let answer = post(&server, "encrypt-threads", Some(json!({})));
    let body = answer.check_status(200).json();
    assert_eq!((&body["summary"]["total"], &body["summary"]["errors"]), (&json!(1), &json!(0)));
    // The background job may have been faster.
    if body["summary"]["success"] == json!(1) {
        let result = &body["results"][0];
        assert_eq!((&result["thread_key"], &result["status"]), (&json!(key), &json!("ok")));
        assert_eq!(result["dek_key_id"].as_str().map(str::len), Some(16));
    }
    let again = post(&server, "encrypt-threads", Some(json!({}))).json();
    assert_eq!(again["summary"], json!({ "total": 1, "success": 0, "skipped": 1, "errors": 0 }));
    let empty = encrypted(Setup::new());
    let body = post(&empty.start(), "encrypt-threads", Some(json!({}))).json();
    assert_eq!((&body["message"], &body["results"]), (&json!("no threads found"), &json!([])));
}

#[test]
fn a_wrong_master_key_is_named_and_nothing_is_written() {
    let setup = encrypted(Setup::new());
    let server = setup.start();
    let key = server.user("ann").create_thread("t");
    server.stop().check_code(0);
    let wrong = Setup::with_db(setup.db());
    let file = key_file(&wrong, "wrong.key", OTHER_KEY);
    let wrong = wrong.set("encryption.enabled", true).set("encryption.kms.master_key_file", file.to_str().unwrap());
    let refused = wrong.refused_start();
    refused.check_code(78).check_says(&["startup.keys_unusable", "epoch 1", "was wrapped by master key"]);
    assert!(!refused.said().contains(OTHER_KEY) && !refused.said().contains(MASTER_KEY));
    let server = setup.start();
    server.user("ann").get(&thread(&key)).check_status(200);
}

#[test]
fn a_key_file_that_is_missing_or_open_to_all_refuses_the_start() {
    use std::os::unix::fs::PermissionsExt;
    let setup = encrypted(Setup::new());
    let file = setup.root().join("master.key");
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
    setup.refused_start().check_code(78).check_says(&["master.key", "chmod 600"]);
    std::fs::remove_file(&file).unwrap();
    setup.refused_start().check_code(78).check_says(&["master.key"]);
}

#[test]
fn keys_are_verified_and_moved_while_the_server_is_down() {
    let setup = encrypted(Setup::new());
    let server = setup.start();
    let key = server.user("ann").create_thread("t");
    setup.run(&["kms", "verify"]).check_code(75);
    server.stop().check_code(0);
    let verified = setup.run(&["kms", "verify", "--json"]);
    verified.check_code(0);
    let report: serde_json::Value = serde_json::from_str(&verified.stdout).unwrap();
    assert_eq!(report, json!({ "epochs": 1, "data_keys": 2, "failed": 0, "failures": [] }));

    let target = Setup::with_db(setup.db());
    let file = key_file(&target, "new.key", OTHER_KEY);
    let target = target.set("encryption.enabled", true).set("encryption.kms.master_key_file", file.to_str().unwrap());
    let verified = target.run(&["kms", "verify"]);
    // The keys are there, and it says so: somebody else's master key is no reason to look for a backup.
    verified.check_code(1).check_says(&[
        "k:1: ",
        "3 do not open",
        "the key of epoch 1 is in the store and does not open",
    ]);
    assert!(!verified.said().contains("is not in the store"), "{}", verified.said());
    let to = target.config_file();
    for moved in [1, 0] {
        let migrated = setup.run(&["kms", "migrate", "--to", to.to_str().unwrap()]);
        migrated.check_code(0).check_says(&[&format!("\"moved\":{moved}")]);
    }
    setup.refused_start().check_code(78);
    let server = target.start();
    server.user("ann").get(&thread(&key)).check_status(200);
}
