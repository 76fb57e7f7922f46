//! Backups in object stores: they come back, cost little the second time, and are removed only when nothing needs them.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;
use std::thread;

use progressdb_server::backup::remote::{Access, Location, Remote};
use progressdb_server::backup::{Artefact, Progress};
use progressdb_server::format::Formats;
use serde_json::json;
use testing::Setup;
use testing::servers::object_store::ObjectStore;

use crate::stores::{back_up, change, files_in, fill, list, objects, prune, setup_for, verdicts, verify};

/// Megabytes of a database whose largest file is sent in parts.
const LARGE: usize = 24;

/// A backup, a change, a backup: both are there, both are right, and the second one costs little.
#[track_caller]
fn check_round_trip(setup: &Setup, url: &str) {
    fill(setup, LARGE);
    let first = back_up(setup, url);
    assert!(first["bytes"].as_u64() > Some(20_000_000), "{first}");
    change(setup);
    let second = back_up(setup, url);
    let (all, sent) = (second["store_bytes"].as_u64().unwrap(), second["bytes"].as_u64().unwrap());
    assert!(all > 20_000_000 && sent * 20 <= all, "{second}");
    assert_eq!((&first["shared_bytes"], &second["shared_bytes"]), (&json!(0), &json!(all - sent)));
    let listed = list(setup, url);
    let seen: Vec<_> = listed.iter().map(|backup| (&backup["at"], &backup["id"], &backup["sequence"])).collect();
    let made = |backup: &'static str| [&first, &second].map(|made| &made[backup]);
    assert_eq!(seen.len(), 2);
    for (at, (id, sequence)) in made("backup").into_iter().zip(made("id").into_iter().zip(made("sequence"))) {
        assert!(seen.contains(&(at, id, sequence)), "{listed:?}");
    }
    assert!(listed.iter().all(|backup| backup["verified"].is_null()), "{listed:?}");
    for made in [&first, &second] {
        let url = made["backup"].as_str().unwrap();
        assert_eq!(verify(setup, url).check_code(0).stdout, format!("verified={url}\n"));
    }
    assert!(list(setup, url).iter().all(|backup| backup["verified"].is_string()));
    let said = verify(setup, url).check_code(0).said();
    assert!(!said.contains(testing::servers::object_store::SECRET_KEY));
}

#[test]
fn s3_holds_backups_and_the_second_one_costs_little() {
    let Some(store) = ObjectStore::versitygw("s3_holds_backups_and_the_second_one_costs_little") else { return };
    check_round_trip(&setup_for(&store, store.addr), &store.url("a/b"));
}

#[test]
fn another_s3_does_so_too() {
    let Some(store) = ObjectStore::moto("another_s3_does_so_too") else { return };
    check_round_trip(&setup_for(&store, store.addr), &store.url(""));
}

#[test]
fn azure_does_so_too() {
    let Some(store) = ObjectStore::azurite("azure_does_so_too") else { return };
    check_round_trip(&setup_for(&store, store.addr), &store.url("chat"));
}

#[test]
fn a_directory_does_so_too_and_only_its_owner_can_read_it() {
    let setup = Setup::new();
    let directory = setup.root().join("somewhere/new");
    check_round_trip(&setup, &format!("file://{}", directory.display()));
    assert_eq!(fs::metadata(directory.join("objects")).unwrap().permissions().mode() & 0o777, 0o700);
}

fn open(url: &str) -> Remote {
    let access = Access {
        endpoint: None,
        region: None,
        allow_http: false,
        ca_file: None,
        timeout: std::time::Duration::from_secs(10),
        proxies: Default::default(),
        variables: Vec::new(),
    };
    Remote::open(&Location::parse(url).unwrap(), &access, false).unwrap()
}

#[test]
fn a_backup_is_fetched_as_a_directory_artefact() {
    let setup = Setup::new();
    fill(&setup, 1);
    let url = format!("file://{}", setup.root().join("backups").display());
    back_up(&setup, &url);
    let (into, progress) = (setup.root().join("fetched"), Arc::new(Progress::default()));
    let remote = open(&url);
    let name = remote.resolve(&progress).unwrap();
    let manifest = remote.fetch(&name, &into, &Formats::CURRENT, &progress).unwrap();
    assert_eq!(Artefact::open(&into, &Formats::CURRENT).unwrap().check(&progress).unwrap(), manifest);
    let old = Formats { reads: [9, 9], ..Formats::CURRENT };
    let refused = remote.fetch(&name, &setup.root().join("other"), &old, &progress).unwrap_err();
    assert_eq!(refused.exit_code(), 78, "{refused}");
    assert!(!setup.root().join("other").exists());
}

