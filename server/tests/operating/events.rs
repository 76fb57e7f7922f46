//! The names in `event=` are part of the interface: each is documented, and what is documented exists.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

#[test]
fn every_event_is_documented_and_every_documented_event_exists() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut logged = BTreeSet::new();
    visit(&source, &mut logged);
    assert!(logged.len() > 50, "{logged:?}");
    let documented = documented();
    let difference = |left: &BTreeSet<String>, right: &BTreeSet<String>| -> Vec<String> {
        left.difference(right).cloned().collect()
    };
    assert_eq!(difference(&logged, &documented), [""; 0], "not in the list of docs/operations.md");
    assert_eq!(difference(&documented, &logged), [""; 0], "in the list of docs/operations.md, but nowhere logged");
}

/// The first column of the table under `### Events`.
fn documented() -> BTreeSet<String> {
    let page = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/operations.md")).unwrap();
    let section = page.split("\n### Events\n").nth(1).expect("the section is there").split("\n## ").next().unwrap();
    let rows = section.lines().filter_map(|line| line.strip_prefix("| `"));
    rows.filter_map(|row| row.split(" |").next())
        .flat_map(|cell| cell.split(", "))
        .map(|name| name.trim_matches('`').to_owned())
        .collect()
}

/// Every literal after `event =`, and the names that a failure gives to its line.
fn visit(directory: &Path, logged: &mut BTreeSet<String>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            visit(&path, logged);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).unwrap();
            for before in ["event = \"", "event: \""] {
                let literals = text.split(before).skip(1);
                logged.extend(literals.map(|rest| rest.split('"').next().unwrap().to_owned()));
            }
            let named = text.split("fn event(").skip(1).flat_map(|rest| rest.split("\n    }").next());
            logged.extend(named.flat_map(|body| body.split('"').skip(1).step_by(2)).map(str::to_owned));
        }
    }
}
