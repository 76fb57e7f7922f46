//! A database with something of every kind in it, exports of it, and where they are imported.

use std::fs;
use std::path::{Path, PathBuf};

use aws_lc_rs::digest::{SHA256, digest};
use progressdb_server::keys::PartitionKind;
use progressdb_server::store::{self, Direction, Engine};
use serde_json::{Value, json};
use testing::command::Finished;
use testing::filled::{MASTER_KEY, with_master_key, write_everything};
use testing::{Server, Setup, THREADS, messages};

/// A stopped database with something of every kind in it.
pub(crate) fn filled() -> Setup {
    fill(Setup::new())
}

/// The same, sealed.
pub(crate) fn filled_and_sealed() -> Setup {
    fill(sealed())
}

/// With nothing in it yet.
pub(crate) fn sealed() -> Setup {
    with_master_key(Setup::new(), MASTER_KEY)
}

fn fill(setup: Setup) -> Setup {
    let server = setup.start();
    write_everything(&server);
    server.stop().check_code(0);
    setup
}

/// Writes one thread more, and stops.
pub(crate) fn write_more(setup: &Setup) {
    let server = setup.start();
    server.user("ann").create_thread("more");
    server.stop().check_code(0);
}

/// Exports to a new file.
#[track_caller]
pub(crate) fn export(setup: &Setup, name: &str) -> PathBuf {
    let file = setup.root().join(name);
    export_to(setup, &file, &[]).check_code(0);
    file
}

#[track_caller]
pub(crate) fn export_to(setup: &Setup, file: &Path, words: &[&str]) -> Finished {
    setup.run(&[&["export", "--to", file.to_str().unwrap()], words].concat())
}

#[track_caller]
pub(crate) fn import(setup: &Setup, file: &Path) -> Finished {
    setup.run(&["import", "--json", "--from", file.to_str().unwrap()])
}

/// What a command with `--json` said.
#[track_caller]
pub(crate) fn said(finished: &Finished) -> Value {
    finished.check_code(0);
    serde_json::from_str(&finished.stdout).unwrap()
}

/// The digest of all threads.
#[track_caller]
pub(crate) fn root(setup: &Setup) -> Value {
    said(&setup.run(&["verify", "--digest", "--json"]))["root"].clone()
}

/// How many threads have rows in a stopped store, whole or not.
pub(crate) fn threads(db: &Path) -> usize {
    let settings = store::Settings {
        path: db.join(marker(db)["store"].as_str().unwrap()),
        create: false,
        memory_bytes: 16 << 20,
        reserve_bytes: 0,
        max_tables: 64,
        read_only: true,
    };
    let (store, runtime) = (Engine::open(settings).unwrap().store(), tokio::runtime::Runtime::new().unwrap());
    let threads = store.partitions(PartitionKind::Thread, None, Direction::Ascending, 1_000);
    runtime.block_on(threads).unwrap().len()
}

/// The marker of a data directory.
pub(crate) fn marker(db: &Path) -> Value {
    serde_json::from_slice(&fs::read(db.join("PROGRESSDB")).unwrap()).unwrap()
}

pub(crate) fn lines(file: &Path) -> Vec<String> {
    fs::read_to_string(file).unwrap().lines().map(str::to_owned).collect()
}

/// What an export holds, without what tells one export from another.
pub(crate) fn rows(file: &Path) -> Vec<String> {
    let mut lines = lines(file);
    assert!(lines.last().unwrap().starts_with("{\"rows\":"), "it is not whole");
    lines.drain(1..).collect()
}

/// The line with its checksum made anew, as whoever alters it on purpose would.
pub(crate) fn sum_anew(number: usize, line: &str) -> String {
    let (text, _) = line.rsplit_once(",\"sum\":").unwrap();
    let sum = digest(&SHA256, format!("{number}:{text}").as_bytes());
    format!("{text},\"sum\":\"{}\"}}", hex::encode(&sum.as_ref()[..8]))
}

/// What both users get from every list, word for word.
#[track_caller]
pub(crate) fn seen(server: &Server) -> Value {
    let of_user = |name: &str| {
        let user = server.user(name);
        let threads = user.get(&format!("{THREADS}?limit=100")).check_status(200).json();
        let of_thread = |thread: &Value| {
            let page = user.get(&format!("{}?limit=100", messages(thread["key"].as_str().unwrap())));
            page.check_status(200).json()
        };
        let read: Vec<_> = threads["threads"].as_array().unwrap().iter().map(of_thread).collect();
        json!({ "threads": threads, "messages": read })
    };
    let admin = server.admin("/admin/stats").check_status(200).json();
    json!({ "ann": of_user("ann"), "bob": of_user("bob"), "stats": admin })
}