#[test]
fn a_backup_of_an_object_store_is_verified_and_restored_by_its_url() {
    let Some(store) = ObjectStore::versitygw("a_backup_of_an_object_store_is_restored") else { return };
    let (setup, url) = (setup_for(&store, store.addr), store.url("r"));
    fill(&setup, 1);
    let old = back_up(&setup, &url)["backup"].as_str().unwrap().to_owned();
    change(&setup);
    back_up(&setup, &url);
    let digest = |setup: &Setup| setup.run(&["verify", "--digest", "--json"]).check_code(0).stdout.clone();
    let checked = setup.run(&["verify", "--in", &url]);
    checked.check_code(0).check_says(&["threads: 2", "verify=ok path=s3://"]);
    let elsewhere = setup_for(&store, store.addr);
    elsewhere.run(&["restore", "--in", &url]).check_code(0).check_says(&["restore=ok"]);
    assert_eq!(root(&digest(&elsewhere)), root(&digest(&setup)));
    let restored = elsewhere.run(&["restore", "--in", &old, "--force"]);
    restored.check_code(0).check_says(&["cli.restore_complete", &format!("src={old}")]);
    assert_ne!(root(&digest(&elsewhere)), root(&digest(&setup)), "the older one was asked for");
    let (largest, _) = objects(&store, "r").into_iter().max_by_key(|(_, bytes)| *bytes).unwrap();
    fs::write(largest, "something else").unwrap();
    for words in [&["verify", "--in", &url][..], &["restore", "--in", &url, "--force"]] {
        elsewhere.run(words).check_code(7).check_says(&["is damaged: store/"]);
    }
    elsewhere.run(&["restore", "--in", &format!("{url}x"), "--force"]).check_code(5).check_says(&["does not exist"]);
    assert_ne!(root(&digest(&elsewhere)), root(&digest(&setup)), "what was there is untouched");
    let left = fs::read_dir(elsewhere.db().parent().unwrap()).unwrap();
    let left = left.filter(|entry| entry.as_ref().unwrap().file_name().to_string_lossy().ends_with(".tmp")).count();
    assert_eq!(left, 0, "nothing temporary is left");
}

/// The digest of all threads.
fn root(report: &str) -> String {
    serde_json::from_str::<serde_json::Value>(report).unwrap()["root"].as_str().unwrap().to_owned()
}

#[test]
fn a_database_is_not_backed_up_into_itself() {
    let setup = Setup::new();
    fill(&setup, 1);
    let url = format!("file://{}", setup.db().join("backups").display());
    setup.run(&["backup", "--out", &url]).check_code(2).check_says(&["lies inside the data directory"]);
    assert!(!setup.db().join("backups").exists());
}

#[test]
fn what_is_not_there_is_said() {
    let setup = Setup::new();
    let nowhere = format!("file://{}", setup.root().join("nowhere").display());
    for words in [["backup", "list"], ["backup", "verify"], ["backup", "prune"]] {
        setup.run(&[&words[..], &["--in", &nowhere]].concat()).check_code(5).check_says(&["does not exist"]);
    }
    let empty = setup.root().join("empty");
    fs::create_dir(&empty).unwrap();
    let url = format!("file://{}", empty.display());
    verify(&setup, &url).check_code(5).check_says(&["a backup in", "does not exist"]);
    assert_eq!(setup.run(&["backup", "list", "--in", &url]).check_code(0).stdout, "no backups\n");
    setup.run(&["backup", "list", "--in", "ftp://x"]).check_code(2).check_says(&["its scheme is none of"]);
    setup.run(&["backup", "list", "--in", empty.to_str().unwrap()]).check_code(0);
}

