//! Master keys in files.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use testing::servers::{Settings, secret_file};
use testing::temporary_directory;

use crate::client::{Client, check_error, epoch};

const FIRST: [u8; 32] = [0x11; 32];
const SECOND: [u8; 32] = [0x22; 32];

fn with_file(path: &str) -> Settings {
    Settings::of("local").set("master_key_file", path)
}

#[track_caller]
fn check_key_file(settings: &Settings, words: &[&str]) {
    check_error(Client::open(settings).map(drop), "settings", words);
}

#[test]
fn a_key_is_the_same_as_bytes_as_digits_and_inline() {
    let directory = temporary_directory();
    let digits = hex::encode(FIRST);
    let forms = [
        with_file(&secret_file(directory.path(), "bytes", FIRST)),
        with_file(&secret_file(directory.path(), "digits", &digits)),
        with_file(&secret_file(directory.path(), "line", format!("{}\n", digits.to_uppercase()))),
        Settings::of("local").set("master_key_hex", &digits),
    ];
    let wrapped = Client::new(&forms[0]).wrapped();
    for form in &forms {
        let client = Client::new(form);
        client.check_opens(&wrapped);
        assert_eq!(client.describe().as_ref(), Ok(&wrapped.1.key_id));
    }
}

#[test]
fn any_escrow_key_opens_alone_what_was_wrapped_for_all() {
    let directory = temporary_directory();
    let first = secret_file(directory.path(), "first", FIRST);
    let second = secret_file(directory.path(), "second", SECOND);
    let both = Client::new(&with_file(&first).set("escrow_key_files", &second));
    let wrapped = both.wrapped();
    both.check_opens(&wrapped);
    for alone in [&first, &second] {
        Client::new(&with_file(alone)).check_opens(&wrapped);
    }
    // Who opens it alone would wrap it for himself only, and says so.
    let parts = [&first, &second].map(|path| Client::new(&with_file(path)).describe().unwrap());
    assert_eq!(wrapped.1.key_id, parts.join("+"));
}

#[test]
fn a_wrong_master_key_is_named_by_its_fingerprint_and_so_is_the_right_one() {
    let directory = temporary_directory();
    let wrapped = Client::new(&with_file(&secret_file(directory.path(), "first", FIRST))).wrapped();
    let other = Client::new(&with_file(&secret_file(directory.path(), "second", SECOND)));
    let have = other.describe().unwrap();
    other.check_refuses(&wrapped, "wrong_key", &[&wrapped.1.key_id, &have]);
    assert_eq!(wrapped.1.key_id.len(), 16, "eight bytes: {}", wrapped.1.key_id);
    check_error(other.probe(Some((&wrapped.1, epoch(1)))), "wrong_key", &[&wrapped.1.key_id, &have]);
}

#[test]
fn a_key_file_that_is_missing_or_is_no_key_is_named() {
    let directory = temporary_directory();
    let missing = directory.path().join("missing").to_str().unwrap().to_owned();
    check_key_file(&with_file(&missing), &[&missing]);
    let digits = hex::encode(FIRST);
    let contents: [(&str, Vec<u8>); 6] = [
        ("empty", Vec::new()),
        ("short", FIRST[..31].to_vec()),
        ("long", [FIRST.as_slice(), &[1]].concat()),
        ("digit-short", digits.as_bytes()[..63].to_vec()),
        ("digit-long", format!("{digits}0").into_bytes()),
        ("no-digits", format!("{}zz", &digits[..62]).into_bytes()),
    ];
    for (name, content) in contents {
        let path = secret_file(directory.path(), name, content);
        check_key_file(&with_file(&path), &[&path, "32 raw bytes"]);
        let good = secret_file(directory.path(), "good", FIRST);
        check_key_file(&with_file(&good).set("escrow_key_files", &path), &[&path]);
    }
    let path = directory.path().to_str().unwrap();
    check_key_file(&with_file(path), &[path]);
}

#[test]
fn a_key_file_that_others_may_read_is_refused() {
    let directory = temporary_directory();
    let path = secret_file(directory.path(), "key", FIRST);
    let mode = |mode: u32| fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    for open in [0o644, 0o604, 0o602, 0o606, 0o666, 0o620, 0o660, 0o777] {
        mode(open);
        check_key_file(&with_file(&path), &[&path, "chmod 600"]);
    }
    for closed in [0o600, 0o400] {
        mode(closed);
        Client::new(&with_file(&path)).wrapped();
    }
}

#[test]
fn a_key_file_as_kubernetes_mounts_it_is_accepted() {
    let directory = temporary_directory();
    let path = secret_file(directory.path(), "key", FIRST);
    for mounted in [0o440, 0o640] {
        fs::set_permissions(&path, fs::Permissions::from_mode(mounted)).unwrap();
        Client::new(&with_file(&path)).wrapped();
    }
}

#[test]
fn a_probe_notices_what_became_of_the_file() {
    let directory = temporary_directory();
    let path = secret_file(directory.path(), "key", FIRST);
    let client = Client::new(&with_file(&path));
    let kept = client.wrapped();
    let probe = || client.probe(Some((&kept.1, epoch(1))));
    assert_eq!(probe(), Ok(()));

    secret_file(directory.path(), "key", SECOND);
    check_error(probe(), "wrong_key", &[&kept.1.key_id]);
    assert!(client.health().failure.is_some());
    secret_file(directory.path(), "key", hex::encode(FIRST));
    assert_eq!(probe(), Ok(()), "the same key in another form");

    fs::remove_file(&path).unwrap();
    check_error(probe(), "settings", &[&path]);
    secret_file(directory.path(), "key", FIRST);
    assert_eq!(probe(), Ok(()));
    assert_eq!(client.health().failure, None);
}
