//! The pages speak of what there is: events, settings, variables, exit codes and commands in them are those of the code.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use testing::{Setup, finish, program};

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

/// Text of every file under a directory whose name ends so.
fn files(directory: &str, ending: &str) -> Vec<(PathBuf, String)> {
    let (mut found, mut directories) = (Vec::new(), vec![Path::new(ROOT).join(directory)]);
    while let Some(directory) = directories.pop() {
        for path in fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()) {
            if path.is_dir() {
                directories.push(path);
            } else if path.to_string_lossy().ends_with(ending) {
                found.push((path.clone(), fs::read_to_string(&path).unwrap()));
            }
        }
    }
    found
}

/// The pages of the server for its users; decisions tell of their time.
fn pages() -> Vec<(PathBuf, String)> {
    let mut pages = files("docs", ".md");
    pages.retain(|(path, _)| !path.to_string_lossy().contains("/adr/"));
    pages.push((Path::new(ROOT).join("README.md"), fs::read_to_string(Path::new(ROOT).join("README.md")).unwrap()));
    pages
}

fn page(name: &str) -> String {
    fs::read_to_string(Path::new(ROOT).join("docs").join(name)).unwrap()
}

/// What stands between backticks on one line.
fn quoted(text: &str) -> Vec<&str> {
    let lines = text.lines().filter(|line| !line.starts_with("```"));
    lines.flat_map(|line| line.split('`').skip(1).step_by(2)).collect()
}

/// The lines of a section of a page, up to the next heading.
fn section<'a>(page: &'a str, heading: &str) -> &'a str {
    let start = page.find(&format!("\n## {heading}\n")).unwrap_or_else(|| panic!("no {heading}")) + 4;
    let end = page[start..].find("\n## ").map_or(page.len(), |end| start + end);
    &page[start..end]
}

/// `a.b` of small letters.
fn is_dotted(text: &str) -> bool {
    let parts: Vec<&str> = text.split('.').collect();
    let good = |part: &&str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
    parts.len() > 1 && parts.iter().all(good)
}

/// The bodies of functions of this head.
fn bodies<'a>(text: &'a str, head: &str) -> Vec<&'a str> {
    text.match_indices(head).map(|(at, _)| text[at..].split("\n    }\n").next().unwrap()).collect()
}

/// Texts in quotes in code.
fn literals(code: &str) -> impl Iterator<Item = &str> {
    code.split('"').skip(1).step_by(2)
}

fn events_of_the_code() -> BTreeSet<String> {
    let mut events = BTreeSet::new();
    for (_, code) in files("server/src", ".rs") {
        for written in ["event = \"", "event: \""] {
            let logged = code.split(written).skip(1).filter_map(|rest| rest.split('"').next());
            events.extend(logged.map(str::to_owned));
        }
        let of_errors = bodies(&code, "fn event(&self)");
        events.extend(of_errors.into_iter().flat_map(literals).map(str::to_owned));
    }
    events
}

#[test]
fn no_page_names_an_event_that_nobody_logs() {
    let code = events_of_the_code();
    assert!(code.len() > 40 && code.contains("startup.store_in_use"), "{code:?}");
    let kinds: BTreeSet<&str> = code.iter().filter_map(|event| event.split_once('.')).map(|(kind, _)| kind).collect();
    let settings = settings();
    for (path, page) in pages() {
        for name in quoted(&page).into_iter().filter(|name| is_dotted(name) && name.matches('.').count() == 1) {
            let is_of_a_kind = name.split_once('.').is_some_and(|(kind, _)| kinds.contains(kind));
            let known = code.contains(name) || is_setting(&settings, name) || is_file(name);
            assert!(!is_of_a_kind || known, "{}: there is no event or setting {name}", path.display());
        }
    }
}

/// Full names of all settings, from the page that is generated.
fn settings() -> BTreeSet<String> {
    let page = page("configuration.md");
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `")).filter_map(|row| row.split('`').next());
    rows.filter(|name| is_dotted(name)).map(str::to_owned).collect()
}

/// A setting or a section of some.
fn is_setting(settings: &BTreeSet<String>, name: &str) -> bool {
    settings.contains(name) || settings.iter().any(|setting| setting.starts_with(&format!("{name}.")))
}

fn is_file(name: &str) -> bool {
    [".rs", ".md", ".yaml", ".json", ".key", ".toml"].iter().any(|ending| name.ends_with(ending))
}

