//! Key files are read again when they change: good ones are taken, bad ones keep the former keys, and nobody who is
//! being served notices.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use serde_json::json;
use testing::http::{Connection, Request};
use testing::{ADMIN_KEY, Server, Setup, THREADS, messages, wait_until};

use crate::status_with;

const LISTS: [&str; 4] = ["backend", "frontend", "admin", "signing"];
const REFUSED: &str = "progressdb_key_files_refused";

/// Keys in files of `directory`, as the operator mounts a Secret.
fn with_files(setup: Setup, directory: &Path) -> Setup {
    LISTS.iter().fold(setup.set("server.api_keys", json!({})), |setup, list| {
        setup.set(&format!("server.api_keys.{list}_file"), json!(directory.join(list)))
    })
}

/// A directory with one key a list: `backend_1` and so on.
fn keys(directory: &Path, number: u32) -> PathBuf {
    fs::create_dir_all(directory).unwrap();
    for list in LISTS {
        fs::write(directory.join(list), format!("{list}_{number}\n")).unwrap();
    }
    // Those of the harness, which the tests look with.
    let admin = fs::read_to_string(directory.join("admin")).unwrap();
    fs::write(directory.join("admin"), format!("{ADMIN_KEY}\n{admin}")).unwrap();
    directory.to_owned()
}

/// Replaces a file as careful programs do.
fn replace(path: &Path, text: &str) {
    let new = path.with_extension("new");
    fs::write(&new, text).unwrap();
    fs::rename(new, path).unwrap();
}

/// A signature for `ann`, by the server's first signing key.
fn sign(server: &Server, key: &str) -> String {
    let asked = Request::new("POST", "/backend/v1/sign").key(key).json(&json!({ "userId": "ann" }));
    server.send(&asked).check_status(200).json()["signature"].as_str().unwrap().to_owned()
}

fn signed(server: &Server, key: &str, signature: &str) -> u16 {
    let request = Request::get(THREADS).key(key).header("X-User-ID", "ann").header("X-User-Signature", signature);
    server.send(&request).status
}

#[test]
fn a_key_file_that_is_replaced_is_taken_without_a_restart() {
    let setup = Setup::new();
    let directory = keys(&setup.root().join("keys"), 1);
    let setup = with_files(setup, &directory);
    let server = setup.start();
    let signature = sign(&server, "backend_1");
    assert_eq!(signed(&server, "frontend_1", &signature), 200);

    replace(&directory.join("backend"), "# rotated\nbackend_2\nbackend_3\n");
    let line = server.wait_for_line("keys.changed");
    assert!(line.contains(" audit: "), "{line}");
    assert!(line.contains("lists=\"backend\" added=2 removed=1 backend=2 frontend=1 admin=2 signing=1"), "{line}");
    assert_eq!(["backend_1", "backend_2", "backend_3"].map(|key| status_with(&server, key)), [401, 200, 200]);
    assert_eq!(server.metric("progressdb_api_keys{list=\"backend\"}"), 2.0);

    replace(&directory.join("signing"), "signing_2\nsigning_1\n");
    server.wait_for_line("lists=\"signing\"");
    assert_ne!(sign(&server, "backend_2"), signature, "the first one signs");
    assert_eq!(signed(&server, "frontend_1", &signature), 200, "all verify");
    replace(&directory.join("signing"), "signing_2\n");
    wait_until("the former one is out of force", || signed(&server, "frontend_1", &signature) == 401);
    assert_eq!(signed(&server, "frontend_1", &sign(&server, "backend_2")), 200);
    let shown = [server.log(), server.admin("/metrics").text(), server.send(&Request::get("/readyz")).text()].concat();
    for list in LISTS {
        assert!(!shown.contains(&format!("{list}_")) || list == "signing", "a key of {list} is shown in\n{shown}");
    }
    assert!(!shown.contains("signing_2") && !shown.contains("signing_1"), "{shown}");
}

#[test]
fn a_secret_that_kubernetes_swaps_is_taken_as_a_whole() {
    let setup = Setup::new();
    let mount = setup.root().join("mount");
    keys(&mount.join("..2026_1"), 1);
    symlink("..2026_1", mount.join("..data")).unwrap();
    for list in LISTS {
        symlink(format!("..data/{list}"), mount.join(list)).unwrap();
    }
    let setup = with_files(setup, &mount);
    let server = setup.start();
    assert_eq!(status_with(&server, "backend_1"), 200);
    keys(&mount.join("..2026_2"), 2);
    symlink("..2026_2", mount.join("..data_tmp")).unwrap();
    fs::rename(mount.join("..data_tmp"), mount.join("..data")).unwrap();
    fs::remove_dir_all(mount.join("..2026_1")).unwrap();
    wait_until("the new keys are taken", || status_with(&server, "backend_2") == 200);
    assert_eq!(status_with(&server, "backend_1"), 401);
    server.wait_for_line("keys.changed");
    server.send(&Request::get("/admin/stats").key("admin_2")).check_status(200);
    server.send(&Request::get("/admin/stats").key("admin_1")).check_status(401);
    assert_eq!(signed(&server, "frontend_2", &sign(&server, "backend_2")), 200);
    assert!(!server.log().contains("keys.file_refused"), "{}", server.log());
}

