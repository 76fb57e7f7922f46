//! Either command, killed at any of its steps, is ended by the next run of the same command.

use std::fs;
use std::path::Path;
use std::process::Command;

use rustix::process::Signal;
use serde_json::{Value, json};
use testing::{Random, Server, Setup, fail_at_each_change, kill_at_each_change, timed, variable, wait_until};

use crate::world::{export, export_to, filled_and_sealed, import, marker, root, said, sealed};

/// So many partitions that an import takes a number of syncs.
fn many() -> Setup {
    let setup = filled_and_sealed();
    let server = setup.start();
    let ann = server.user("ann");
    (0..200).for_each(|thread| drop(ann.append(&ann.create_thread(&thread.to_string()), "one")));
    server.stop().check_code(0);
    setup
}

/// An import into what has no database any more.
fn import_anew(target: &Setup, file: &Path) -> Command {
    let _ = fs::remove_dir_all(target.db());
    target.command(&["import", "--from", file.to_str().unwrap()])
}

/// What an import that was killed left.
fn state(db: &Path) -> Value {
    if db.join("PROGRESSDB").exists() { marker(db)["state"].clone() } else { Value::Null }
}

#[test]
fn an_import_that_is_killed_anywhere_is_ended_by_the_next() {
    const TEST: &str = "an_import_that_is_killed_anywhere_is_ended_by_the_next";
    let source = many();
    let (file, whole) = (export(&source, "x"), root(&source));
    let target = sealed();
    let prepare = || import_anew(&target, &file);
    let (mut nothing, mut unfinished, mut done) = (0, 0, 0);
    let killed = kill_at_each_change(TEST, prepare, |change| {
        if state(target.db()) == json!("ready") {
            let inspected = target.run(&["inspect"]);
            match inspected.code {
                Some(0) => done += 1,
                _ => {
                    inspected.check_code(7).check_says(&["holds an import that did not end"]);
                    unfinished += 1;
                }
            }
        } else {
            nothing += 1;
        }
        let outcome = said(&import(&target, &file))["outcome"].clone();
        assert!(outcome == "ok" || outcome == "noop", "{change}");
        assert_eq!(root(&target), whole, "{change}");
        target.run(&["verify"]).check_code(0);
    });
    let Some(killed) = killed else { return };
    assert!(nothing > 2 && unfinished > 5 && done > 0, "{nothing} {unfinished} {done} of {killed}");
}

#[test]
fn an_import_whose_disk_fails_anywhere_is_no_success_unless_it_is_whole() {
    const TEST: &str = "an_import_whose_disk_fails_anywhere_is_no_success_unless_it_is_whole";
    let source = many();
    let (file, whole) = (export(&source, "x"), root(&source));
    let target = sealed();
    let prepare = || import_anew(&target, &file);
    let (mut failed, mut done) = (0, 0);
    let interrupted = fail_at_each_change(TEST, prepare, |change, finished| {
        if finished.code == Some(0) {
            assert_eq!(root(&target), whole, "{change}: said to be imported");
            done += 1;
        } else {
            failed += 1;
        }
        said(&import(&target, &file));
        assert_eq!(root(&target), whole, "{change}");
    });
    let Some(interrupted) = interrupted else { return };
    assert!(failed > 5, "{failed} {done} of {interrupted}");
}

/// So much that both commands take a while, and an import says more than once how far it is.
pub(crate) fn large() -> Setup {
    let setup = sealed();
    let server = setup.start();
    let (ann, body) = (server.user("ann"), "x".repeat(60_000));
    for thread in 0..24 {
        let thread = ann.create_thread(&thread.to_string());
        (0..32).for_each(|_| drop(ann.append(&thread, body.as_str())));
    }
    server.stop().check_code(0);
    setup
}

/// Runs a command to its end, however often it is killed; how often that was.
fn run_and_kill(begin: impl Fn() -> Server, moments: impl Iterator<Item = std::time::Duration>) -> usize {
    let mut killed = 0;
    for moment in moments {
        let mut running = begin();
        let (ended, _) = timed(|| testing::waiting::poll(moment, || (!running.runs()).then_some(())).is_some());
        if ended {
            break;
        }
        running.kill();
        killed += 1;
    }
    killed
}

#[test]
fn torture_an_export_and_an_import_that_are_killed_at_random_are_ended() {
    let loops: usize = variable("PROGRESSDB_TORTURE_LOOPS").map_or(10, |text| text.parse().unwrap());
    let mut random = Random::seeded();
    let (source, target) = (large(), sealed());
    let (whole, file) = (root(&source), source.root().join("x"));
    let (_, took) = timed(|| export_to(&source, &source.root().join("whole"), &[]).check_code(0).code);
    let (mut exports, mut imports, mut resumed) = (0, 0, [0, 0]);
    for _ in 0..loops.div_ceil(5) {
        let _ = (fs::remove_file(&file), fs::remove_dir_all(target.db()));
        let moments = |random: &mut Random| {
            let moments: Vec<_> = (0..5).map(|_| took.mul_f64(random.below(1_000) as f64 / 1_000.0)).collect();
            moments.into_iter()
        };
        let words = ["export", "--resume", "--to", file.to_str().unwrap()];
        exports += run_and_kill(|| Server::begin(source.command(&words)), moments(&mut random));
        let exported = said(&export_to(&source, &file, &["--resume", "--json"]));
        resumed[0] += usize::from(exported["resumed"] == json!(true));
        let words = ["import", "--from", file.to_str().unwrap()];
        imports += run_and_kill(|| Server::begin(target.command(&words)), moments(&mut random));
        let imported = said(&import(&target, &file));
        resumed[1] += usize::from(imported["resumed"] == json!(true));
        assert_eq!(root(&target), whole);
        target.run(&["verify"]).check_code(0);
    }
    println!("{exports} exports and {imports} imports were killed; {resumed:?} went on behind what was there");
    assert!(exports > 0 && imports > 0);
}

#[test]
fn a_signal_stops_either_command_and_the_next_goes_on() {
    let (source, target) = (large(), sealed());
    let file = source.root().join("x");
    let exporting = Server::begin(source.command(&["export", "--to", file.to_str().unwrap()]));
    wait_until("it writes", || file.metadata().is_ok_and(|metadata| metadata.len() > 4 << 20));
    exporting.signal(Signal::TERM);
    exporting.wait().check_code(130).check_says(&["stopped by a signal", "--resume", "cli.export_failed"]);
    assert_eq!(said(&export_to(&source, &file, &["--resume", "--json"]))["resumed"], true);
    let importing = Server::begin(target.command(&["import", "--from", file.to_str().unwrap()]));
    let size = || fs::read_dir(target.db().join("store-1")).into_iter().flatten().flatten();
    let written = || size().filter_map(|entry| entry.metadata().ok()).map(|metadata| metadata.len()).sum::<u64>();
    wait_until("it writes", || written() > 20 << 20);
    importing.signal(Signal::INT);
    importing.wait().check_code(130).check_says(&[
        "stopped by a signal",
        "start the import again",
        "cli.import_failed",
    ]);
    assert_eq!(said(&import(&target, &file))["resumed"], true);
    assert_eq!(root(&target), root(&source));
}
