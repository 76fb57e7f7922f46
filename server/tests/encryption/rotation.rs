//! Rotation of epochs, of the KMS key, and of one thread's key.

use serde_json::json;
use testing::{Setup, thread};

use crate::{MASTER_KEY, OTHER_KEY, encrypted, key_file, post, status, wait_until_sealed};

#[test]
fn a_rotation_moves_every_key_in_the_background_and_an_old_copy_still_opens() {
    let setup = encrypted(Setup::new());
    let server = setup.start();
    let user = server.user("ann");
    let threads: Vec<_> = (0..5).map(|n| user.create_thread(&n.to_string())).collect();
    wait_until_sealed(&server, 1);
    let counted = post(&server, "rotate", Some(json!({ "dry_run": true }))).check_status(202).json();
    assert_eq!((&counted["epoch"], &counted["would_change"]["keys"]), (&json!(1), &json!(0)), "{counted}");
    assert_eq!(status(&server)["epochs"].as_array().map(Vec::len), Some(1));
    server.kill();
    let copy = Setup::new();
    let copied = std::process::Command::new("cp").arg("-r").arg(setup.db()).arg(copy.db()).status().unwrap();
    assert!(copied.success());

    let server = setup.start();
    post(&server, "rotate", None).check_json(202, &json!({ "dry_run": false, "epoch": 2 }));
    let done = wait_until_sealed(&server, 2);
    assert_eq!((&done["sealing"]["keys"], &done["sealing"]["values"]), (&json!(6), &json!(0)), "{done}");
    let epochs: Vec<_> = done["epochs"].as_array().unwrap().iter().map(|epoch| &epoch["epoch"]).collect();
    assert_eq!(epochs, [&json!(2)], "the old epoch is retired");
    for key in &threads {
        server.user("ann").get(&thread(key)).check_status(200);
    }
    let log = server.stop();
    log.check_code(0).check_says(&["encryption.epoch_created", "encryption.sealed", "encryption.epoch_retired"]);
    let server = setup.start();
    server.user("ann").get(&thread(&threads[0])).check_status(200);

    let copy = encrypted(copy);
    let old = copy.start();
    old.user("ann").get(&thread(&threads[4])).check_status(200);
}

#[test]
fn an_epoch_that_is_too_old_is_followed_by_the_next() {
    let setup = encrypted(Setup::new()).set("encryption.epoch_age", "1h");
    let server = setup.start();
    assert_eq!(status(&server)["epochs"][0]["epoch"], json!(1));
    server.stop().check_code(0);
    let impatient = encrypted(Setup::with_db(setup.db())).set("encryption.epoch_age", "1s");
    let impatient = impatient.set("encryption.kms.probe_interval", "1s");
    let server = impatient.start();
    testing::wait_until("an epoch was begun", || {
        status(&server)["epochs"].as_array().unwrap().iter().any(|epoch| epoch["epoch"].as_u64().unwrap() > 1)
    });
}

#[test]
fn another_master_key_takes_over_while_both_are_configured() {
    let setup = encrypted(Setup::new());
    let server = setup.start();
    let key = server.user("ann").create_thread("t");
    let before = status(&server)["epochs"][0]["wrapped_by"].clone();
    server.stop().check_code(0);
    let both = Setup::with_db(setup.db());
    let (new, old) = (key_file(&both, "new.key", OTHER_KEY), key_file(&both, "old.key", MASTER_KEY));
    let both = both.set("encryption.enabled", true).set("encryption.kms.master_key_file", new.to_str().unwrap());
    let both = both.set("encryption.kms.escrow_key_files", json!([old.to_str().unwrap()]));
    let server = both.start();
    testing::wait_until("the epoch is wrapped anew", || status(&server)["epochs"][0]["wrapped_by"] != before);
    // The line follows the commit that the status shows.
    server.wait_for_line("encryption.epoch_rewrapped");
    server.stop().check_code(0);
    let alone = Setup::with_db(setup.db());
    let new = key_file(&alone, "new.key", OTHER_KEY);
    let alone = alone.set("encryption.enabled", true).set("encryption.kms.master_key_file", new.to_str().unwrap());
    let server = alone.start();
    server.user("ann").get(&thread(&key)).check_status(200);
}

#[test]
fn one_thread_is_encrypted_anew_on_demand() {
    let setup = encrypted(Setup::new());
    let server = setup.start();
    let user = server.user("ann");
    let key = user.create_thread("t");
    user.append(&key, 1);
    let reencrypted = post(&server, "reencrypt", Some(json!({ "thread": key })));
    reencrypted.check_json(200, &json!({ "thread": key, "values": 3 }));
    server.admin(&format!("/admin/keys/{key}:key:1")).check_refusal(404);
    server.admin(&format!("/admin/keys/{key}:key:2")).check_status(200);
    assert_eq!(user.get(&testing::messages(&key)).json()["messages"][0]["body"], json!(1));
    post(&server, "reencrypt", Some(json!({ "thread": "t:1" }))).check_refusal(404);
    post(&server, "reencrypt", Some(json!({ "thread": "no" }))).check_refusal(400);
    post(&server, "reencrypt", Some(json!({}))).check_refusal(400);
}
