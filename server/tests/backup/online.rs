//! Backups of a running server: through its socket by the command, and through its API.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Value, json};
use testing::disk::Disk;
use testing::http::{Connection, Request, encode};
use testing::waiting::poll;
use testing::{Server, Setup, finish, messages, temporary_directory, wait_until};

use crate::tree::tree;
use crate::world::{copies_of_erased, digest, sealed, sealed_at, write_everything};

const WRITERS: usize = 6;
const THREADS: usize = 3;
const MIB: u64 = 1 << 20;

/// Asks the server by its socket; status and body.
pub(crate) fn ask(setup: &Setup, method: &str, target: &str) -> (u16, Value) {
    let mut socket = UnixStream::connect(setup.db().join("server.sock")).unwrap();
    let request = Request::new(method, target).header("Connection", "close").header("Content-Length", "0");
    socket.write_all(&request.bytes()).unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, serde_json::from_str(body).unwrap_or_default())
}

/// The checkpoints that lie in the data directory.
pub(crate) fn checkpoints(setup: &Setup) -> Vec<PathBuf> {
    let entries = fs::read_dir(setup.db().join("tmp")).unwrap().map(|entry| entry.unwrap().path());
    entries.filter(|path| path.file_name().unwrap().to_str().unwrap().starts_with("backup-")).collect()
}

pub(crate) fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// A directory for backups, outside of the data directory.
pub(crate) fn place(setup: &Setup) -> PathBuf {
    let place = setup.root().join("backups");
    fs::create_dir_all(&place).unwrap();
    place
}

/// Some megabytes that do not shrink, so that a slow backup takes its time.
fn fill(server: &Server) {
    let mut random = testing::Random::seeded();
    let user = server.user("writer");
    let thread = user.create_thread("filled");
    for _ in 0..30 {
        let text: String = (0..5_000).map(|_| format!("{:016x}", random.number())).collect();
        user.append(&thread, text);
    }
}

/// A backup that goes on for minutes; the server holds a checkpoint for it.
fn slow_backup(setup: &Setup, out: &Path) -> Server {
    let backup = Server::begin(setup.command(&["backup", "--rate-limit", "16KiB", "--out", path(out)]));
    wait_until("its checkpoint is there and it writes", || {
        checkpoints(setup).len() == 1 && fs::read_dir(out).unwrap().count() == 1
    });
    backup
}

/// A data directory with the store of a backup, as a restore would make it.
fn unpacked(setup: &Setup, backup: &Path) -> Setup {
    let db = setup.root().join("unpacked");
    let marker: Value = serde_json::from_slice(&fs::read(setup.db().join("PROGRESSDB")).unwrap()).unwrap();
    let store = db.join(marker["store"].as_str().unwrap());
    fs::create_dir_all(&store).unwrap();
    fs::copy(setup.db().join("PROGRESSDB"), db.join("PROGRESSDB")).unwrap();
    for file in fs::read_dir(backup.join("store")).unwrap().map(|entry| entry.unwrap()) {
        fs::copy(file.path(), store.join(file.file_name())).unwrap();
    }
    Setup::with_db(&db)
}

/// Appends to one of the threads until it is told to stop, and notes what was acknowledged.
pub(crate) fn append(server: &Server, thread: &str, acknowledged: &Mutex<Vec<String>>, stop: &AtomicBool) {
    let user = server.user("writer");
    let mut connection = Connection::open(server.addr).unwrap();
    let request = user.request("POST", &messages(thread)).json(&json!({ "body": "x".repeat(700) }));
    while !stop.load(Ordering::Relaxed) {
        let key = connection.send(&request).unwrap().written();
        acknowledged.lock().unwrap().push(key);
    }
}

/// The messages of all threads, oldest first, and that their sequences are dense.
pub(crate) fn read_all(server: &Server, threads: &[String]) -> BTreeSet<String> {
    let (user, mut found) = (server.user("writer"), BTreeSet::new());
    for thread in threads {
        let (mut keys, mut after) = (Vec::new(), format!("{thread}:m:0"));
        loop {
            let answer = user.get(&format!("{}?limit=1000&after={}", messages(thread), encode(&after)));
            keys.extend(answer.check_status(200).keys("messages"));
            let pagination = &answer.json()["pagination"];
            if pagination["has_after"] != json!(true) {
                assert_eq!(pagination["total"], json!(keys.len()), "{thread}");
                break;
            }
            after = pagination["after_anchor"].as_str().unwrap().to_owned();
        }
        let sequences = keys.iter().map(|key| key.rsplit(':').next().unwrap().parse::<usize>().unwrap());
        assert!(sequences.eq(0..keys.len()), "{thread}: sequences are not dense");
        found.extend(keys);
    }
    found
}

