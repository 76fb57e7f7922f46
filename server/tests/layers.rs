//! The layers of the server: what a module of `src` may use of the others. The arrows are those of the map in
//! `docs/architecture.md`.

use std::{collections::BTreeSet, path::Path};

use testing::layers;

/// What each module may use, beside itself. `lib.rs` and `main.rs` use what they like, and so do tests.
const MAY_USE: [(&str, &[&str]); 23] = [
    (
        "commands",
        &[
            "args",
            "backup",
            "clock",
            "config",
            "crypt",
            "data_dir",
            "db",
            "error_chain",
            "files",
            "format",
            "http",
            "model",
            "moving",
            "outgoing",
            "serve",
            "store",
            "telemetry",
            "termination",
        ],
    ),
    ("args", &["backup", "config"]),
    ("termination", &["config"]),
    (
        "serve",
        &[
            "backup",
            "clock",
            "config",
            "crypt",
            "data_dir",
            "db",
            "error_chain",
            "files",
            "format",
            "http",
            "model",
            "moving",
            "rows",
            "store",
            "telemetry",
        ],
    ),
    ("config", &["backup", "crypt", "format", "http", "outgoing", "store", "telemetry"]),
    ("http", &["backup", "clock", "db", "error_chain", "model", "telemetry", "token_bucket"]),
    ("backup", &["clock", "data_dir", "db", "error_chain", "files", "format", "outgoing", "store"]),
    ("moving", &["db", "files", "format"]),
    ("db", &["clock", "crypt", "forgetting_cache", "format", "keys", "model", "rows", "store", "telemetry"]),
    ("crypt", &["clock", "error_chain", "forgetting_cache", "keys", "model", "outgoing", "token_bucket"]),
    ("store", &["clock", "files", "format", "keys", "model", "rows"]),
    ("data_dir", &["files", "format", "model"]),
    ("format", &["keys", "model", "rows"]),
    ("rows", &["keys", "model"]),
    ("keys", &["model"]),
    ("telemetry", &["clock", "outgoing"]),
    ("model", &[]),
    ("clock", &[]),
    ("files", &[]),
    ("outgoing", &[]),
    ("error_chain", &[]),
    ("token_bucket", &[]),
    ("forgetting_cache", &[]),
];

#[test]
fn arrows_between_modules_go_down_only() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let is_test = |parts: &[&str]| parts.iter().any(|part| part.starts_with("test")) || parts == ["store", "contract"];
    let wrong = layers::wrong_arrows(&root, &MAY_USE, is_test);
    assert!(wrong.is_empty(), "arrows that go up or across:\n{}", wrong.join("\n"));
}

/// The seam, which has an arm for each engine, and the list of metrics, which has the names of their figures.
const NAME_ENGINES: [&str; 3] = ["store", "store/engine", "telemetry/catalogue"];

#[test]
fn rocksdb_is_named_in_its_own_module_and_where_it_is_wired() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let code = layers::product_code(&root).into_iter();
    let mut naming: BTreeSet<String> =
        code.filter(|(_, code)| code.to_lowercase().contains("rocks")).map(|(place, _)| place).collect();
    naming.retain(|place| !place.starts_with("store/rocks") && place != "store/contract");
    assert_eq!(naming, NAME_ENGINES.map(str::to_owned).into());
}

#[test]
fn no_two_modules_may_use_each_other() {
    assert_eq!(layers::in_a_circle(&MAY_USE), [].into());
}
