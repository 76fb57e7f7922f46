//! Metrics: what is documented, what the code counts and what is scraped are the same names.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use testing::http::Request;
use testing::waiting::poll;
use testing::{GENEROUS, Server, Setup, THREADS};

/// One family as it is scraped.
#[derive(Debug, Default)]
struct Family {
    kind: String,
    help: String,
    /// Labels as text, and the value.
    samples: Vec<(String, f64)>,
}

fn scrape(server: &Server) -> BTreeMap<String, Family> {
    let text = server.admin("/metrics").check_status(200).text();
    let mut families: BTreeMap<String, Family> = BTreeMap::new();
    for line in text.lines().filter(|line| !line.is_empty()) {
        if let Some((name, help)) = line.strip_prefix("# HELP ").and_then(|rest| rest.split_once(' ')) {
            families.entry(name.to_owned()).or_default().help = help.to_owned();
        } else if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' ')) {
            families.entry(name.to_owned()).or_default().kind = kind.to_owned();
        } else {
            let (series, value) = line.rsplit_once(' ').unwrap();
            let (name, labels) = series.split_once('{').unwrap_or((series, ""));
            let family = families.entry(family_of(name).to_owned()).or_default();
            family.samples.push((labels.trim_end_matches('}').to_owned(), value.parse().unwrap()));
        }
    }
    families
}

/// The family that a series of a histogram belongs to.
fn family_of(name: &str) -> &str {
    ["_bucket", "_sum", "_count"].iter().find_map(|suffix| name.strip_suffix(suffix)).unwrap_or(name)
}

/// A server whose store is sealed and backed up on schedule, so that there is something to say of that as well.
fn sealed_setup() -> Setup {
    let setup = Setup::new();
    let key = setup.root().join("master.key");
    std::fs::write(&key, "5c".repeat(32)).unwrap();
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).unwrap();
    let backups = setup.root().join("backups").to_str().unwrap().to_owned();
    let setup = setup.set("backup.schedule", "@yearly").set("backup.destination", backups);
    setup.set("encryption.enabled", true).set("encryption.kms.master_key_file", key.to_str().unwrap())
}

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// All files under `directory` whose names end so.
fn files(directory: &Path, end: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for path in std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()) {
        if path.is_dir() {
            found.extend(files(&path, end));
        } else if path.to_string_lossy().ends_with(end) {
            found.push(path);
        }
    }
    found
}

/// The words of a text that are names of the server's metrics.
fn names(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    let ours = words.filter(|word| {
        let ends_whole = !word.ends_with('_');
        let of_process = ["process_resident_memory_bytes", "process_open_fds", "process_start_time_seconds"];
        let is_metric = word.starts_with("progressdb_") || of_process.contains(word);
        let of_others =
            ["operator", "server", "bench", "e2e", "test", "export"].map(|other| format!("progressdb_{other}"));
        is_metric && ends_whole && !of_others.iter().any(|other| word.starts_with(other.as_str()))
    });
    ours.map(|word| family_of(word).to_owned()).collect()
}

/// Only servers that share a store say these.
const OF_A_SHARED_STORE: [&str; 3] =
    ["progressdb_cassandra_nodes", "progressdb_cassandra_nodes_connected", "progressdb_cassandra_slot_lost"];

