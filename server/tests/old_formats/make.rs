//! Makes the fixtures of a format, once: when the first version that writes it is about to be released.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};
use testing::http::Request;
use testing::{ADMIN_KEY, Server, Setup, THREADS, message, messages, thread};

use crate::{READER, fixtures, held, read, sealed};

#[test]
#[ignore = "makes the fixtures of a new format: run once with --ignored by whoever releases it, never again"]
fn make_the_fixtures_of_the_newest_format() {
    let version = Setup::new().run(&["version", "--json"]);
    let version: Value = serde_json::from_str(&version.stdout).unwrap();
    let target = fixtures(version["formats"]["writes"].as_u64().unwrap().try_into().unwrap());
    assert!(!target.exists(), "{} is there: fixtures are never made again", target.display());
    fs::create_dir_all(&target).unwrap();
    fs::write(target.join("master.key"), "5b6c7d8e9fa0b1c2d3e4f5061728394a5b6c7d8e9fa0b1c2d3e4f5061728394a\n").unwrap();

    let plain = Setup::new();
    let server = plain.start();
    fill(&server);
    let plain_read = read(&server);
    server.stop().check_code(0);
    keep(plain.db(), &target.join("plain"));

    let secret = sealed(Setup::new(), &target.join("master.key"));
    let server = secret.start();
    fill(&server);
    server.send(&Request::new("POST", "/admin/encryption/rotate").key(ADMIN_KEY)).check_status(202);
    write_thread(&server, "after the rotation");
    let sealed_read = read(&server);
    // What only the log holds is part of the format as well.
    server.kill();
    keep(secret.db(), &target.join("sealed"));

    let expected = json!({
        "plain": { "held": held(&plain), "read": plain_read },
        "sealed": { "held": held(&secret), "read": sealed_read },
    });
    fs::write(target.join("expected.json"), format!("{expected:#}\n")).unwrap();
}

/// Copies what a server needs to open it; options and locks are made anew.
fn keep(db: &Path, target: &Path) {
    assert!(Command::new("cp").arg("-r").args([db, target]).status().unwrap().success());
    for entry in fs::read_dir(target.join("store-1")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        if name.starts_with("OPTIONS") || name.starts_with("LOG") || name == "LOCK" {
            fs::remove_file(path).unwrap();
        }
    }
    fs::remove_dir(target.join("tmp")).unwrap();
    fs::remove_file(target.join("lock")).unwrap();
}

/// Rows of every kind that this version writes.
fn fill(server: &Server) {
    for title in ["first", "zweiter Faden, mit Umläuten", "第三"] {
        write_thread(server, title);
    }
    let user = server.user(READER);
    let deleted = user.create_thread("deleted");
    user.append(&deleted, "in a deleted thread");
    user.delete(&thread(&deleted)).written();
    let erased = user.create_thread("erased");
    user.append(&erased, "in an erased thread");
    let erase = user.request("DELETE", &format!("{}?purge=true", thread(&erased)));
    user.send(&erase.header("Idempotency-Key", "erase")).check_status(202);
    let other = server.user("user/with: strange ~ name");
    let own = other.create_thread("of another");
    other.append(&own, json!({ "text": "x".repeat(3_000) }));
}

fn write_thread(server: &Server, title: &str) {
    let user = server.user(READER);
    let content = json!({ "title": title, "slug": "a-slug", "metadata": { "n": 1.5, "of": title } });
    let create = user.request("POST", THREADS).header("Idempotency-Key", format!("create-{}", title.len()));
    let thread = user.send(&create.json(&content)).written();
    let first = user.append(&thread, json!({ "text": title, "n": 12345678901234567890_u64 }));
    let reply =
        json!({ "body": [1, null, "\u{1f600}"], "role": "assistant", "reply_to": first, "metadata": { "a": 1 } });
    let reply = user.request("POST", &messages(&thread)).header("Idempotency-Key", "reply").json(&reply);
    user.send(&reply).written();
    for edit in ["once", "twice"] {
        user.put(&message(&thread, &first), &json!({ "body": { "edited": edit } })).written();
    }
    let gone = user.append(&thread, "gone");
    user.delete(&message(&thread, &gone)).written();
    for n in 0..20 {
        user.append(&thread, format!("{title} {n}"));
    }
}
