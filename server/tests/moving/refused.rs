//! What is refused, with which exit code, and what is left as it was.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use testing::filled::with_master_key;
use testing::{Setup, program};

use crate::world::{
    export, export_to, filled, filled_and_sealed, import, lines, marker, root, rows, said, sealed, sum_anew, threads,
    write_more,
};

/// A file beside another with this content.
fn beside(file: &Path, content: &[u8]) -> PathBuf {
    let path = file.with_extension("altered");
    fs::write(&path, content).unwrap();
    path
}

#[test]
fn a_file_that_is_altered_anywhere_is_refused_before_anything_is_made() {
    let source = filled();
    let file = export(&source, "x");
    let whole = fs::read(&file).unwrap();
    let target = Setup::new();
    let mut refused = 0;
    for at in (0..whole.len()).step_by(whole.len() / 60) {
        let mut altered = whole.clone();
        altered[at] ^= 0x04;
        let line = whole[..at].iter().filter(|byte| **byte == b'\n').count() + 1;
        let finished = import(&target, &beside(&file, &altered));
        // In front of that it is another file, or one of another version.
        if at < 30 {
            assert!(matches!(finished.code, Some(7 | 78)), "byte {at}: {}", finished.said());
        } else {
            finished.check_code(7).check_says(&[&format!("is damaged in line {line}:"), "cli.import_failed"]);
        }
        assert!(!target.db().exists(), "byte {at}");
        refused += 1;
    }
    assert!(refused >= 60);
    assert_eq!(said(&import(&target, &beside(&file, &whole)))["outcome"], "ok");
}

#[test]
fn a_file_that_is_cut_off_anywhere_is_refused_before_anything_is_made() {
    let source = filled();
    let file = export(&source, "x");
    let whole = fs::read(&file).unwrap();
    let target = Setup::new();
    for end in (0..whole.len()).step_by(whole.len() / 40).chain([whole.len() - 1]) {
        let line = whole[..end].iter().filter(|byte| **byte == b'\n').count() + 1;
        let finished = import(&target, &beside(&file, &whole[..end]));
        finished.check_code(7);
        if end >= 30 {
            finished.check_says(&[&format!("is damaged in line {line}: the file ends there")]);
        }
        assert!(!target.db().exists(), "{end} bytes");
    }
}

/// Standard input cannot be read twice: what came before the damage is there, and nobody serves it.
#[test]
fn a_stream_that_breaks_off_leaves_an_import_that_is_ended_or_undone() {
    let source = filled();
    let file = export(&source, "x");
    let whole = fs::read(&file).unwrap();
    let target = Setup::new();
    let torn = beside(&file, &whole[..whole.len() - 10]);
    let piped = |target: &Setup, file: &Path| {
        let mut command = target.command(&["import", "--from", "-"]);
        command.stdin(File::open(file).unwrap()).output().unwrap()
    };
    assert_eq!(piped(&target, &torn).status.code(), Some(7));
    let refused = target.refused_start();
    refused.check_code(7).check_says(&["startup.import_unfinished", "progressdb import", "reset --confirm"]);
    let out = target.root().join("b");
    for words in [&["inspect"][..], &["verify"], &["verify", "--digest"], &["backup", "--out", out.to_str().unwrap()]] {
        target.run(words).check_code(7).check_says(&["holds an import that did not end"]);
    }
    export_to(&target, &target.root().join("y"), &[]).check_code(7);
    assert!(!target.root().join("y").exists());
    // Another export of the same database is another import.
    let other = export(&source, "other");
    import(&target, &other).check_code(6).check_says(&["holds a part of export", "nothing was changed"]);
    assert!(piped(&target, &file).status.success());
    assert_eq!(root(&target), root(&source));

    let target = Setup::new();
    assert_eq!(piped(&target, &torn).status.code(), Some(7));
    target.run(&["reset", "--confirm"]).check_code(0);
    target.start().stop().check_code(0);
}

#[test]
fn a_newer_export_and_a_newer_store_are_refused() {
    let source = filled();
    let file = export(&source, "x");
    let lines = lines(&file);
    let target = Setup::new();
    let with_first = |first: &str| {
        let first = sum_anew(1, first);
        let rest = lines[1..].iter().map(String::as_str);
        let text: String = [first.as_str()].into_iter().chain(rest).map(|line| format!("{line}\n")).collect();
        beside(&file, text.as_bytes())
    };
    let newer = lines[0].replace("{\"progressdb_export\":1,", "{\"progressdb_export\":2,\"shape\":\"new\",");
    import(&target, &with_first(&newer)).check_code(78).check_says(&["export layout 2, this version reads 1"]);
    let newer = lines[0].replace("\"store_format\":1,", "\"store_format\":2,");
    import(&target, &with_first(&newer)).check_code(78).check_says(&["the store has format 2, this version reads 1"]);
    assert!(!target.db().exists());
    assert_eq!(said(&import(&target, &with_first(&lines[0])))["outcome"], "ok", "a sum that is made anew is right");
}

