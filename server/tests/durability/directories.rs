//! Which directories the server opens, and how it refuses the others: untouched, with an exit code that says why.

use std::fs;
use std::path::Path;

use serde_json::json;
use testing::http::Request;
use testing::{Setup, skip, thread};

#[test]
fn a_second_process_is_refused_with_75_and_harms_nothing() {
    let setup = Setup::new();
    let server = setup.start();
    let user = server.user("user1");
    let t = user.create_thread("kept");
    let refused = setup.refused_start();
    refused.check_code(75).check_says(&["startup.store_in_use", setup.db().to_str().unwrap()]);
    user.put(&thread(&t), &json!({ "title": "still writable" })).written();
    server.kill();
    // The lock dies with its holder.
    let server = setup.start();
    assert_eq!(server.user("user1").get(&thread(&t)).json()["thread"]["title"], json!("still writable"));
}

#[test]
fn memory_file_systems_are_refused_with_78_unless_allowed() {
    let shm = Path::new("/dev/shm");
    let mounts = fs::read_to_string("/proc/mounts").unwrap();
    let is_tmpfs = mounts.lines().any(|line| line.split(' ').nth(1) == Some("/dev/shm") && line.starts_with("tmpfs "));
    if !is_tmpfs {
        return skip("memory_file_systems_are_refused_with_78_unless_allowed", "/dev/shm is no tmpfs here");
    }
    let directory = tempfile::Builder::new().prefix("progressdb-").tempdir_in(shm).unwrap();
    let db = directory.path().join("database");
    let refused = Setup::with_db(&db).refused_start();
    refused.check_code(78).check_says(&["startup.unsupported_filesystem", "tmpfs", "--allow-volatile-fs"]);
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0, "a refused start left something");

    let setup = Setup::with_db(&db).set("storage.reserve", "1MiB");
    let allowed = setup.argument("--allow-volatile-fs");
    let server = allowed.start();
    server.user("user1").create_thread("volatile");
    server.stop().check_code(0);
    let setup = Setup::with_db(&db).set("storage.allow_volatile_fs", true).set("storage.reserve", "1MiB");
    assert_eq!(setup.start().user("user1").thread_keys("").len(), 1);
}

/// Every file below `root` with its bytes.
fn snapshot(root: &Path) -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    let mut open = vec![root.to_owned()];
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                found.push((path.display().to_string(), Vec::new()));
                open.push(path);
            } else {
                found.push((path.display().to_string(), fs::read(&path).unwrap()));
            }
        }
    }
    found.sort();
    found
}

#[test]
fn a_foreign_directory_is_refused_with_7_and_left_alone() {
    for files in [&["notes.txt"][..], &["CURRENT", "MANIFEST-000001"], &["store/CURRENT", "index/CURRENT", "wal/LOCK"]]
    {
        let setup = Setup::new();
        for name in files {
            let path = setup.db().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "somebody's own").unwrap();
        }
        let before = snapshot(setup.db());
        setup.refused_start().check_code(7).check_says(&[setup.db().to_str().unwrap()]);
        assert_eq!(snapshot(setup.db()), before, "{files:?}");
    }
}

#[test]
fn a_file_in_place_of_the_directory_is_refused() {
    let setup = Setup::new();
    fs::write(setup.db(), "a file").unwrap();
    let refused = setup.refused_start();
    assert!([Some(1), Some(7)].contains(&refused.code), "{refused:?}");
    refused.check_says(&[setup.db().to_str().unwrap()]);
    assert_eq!(fs::read(setup.db()).unwrap(), b"a file");
}

type Damage = fn(&Path);

#[test]
fn a_damaged_store_is_refused_with_7_and_left_alone() {
    let remove_current = |db: &Path| fs::remove_file(db.join("store-1/CURRENT")).unwrap();
    let empty_current = |db: &Path| fs::write(db.join("store-1/CURRENT"), "").unwrap();
    let foreign_current = |db: &Path| fs::write(db.join("store-1/CURRENT"), "MANIFEST-999999\n").unwrap();
    let remove_store = |db: &Path| fs::remove_dir_all(db.join("store-1")).unwrap();
    let empty_marker = |db: &Path| fs::write(db.join("PROGRESSDB"), "").unwrap();
    let other_marker = |db: &Path| fs::write(db.join("PROGRESSDB"), "{\"name\":\"other\"}\n").unwrap();
    let remove_marker = |db: &Path| fs::remove_file(db.join("PROGRESSDB")).unwrap();
    let damages: [(&str, Damage); 7] = [
        ("no CURRENT", remove_current),
        ("an empty CURRENT", empty_current),
        ("a CURRENT that names nothing", foreign_current),
        ("no store", remove_store),
        ("an empty marker", empty_marker),
        ("another program's marker", other_marker),
        ("no marker", remove_marker),
    ];
    for (name, damage) in damages {
        let setup = Setup::new();
        let server = setup.start();
        server.user("user1").create_thread("kept");
        server.stop().check_code(0);
        damage(setup.db());
        let before = snapshot(setup.db());
        let refused = setup.refused_start();
        assert_eq!(refused.code, Some(7), "{name}: {}", refused.said());
        let after = snapshot(setup.db());
        let changed: Vec<&String> = before.iter().filter(|file| !after.contains(file)).map(|(path, _)| path).collect();
        assert!(changed.iter().all(|path| path.ends_with("/lock")), "{name}: changed {changed:?}");
    }
}

