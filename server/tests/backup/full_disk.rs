//! Disks that become full in the middle of a command.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::PathBuf;

use rustix::process::Signal;
use serde_json::json;
use testing::disk::Disk;
use testing::{Random, Server, Setup, copy_directory, temporary_directory};

use crate::online::{ask, checkpoints, path, place};
use crate::stores::{files_in, fill};
use crate::tree::tree_without_lock;
use crate::world::{back_up, verify};

const MIB: u64 = 1 << 20;
const MKFS: [&str; 5] = ["mkfs.ext4", "-q", "-F", "-m", "0"];

/// Takes what is free, up to so many bytes. It comes back when the file is removed.
fn fill_up(disk: &Disk, leave: u64) {
    let mut file = File::create(disk.at.join("filler")).unwrap();
    while disk.free() > leave {
        let bytes = usize::try_from((disk.free() - leave).clamp(1, MIB)).unwrap();
        if file.write_all(&vec![7; bytes]).and_then(|()| file.sync_all()).is_err() {
            return;
        }
    }
}

fn free_again(disk: &Disk) {
    fs::remove_file(disk.at.join("filler")).unwrap();
    rustix::fs::sync();
}

#[test]
fn a_disk_that_fills_up_while_a_backup_is_unpacked_leaves_what_was_there() {
    const TEST: &str = "a_disk_that_fills_up_while_a_backup_is_unpacked_leaves_what_was_there";
    let made = Setup::new();
    fill(&made, 12);
    let backup = back_up(&made, "backup.pdbk");
    let directory = temporary_directory();
    let Some(disk) = Disk::make(TEST, directory.path(), 64 * MIB, &MKFS, "noatime") else { return };
    let setup = Setup::with_db(&disk.at.join("db")).set("storage.reserve", "1MiB");
    let words = ["restore", "--force", "--in", path(&backup)];
    let unpacked = setup.db().join("store-2");
    let failed = (0..50).find_map(|_| {
        copy_directory(made.db(), setup.db());
        let mut running = Server::begin(setup.command(&words));
        while running.runs() && !files_in(&unpacked).iter().any(|(_, bytes)| *bytes > 0) {
            std::thread::yield_now();
        }
        if !running.runs() {
            return None;
        }
        running.signal(Signal::STOP);
        fill_up(&disk, 0);
        running.signal(Signal::CONT);
        let finished = running.wait();
        free_again(&disk);
        // It may have had all of its room before it was stopped.
        (finished.code != Some(0)).then_some(finished)
    });
    let failed = failed.expect("one of fifty was stopped in time");
    failed.check_code(1).check_says(&["No space left on device", "cli.restore_failed"]);
    assert_eq!(tree_without_lock(setup.db()), tree_without_lock(made.db()));
    let server = setup.start();
    assert_eq!(server.user("ada").thread_keys("").len(), 1);
    server.stop().check_code(0);
    setup.run(&words).check_code(0);
}

/// The newest log is copied. It is stopped in the middle of that.
#[test]
fn a_disk_that_fills_up_while_a_checkpoint_is_cut_leaves_nothing_and_the_server_goes_on() {
    const TEST: &str = "a_disk_that_fills_up_while_a_checkpoint_is_cut_leaves_nothing_and_the_server_goes_on";
    let directory = temporary_directory();
    let Some(disk) = Disk::make(TEST, directory.path(), 192 * MIB, &MKFS, "noatime") else { return };
    let setup = Setup::with_db(&disk.at.join("database")).set("storage.reserve", "4MiB");
    let setup = setup.set("storage.memory", "256MiB");
    let server = setup.start();
    let ada = server.user("ada");
    let thread = ada.create_thread("large");
    let mut random = Random::seeded();
    for _ in 0..250 {
        let text: String = (0..5_000).map(|_| format!("{:016x}", random.number())).collect();
        ada.append(&thread, text);
    }
    let refused = (0..50).find_map(|_| {
        let (status, body) = std::thread::scope(|scope| {
            let asking = scope.spawn(|| ask(&setup, "POST", "/checkpoints"));
            while !asking.is_finished() && checkpoints(&setup).is_empty() {
                std::thread::yield_now();
            }
            server.signal(Signal::STOP);
            fill_up(&disk, 0);
            server.signal(Signal::CONT);
            asking.join().unwrap()
        });
        free_again(&disk);
        if status != 201 {
            return Some((status, body["code"].clone()));
        }
        // It was cut before it was stopped.
        assert_eq!(ask(&setup, "DELETE", &format!("/checkpoints/{}", body["id"].as_str().unwrap())).0, 204);
        None
    });
    assert_eq!(refused.expect("one of fifty was stopped in time"), (507, json!("disk_full")));
    assert_eq!(checkpoints(&setup), [""; 0].map(PathBuf::from));
    ada.append(&thread, "goes on");
    setup.run(&["backup", "--out", path(&place(&setup))]).check_code(0);
    server.stop().check_code(0);
    assert_eq!(verify(&setup, 0)["ok"], json!(true));
}