#[test]
fn the_settings_in_the_pages_are_those_of_the_program() {
    let settings = settings();
    assert!(settings.len() > 80, "{settings:?}");
    let printed = Setup::new().run(&["config"]);
    printed.check_code(0);
    let events = events_of_the_code();
    let tops: BTreeSet<&str> = settings.iter().filter_map(|name| name.split('.').next()).collect();
    // Fields of the operator's resource are called alike.
    for (path, page) in pages().into_iter().filter(|(path, _)| !path.ends_with("kubernetes.md")) {
        for name in quoted(&page) {
            let name = name.split([':', '=', ' ']).next().unwrap_or_default();
            if !is_dotted(name) || is_file(name) || events.contains(name) {
                continue;
            }
            if tops.contains(name.split('.').next().unwrap_or_default()) {
                assert!(is_setting(&settings, name), "{}: there is no setting {name}", path.display());
            }
        }
    }
}

#[test]
fn the_variables_in_the_pages_are_read() {
    let setup = Setup::new();
    let mut names = BTreeSet::new();
    for (path, page) in pages() {
        for (at, _) in page.match_indices("PROGRESSDB_") {
            let rest = &page[at..];
            let end = rest.find(|c: char| !(c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_'));
            let name = &rest[..end.unwrap_or(rest.len())];
            // The prefix alone, or that of several.
            if !name.ends_with('_') && !page[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_') {
                names.insert((name.to_owned(), path.clone()));
            }
        }
    }
    assert!(names.len() > 3, "{names:?}");
    for (name, path) in names {
        let mut command = program(&["config", "check", "--json"], setup.root());
        command.env(&name, "1");
        let said = finish(command).said();
        // Those of the tests, the image and the Jobs of an upgrade are read by others.
        const OF_OTHERS: [&str; 6] = [
            "PROGRESSDB_CASSANDRA_CONTACT_POINTS",
            "PROGRESSDB_CASSANDRA_KEYSPACE",
            "PROGRESSDB_SNAPSHOT",
            "PROGRESSDB_COMMIT",
            "PROGRESSDB_MANAGEMENT_URL",
            "PROGRESSDB_URL",
        ];
        let of_others = name.starts_with("PROGRESSDB_TEST_") || OF_OTHERS.contains(&name.as_str());
        assert!(of_others || !said.contains("unknown variable"), "{}: {name} is not read", path.display());
    }
}

#[test]
fn the_exit_codes_are_those_of_the_code() {
    // Those of done, of the parser of arguments, and of a second signal.
    let mut code = BTreeSet::from([0, 2, 130]);
    for (_, text) in files("server/src", ".rs") {
        for body in bodies(&text, "fn exit_code(&self)") {
            let numbers = body.split("=> ").skip(1).filter_map(|rest| rest.split(',').next());
            code.extend(numbers.filter_map(|number| number.trim().parse::<i32>().ok()));
        }
        assert!(!text.contains("const IMPATIENT") || text.contains("const IMPATIENT: i32 = 130;"));
    }
    let operations = page("operations.md");
    let rows = section(&operations, "Signals and exit codes").lines().filter_map(|line| line.strip_prefix("| "));
    let listed: BTreeSet<i32> = rows.filter_map(|row| row.split(' ').next()?.parse().ok()).collect();
    assert_eq!(listed, code, "docs/operations.md, Signals and exit codes");
}

/// What keys are derived under; no commands.
const LABELS: [&str; 2] = ["progressdb master key", "progressdb key commitment"];

#[test]
fn the_commands_in_the_pages_can_be_typed() {
    let setup = Setup::new();
    let mut tried = BTreeSet::new();
    let pages = pages();
    for (path, page) in &pages {
        let in_blocks = page.lines().map(str::trim).filter(|line| line.starts_with("progressdb "));
        for command in quoted(page).into_iter().chain(in_blocks) {
            let Some(rest) = command.strip_prefix("progressdb ").filter(|_| !LABELS.contains(&command)) else {
                continue;
            };
            let rest = rest.split([';', '|', '#', '>', '&']).next().unwrap_or_default();
            let words: Vec<&str> = rest.split([' ', '[', ']']).filter(|word| !word.is_empty()).collect();
            let is_word = |word: &&&str| word.bytes().all(|byte| byte.is_ascii_lowercase());
            let verbs: Vec<&str> = words.iter().take_while(is_word).copied().collect();
            let flags = words.iter().filter(|word| word.starts_with("--")).copied();
            if tried.insert((verbs.clone(), flags.clone().collect::<Vec<_>>())) {
                let help = finish(program(&[&verbs[..], &["--help"]].concat(), setup.root()));
                let place = format!("{}: {command:?}", path.display());
                assert_eq!(help.code, Some(0), "{place}: {}", help.said());
                for flag in flags {
                    assert!(help.stdout.contains(flag), "{place}: no {flag} in\n{}", help.stdout);
                }
            }
        }
    }
    assert!(tried.len() >= 8, "{tried:?}");
}