#[test]
fn a_backup_under_write_load_holds_what_was_acknowledged_before_it() {
    // A rehearsal is backed up like any other server.
    for rehearsal in [false, true] {
        let setup = Setup::new();
        setup.start().stop().check_code(0);
        let setup = if rehearsal { setup.argument("--rehearsal") } else { setup };
        let server = setup.start();
        let threads: Vec<String> = (0..THREADS).map(|n| server.user("writer").create_thread(&format!("{n}"))).collect();
        let (acknowledged, stop) = (Mutex::default(), AtomicBool::new(false));
        let out = place(&setup).join("taken");
        let (before, finished) = std::thread::scope(|scope| {
            for n in 0..WRITERS {
                let (server, thread, acknowledged, stop) = (&server, &threads[n % THREADS], &acknowledged, &stop);
                scope.spawn(move || append(server, thread, acknowledged, stop));
            }
            let count = || acknowledged.lock().unwrap().len();
            wait_until("the load runs", || count() > 500);
            let before = count();
            // Without the flag of `serve`.
            let command = Setup::with_db(setup.db());
            let finished = command.run(&["backup", "--format", "dir", "--out", path(&out)]);
            stop.store(true, Ordering::Relaxed);
            (before, finished)
        });
        finished.check_code(0).check_says(&["cli.backup_complete", &format!("backup={}", out.display())]);
        assert_eq!(checkpoints(&setup), [""; 0].map(PathBuf::from), "given back at the end");
        server.stop().check_code(0);
        assert!(!setup.db().join("server.sock").exists(), "it is removed at the stop");

        let manifest: Value = serde_json::from_slice(&fs::read(out.join("manifest.json")).unwrap()).unwrap();
        let copy = unpacked(&setup, &out);
        let server = copy.start();
        let found = read_all(&server, &threads);
        let acknowledged = acknowledged.lock().unwrap();
        let missing: Vec<&String> = acknowledged[..before].iter().filter(|key| !found.contains(*key)).collect();
        assert_eq!(missing, [""; 0], "acknowledged before the backup");
        let written: BTreeSet<String> = acknowledged.iter().cloned().collect();
        assert!(found.is_subset(&written), "nothing else is in it");
        let stats = json!({ "threads": THREADS, "messages": found.len() });
        assert_eq!(server.admin("/admin/stats").check_status(200).json(), stats);
        let counts = json!({ "threads": THREADS, "messages": found.len(), "users": 1 });
        assert_eq!((&manifest["counts"], &manifest["sequence"]), (&counts, &json!(found.len() + THREADS)));
        server.stop().check_code(0);
    }
}

#[test]
fn a_checkpoint_of_a_killed_client_is_gone_after_its_lease() {
    let setup = Setup::new();
    let server = setup.start();
    fill(&server);
    let client = slow_backup(&setup, &place(&setup));
    wait_until("the metric shows it", || server.metric("progressdb_backup_checkpoints") == 1.0);
    client.kill();
    let id = checkpoints(&setup)[0].file_name().unwrap().to_str().unwrap().replace("backup-", "");
    let gone = poll(Duration::from_secs(90), || checkpoints(&setup).is_empty().then_some(()));
    assert!(gone.is_some(), "it outlives a lease of 60 s");
    server.wait_for_line("backup.lease_ended");
    let (status, body) = ask(&setup, "PUT", &format!("/checkpoints/{id}"));
    assert_eq!((status, &body["code"]), (404, &json!("checkpoint_not_found")), "{body}");
    wait_until("the metric shows that", || server.metric("progressdb_backup_checkpoints") == 0.0);
    assert_eq!(server.metric("progressdb_backup_leases_ended_total"), 1.0);
    server.stop().check_code(0);
}

