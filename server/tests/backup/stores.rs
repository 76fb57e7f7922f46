//! Databases to back up, and object stores to send them to.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use testing::command::Finished;
use testing::servers::object_store::ObjectStore;
use testing::{Random, Setup};

/// What reaches the object store at this address: its own, or that of a proxy.
pub(crate) fn setup_for(store: &ObjectStore, addr: SocketAddr) -> Setup {
    let setup = Setup::new().set("backup.endpoint", store.endpoint(addr)).set("backup.allow_http", true);
    let setup = setup.set("backup.timeout", "10s");
    store.credentials().into_iter().fold(setup, |setup, (name, value)| setup.environment(name, value))
}

/// Writes so many megabytes that do not compress, in one thread, and stops.
pub(crate) fn fill(setup: &Setup, megabytes: usize) {
    let server = setup.start();
    let user = server.user("ada");
    let thread = user.create_thread("large");
    let mut random = Random::seeded();
    for _ in 0..megabytes * 11 {
        user.append(&thread, text(&mut random, 90_000));
    }
    server.stop().check_code(0);
}

/// Writes one message more, and stops.
pub(crate) fn change(setup: &Setup) {
    let server = setup.start();
    let user = server.user("ada");
    let thread = user.create_thread("small");
    user.append(&thread, "one more");
    server.stop().check_code(0);
}

fn text(random: &mut Random, bytes: usize) -> String {
    let letters = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let letter = |number: u64, at: u64| char::from(letters[usize::try_from(number >> (6 * at) & 63).unwrap()]);
    (0..bytes.div_ceil(8))
        .flat_map(|_| {
            let number = random.number();
            (0..8).map(move |at| letter(number, at))
        })
        .collect()
}

/// Makes a backup, and what `--json` says of it.
#[track_caller]
pub(crate) fn back_up(setup: &Setup, out: &str) -> Value {
    json_of(&setup.run(&["backup", "--out", out, "--json"]))
}

/// What `progressdb backup list --json` says.
#[track_caller]
pub(crate) fn list(setup: &Setup, place: &str) -> Vec<Value> {
    json_of(&setup.run(&["backup", "list", "--in", place, "--json"])).as_array().unwrap().clone()
}

/// What a command that must succeed prints as JSON.
#[track_caller]
pub(crate) fn json_of(finished: &Finished) -> Value {
    serde_json::from_str(&finished.check_code(0).stdout).unwrap()
}

/// Reads a whole backup.
#[track_caller]
pub(crate) fn verify(setup: &Setup, place: &str) -> Finished {
    setup.run(&["backup", "verify", "--in", place])
}

/// Removes all but the newest `keep`, and objects that nothing names at once. What `--json` says.
#[track_caller]
pub(crate) fn prune(setup: &Setup, place: &str, keep: usize, more: &[&str]) -> Value {
    let keep = keep.to_string();
    let words = [&["backup", "prune", "--in", place, "--keep", &keep, "--grace", "0s", "--json"], more].concat();
    json_of(&setup.run(&words))
}

/// Which backups go, by what they are called, and why each stays or goes.
pub(crate) fn verdicts(pruned: &Value) -> Vec<(bool, String)> {
    let verdict = |backup: &Value| (backup["removed"] == json!(true), backup["why"].as_str().unwrap().to_owned());
    pruned["backups"].as_array().unwrap().iter().map(verdict).collect()
}

/// The objects that versitygw keeps below a prefix, with their sizes.
pub(crate) fn objects(store: &ObjectStore, prefix: &str) -> Vec<(PathBuf, u64)> {
    files_in(&store.files.as_ref().unwrap().join(prefix).join("objects"))
}

/// The plain files of a directory, with their sizes.
pub(crate) fn files_in(directory: &Path) -> Vec<(PathBuf, u64)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).into_iter().flatten() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_file() {
            found.push((entry.path(), entry.metadata().unwrap().len()));
        }
    }
    found.sort();
    found
}
