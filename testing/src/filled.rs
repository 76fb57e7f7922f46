//! A database with something of every kind in it.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use serde_json::{Value, json};

use crate::{Server, Setup, THREADS, User, message, messages, thread};

/// A master key in hexadecimal digits.
pub const MASTER_KEY: &str = "8d1f2a3b4c5d6e7f8091a2b3c4d5e6f708192a3b4c5d6e7f8091a2b3c4d5e6f7";

/// A setup that seals what is written, under this master key in a file.
pub fn with_master_key(setup: Setup, key: &str) -> Setup {
    let file = setup.root().join("master.key");
    fs::write(&file, key).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    setup.set("encryption.enabled", true).set("encryption.kms.master_key_file", file.to_str().unwrap())
}

/// Two users, edits, deletions, answers that are kept, an erasure. Returns a thread that lives.
pub fn write_everything(server: &Server) -> String {
    let (ann, bob) = (server.user("ann"), server.user("bob"));
    let once = |user: &User, target: &str, body: &Value, key: &str| {
        user.send(&user.request("POST", target).header("Idempotency-Key", key).json(body)).written()
    };
    let kept = once(&ann, THREADS, &json!({ "title": "kept", "metadata": { "a": 1 } }), "t");
    let first = once(&ann, &messages(&kept), &json!({ "body": "1", "role": "user" }), "m");
    ann.put(&message(&kept, &first), &json!({ "body": "2" })).written();
    let gone = ann.append(&kept, "gone");
    ann.delete(&message(&kept, &gone)).written();
    ann.post(&messages(&kept), &json!({ "body": "3", "reply_to": first })).written();
    bob.append(&bob.create_thread("bob's"), "4");
    let deleted = ann.create_thread("deleted");
    ann.append(&deleted, "5");
    ann.delete(&thread(&deleted)).written();
    let erased = ann.create_thread("erased");
    ann.append(&erased, "6");
    let purge = format!("{}?purge=true", thread(&erased));
    ann.send(&ann.request("DELETE", &purge).header("Idempotency-Key", "e")).check_status(202);
    kept
}