#[test]
fn a_layout_of_a_newer_version_is_refused_with_78() {
    let setup = Setup::new();
    let server = setup.start();
    server.user("user1").create_thread("kept");
    server.stop().check_code(0);
    let path = setup.db().join("PROGRESSDB");
    let mut marker: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    let layout = marker["layout"].clone();
    marker["layout"] = json!(999);
    fs::write(&path, format!("{marker}\n")).unwrap();
    setup.refused_start().check_code(78).check_says(&["startup.schema_version_too_new", "999"]);
    marker["layout"] = layout;
    fs::write(&path, format!("{marker}\n")).unwrap();
    assert_eq!(setup.start().user("user1").thread_keys("").len(), 1, "the refusal harmed nothing");
}

#[test]
fn a_directory_that_cannot_be_written_is_refused() {
    let setup = Setup::with_db(Path::new("/proc/progressdb"));
    let refused = setup.refused_start();
    assert!([Some(1), Some(78)].contains(&refused.code), "{refused:?}");
    refused.check_says(&["/proc/progressdb"]);
}

/// Whatever a new database is refused for, there is nothing afterwards that was not there before.
#[test]
fn a_refused_start_of_a_new_database_leaves_nothing() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let no_key = Setup::new().set("encryption.enabled", true);
    let refusals = [
        ("a taken port", 1, Setup::new().set("server.port", port)),
        ("a reserve larger than the disk", 1, Setup::new().set("storage.reserve", "1TiB")),
        ("no master key", 78, no_key.set("encryption.kms.master_key_file", "/nowhere/master.key")),
    ];
    for (name, code, setup) in refusals {
        setup.refused_start().check_code(code);
        let left: Vec<String> = snapshot(setup.root()).into_iter().map(|(path, _)| path).collect();
        assert_eq!(left, [setup.config_file().display().to_string()], "{name}");
    }
    let shallow = Setup::new().set("server.port", port);
    let deep = shallow.root().join("a/b/c");
    let deep = Setup::with_db(&deep).set("server.port", port);
    deep.refused_start().check_code(1);
    assert!(!shallow.root().join("a").exists(), "the directories that led there are still there");
    // One that was there before stays, empty.
    fs::create_dir(shallow.db()).unwrap();
    shallow.refused_start().check_code(1);
    assert_eq!(fs::read_dir(shallow.db()).unwrap().count(), 0);
    // And the refusal did not spoil it.
    drop(taken);
    shallow.set("server.port", 0).start().user("user1").create_thread("kept");
}

#[test]
fn a_refused_start_of_a_database_that_is_there_takes_nothing_away() {
    let setup = Setup::new();
    let server = setup.start();
    server.user("user1").create_thread("kept");
    server.stop().check_code(0);
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let refused = Setup::with_db(setup.db()).set("server.port", port);
    refused.refused_start().check_code(1);
    assert_eq!(setup.start().user("user1").thread_keys("").len(), 1);
}

/// Makes a database of this version look as a version of layout 1 left it.
fn move_down(db: &Path) {
    let path = db.join("PROGRESSDB");
    let mut marker: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    let fields = marker.as_object_mut().unwrap();
    fields.insert("layout".to_owned(), json!(1));
    assert_eq!(fields.remove("store"), Some(json!("store-1")));
    assert!(fields.remove("incarnation").is_some());
    fs::write(&path, format!("{marker}\n")).unwrap();
    fs::rename(db.join("store-1"), db.join("store")).unwrap();
}

#[test]
fn a_database_of_layout_1_is_served_with_all_it_holds_and_gets_an_incarnation() {
    let setup = Setup::new();
    let server = setup.start();
    server.user("user1").create_thread("kept");
    let before = server.send(&Request::get("/readyz")).json();
    server.kill();
    move_down(setup.db());
    let server = setup.start();
    assert_eq!(server.user("user1").thread_keys("").len(), 1);
    let after = server.send(&Request::get("/readyz")).json();
    let incarnation = after["incarnation"].as_str().unwrap();
    assert!(incarnation.len() == 16 && after["incarnation"] != before["incarnation"], "{before} {after}");
    server.stop().check_code(0);
    let inspected = setup.run(&["inspect", "--json"]);
    inspected.check_code(0).check_says(&[&format!("\"incarnation\":\"{incarnation}\"")]);
    let server = setup.start();
    assert_eq!(server.send(&Request::get("/readyz")).json()["incarnation"], incarnation, "it stays");
    let row = server.admin("/admin/keys/s:format").json();
    assert!(row.to_string().contains(incarnation), "{row}");
}

#[test]
fn an_unfinished_restore_is_refused_with_7_and_the_command_that_ends_it() {
    let setup = Setup::new();
    setup.start().stop().check_code(0);
    let path = setup.db().join("PROGRESSDB");
    let marker = fs::read_to_string(&path).unwrap();
    fs::write(&path, marker.replace("\"ready\"", "\"restoring\"")).unwrap();
    setup.refused_start().check_code(7).check_says(&["startup.restore_unfinished", "progressdb restore"]);
    setup.run(&["inspect"]).check_code(7).check_says(&["progressdb restore"]);
    fs::write(&path, marker).unwrap();
    setup.start().stop().check_code(0);
}
