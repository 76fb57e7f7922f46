//! Which module of a crate may use which of the others: arrows go down only.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// What each module may use, beside itself.
pub type MayUse = [(&'static str, &'static [&'static str])];

/// The arrows in the sources below `root` that are not allowed, one line each, and the modules that have no row. `lib.rs`
/// and `main.rs` use what they like, and so do tests: files whose path `is_test`, and what stands at the end of a file.
pub fn wrong_arrows(root: &Path, may_use: &MayUse, is_test: impl Fn(&[&str]) -> bool) -> Vec<String> {
    let allowed: BTreeMap<&str, &[&str]> = may_use.iter().copied().collect();
    let mut wrong = Vec::new();
    let mut seen = BTreeSet::new();
    for (place, code) in product_code(root) {
        let parts: Vec<&str> = place.split('/').collect();
        if is_test(&parts) || matches!(parts.as_slice(), ["main" | "lib"]) {
            continue;
        }
        let module = parts[0];
        seen.insert(module.to_owned());
        let Some(below) = allowed.get(module) else {
            wrong.push(format!("{module} is on no layer: give it one in this test and in docs/architecture.md"));
            continue;
        };
        for name in used(&code) {
            if name != module && !below.contains(&name.as_str()) {
                wrong.push(format!("{place} uses {name}"));
            }
        }
    }
    let gone = allowed.keys().filter(|module| !seen.contains(**module));
    wrong.extend(gone.map(|module| format!("{module} has a row and no file")));
    wrong
}

/// The modules that use each other in a circle.
pub fn in_a_circle(may_use: &MayUse) -> BTreeSet<&'static str> {
    let allowed: BTreeMap<&str, &[&str]> = may_use.iter().copied().collect();
    let mut left: BTreeSet<&str> = allowed.keys().copied().collect();
    // Takes away whatever uses nothing that is left; what then remains stands in a circle.
    while let Some(free) = left.iter().copied().find(|module| !allowed[module].iter().any(|used| left.contains(used))) {
        left.remove(free);
    }
    left
}

/// Every source below `root`: its path there, without the extension, and its code without comments, up to the tests at its
/// end.
pub fn product_code(root: &Path) -> BTreeMap<String, String> {
    let mut paths = Vec::new();
    sources(root, &mut paths);
    let code = paths.into_iter().map(|path| {
        let place = path.strip_prefix(root).expect("below the root").with_extension("");
        let place = place.to_str().expect("a name in UTF-8").to_owned();
        (place, without_comments(&fs::read_to_string(&path).expect("a source file")))
    });
    code.collect()
}

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

fn without_comments(text: &str) -> String {
    let code = text.split("#[cfg(test)]\nmod tests").next().unwrap_or_default();
    let lines = code.lines().map(|line| line.split("//").next().unwrap_or_default());
    lines.collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_wherever_they_stand() {
        let code = "use crate::{a::{b, c}, d,\n  Type};\nlet x = crate::e::f();";
        assert_eq!(used(code), ["a", "d", "e"].map(String::from).into());
    }

    #[test]
    fn a_circle_is_found_and_what_only_uses_it_is_in_it_too() {
        assert_eq!(in_a_circle(&[("a", &["b"]), ("b", &["c"]), ("c", &[])]), [].into());
        assert_eq!(in_a_circle(&[("a", &["b"]), ("b", &["c"]), ("c", &["b"]), ("d", &[])]), ["a", "b", "c"].into());
    }
}
