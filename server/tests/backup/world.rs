//! A database with something of every kind in it, and backups of it.

use std::fs;
use std::path::{Path, PathBuf};

use progressdb_server::keys::{Counter, Key, StoreRow};
use progressdb_server::rows::{CounterValue, EVERY_FORMAT, Row as _};
use progressdb_server::store::{self, Commit, Engine, Op, Outcome};
use serde_json::Value;
use testing::Setup;
pub(crate) use testing::filled::{MASTER_KEY, with_master_key, write_everything};

/// A setup that seals what is written, under a master key in a file.
pub(crate) fn sealed() -> Setup {
    with_master_key(Setup::new(), MASTER_KEY)
}

/// The same configuration for another directory.
pub(crate) fn sealed_at(db: &Path) -> Setup {
    with_master_key(Setup::with_db(db), MASTER_KEY)
}

/// Erases a new thread; where its receipt says that copies of it are.
#[track_caller]
pub(crate) fn copies_of_erased(user: &testing::User) -> Vec<String> {
    let erased = user.create_thread("erased");
    let answer = user.delete(&format!("{}?purge=true", testing::thread(&erased))).check_status(202).json();
    let copies = answer["receipt"]["checkpoints"].as_array().unwrap();
    copies.iter().map(|copy| copy.as_str().unwrap().to_owned()).collect()
}

/// The database of `setup`, stopped, with something of every kind in it.
pub(crate) fn filled(setup: &Setup) {
    let server = setup.start();
    write_everything(&server);
    server.stop().check_code(0);
}

/// A backup of the stopped database.
pub(crate) fn back_up(setup: &Setup, name: &str) -> PathBuf {
    let path = setup.root().join(name);
    setup.run(&["backup", "--out", path.to_str().unwrap()]).check_code(0);
    path
}

/// What `verify` says as JSON, with this exit code.
#[track_caller]
pub(crate) fn verify(setup: &Setup, code: i32) -> Value {
    let finished = setup.run(&["verify", "--json"]);
    finished.check_code(code);
    serde_json::from_str(&finished.stdout).unwrap()
}

/// Makes the counter of live threads of a stopped database wrong, through the store itself.
pub(crate) fn break_counter(db: &Path) {
    let path = db.join(marker(db)["store"].as_str().unwrap());
    let settings = store::Settings {
        path,
        create: false,
        memory_bytes: 16 << 20,
        reserve_bytes: 0,
        max_tables: 64,
        read_only: false,
    };
    let engine = Engine::open(settings).unwrap();
    let key = Key::Store(StoreRow::Counter(Counter::Threads));
    let ops = vec![Op::Put(key, CounterValue(99).encode(EVERY_FORMAT))];
    let commit = Commit { partition: key.partition(), precondition: None, ops, secondary: Vec::new() };
    let runtime = tokio::runtime::Builder::new_multi_thread().build().unwrap();
    assert_eq!(runtime.block_on(engine.store().commit(commit)), Ok(Outcome::Committed));
    engine.close().unwrap();
}

/// The digest of all threads.
#[track_caller]
pub(crate) fn digest(setup: &Setup) -> Value {
    let finished = setup.run(&["verify", "--digest", "--json"]);
    finished.check_code(0);
    serde_json::from_str::<Value>(&finished.stdout).unwrap()["root"].clone()
}

/// The id of the database that is there.
pub(crate) fn database_id(db: &Path) -> String {
    marker(db)["database_id"].as_str().unwrap().to_owned()
}

/// The marker of a data directory.
pub(crate) fn marker(db: &Path) -> Value {
    serde_json::from_slice(&fs::read(db.join("PROGRESSDB")).unwrap()).unwrap()
}
