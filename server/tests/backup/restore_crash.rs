//! A restore that is killed at each change that it makes to the disk: afterwards there is the old database, the restored
//! one, or a refusal that names the next command.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use serde_json::{Value, json};
use testing::{
    Random, Server, Setup, copy_directory, fail_at_each_change, finish, kill_at_each_change, variable, wait_until,
};

use crate::tree::names;
use crate::world::{back_up, database_id, digest, filled, marker, verify};

fn stores(setup: &Setup) -> Vec<String> {
    names(setup.db()).into_iter().filter(|name| name.starts_with("store")).collect()
}

/// A backup that is restored over a copy of another database.
struct Over {
    setup: Setup,
    old: Setup,
    backup: PathBuf,
    /// The digest of the database that is there.
    before: Value,
    /// That of the backup.
    after: Value,
    _made: Setup,
}

impl Over {
    fn new() -> Self {
        let (made, old) = (Setup::new(), Setup::new());
        filled(&made);
        let backup = back_up(&made, "backup.pdbk");
        let server = old.start();
        server.user("zoe").create_thread("there before");
        server.stop().check_code(0);
        let (before, after) = (digest(&old), digest(&made));
        Self { setup: Setup::with_db(&old.root().join("copy")), old, backup, before, after, _made: made }
    }

    /// The restore, over a fresh copy.
    fn prepare(&self) -> Command {
        copy_directory(self.old.db(), self.setup.db());
        self.restore()
    }

    fn restore(&self) -> Command {
        let (backup, there) = (self.backup.to_str().unwrap(), database_id(self.old.db()));
        self.setup.command(&["restore", "--force", "--replace-database", &there, "--in", backup])
    }
}

#[test]
fn a_restore_over_a_database_that_is_killed_anywhere_leaves_the_old_one_or_the_new() {
    const TEST: &str = "a_restore_over_a_database_that_is_killed_anywhere_leaves_the_old_one_or_the_new";
    let over = Over::new();
    let Over { setup, before, after, .. } = &over;
    let (mut with_old, mut with_new, mut leftovers) = (0, 0, 0);
    let killed = kill_at_each_change(
        TEST,
        || over.prepare(),
        |change| {
            let found = digest(setup);
            assert!(found == *before || found == *after, "{change}: neither the old one nor the new");
            *(if found == *before { &mut with_old } else { &mut with_new }) += 1;
            let left = stores(setup).len() > 1;
            leftovers += usize::from(left);
            let server = setup.start();
            assert_eq!(server.log().contains("startup.leftover_removed"), left, "{change}");
            server.stop().check_code(0);
            assert_eq!(stores(setup), [marker(setup.db())["store"].as_str().unwrap()], "{change}");
            assert_eq!((digest(setup), verify(setup, 0)["ok"].clone()), (found, json!(true)), "{change}");
            finish(over.restore()).check_code(0);
            assert_eq!((digest(setup), stores(setup).len()), (after.clone(), 1), "{change}");
        },
    );
    let Some(killed) = killed else { return };
    assert!(with_old > 3 && with_new > 1 && leftovers > 3, "{with_old} {with_new} {leftovers} of {killed}");
}

#[test]
fn a_restore_over_a_database_whose_disk_fails_anywhere_leaves_the_old_one_or_the_new() {
    const TEST: &str = "a_restore_over_a_database_whose_disk_fails_anywhere_leaves_the_old_one_or_the_new";
    let over = Over::new();
    let Over { setup, before, after, .. } = &over;
    let (mut failed_with_old, mut failed_with_new, mut done) = (0, 0, 0);
    let interrupted = fail_at_each_change(
        TEST,
        || over.prepare(),
        |change, finished| {
            let found = digest(setup);
            match finished.code {
                Some(0) => {
                    assert_eq!(found, *after, "{change}: said to be restored");
                    done += 1;
                }
                _ if found == *before => failed_with_old += 1,
                _ => {
                    assert_eq!(found, *after, "{change}: neither the old one nor the new");
                    failed_with_new += 1;
                }
            }
            setup.start().stop().check_code(0);
            assert_eq!((digest(setup), stores(setup).len()), (found, 1), "{change}");
        },
    );
    let Some(interrupted) = interrupted else { return };
    let counts = format!("{failed_with_old} {failed_with_new} {done} of {interrupted}");
    assert!(failed_with_old > 3 && failed_with_new > 0 && done > 0, "{counts}");
}

