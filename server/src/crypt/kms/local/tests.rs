use std::{fs, os::unix::fs::PermissionsExt, path::PathBuf};

use proptest::prelude::*;
use secrecy::SecretString;
use tempfile::TempDir;

use super::*;

const CONTEXT: Context = Context { database_id: [7; 16], epoch: 3 };

fn with(keys: &[u8]) -> Local {
    let hex = |byte: &u8| settings::MasterKey::Hex(SecretString::from(hex::encode([*byte; 32])));
    Local::new(settings::Local { keys: keys.iter().map(hex).collect() }).expect("good keys")
}

fn key() -> KeyBytes {
    KeyBytes::new([42; 32])
}

fn code(result: Result<KeyBytes, Error>) -> &'static str {
    result.map_or_else(|error| error.code(), |_| "ok")
}

#[test]
fn the_fingerprint_of_a_key_is_fixed_for_ever() {
    assert_eq!(with(&[1]).key_id(), "f069045373b794ef");
    assert_eq!(with(&[1, 2]).key_id(), format!("{}+{}", with(&[1]).key_id(), with(&[2]).key_id()));
}

#[test]
fn a_blob_has_its_documented_form_and_differs_each_time() {
    let local = with(&[1, 2]);
    let blobs = [local.wrap(&key(), CONTEXT).unwrap(), local.wrap(&key(), CONTEXT).unwrap()];
    for blob in &blobs {
        assert_eq!((blob.len(), blob[0]), (1 + 2 * 68, 1));
        let fingerprints = join(recipients(blob).unwrap().iter().map(|recipient| recipient.fingerprint));
        assert_eq!(fingerprints, local.key_id());
    }
    assert_ne!(blobs[0], blobs[1]);
}

#[test]
fn every_recipient_opens_alone_and_nobody_else() {
    let blob = with(&[1, 2, 3]).wrap(&key(), CONTEXT).unwrap();
    for keys in [vec![1], vec![2], vec![3], vec![9, 3], vec![3, 2, 1]] {
        assert_eq!(with(&keys).unwrap(&blob, CONTEXT), Ok(key()), "{keys:?}");
    }
    let wanted = format!("master key {}", with(&[1, 2, 3]).key_id());
    let have = format!("master key {}", with(&[9]).key_id());
    assert_eq!(with(&[9]).unwrap(&blob, CONTEXT), Err(Error::WrongKey { wanted, have }));
}

#[test]
fn another_context_does_not_open() {
    let local = with(&[1]);
    let blob = local.wrap(&key(), CONTEXT).unwrap();
    for context in [Context { epoch: 4, ..CONTEXT }, Context { database_id: [8; 16], ..CONTEXT }] {
        assert_eq!(code(local.unwrap(&blob, context)), "invalid");
    }
}

#[test]
fn no_cut_and_no_flipped_bit_opens() {
    let local = with(&[1]);
    let blob = local.wrap(&key(), CONTEXT).unwrap();
    for length in 0..blob.len() {
        assert_eq!(code(local.unwrap(&blob[..length], CONTEXT)), "invalid", "{length}");
    }
    for bit in 0..blob.len() * 8 {
        let mut flipped = blob.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        // Where the fingerprint stands, it names another key.
        let wanted = if (8..72).contains(&bit) { "wrong_key" } else { "invalid" };
        assert_eq!(code(local.unwrap(&flipped, CONTEXT)), wanted, "{bit}");
    }
}

#[test]
fn a_key_file_that_vanishes_or_changes_is_noticed_and_wraps_nothing_more() {
    let directory = TempDir::new().unwrap();
    let path: PathBuf = directory.path().join("master");
    let write = |byte: u8| {
        fs::write(&path, [byte; 32]).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    };
    write(1);
    let local = Local::new(settings::Local { keys: vec![settings::MasterKey::File(path.clone())] }).unwrap();
    let blob = local.wrap(&key(), CONTEXT).unwrap();
    assert_eq!(local.check(), Ok(()));
    fs::remove_file(&path).unwrap();
    assert_eq!(local.check().expect_err("gone").code(), "settings");
    assert_eq!(local.wrap(&key(), CONTEXT).expect_err("gone").code(), "settings");
    write(2);
    let [wanted, have] = [1, 2].map(|byte| format!("master key {}", with(&[byte]).key_id()));
    let changed = Error::WrongKey { wanted, have };
    assert_eq!((local.check(), local.wrap(&key(), CONTEXT)), (Err(changed.clone()), Err(changed)));
    assert_eq!(local.unwrap(&blob, CONTEXT), Ok(key()), "the keys in memory stay in use");
    fs::write(&path, hex::encode([1; 32])).unwrap();
    assert_eq!(local.check(), Ok(()), "the same key in another form is no change");
}

#[test]
fn no_key_shows_in_debug_output() {
    let shown = format!("{:?}", with(&[0xab]));
    assert!(!shown.contains("171, 171") && !shown.contains("abababab"), "{shown}");
}

proptest! {
    #[test]
    fn every_key_comes_back(bytes: [u8; 32], database_id: [u8; 16], epoch: u32) {
        let (local, context) = (with(&[1, 2]), Context { database_id, epoch });
        let blob = local.wrap(&KeyBytes::new(bytes), context).unwrap();
        prop_assert_eq!(local.unwrap(&blob, context), Ok(KeyBytes::new(bytes)));
    }

    #[test]
    fn any_other_bytes_are_refused(
        version in prop_oneof![Just(VERSION), any::<u8>()],
        bytes in proptest::collection::vec(any::<u8>(), 0..300),
    ) {
        let blob = [vec![version], bytes].concat();
        prop_assert!(with(&[1]).unwrap(&blob, CONTEXT).is_err());
    }
}