#[test]
fn a_directory_that_holds_something_else_is_left_as_it_is() {
    let (source, other) = (filled(), filled());
    let file = export(&source, "x");
    let (before, there) = (marker(other.db()), rows(&export(&other, "before")));
    import(&other, &file).check_code(6).check_says(&["holds database", "nothing was changed", "cli.import_failed"]);
    assert_eq!((marker(other.db()), rows(&export(&other, "after"))), (before, there));
    let foreign = Setup::new();
    fs::create_dir_all(foreign.db()).unwrap();
    fs::write(foreign.db().join("notes.txt"), "mine").unwrap();
    import(&foreign, &file).check_code(7);
    assert_eq!(fs::read_dir(foreign.db()).unwrap().count(), 1);
}

#[test]
fn a_database_that_a_server_has_is_neither_exported_nor_imported_into() {
    let source = filled();
    let file = export(&source, "x");
    let server = source.start();
    let half = source.root().join("half");
    export_to(&source, &half, &[]).check_code(75).check_says(&["is in use", "cli.export_failed"]);
    import(&source, &file).check_code(75);
    assert!(!half.exists());
    server.stop().check_code(0);
}

#[test]
fn a_file_is_never_overwritten_and_never_goes_into_the_data_directory() {
    let source = filled();
    let file = export(&source, "x");
    let before = fs::read(&file).unwrap();
    export_to(&source, &file, &[]).check_code(6).check_says(&["exists: add --resume"]);
    assert_eq!(fs::read(&file).unwrap(), before);
    export_to(&source, &source.db().join("x"), &[]).check_code(2).check_says(&["inside the data directory"]);
    export_to(&source, &source.root().join("nowhere/x"), &[]).check_code(1);
    source.run(&["export", "--resume", "--to", "-"]).check_code(2).check_says(&["--resume needs a file"]);
    import(&Setup::new(), &source.root().join("nothing")).check_code(5).check_says(&["check --from"]);
    let nothing = Setup::new();
    export_to(&nothing, &nothing.root().join("x"), &[]).check_code(5);
    assert!(!nothing.root().join("x").exists() && !nothing.db().exists());
}

/// The wrapped keys come first: without the right KMS nothing else goes in, and with it the import goes on.
#[test]
fn keys_that_do_not_open_stop_an_import_before_the_rows() {
    let source = filled_and_sealed();
    let file = export(&source, "x");
    let wrong = with_master_key(Setup::new(), &"11".repeat(32));
    import(&wrong, &file).check_code(78).check_says(&["master key", "is configured", "cli.import_failed"]);
    assert_eq!(threads(wrong.db()), 0);
    let right = with_master_key(Setup::with_db(wrong.db()), testing::filled::MASTER_KEY);
    right.refused_start().check_code(7).check_says(&["startup.import_unfinished"]);
    assert_eq!(said(&import(&right, &file))["digest"]["root"], root(&source));
    // An export asks first as well.
    let wrong = with_master_key(Setup::with_db(source.db()), &"11".repeat(32));
    export_to(&wrong, &source.root().join("y"), &[]).check_code(78);
    assert!(!source.root().join("y").exists());
}

#[test]
fn what_is_no_export_is_left_as_it_is() {
    let source = filled();
    let notes = source.root().join("notes");
    for text in ["my notes\n", "{\"progressdb\":1}\n", "{\"progressdb_export\":1}\n", &"x".repeat(10_000)] {
        fs::write(&notes, text).unwrap();
        export_to(&source, &notes, &["--resume"]).check_code(7);
        import(&Setup::new(), &notes).check_code(7);
        assert_eq!(fs::read_to_string(&notes).unwrap(), text);
    }
}

#[test]
fn an_export_of_another_moment_or_another_database_is_not_gone_on_with() {
    let source = filled();
    let file = export(&source, "x");
    let whole = fs::read(&file).unwrap();
    let torn = &whole[..whole.len() / 2];
    let other = sealed();
    write_more(&other);
    fs::write(&file, torn).unwrap();
    export_to(&other, &file, &["--resume"])
        .check_code(6)
        .check_says(&["is not an export of the database as it is now"]);
    write_more(&source);
    for content in [torn, &whole] {
        fs::write(&file, content).unwrap();
        let refused = export_to(&source, &file, &["--resume"]);
        refused.check_code(6).check_says(&["the database was served since it was begun"]);
        assert_eq!(fs::read(&file).unwrap(), content);
    }
}

#[test]
fn both_commands_find_the_store_by_flag_and_environment() {
    let source = filled();
    let (file, there) = (source.root().join("x"), source.root().join("there"));
    let words = |words: &[&str]| program(words, source.root());
    let exported = testing::finish(words(&["export", "--to", "x", "--db", source.db().to_str().unwrap()]));
    exported.check_code(0).check_says(&[&format!("export=x outcome=ok rows={}", rows(&file).len() - 1)]);
    let mut command = words(&["import", "--from", "x"]);
    command.env("PROGRESSDB_DB_PATH", &there);
    let imported = testing::finish(command);
    imported.check_code(0).check_says(&[&format!("to={}", there.display()), "cli.import_complete"]);
    assert_eq!(root(&Setup::with_db(&there)), root(&source));
}