#[test]
fn a_prune_keeps_the_last_verified_backup_and_every_object_that_is_needed() {
    let Some(store) = ObjectStore::versitygw("a_prune_keeps_the_last_verified_backup") else { return };
    let (setup, url) = (setup_for(&store, store.addr), store.url("p"));
    fill(&setup, 6);
    back_up(&setup, &url);
    verify(&setup, &url).check_code(0);
    for _ in 0..2 {
        change(&setup);
        back_up(&setup, &url);
    }
    let before = objects(&store, "p");
    let would = prune(&setup, &url, 1, &["--dry-run"]);
    let expected = [(false, "kept_last_verified"), (true, "too_many"), (false, "kept")];
    let expected: Vec<_> = expected.map(|(removed, why)| (removed, why.to_owned())).into();
    assert_eq!(verdicts(&would), expected);
    assert_eq!((objects(&store, "p"), list(&setup, &url).len()), (before.clone(), 3), "a dry run changes nothing");
    assert_eq!(verdicts(&prune(&setup, &url, 1, &[])), expected);
    let kept = list(&setup, &url);
    assert_eq!(kept.len(), 2);
    for backup in &kept {
        verify(&setup, backup["at"].as_str().unwrap()).check_code(0);
    }
    // Now the newest one is verified too, so that one is enough.
    let pruned = prune(&setup, &url, 1, &[]);
    assert_eq!(verdicts(&pruned).iter().filter(|(removed, _)| *removed).count(), 1);
    assert!(pruned["objects"].as_u64() > Some(0), "{pruned}");
    assert!(objects(&store, "p").len() < before.len());
    verify(&setup, &url).check_code(0);
    let marks = files_in(&store.files.as_ref().unwrap().join("p/verified"));
    assert_eq!(marks.len(), 1, "marks go with their backups");
    assert_eq!(files_in(&store.files.as_ref().unwrap().join("p/running")), [], "nothing seems to be under way");
}

#[test]
fn a_prune_leaves_young_objects_to_an_upload_that_may_go_on() {
    let setup = Setup::new();
    fill(&setup, 1);
    let directory = setup.root().join("backups");
    let url = format!("file://{}", directory.display());
    back_up(&setup, &url);
    let orphan = directory.join("objects").join("ab".repeat(32));
    fs::write(&orphan, "left by an upload that was killed").unwrap();
    let staged = directory.join("objects").join(format!("{}#1", "cd".repeat(32)));
    fs::write(&staged, "left in the middle of one").unwrap();
    let foreign = directory.join("objects/notes.txt");
    fs::write(&foreign, "of somebody else").unwrap();
    setup.run(&["backup", "prune", "--in", &url]).check_code(0);
    assert!(orphan.exists() && staged.exists());
    let pruned = prune(&setup, &url, 1, &[]);
    assert_eq!(pruned["objects"], json!(2), "{pruned}");
    assert!(!orphan.exists() && !staged.exists() && foreign.exists());
    verify(&setup, &url).check_code(0);
}

#[test]
fn backups_and_a_prune_at_the_same_time_do_not_harm_each_other() {
    let Some(store) = ObjectStore::versitygw("backups_and_a_prune_at_the_same_time") else { return };
    let setups = [(); 2].map(|()| setup_for(&store, store.addr));
    // A setup of its own for each: its configuration file is written for every command.
    let pruners = [(); 3].map(|()| setup_for(&store, store.addr));
    let url = store.url("same");
    setups.iter().for_each(|setup| fill(setup, 2));
    for round in 0..4 {
        thread::scope(|scope| {
            for setup in &setups {
                scope.spawn(|| {
                    change(setup);
                    back_up(setup, &url)
                });
            }
            for pruner in &pruners {
                scope.spawn(|| prune(pruner, &url, 1, &[]));
            }
        });
        for backup in list(&setups[0], &url) {
            verify(&setups[0], backup["at"].as_str().unwrap()).check_code(0);
        }
        let databases: std::collections::BTreeSet<_> =
            list(&setups[0], &url).iter().map(|backup| backup["database_id"].to_string()).collect();
        assert_eq!(databases.len(), 2, "round {round}");
    }
}

#[test]
fn a_damaged_object_is_found_and_sent_again() {
    let Some(store) = ObjectStore::versitygw("a_damaged_object_is_found_and_sent_again") else { return };
    let (setup, url) = (setup_for(&store, store.addr), store.url("d"));
    fill(&setup, 6);
    back_up(&setup, &url);
    verify(&setup, &url).check_code(0);
    let (largest, _) = objects(&store, "d").into_iter().max_by_key(|(_, bytes)| *bytes).unwrap();
    let mut bytes = fs::read(&largest).unwrap();
    bytes[4_000_000] ^= 1;
    fs::write(&largest, bytes).unwrap();
    verify(&setup, &url).check_code(7).check_says(&[
        "is damaged: store/",
        "and its manifest says",
        "cli.backup_failed",
    ]);
    assert!(list(&setup, &url)[0]["verified"].is_null(), "it is not called right any more");
    let again = back_up(&setup, &url);
    assert!(again["bytes"].as_u64() > Some(5_000_000), "{again}");
    for backup in list(&setup, &url) {
        verify(&setup, backup["at"].as_str().unwrap()).check_code(0);
    }
    fs::remove_file(largest).unwrap();
    verify(&setup, &url).check_code(7).check_says(&["is missing"]);
}
