//! A backup of a database that no server has open.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use progressdb_server::backup::{Artefact, Manifest, Progress};
use progressdb_server::format::Formats;
use serde_json::{Value, json};
use testing::disk::Disk;
use testing::{
    ADMIN_KEY, BACKEND_KEY, FRONTEND_KEY, Finished, SIGNING_KEY, Setup, finish, missing, skip, temporary_directory,
};

use crate::kept::{fill, stopped};
use crate::tree::names;

/// The artefact that a successful backup printed, and nothing else.
#[track_caller]
fn artefact(finished: &Finished) -> PathBuf {
    finished.check_code(0);
    let path = finished.stdout.strip_prefix("backup=").and_then(|rest| rest.strip_suffix('\n'));
    PathBuf::from(path.unwrap_or_else(|| panic!("{finished:?}")))
}

#[track_caller]
fn check(artefact: &Path) -> Manifest {
    let artefact = Artefact::open(artefact, &Formats::CURRENT).unwrap();
    artefact.check(&Progress::default()).unwrap()
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

/// Puts the store of a backup in the place of the live one, as nobody but a test should.
fn replace_store(setup: &Setup, artefact: &Path) {
    let store = setup.db().join("store-1");
    fs::remove_dir_all(&store).unwrap();
    let artefact = Artefact::open(artefact, &Formats::CURRENT).unwrap();
    artefact.unpack(&store, &Progress::default()).unwrap();
}

#[test]
fn a_stopped_database_is_copied_into_one_file_that_serves_again() {
    let setup = Setup::new();
    let kept = stopped(&setup, 400_000);
    let inspected: Value = serde_json::from_str(&setup.run(&["inspect", "--json"]).stdout).unwrap();
    let out = setup.root().join("one.pdbk");
    let finished = setup.run(&["backup", "--out", out.to_str().unwrap()]);
    assert_eq!(artefact(&finished), out);
    assert_eq!(mode(&out), 0o600);
    let event = "event=\"cli.backup_complete\"";
    let line = finished.stderr.lines().find(|line| line.contains(event)).unwrap_or_else(|| panic!("{finished:?}"));
    for word in [setup.db().to_str().unwrap(), out.to_str().unwrap(), "outcome=\"ok\""] {
        assert!(line.contains(word), "no {word} in {line}");
    }
    for what in ["API keys", "TLS", "master keys", "dev-keys.json", "configuration"] {
        let told = finished.stderr.lines().filter(|line| line.starts_with("not included: ") && line.contains(what));
        assert_eq!(told.count(), 1, "{what}: {finished:?}");
    }

    let manifest = check(&out);
    assert_eq!(json!(hex::encode(manifest.header.database_id)), inspected["database_id"]);
    assert_eq!(json!(manifest.incarnation), inspected["incarnation"]);
    assert_eq!(json!(manifest.sequence), inspected["sequence"]);
    assert_eq!(json!(manifest.header.store_format), inspected["format"]);
    assert_eq!((manifest.counts.threads, manifest.counts.messages, manifest.counts.users), (1, 10, 1));
    assert_eq!((manifest.engine.as_str(), &manifest.kms), ("rocksdb", &None));

    setup.run(&["inspect", "--json"]).check_says(&[&inspected.to_string()]);
    replace_store(&setup, &out);
    let server = setup.start();
    kept.check(&server);
    server.stop().check_code(0);
}

#[test]
fn what_a_killed_server_had_acknowledged_is_in_the_backup() {
    let setup = Setup::new();
    let server = setup.start();
    let kept = fill(&server.user("user1"), 20, 1_000);
    server.kill();
    let out = artefact(&setup.run(&["backup", "--out", setup.root().to_str().unwrap()]));
    let manifest = check(&out);
    assert!(manifest.files.iter().any(|file| file.path.ends_with(".log")), "{:?}", manifest.files);
    assert_eq!((manifest.counts.messages, manifest.sequence), (20, 21), "it counts what only the log holds");
    replace_store(&setup, &out);
    let server = setup.start();
    kept.check(&server);
    server.stop().check_code(0);
}

#[test]
fn tar_and_zstd_unpack_an_artefact_and_the_digests_are_those_of_its_manifest() {
    let setup = Setup::new();
    stopped(&setup, 400_000);
    let out = artefact(&setup.run(&["backup", "--out", setup.root().join("b.pdbk").to_str().unwrap()]));
    let into = setup.root().join("unpacked");
    fs::create_dir(&into).unwrap();
    let mut unpack = Command::new("sh");
    unpack.args(["-c", "zstd -dcq \"$1\" | tar -xf - -C \"$2\"", "sh"]).args([&out, &into]);
    let unpacked = unpack.output().unwrap();
    if String::from_utf8_lossy(&unpacked.stderr).contains("not found") {
        return missing("tar_and_zstd_unpack_an_artefact", "zstd is not installed");
    }
    assert!(unpacked.status.success(), "{unpacked:?}");
    assert_eq!(names(&into), ["manifest.json", "progressdb-backup.json", "store"]);
    let manifest: Value = serde_json::from_slice(&fs::read(into.join("manifest.json")).unwrap()).unwrap();
    let files = manifest["files"].as_array().unwrap();
    let wanted: Vec<_> = files.iter().map(|file| file["path"].as_str().unwrap().to_owned()).collect();
    assert_eq!(names(&into.join("store")), wanted);
    for file in files {
        let path = into.join("store").join(file["path"].as_str().unwrap());
        let sum = Command::new("sha256sum").arg(&path).output().unwrap();
        let sum = String::from_utf8_lossy(&sum.stdout);
        assert_eq!(sum.split(' ').next(), file["sha256"].as_str(), "{}", path.display());
        assert_eq!(json!(fs::metadata(&path).unwrap().len()), file["bytes"]);
        assert_eq!(mode(&path), 0o600);
    }
}

#[test]
fn no_secret_is_in_a_backup_and_the_keys_in_it_are_wrapped() {
    const MASTER_KEY: &str = "8d1f2a3b4c5d6e7f8091a2b3c4d5e6f708192a3b4c5d6e7f8091a2b3c4d5e6f7";
    let setup = Setup::new().set("encryption.enabled", true).set("encryption.kms.master_key_hex", MASTER_KEY);
    let server = setup.start();
    fill(&server.user("user1"), 3, 1_000);
    let wrapped = server.admin("/admin/encryption/wrapped-keys").check_status(200).json();
    server.stop().check_code(0);

    // No KMS is asked, and the master key is not needed.
    let setup_without_key = Setup::with_db(setup.db());
    let out = artefact(&setup_without_key.run(&["backup", "--out", setup.root().join("b").to_str().unwrap()]));
    let kms = check(&out).kms.unwrap();
    assert_eq!((kms.provider.as_str(), &kms.wrapped_keys, kms.endpoint), ("local", &wrapped, None));
    assert_eq!(kms.master_key.as_deref(), wrapped["keys"][0]["key_id"].as_str());
    assert_eq!(kms.key_ids.len(), 1);

    let form = ["--format", "dir", "--out"];
    let at = setup.root().join("directory");
    artefact(&setup.run(&[&["backup"], &form[..], &[at.to_str().unwrap()]].concat()));
    let manifest = check(&at);
    assert_eq!(manifest.settings["server.port"]["value"], json!(0));
    assert_eq!(manifest.settings["server.api_keys.admin"]["value"], json!(["********"]));
    assert_eq!(manifest.settings["encryption.kms.master_key_hex"]["value"], json!("********"));
    for file in ["manifest.json", "progressdb-backup.json"] {
        let text = fs::read_to_string(at.join(file)).unwrap();
        for secret in [ADMIN_KEY, BACKEND_KEY, FRONTEND_KEY, SIGNING_KEY, MASTER_KEY] {
            assert!(!text.contains(secret), "{secret} is in {file}");
        }
    }
}

#[test]
fn into_a_directory_it_gets_a_dated_name_and_missing_parents_are_made() {
    let setup = Setup::new();
    stopped(&setup, 1_000);
    let out = setup.root().join("backups");
    fs::create_dir(&out).unwrap();
    let made = artefact(&setup.run(&["backup", "--out", out.to_str().unwrap()]));
    let name = made.file_name().unwrap().to_str().unwrap().to_owned();
    assert_eq!(names(&out), [name.as_str()]);
    let digits = name.strip_prefix("progressdb-").and_then(|rest| rest.strip_suffix("Z.pdbk")).unwrap();
    assert!(jiff::civil::DateTime::strptime("%Y%m%dT%H%M%S", digits).is_ok(), "{name}");

    let deep = setup.root().join("a/b/c.pdbk");
    assert_eq!(artefact(&setup.run(&["backup", "--out", deep.to_str().unwrap()])), deep);
    // A link to a directory is a directory.
    symlink(&out, setup.root().join("link")).unwrap();
    let linked = setup.root().join("link");
    let form = setup.run(&["backup", "--format", "dir", "--out", linked.join("d").to_str().unwrap()]);
    assert_eq!(artefact(&form), linked.join("d"));
    let inside = ["d", "d/store", "d/manifest.json", "d/progressdb-backup.json", "d/store/CURRENT"];
    assert_eq!(inside.map(|name| mode(&out.join(name))), [0o700, 0o700, 0o600, 0o600, 0o600]);
    check(&out.join("d"));
    assert_eq!(names(&out).len(), 2, "{:?}", names(&out));
}

#[test]
fn as_json_the_result_is_one_line() {
    let setup = Setup::new();
    stopped(&setup, 1_000);
    let out = setup.root().join("b.pdbk");
    let finished = setup.run(&["backup", "--json", "--rate-limit", "50MB", "--out", out.to_str().unwrap()]);
    finished.check_code(0);
    assert_eq!(finished.stdout.lines().count(), 1, "{finished:?}");
    let told: Value = serde_json::from_str(&finished.stdout).unwrap();
    let manifest = check(&out);
    assert_eq!(told["backup"], json!(out));
    assert_eq!(told["bytes"], json!(fs::metadata(&out).unwrap().len()));
    assert_eq!(told["store_bytes"], json!(manifest.bytes()));
    assert_eq!(told["files"], json!(manifest.files.len()));
    assert_eq!(told["id"], json!(hex::encode(manifest.header.id)));
    assert_eq!(told["not_included"], json!(manifest.not_included));
    assert!(!finished.stderr.contains("not included"), "{finished:?}");
}

#[test]
fn what_cannot_be_a_backup_is_refused_and_nothing_is_written() {
    let setup = Setup::new();
    let out = setup.root().join("out");
    fs::create_dir(&out).unwrap();
    let backup = |target: &Path| setup.run(&["backup", "--out", target.to_str().unwrap()]);
    backup(&out).check_code(5).check_says(&["holds no database", "event=\"startup.store_missing\""]);
    assert!(!setup.db().exists(), "looking made a data directory");

    stopped(&setup, 1_000);
    for words in [&["backup"][..], &["--rate-limit", "fast"], &["--rate-limit", "0"], &["--format", "zip"]] {
        let target = ["backup", "--out", out.to_str().unwrap()];
        let words = if words == ["backup"] { words.to_vec() } else { [&target[..], words].concat() };
        setup.run(&words).check_code(2);
    }
    fs::write(out.join("there"), "precious").unwrap();
    symlink("there", out.join("link")).unwrap();
    symlink("nowhere", out.join("dangling")).unwrap();
    for there in ["there", "link", "dangling"] {
        backup(&out.join(there)).check_code(6).check_says(&["never overwrites", "event=\"cli.backup_failed\""]);
    }
    for inside in ["", "b.pdbk", "store-1", "new/b.pdbk"] {
        backup(&setup.db().join(inside)).check_code(2).check_says(&["lies inside the data directory"]);
    }
    assert_eq!(names(&out), ["dangling", "link", "there"]);
    assert_eq!(fs::read_to_string(out.join("there")).unwrap(), "precious");
    assert!(!setup.db().join("new").exists());

    let foreign = setup.root().join("foreign");
    fs::create_dir(&foreign).unwrap();
    fs::write(foreign.join("notes.txt"), "mine").unwrap();
    Setup::with_db(&foreign).run(&["backup", "--out", out.to_str().unwrap()]).check_code(7);
    assert_eq!(names(&foreign), ["notes.txt"]);
    fs::write(setup.db().join("store-1/CURRENT"), "").unwrap();
    backup(&out.join("b")).check_code(7).check_says(&["is damaged", "event=\"startup.store_corrupt\""]);
    assert_eq!(names(&out).len(), 3);
}

#[test]
fn on_a_full_disk_nothing_is_left() {
    let test = "on_a_full_disk_nothing_is_left";
    let directory = temporary_directory();
    let mkfs = ["mkfs.ext4", "-q", "-F", "-m", "0", "-O", "^has_journal"];
    let Some(disk) = Disk::make(test, directory.path(), 2 << 20, &mkfs, "rw") else { return };
    let setup = Setup::new();
    stopped(&setup, 4_000_000);
    let before = names(&disk.at);
    let out = disk.at.join("deep/b.pdbk");
    for form in ["tar", "dir"] {
        let finished = setup.run(&["backup", "--format", form, "--out", out.to_str().unwrap()]);
        finished.check_code(1).check_says(&["No space left", disk.at.to_str().unwrap(), "event=\"cli.backup_failed\""]);
        assert_eq!((names(&disk.at), finished.stdout.as_str()), (before.clone(), ""));
    }
    artefact(&setup.run(&["backup", "--out", setup.root().join("b").to_str().unwrap()]));
}

#[test]
fn without_permission_it_says_so_and_leaves_nothing() {
    const NOBODY: u32 = 65_534;
    if !rustix::process::geteuid().is_root() {
        return skip("without_permission_it_says_so", "not root, so there is no other user to run as");
    }
    let setup = Setup::new();
    stopped(&setup, 1_000);
    let out = setup.root().join("out");
    fs::create_dir(&out).unwrap();
    fs::set_permissions(&out, Permissions::from_mode(0o755)).unwrap();
    let owned = Command::new("chown").arg("-R").arg(NOBODY.to_string()).arg(setup.db()).status().unwrap();
    assert!(owned.success());
    fs::set_permissions(setup.root(), Permissions::from_mode(0o755)).unwrap();
    let run = |out: &Path| {
        let mut command = setup.command(&["backup", "--out", out.to_str().unwrap()]);
        fs::set_permissions(setup.config_file(), Permissions::from_mode(0o644)).unwrap();
        command.uid(NOBODY).gid(NOBODY);
        command
    };
    if run(&out).output().is_err() {
        return skip("without_permission_it_says_so", "another user cannot reach the program");
    }
    for target in [out.clone(), out.join("b.pdbk"), out.join("new/b.pdbk")] {
        finish(run(&target)).check_code(1).check_says(&["Permission denied", out.to_str().unwrap()]);
        assert_eq!(names(&out), Vec::<String>::new());
    }
    fs::set_permissions(setup.db().join("store-1/CURRENT"), Permissions::from_mode(0o000)).unwrap();
    let finished = finish(run(&out));
    assert!(finished.code.is_some_and(|code| code != 0), "{finished:?}");
}