#[test]
fn a_bad_key_file_keeps_the_former_keys_and_says_why() {
    let setup = Setup::new();
    let directory = keys(&setup.root().join("keys"), 1);
    let setup = with_files(setup, &directory);
    let server = setup.start();
    assert_eq!(server.metric(REFUSED), 0.0);
    let file = directory.join("backend");
    let bad: [(&dyn Fn(), &str); 3] = [
        (&|| fs::remove_file(&file).unwrap(), "cannot be read (No such file or directory"),
        (&|| fs::write(&file, "").unwrap(), "holds no key"),
        (&|| fs::write(&file, "backend_2\ntwo words\n").unwrap(), "white space in line 2"),
    ];
    for (spoil, why) in bad {
        spoil();
        let line = server.wait_for_line(why);
        assert!(
            line.contains("WARN") && line.contains("keys.file_refused") && line.contains("list=\"backend\""),
            "{line}"
        );
        wait_until("the metric says so", || server.metric(REFUSED) == 1.0);
        assert_eq!(["backend_1", "backend_2"].map(|key| status_with(&server, key)), [200, 401]);
    }
    // Another list is not held up by it.
    replace(&directory.join("admin"), &format!("{ADMIN_KEY}\nadmin_2\n"));
    wait_until("it is taken", || server.send(&Request::get("/admin/stats").key("admin_2")).status == 200);
    assert_eq!(status_with(&server, "backend_1"), 200);
    replace(&file, "backend_2\n");
    wait_until("it is taken", || status_with(&server, "backend_2") == 200);
    assert_eq!((status_with(&server, "backend_1"), server.metric(REFUSED)), (401, 0.0));
}

#[test]
fn a_key_file_that_comes_back_as_it_was_is_said() {
    let setup = Setup::new();
    let directory = keys(&setup.root().join("keys"), 1);
    let setup = with_files(setup, &directory);
    let server = setup.start();
    fs::rename(directory.join("backend"), directory.join("elsewhere")).unwrap();
    server.wait_for_line("keys.file_refused");
    fs::rename(directory.join("elsewhere"), directory.join("backend")).unwrap();
    server.wait_for_line("keys.file_mended");
    assert_eq!((status_with(&server, "backend_1"), server.metric(REFUSED)), (200, 0.0));
    assert!(!server.log().contains("keys.changed"), "{}", server.log());
}

#[test]
fn who_is_being_served_does_not_notice_a_change_of_keys() {
    let setup = Setup::new();
    let directory = keys(&setup.root().join("keys"), 1);
    let setup = with_files(setup, &directory).set("server.rate_limit.rps", 0.001).set("server.rate_limit.burst", 6);
    let server = setup.start();
    let ask = |key: &str, method: &str, target: &str| Request::new(method, target).key(key).header("X-User-ID", "ann");
    let thread = server.send(&ask("backend_1", "POST", THREADS).json(&json!({ "title": "kept" }))).written();
    let post = ask("backend_1", "POST", &messages(&thread)).json(&json!({ "body": "in flight" })).bytes();
    let (first, rest) = post.split_at(post.len() - 5);
    let mut connection = Connection::open(server.addr).unwrap();
    connection.write(first).unwrap();
    wait_until("both requests are counted", || {
        let remaining =
            server.send(&ask("backend_1", "GET", THREADS)).header("x-ratelimit-remaining").unwrap().to_owned();
        remaining.parse::<u32>().unwrap() <= 3
    });

    replace(&directory.join("backend"), "backend_2\nbackend_1\n");
    server.wait_for_line("keys.changed");
    let mut left = Vec::new();
    for _ in 0..6 {
        left.push(status_with(&server, "backend_1"));
    }
    assert!(left.ends_with(&[429, 429, 429]), "the bucket of a key that stays is filled anew: {left:?}");
    assert_eq!(status_with(&server, "backend_2"), 200, "a new key has a bucket of its own");

    replace(&directory.join("backend"), "backend_2\n");
    wait_until("the key is out of force", || status_with(&server, "backend_1") == 401);
    connection.write(rest).unwrap();
    connection.read_answer(false).unwrap().written();
}