/// One directory, two backups that take turns, kills at random moments, and now and then a server that is killed as well.
#[test]
fn torture_a_restore_that_is_killed_at_random_leaves_the_old_database_or_the_new() {
    let loops: usize = variable("PROGRESSDB_TORTURE_LOOPS").map_or(10, |text| text.parse().unwrap());
    let mut random = Random::seeded();
    let made = [Setup::new(), Setup::new()];
    let backups = made.each_ref().map(|setup| {
        filled(setup);
        (back_up(setup, "backup.pdbk"), digest(setup))
    });
    let setup = Setup::new();
    filled(&setup);
    let (mut before, mut kept, mut replaced) = (digest(&setup), 0, 0);
    for turn in 0..loops {
        let (backup, wanted) = &backups[turn % 2];
        let there = database_id(setup.db());
        let words = ["restore", "--force", "--replace-database", &there, "--in", backup.to_str().unwrap()];
        let running = Server::begin(setup.command(&words));
        let mut polls = random.below(120);
        wait_until("its moment has come", || {
            polls = polls.saturating_sub(1);
            polls == 0
        });
        running.kill();
        let found = digest(&setup);
        assert!(found == before || found == *wanted, "turn {turn}: neither the old one nor the new");
        *(if found == *wanted && found != before { &mut replaced } else { &mut kept }) += 1;
        assert_eq!(verify(&setup, 0)["ok"], json!(true), "turn {turn}");
        before = found;
        if turn % 3 == 0 {
            let server = setup.start();
            server.user("zoe").create_thread(&format!("turn {turn}"));
            server.kill();
            assert_eq!(stores(&setup).len(), 1, "turn {turn}");
            before = digest(&setup);
        }
    }
    println!("{loops} kills: {kept} times what was there before, {replaced} times what was restored");
}

#[test]
fn a_restore_into_nothing_that_is_killed_anywhere_is_finished_or_undone_by_the_command_it_names() {
    const TEST: &str = "a_restore_into_nothing_that_is_killed_anywhere_is_finished_or_undone_by_the_command_it_names";
    let made = Setup::new();
    filled(&made);
    let backup = back_up(&made, "backup.pdbk");
    let after = digest(&made);
    let setup = Setup::new();
    let words = ["restore", "--in", backup.to_str().unwrap()];
    let prepare = || {
        let _ = fs::remove_dir_all(setup.db());
        setup.command(&words)
    };
    let (mut nothing, mut unfinished, mut restored) = (0, 0, 0);
    let killed = kill_at_each_change(TEST, prepare, |change| {
        let state =
            if setup.db().join("PROGRESSDB").exists() { marker(setup.db())["state"].clone() } else { Value::Null };
        match state.as_str() {
            Some("ready") => {
                restored += 1;
                assert_eq!(digest(&setup), after, "{change}");
                return;
            }
            Some("restoring") => {
                unfinished += 1;
                let refused = setup.refused_start();
                refused.check_code(7).check_says(&[
                    "startup.restore_unfinished",
                    "progressdb restore",
                    "reset --confirm",
                ]);
                if unfinished % 2 == 0 {
                    setup.run(&["reset", "--confirm"]).check_code(0);
                    assert_eq!(names(setup.db()), [""; 0], "{change}");
                }
            }
            None => nothing += 1,
            other => panic!("{change}: {other:?}"),
        }
        setup.run(&words).check_code(0);
        assert_eq!((digest(&setup), stores(&setup).len()), (after.clone(), 1), "{change}");
    });
    let Some(killed) = killed else { return };
    assert!(nothing > 0 && unfinished > 3 && restored > 0, "{nothing} {unfinished} {restored} of {killed}");
}