#[test]
fn a_receipt_of_an_erasure_names_the_checkpoint_that_a_client_copies() {
    let setup = Setup::new();
    let server = setup.start();
    fill(&server);
    let ann = server.user("ann");
    let client = slow_backup(&setup, &place(&setup));
    let held = checkpoints(&setup)[0].strip_prefix(setup.db()).unwrap().to_owned();
    assert_eq!(copies_of_erased(&ann), [path(&held)]);
    client.signal(Signal::TERM);
    client.wait().check_code(130);
    assert_eq!(copies_of_erased(&ann), [""; 0]);
    server.stop().check_code(0);
}

/// What each user reads of every thread.
fn all_messages(server: &Server) -> Vec<Value> {
    let of_user = |id: &str| {
        let user = server.user(id);
        let read = |thread: &String| user.get(&format!("{}?limit=1000", messages(thread))).check_status(200).json();
        user.thread_keys("").iter().map(|thread| read(thread)["messages"].clone()).collect::<Vec<_>>()
    };
    ["ann", "bob"].into_iter().flat_map(of_user).collect()
}

#[test]
fn an_encrypted_database_is_backed_up_while_it_runs_and_comes_back_with_every_message() {
    let setup = sealed();
    let server = setup.start();
    write_everything(&server);
    let out = place(&setup).join("taken");
    setup.run(&["backup", "--format", "dir", "--out", path(&out)]).check_code(0);
    let read = all_messages(&server);
    assert!(read.len() == 2 && read.iter().all(|thread| !thread.as_array().unwrap().is_empty()), "{read:?}");
    server.stop().check_code(0);
    for (name, bytes) in tree(&out) {
        let bytes = bytes.unwrap_or_default();
        assert!(!bytes.windows(5).any(|window| window == b"bob's"), "{name} holds plain text");
    }
    let copy = sealed_at(&setup.root().join("restored/database"));
    copy.run(&["restore", "--in", path(&out)]).check_code(0);
    let server = copy.start();
    assert_eq!(all_messages(&server), read);
    server.stop().check_code(0);
    assert_eq!(digest(&copy), digest(&setup));
}

/// The client notices at once, and leaves nothing; a server that was killed cleans up when it starts.
#[test]
fn a_backup_ends_with_its_server() {
    for signal in [Signal::KILL, Signal::TERM] {
        let setup = Setup::new();
        let server = setup.start();
        fill(&server);
        let out = place(&setup);
        let client = slow_backup(&setup, &out);
        server.signal(signal);
        let finished = client.wait();
        finished.check_code(1).check_says(&["the backup was given up: the server stopped, or was killed"]);
        assert_eq!(fs::read_dir(&out).unwrap().count(), 0, "{finished:?}");
        let ended = server.wait();
        if signal == Signal::TERM {
            ended.check_code(0);
            assert_eq!(checkpoints(&setup), [""; 0].map(PathBuf::from), "a stop removes it");
        }
        let server = setup.start();
        assert_eq!(checkpoints(&setup), [""; 0].map(PathBuf::from));
        setup.run(&["backup", "--out", path(&out)]).check_code(0);
        server.stop().check_code(0);
    }
}

#[test]
fn a_signal_to_the_client_gives_the_checkpoint_back_at_once() {
    for signal in [Signal::INT, Signal::TERM] {
        let setup = Setup::new();
        let server = setup.start();
        fill(&server);
        let out = place(&setup);
        let client = slow_backup(&setup, &out);
        client.signal(signal);
        client.wait().check_code(130);
        assert_eq!((checkpoints(&setup).len(), fs::read_dir(&out).unwrap().count()), (0, 0));
        server.stop().check_code(0);
    }
}

