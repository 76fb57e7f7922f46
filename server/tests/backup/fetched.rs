//! What is checked before a backup of an object store is fetched, and what is left where it is fetched to.

use std::fs;
use std::path::Path;

use progressdb_server::backup::Manifest;
use testing::servers::listen::Reply;
use testing::servers::object_store::ObjectStore;
use testing::servers::proxy::Proxy;
use testing::{Server, Setup, wait_until};

use crate::remote_faults::is_read;
use crate::stores::{back_up, change, files_in, fill, objects, setup_for};
use crate::tree::names;
use crate::world::digest;

/// Two databases with a backup of each in one directory, and its URL.
fn two_databases() -> ([Setup; 2], String) {
    let setups = [Setup::new(), Setup::new()];
    let url = format!("file://{}", setups[0].root().join("backups").display());
    for setup in &setups {
        fill(setup, 1);
        back_up(setup, &url);
    }
    (setups, url)
}

#[test]
fn one_of_several_databases_is_restored_only_by_the_whole_url() {
    let (setups, url) = two_databases();
    let elsewhere = Setup::with_db(&setups[0].root().join("made/for/it/db"));
    for words in [["restore", "--in", &url], ["verify", "--in", &url]] {
        let refused = elsewhere.run(&words);
        refused.check_code(2).check_says(&[
            "several databases",
            "database_id=",
            "created=",
            &format!("{url}/backups/"),
        ]);
        assert!(!setups[0].root().join("made").exists());
    }
    let newest = files_in(&setups[0].root().join("backups/backups")).pop().unwrap().0;
    let newest = format!("file://{}", newest.display());
    elsewhere.run(&["restore", "--in", &newest]).check_code(0).check_says(&["restore=ok"]);
    assert_eq!(names(elsewhere.db().parent().unwrap()), ["db"], "nothing temporary is left");
    elsewhere.run(&["verify"]).check_code(0);
}

/// Lets the newest manifest in a directory say that its first file is much larger.
fn make_huge(backups: &Path) {
    let (path, _) = files_in(backups).pop().unwrap();
    let mut manifest = Manifest::from_bytes(&fs::read(&path).unwrap()).unwrap();
    manifest.files[0].bytes = 1 << 60;
    fs::write(path, manifest.to_bytes()).unwrap();
}

#[test]
fn what_would_be_refused_or_does_not_fit_is_not_fetched() {
    let setup = Setup::new();
    fill(&setup, 1);
    let url = format!("file://{}", setup.root().join("backups").display());
    back_up(&setup, &url);
    let objects = files_in(&setup.root().join("backups/objects"));
    objects.iter().for_each(|(object, _)| fs::write(object, "not what it was").unwrap());
    setup.run(&["restore", "--in", &url]).check_code(6).check_says(&["--force"]);
    let server = setup.start();
    setup.run(&["restore", "--in", &url, "--force"]).check_code(75);
    server.stop().check_code(0);
    make_huge(&setup.root().join("backups/backups"));
    for words in [&["restore", "--in", &url, "--force"][..], &["verify", "--in", &url]] {
        setup.run(words).check_code(1).check_says(&["do not fit into"]);
    }
}

#[test]
fn what_a_killed_command_fetched_is_removed_by_the_next_one() {
    let setup = Setup::new();
    fill(&setup, 1);
    let url = format!("file://{}", setup.root().join("backups").display());
    back_up(&setup, &url);
    let scratch = setup.root().join("scratch");
    fs::create_dir_all(scratch.join(format!("progressdb-fetched-{}.tmp/backup/store", "ab".repeat(16)))).unwrap();
    let verified = setup.run(&["verify", "--in", &url, "--scratch", scratch.to_str().unwrap()]);
    verified.check_code(0).check_says(&["backup.leftover_removed"]);
    assert!(names(&scratch).is_empty(), "{:?}", names(&scratch));
}

/// The largest file never arrives.
#[test]
fn a_restore_that_is_killed_while_it_fetches_is_done_by_the_same_command() {
    const TEST: &str = "a_restore_that_is_killed_while_it_fetches_is_done_by_the_same_command";
    let Some(store) = ObjectStore::versitygw(TEST) else { return };
    let proxy = Proxy::before(store.addr);
    let (setup, url) = (setup_for(&store, proxy.addr), store.url("f"));
    fill(&setup, 1);
    back_up(&setup, &url);
    let backed_up = digest(&setup);
    change(&setup);
    let changed = digest(&setup);
    let (largest, _) = objects(&store, "f").into_iter().max_by_key(|(_, bytes)| *bytes).unwrap();
    let largest = largest.file_name().unwrap().to_str().unwrap().to_owned();
    proxy.when(move |call| is_read(call) && call.target.contains(&largest), Reply::Stall);
    let words = ["restore", "--force", "--in", &url];
    let fetched = || names(setup.root()).into_iter().find(|name| name.starts_with("progressdb-fetched-"));
    let running = Server::begin(setup.command(&words));
    wait_until("a part of it is there", || {
        let store = fetched().map(|name| setup.root().join(name).join("backup/store"));
        store.is_some_and(|store| files_in(&store).iter().any(|(_, bytes)| *bytes > 0))
    });
    running.kill();
    assert!(fetched().is_some(), "it could not clean up");
    proxy.clear();
    let server = setup.start();
    assert_eq!(server.user("ada").thread_keys("").len(), 2);
    server.stop().check_code(0);
    assert_eq!(digest(&setup), changed);
    setup.run(&words).check_code(0).check_says(&["backup.leftover_removed", "restore=ok"]);
    assert_eq!((digest(&setup), fetched()), (backed_up, None));
}
