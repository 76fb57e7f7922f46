//! The layers of the server: what a module of `src` may use of the others. The arrows are those of the map in
//! `docs/architecture.md`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// What each module may use, beside itself. `lib.rs` and `main.rs` use what they like, and so do tests.
const MAY_USE: [(&str, &[&str]); 20] = [
    (
        "commands",
        &[
            "args",
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
            "serve",
            "store",
            "telemetry",
            "termination",
        ],
    ),
    ("args", &["config"]),
    ("termination", &["config"]),
    (
        "serve",
        &[
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
            "rows",
            "store",
            "telemetry",
        ],
    ),
    ("config", &["crypt", "http", "outgoing", "telemetry"]),
    ("http", &["clock", "db", "error_chain", "model", "telemetry", "token_bucket"]),
    ("db", &["clock", "crypt", "format", "keys", "model", "rows", "store", "telemetry"]),
    ("crypt", &["clock", "error_chain", "keys", "model", "outgoing", "token_bucket"]),
    ("store", &["clock", "files", "format", "keys", "model", "rows"]),
    ("data_dir", &["files", "format", "model"]),
    ("format", &["model"]),
    ("rows", &["keys", "model"]),
    ("keys", &["model"]),
    ("telemetry", &["clock", "outgoing"]),
    ("model", &[]),
    ("clock", &[]),
    ("files", &[]),
    ("outgoing", &[]),
    ("error_chain", &[]),
    ("token_bucket", &[]),
];

fn sources(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).expect("a directory of sources") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// The names that follow `crate::` in code, also in a list in braces.
fn used(code: &str) -> BTreeSet<String> {
    let name = |text: &str| text.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect::<String>();
    let mut names = BTreeSet::new();
    for rest in code.split("crate::").skip(1) {
        let Some(list) = rest.strip_prefix('{') else {
            names.insert(name(rest));
            continue;
        };
        let (mut depth, mut item) = (0_usize, String::new());
        for c in list.chars() {
            match c {
                '}' | ',' if depth == 0 => {
                    names.insert(name(item.trim()));
                    item.clear();
                    if c == '}' {
                        break;
                    }
                }
                '{' => depth += 1,
                '}' => depth -= 1,
                c if depth == 0 => item.push(c),
                _ => {}
            }
        }
    }
    // What begins with a capital is a macro's or a type's, and no module.
    names.retain(|name| name.starts_with(|c: char| c.is_ascii_lowercase()));
    names
}

/// Code without comments, up to the tests at its end.
fn product_code(text: &str) -> String {
    let code = text.split("#[cfg(test)]\nmod tests").next().unwrap_or_default();
    let lines = code.lines().map(|line| line.split("//").next().unwrap_or_default());
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
fn arrows_between_modules_go_down_only() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let allowed: BTreeMap<&str, &[&str]> = MAY_USE.into_iter().collect();
    let mut paths = Vec::new();
    sources(&root, &mut paths);
    assert!(paths.len() > 100, "the sources are not where they were: {}", paths.len());
    let mut wrong = Vec::new();
    for path in paths {
        let place = path.strip_prefix(&root).expect("below src").with_extension("");
        let parts: Vec<&str> = place.iter().filter_map(|part| part.to_str()).collect();
        let is_test = parts.iter().any(|part| part.starts_with("test")) || parts == ["store", "contract"];
        if is_test || matches!(parts.as_slice(), ["main" | "lib"]) {
            continue;
        }
        let module = parts[0];
        let Some(below) = allowed.get(module) else {
            wrong.push(format!("{module} is on no layer: give it one here and in docs/architecture.md"));
            continue;
        };
        let text = fs::read_to_string(&path).expect("a source file");
        for name in used(&product_code(&text)) {
            if name != module && !below.contains(&name.as_str()) {
                wrong.push(format!("{} uses {name}", place.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "arrows that go up or across:\n{}", wrong.join("\n"));
}

/// The seam, which has an arm for each engine, and the list of metrics, which has the names of their figures.
const NAME_ENGINES: [&str; 3] = ["store", "store/engine", "telemetry/catalogue"];

#[test]
fn rocksdb_is_named_in_its_own_module_and_where_it_is_wired() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut paths = Vec::new();
    sources(&root, &mut paths);
    let names_it = |path: &PathBuf| {
        product_code(&fs::read_to_string(path).expect("a source file")).to_lowercase().contains("rocks")
    };
    let mut naming = BTreeSet::new();
    for path in paths.into_iter().filter(names_it) {
        let place = path.strip_prefix(&root).expect("below src").with_extension("");
        naming.insert(place.to_str().expect("a name in UTF-8").to_owned());
    }
    naming.retain(|place| !place.starts_with("store/rocks") && place != "store/contract");
    assert_eq!(naming, NAME_ENGINES.map(str::to_owned).into());
}

#[test]
fn no_two_modules_may_use_each_other() {
    let allowed: BTreeMap<&str, &[&str]> = MAY_USE.into_iter().collect();
    let mut left: BTreeSet<&str> = allowed.keys().copied().collect();
    // Takes away whatever uses nothing that is left; what then remains stands in a circle.
    while let Some(free) = left.iter().copied().find(|module| !allowed[module].iter().any(|used| left.contains(used))) {
        left.remove(free);
    }
    assert!(left.is_empty(), "a circle among {left:?}");
}
