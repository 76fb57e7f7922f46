//! An export that was interrupted anywhere becomes the same file by `--resume`.

use std::fs;

use crate::world::{export, export_to, filled, import, lines, root, rows, said};

use testing::Setup;

#[test]
fn an_export_that_was_cut_off_anywhere_becomes_the_same_file() {
    let source = filled();
    let file = export(&source, "x");
    let whole = fs::read(&file).unwrap();
    let header = whole.iter().position(|byte| *byte == b'\n').unwrap() + 1;
    for end in (0..whole.len()).step_by(whole.len() / 60).chain([header - 1, header, whole.len() - 1]) {
        fs::write(&file, &whole[..end]).unwrap();
        let resumed = said(&export_to(&source, &file, &["--resume", "--json"]));
        assert_eq!(resumed["outcome"], "ok", "{end} bytes");
        assert_eq!(resumed["resumed"], end >= header, "{end} bytes");
        match end >= header {
            true => assert_eq!(fs::read(&file).unwrap(), whole, "{end} bytes"),
            // Nothing said which export it was.
            false => assert_eq!(rows(&file), lines_behind_the_first(&whole), "{end} bytes"),
        }
    }
}

fn lines_behind_the_first(whole: &[u8]) -> Vec<String> {
    String::from_utf8(whole.to_vec()).unwrap().lines().skip(1).map(str::to_owned).collect()
}

/// A power cut may leave zeros where bytes were, or old bytes.
#[test]
fn a_tail_that_is_wrong_is_cut() {
    let source = filled();
    let file = export(&source, "x");
    let whole = fs::read(&file).unwrap();
    for tail in [&[0; 5_000][..], b"{\"key\":\"k:1\",\"value\":\"AA==\",\"sum\":\"0000000000000000\"}\n", &whole[..400]]
    {
        let kept = whole.len() * 2 / 3;
        fs::write(&file, [&whole[..kept], tail].concat()).unwrap();
        assert_eq!(said(&export_to(&source, &file, &["--resume", "--json"]))["resumed"], true);
        assert_eq!(fs::read(&file).unwrap(), whole);
    }
    // Also in the middle, where only a disk that fails leaves it.
    let mut altered = whole.clone();
    altered[whole.len() / 3] ^= 1;
    fs::write(&file, &altered).unwrap();
    export_to(&source, &file, &["--resume"]).check_code(0);
    assert_eq!(fs::read(&file).unwrap(), whole);
}

#[test]
fn an_export_that_is_whole_is_left_as_it_is() {
    let source = filled();
    let file = export(&source, "x");
    let (whole, rows) = (fs::read(&file).unwrap(), lines(&file).len() - 2);
    let again = said(&export_to(&source, &file, &["--resume", "--json"]));
    assert_eq!((&again["outcome"], again["rows"].as_u64()), (&"noop".into(), Some(rows as u64)));
    assert_eq!(again["bytes"].as_u64(), Some(whole.len() as u64));
    assert_eq!(fs::read(&file).unwrap(), whole);
}

#[test]
fn what_was_resumed_is_imported() {
    let source = filled();
    let file = export(&source, "x");
    let whole = fs::read(&file).unwrap();
    fs::write(&file, &whole[..whole.len() / 2]).unwrap();
    import(&Setup::new(), &file).check_code(7);
    export_to(&source, &file, &["--resume"]).check_code(0);
    let target = Setup::new();
    assert_eq!(said(&import(&target, &file))["digest"]["root"], root(&source));
}
