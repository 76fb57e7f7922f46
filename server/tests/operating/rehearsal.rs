//! A version tried on a copy of the data: it serves, and nothing happens by itself.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use serde_json::{Value, json};
use testing::http::Request;
use testing::{Server, Setup, thread};

use crate::talkative;

fn readyz(server: &Server) -> Value {
    server.send(&Request::get("/readyz")).check_status(200).json()
}

#[test]
fn a_rehearsal_serves_the_copy_and_says_what_it_is() {
    let setup = Setup::new();
    let server = setup.start();
    assert_eq!(readyz(&server).get("rehearsal"), None, "only said where it is one");
    let user = server.user("user1");
    let t = user.create_thread("kept");
    server.stop().check_code(0);
    let rehearsal = Setup::with_db(setup.db()).argument("--rehearsal").start();
    assert_eq!(readyz(&rehearsal)["rehearsal"], json!(true));
    let user = rehearsal.user("user1");
    assert_eq!(user.get(&thread(&t)).json()["thread"]["title"], json!("kept"));
    user.append(&t, 1);
    rehearsal.stop().check_code(0);
}

#[test]
fn a_rehearsal_makes_no_database_and_no_keys() {
    let setup = Setup::new();
    setup.run(&["serve", "--rehearsal"]).check_code(5);
    assert!(!setup.db().exists(), "it made a data directory");

    setup.start().stop().check_code(0);
    let key_file = setup.root().join("master.key");
    fs::write(&key_file, hex::encode([7; 32])).unwrap();
    fs::set_permissions(&key_file, fs::Permissions::from_mode(0o600)).unwrap();
    let sealed = Setup::with_db(setup.db()).set("encryption.enabled", true);
    let sealed = sealed.set("encryption.kms.master_key_file", key_file.to_str().unwrap());
    sealed.run(&["serve", "--rehearsal"]).check_code(78).check_says(&["a rehearsal makes none"]);
    setup.start().stop().check_code(0);
}

/// A server runs its first job as soon as it is ready.
#[test]
fn a_rehearsal_starts_no_job() {
    const FIRST_JOB: &str = "retention.idempotency";
    let setup = talkative();
    let server = setup.start();
    server.wait_for_line(FIRST_JOB);
    server.stop().check_code(0);
    let copy = setup.argument("--rehearsal");
    let rehearsal = copy.start();
    rehearsal.user("user1").create_thread("another");
    let finished = rehearsal.stop();
    finished.check_code(0).check_says(&["server.ready", "http.request"]);
    assert!(!finished.said().contains(FIRST_JOB), "{}", finished.said());
}
