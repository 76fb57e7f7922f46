//! What encryption promises, seen from outside: nothing readable in the files, keys that come and go as told, and
//! erasure that can be proved. The KMS here is a master key in a file; what other providers do is in `tests/kms`.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod erasure;
mod files;
mod lifecycle;
mod rotation;
mod secrets;
mod vectors;

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use serde_json::{Value, json};
use testing::http::{Answer, Request};
use testing::{ADMIN_KEY, Server, Setup};

/// Stands in everything that a test writes.
pub(crate) const CANARY: &str = "canary-4c1e8f";
/// A master key in hexadecimal digits.
pub(crate) const MASTER_KEY: &str = "8d1f2a3b4c5d6e7f8091a2b3c4d5e6f708192a3b4c5d6e7f8091a2b3c4d5e6f7";
/// Another one.
pub(crate) const OTHER_KEY: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

/// A setup that encrypts with a master key in a file.
pub(crate) fn encrypted(setup: Setup) -> Setup {
    let file = key_file(&setup, "master.key", MASTER_KEY);
    setup.set("encryption.enabled", true).set("encryption.kms.master_key_file", file.to_str().unwrap())
}

/// A file with a master key, as safe as the server wants it.
pub(crate) fn key_file(setup: &Setup, name: &str, key: &str) -> PathBuf {
    let path = setup.root().join(name);
    std::fs::write(&path, key).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    path
}

/// A request to `/admin/encryption/…`.
#[track_caller]
pub(crate) fn post(server: &Server, what: &str, body: Option<Value>) -> Answer {
    let request = Request::new("POST", &format!("/admin/encryption/{what}")).key(ADMIN_KEY);
    server.send(&match body {
        Some(body) => request.json(&body),
        None => request,
    })
}

/// The state of encryption.
#[track_caller]
pub(crate) fn status(server: &Server) -> Value {
    server.admin("/admin/encryption/status").check_status(200).json()
}

/// Waits until the sealing job is done for this epoch.
#[track_caller]
pub(crate) fn wait_until_sealed(server: &Server, epoch: u64) -> Value {
    testing::wait_until("everything is sealed", || {
        let status = status(server);
        status["sealing"]["state"] == "done" && status["sealing"]["epoch"] == json!(epoch)
    });
    status(server)
}

/// A thread with canaries in all that a user can write; its key.
pub(crate) fn write_canaries(server: &Server) -> String {
    let user = server.user(&format!("user-{CANARY}"));
    let thread = json!({ "title": CANARY, "slug": CANARY, "metadata": { "m": CANARY } });
    let created = user.request("POST", testing::THREADS).header("Idempotency-Key", CANARY).json(&thread);
    let thread = user.send(&created).written();
    let message = user.append(&thread, CANARY);
    user.put(&testing::message(&thread, &message), &json!({ "body": { "edited": CANARY } })).written();
    let gone = user.append(&thread, json!([CANARY]));
    user.delete(&testing::message(&thread, &gone)).written();
    thread
}