#[test]
fn a_few_checkpoints_are_held_and_more_are_refused() {
    let setup = Setup::new();
    let server = setup.start();
    let cut = || ask(&setup, "POST", "/checkpoints");
    let held: Vec<Value> = (0..4).map(|_| cut().1).collect();
    let lease = &held[0];
    assert_eq!(lease["lease_seconds"], json!(60));
    let files = setup.db().join(format!("tmp/backup-{}", lease["id"].as_str().unwrap()));
    assert!(files.join("CURRENT").exists(), "{lease}");
    let (status, body) = cut();
    assert_eq!((status, &body["code"]), (429, &json!("too_many_backups")), "{body}");
    let refused = setup.run(&["backup", "--out", path(&place(&setup))]);
    refused.check_code(75).check_says(&["4 backups are being made already: wait until one of them has ended"]);
    let target = format!("/checkpoints/{}", lease["id"].as_str().unwrap());
    assert_eq!(ask(&setup, "PUT", &target).0, 204);
    assert_eq!(ask(&setup, "DELETE", &target).0, 204);
    assert!(!files.exists());
    assert_eq!(ask(&setup, "DELETE", &target).0, 404);
    assert_eq!(cut().0, 201);
    assert_eq!(ask(&setup, "GET", "/nothing").1["code"], json!("not_found"));
    let mode = fs::metadata(setup.db().join("server.sock")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    server.stop().check_code(0);
}

#[test]
fn a_cut_on_a_full_disk_is_refused_and_leaves_nothing() {
    let directory = temporary_directory();
    let test = "a_cut_on_a_full_disk_is_refused";
    let Some(disk) = Disk::make(test, directory.path(), 96 * MIB, &["mkfs.ext4", "-q", "-F", "-m", "0"], "noatime")
    else {
        return;
    };
    let setup =
        Setup::with_db(&disk.at.join("database")).set("storage.reserve", "32MiB").set("storage.memory", "16MiB");
    let server = setup.start();
    let t = server.user("writer").create_thread("kept");
    server.user("writer").append(&t, 1);
    let filler = disk.at.join("filler");
    let mut file = File::create(&filler).unwrap();
    while disk.free() > 16 * MIB {
        file.write_all(&vec![7; 1 << 20]).unwrap();
        file.sync_all().unwrap();
    }
    let (status, body) = ask(&setup, "POST", "/checkpoints");
    assert_eq!((status, &body["code"]), (507, &json!("disk_full")), "{body}");
    let out = place(&setup);
    setup.run(&["backup", "--out", path(&out)]).check_code(1).check_says(&["the disk is almost full: free some space"]);
    assert_eq!((checkpoints(&setup).len(), fs::read_dir(&out).unwrap().count()), (0, 0));
    assert_eq!(server.user("writer").message_keys(&t, "").len(), 1, "reads go on");
    drop(file);
    fs::remove_file(&filler).unwrap();
    rustix::fs::sync();
    setup.run(&["backup", "--out", path(&out)]).check_code(0);
    server.user("writer").append(&t, 2);
    server.stop().check_code(0);
}

/// As a server of an older version, or a command, has it.
#[test]
fn a_holder_without_a_socket_is_named_with_what_to_do() {
    let setup = Setup::new();
    setup.start().stop().check_code(0);
    let lock = File::options().write(true).open(setup.db().join("lock")).unwrap();
    lock.lock().unwrap();
    lock.set_len(0).unwrap();
    (&lock).write_all(b"4711\n").unwrap();
    let refused = setup.run(&["backup", "--out", path(&place(&setup))]);
    refused.check_code(75).check_says(&["is in use by process 4711", "of an older version", "POST /admin/backup"]);
    (&lock).write_all(b"socket=server.sock\n").unwrap();
    let refused = setup.run(&["backup", "--out", path(&place(&setup))]);
    refused.check_code(75).check_says(&["the server does not answer at", "as the user that the server runs as"]);
}

/// The address of a socket has room for 107 bytes.
#[test]
fn a_server_is_found_in_a_directory_with_a_long_path() {
    let directory = temporary_directory();
    let setup = Setup::with_db(&directory.path().join("long".repeat(40)).join("database"));
    let server = setup.start();
    setup.run(&["backup", "--out", path(&place(&setup))]).check_code(0);
    let refused = setup.run(&["inspect"]);
    refused.check_code(75).check_says(&[&format!("by process {}, a server at {}", server.pid(), server.addr)]);
    server.stop().check_code(0);
}

#[test]
fn a_server_with_a_relative_data_directory_is_backed_up_from_anywhere() {
    let setup = Setup::new();
    let server = Server::spawn(setup.command(&["serve", "--db", "database"])).ready();
    let mut backup: Command = setup.command(&["backup", "--out", path(&place(&setup))]);
    backup.current_dir("/");
    finish(backup).check_code(0);
    server.stop().check_code(0);
}