/// Names that the code writes as texts of their own, the catalogue apart.
fn names_in_code() -> BTreeSet<String> {
    let sources = files(&repository().join("server/src"), ".rs").into_iter();
    let sources = sources.filter(|path| !path.ends_with("telemetry/catalogue.rs"));
    let mut found = BTreeSet::new();
    for path in sources {
        let text = std::fs::read_to_string(&path).unwrap();
        let code: Vec<&str> = text.lines().filter(|line| !line.trim_start().starts_with("//")).collect();
        // Of a line cut at its quotes, every other piece is a text.
        let texts = code.iter().flat_map(|line| line.split('"').skip(1).step_by(2));
        let whole = texts.filter(|text| text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_'));
        found.extend(whole.flat_map(names));
    }
    found
}

/// A scrape once every family that the code names is published: figures of the engine, of the KMS and of backups come right
/// after the start, each from a task of its own. What does not come at all is for the caller to find.
fn scrape_all(server: &Server) -> BTreeMap<String, Family> {
    let expected = names_in_code();
    let mut scraped = BTreeMap::new();
    poll(GENEROUS, || {
        scraped = scrape(server);
        let there = |name: &String| scraped.contains_key(name) || OF_A_SHARED_STORE.contains(&name.as_str());
        expected.iter().all(there).then_some(())
    });
    scraped
}

#[test]
fn documentation_code_and_scrape_have_the_same_names() {
    let setup = sealed_setup();
    let server = setup.start();
    server.user("user1").create_thread("counted");
    let mut scraped: BTreeSet<String> = scrape_all(&server).into_keys().collect();
    scraped.extend(OF_A_SHARED_STORE.map(str::to_owned));
    assert_eq!(names_in_code(), scraped, "code | scrape");
    let page = std::fs::read_to_string(repository().join("docs/metrics.md")).unwrap();
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `"));
    let documented: BTreeSet<String> = rows.map(|row| row.split('`').next().unwrap().to_owned()).collect();
    assert_eq!(documented, scraped, "docs/metrics.md | scrape");
    let others = files(&repository().join("docs"), ".md").into_iter();
    let others =
        others.chain([repository().join("README.md"), repository().join("operator/src/objects/monitoring.rs")]);
    for path in others {
        let unknown: Vec<String> =
            names(&std::fs::read_to_string(&path).unwrap()).difference(&scraped).cloned().collect();
        assert_eq!(unknown, [""; 0], "names in {} that are not scraped", path.display());
    }
}

#[test]
fn the_instance_that_is_served_is_named_as_elsewhere() {
    let setup = Setup::new();
    let server = setup.start();
    let ready = server.send(&Request::get("/readyz")).json();
    let samples = scrape(&server).remove("progressdb_instance_info").unwrap().samples;
    server.stop().check_code(0);
    let inspected = setup.run(&["inspect", "--json"]);
    let inspected: serde_json::Value = serde_json::from_str(&inspected.check_code(0).stdout).unwrap();
    let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
    let [id, incarnation, version] = [&inspected["database_id"], &ready["incarnation"], &ready["version"]].map(text);
    let labels = format!(r#"database_id="{id}",incarnation="{incarnation}",version="{version}""#);
    assert_eq!(samples, [(labels, 1.0)]);
}

#[test]
fn every_family_has_help_and_every_counter_stands_at_0_before_its_first_event() {
    let setup = sealed_setup();
    let server = setup.start();
    let families = scrape_all(&server);
    let without: Vec<&String> =
        families.iter().filter(|(_, family)| family.help.is_empty()).map(|(name, _)| name).collect();
    assert_eq!(without, [""; 0], "families without HELP");
    let without: Vec<&String> = families
        .iter()
        .filter(|(_, family)| family.kind.is_empty() || family.samples.is_empty())
        .map(|(name, _)| name)
        .collect();
    assert_eq!(without, [""; 0], "families without TYPE or a sample");

    let page = std::fs::read_to_string(repository().join("docs/metrics.md")).unwrap();
    for row in page.lines().filter(|line| line.starts_with("| `")) {
        let columns: Vec<&str> = row.split('|').map(str::trim).collect();
        let (name, kind, labels) = (columns[1].trim_matches('`'), columns[2], columns[3]);
        if OF_A_SHARED_STORE.contains(&name) {
            continue;
        }
        let Some(family) = families.get(name) else { panic!("{name} is not scraped") };
        assert_eq!(family.kind, kind, "{name}");
        for label in labels.split(';').filter(|_| kind == "counter" && !labels.is_empty()) {
            let (label, values) = label.trim().trim_start_matches('`').split_once('`').unwrap();
            for value in values.trim_start_matches(':').split(',').map(str::trim).filter(|value| !value.is_empty()) {
                let sample = format!("{label}=\"{value}\"");
                assert!(family.samples.iter().any(|(labels, _)| labels.contains(&sample)), "{name}: no {sample}");
            }
        }
    }
    let value = |name: &str, labels: &[&str]| {
        let samples = families[name].samples.iter();
        let mut fitting = samples.filter(|(have, _)| labels.iter().all(|label| have.contains(label)));
        let found = fitting.next().unwrap_or_else(|| panic!("no {name} with {labels:?}"));
        found.1
    };
    let threads = format!("route=\"{THREADS}\"");
    for (name, labels) in [
        ("progressdb_http_requests_total", &[threads.as_str(), "method=\"POST\"", "status=\"507\""][..]),
        ("progressdb_http_requests_total", &[&threads, "method=\"GET\"", "status=\"500\""]),
        ("progressdb_http_requests_total", &[&threads, "method=\"GET\"", "status=\"503\""]),
        ("progressdb_http_rejections_total", &["limit=\"reply_memory\""]),
        ("progressdb_commits_refused_total", &["reason=\"disk_full\""]),
        ("progressdb_commit_queue_full_total", &[]),
        ("progressdb_write_queue_full_total", &[]),
        ("progressdb_edit_conflicts_total", &[]),
        ("progressdb_edits_given_up_total", &[]),
        ("progressdb_kms_throttled_total", &["provider=\"local\""]),
        ("progressdb_kms_calls_total", &["operation=\"unwrap\"", "outcome=\"unavailable\""]),
        ("progressdb_http_reply_timeouts_total", &["listener=\"main\""]),
        ("progressdb_http_connections_limited_total", &["listener=\"management\""]),
    ] {
        assert_eq!(value(name, labels), 0.0, "{name} {labels:?}");
    }
}
