//! Backups in a directory: listed, verified and pruned as those in object stores are.

use std::fs;
use std::path::Path;

use serde_json::json;
use testing::Setup;

use crate::stores::{back_up, change, fill, list, prune, verdicts, verify};

/// A directory with three backups, one a directory, each with a date of its own, and things of others.
fn three(setup: &Setup) -> String {
    fill(setup, 1);
    let directory = setup.root().join("backups");
    fs::create_dir(&directory).unwrap();
    let place = directory.to_str().unwrap().to_owned();
    for (day, form) in [("01", "tar"), ("02", "dir"), ("03", "tar")] {
        change(setup);
        let out = directory.join(format!("progressdb-202601{day}T000000Z.pdbk"));
        setup.run(&["backup", "--out", out.to_str().unwrap(), "--format", form]).check_code(0);
    }
    fs::write(directory.join("notes.txt"), "of somebody").unwrap();
    fs::write(directory.join("progressdb-backup-00112233445566778899aabbccddeeff.tmp"), "half").unwrap();
    place
}

fn names(directory: &str) -> Vec<String> {
    let name = |entry: std::io::Result<fs::DirEntry>| entry.unwrap().file_name().into_string().unwrap();
    let mut names: Vec<_> = fs::read_dir(directory).unwrap().map(name).collect();
    names.retain(|name| name.ends_with(".pdbk"));
    names.sort();
    names
}

#[test]
fn a_directory_is_listed_and_verified() {
    let setup = Setup::new();
    let place = three(&setup);
    let listed = list(&setup, &place);
    assert_eq!(listed.len(), 3, "{listed:?}");
    assert!(listed.iter().all(|backup| backup["problem"].is_null() && backup["verified"] == backup["created"]));
    verify(&setup, &place).check_code(0).check_says(&["verified=", "cli.backup_verified"]);
    let damaged = Path::new(&place).join("progressdb-20260103T000000Z.pdbk");
    let bytes = fs::read(&damaged).unwrap();
    fs::write(&damaged, &bytes[..bytes.len() / 2]).unwrap();
    verify(&setup, damaged.to_str().unwrap()).check_code(7).check_says(&["is damaged"]);
    fs::write(&damaged, "").unwrap();
    let listed = list(&setup, &place);
    assert_eq!(listed.iter().filter(|backup| backup["problem"].is_string()).count(), 1, "{listed:?}");
}

#[test]
fn a_prune_of_a_directory_keeps_one_that_is_right() {
    let setup = Setup::new();
    let place = three(&setup);
    let newest = Path::new(&place).join("progressdb-20260103T000000Z.pdbk");
    let bytes = fs::read(&newest).unwrap();
    fs::write(&newest, &bytes[..bytes.len() / 2]).unwrap();
    let by_hand = Path::new(&place).join("before-the-upgrade.pdbk");
    back_up(&setup, by_hand.to_str().unwrap());
    let would = prune(&setup, &place, 1, &["--dry-run"]);
    let expected = [(true, "too_many"), (false, "kept_last_verified"), (false, "kept")];
    assert_eq!(verdicts(&would), expected.map(|(removed, why)| (removed, why.to_owned())));
    assert_eq!(names(&place).len(), 4, "a dry run changes nothing");
    prune(&setup, &place, 1, &[]);
    let kept = ["before-the-upgrade.pdbk", "progressdb-20260102T000000Z.pdbk", "progressdb-20260103T000000Z.pdbk"];
    assert_eq!(names(&place), kept, "what has a name of its own stays");
    assert!(Path::new(&place).join("notes.txt").exists());
    fs::write(&newest, bytes).unwrap();
    let pruned = prune(&setup, &place, 1, &[]);
    assert_eq!((names(&place), &pruned["objects"]), (vec![kept[0].to_owned(), kept[2].to_owned()], &json!(0)));
    verify(&setup, newest.to_str().unwrap()).check_code(0);
}

#[test]
fn a_prune_needs_a_place_and_not_one_backup() {
    let setup = Setup::new();
    let place = three(&setup);
    let one = Path::new(&place).join("progressdb-20260103T000000Z.pdbk");
    let refused = setup.run(&["backup", "prune", "--in", one.to_str().unwrap(), "--keep", "1"]);
    refused.check_code(2).check_says(&["a prune takes a directory of backups"]);
    setup.run(&["backup", "prune", "--in", &place, "--max-age", "30d"]).check_code(2).check_says(&["720h"]);
}
