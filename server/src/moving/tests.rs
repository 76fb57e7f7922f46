//! What is written is read again, and nothing that was altered is.

use std::io::BufReader;
use std::path::Path;

use proptest::prelude::*;

use super::line::{Line, Wrong};
use super::*;
use crate::db::Held;
use crate::keys::{Counter, Hash16, Key, StoreRow, ThreadRow, UserRow};
use crate::model::{MessageId, ThreadId};

fn header() -> Header {
    Header {
        layout: LAYOUT,
        id: [1; 16],
        created: "2026-11-30T12:00:00Z".to_owned(),
        version: "0.3.0".to_owned(),
        database_id: [2; 16],
        database_created_ns: u64::MAX,
        incarnation: "00000000000000ab".to_owned(),
        store_format: 1,
        sequence: 7,
    }
}

fn items() -> Vec<Item> {
    let message = |seq| Key::Thread(ThreadId(3), ThreadRow::Message(MessageId { ts: 4, seq }));
    let value = |key, value: &[u8]| Item { key, held: Held::Value(value.to_vec()) };
    let count = |key, count| Item { key, held: Held::Count(count) };
    vec![
        value(Key::Epoch(1), b"wrapped"),
        count(Key::Store(StoreRow::Counter(Counter::Messages)), 9),
        value(Key::Thread(ThreadId(3), ThreadRow::Head), b"head"),
        value(message(0), b""),
        value(message(1), &[0xff; 100]),
        count(Key::User(Hash16([5; 16]), UserRow::LiveThreads), -1),
    ]
}

/// The lines of an export of these rows.
fn export(items: &[Item]) -> Vec<u8> {
    let mut writer = Writer::begin(Vec::new(), &header()).unwrap();
    items.iter().for_each(|item| writer.item(item.clone()).unwrap());
    let bytes = writer.finish(None).unwrap();
    assert_eq!(bytes.0.len() as u64, bytes.2);
    bytes.0
}

/// The rows of an export that is whole.
fn read(bytes: &[u8]) -> Result<Vec<Item>, Refused> {
    let mut reader = Reader::open(BufReader::new(bytes), Path::new("x"))?;
    let mut items = Vec::new();
    while let Some(item) = reader.next_item()? {
        items.push(item);
    }
    assert_eq!(reader.bytes(), bytes.len() as u64);
    Ok(items)
}

/// In which line it is damaged.
fn damaged(bytes: &[u8]) -> Option<u64> {
    match read(bytes) {
        Err(Refused::Damaged { line, .. }) => Some(line),
        _ => None,
    }
}

fn lines(bytes: &[u8]) -> Vec<Vec<u8>> {
    bytes.split_inclusive(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect()
}

#[test]
fn an_export_is_lines_of_json_and_comes_back() {
    let bytes = export(&items());
    let text = String::from_utf8(bytes.clone()).unwrap();
    assert!(text.lines().all(|line| serde_json::from_str::<serde_json::Value>(line).is_ok()));
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines[0].starts_with("{\"progressdb_export\":1,\"id\":\"0101"), "{}", lines[0]);
    assert!(lines[1].starts_with("{\"key\":\"k:1\",\"value\":\"d3JhcHBlZA==\",\"sum\":\""), "{}", lines[1]);
    assert!(lines[2].starts_with("{\"key\":\"s:messages\",\"count\":9,\"sum\":\""), "{}", lines[2]);
    assert!(lines[7].starts_with("{\"rows\":6,\"bytes\":"), "{}", lines[7]);
    assert_eq!(read(&bytes).unwrap(), items());
    assert_eq!(read(&export(&[])).unwrap(), []);
}

/// Others may read exports: the checksum is computed here as the documentation says, by other means.
#[test]
fn the_checksum_is_what_the_documentation_says() {
    let bytes = export(&items());
    for (number, line) in String::from_utf8(bytes).unwrap().lines().enumerate() {
        let (text, sum) = line.rsplit_once(",\"sum\":\"").unwrap();
        let hashed = format!("{}:{text}", number + 1);
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, hashed.as_bytes());
        assert_eq!(sum.strip_suffix("\"}"), Some(&hex::encode(&digest.as_ref()[..8])[..]));
    }
}

#[test]
fn every_change_of_one_byte_is_refused() {
    let bytes = export(&items());
    for at in 0..bytes.len() {
        for flip in [0x01, 0x20, 0x80] {
            let mut altered = bytes.clone();
            altered[at] ^= flip;
            match read(&altered) {
                Err(Refused::Damaged { line, .. }) => {
                    let number = bytes[..at].iter().filter(|byte| **byte == b'\n').count() as u64 + 1;
                    assert_eq!(line, number, "byte {at}");
                }
                Err(Refused::NotOurs { .. } | Refused::TooNew { .. }) if at < 30 => {}
                other => panic!("byte {at}: {other:?}"),
            }
        }
    }
}

#[test]
fn an_export_that_is_cut_off_anywhere_is_refused() {
    let bytes = export(&items());
    for end in 0..bytes.len() {
        let whole = bytes[..end].iter().filter(|byte| **byte == b'\n').count() as u64;
        match read(&bytes[..end]) {
            Err(Refused::Damaged { line, .. }) => assert_eq!(line, whole + 1, "{end} bytes"),
            Err(Refused::NotOurs { .. }) if end < 30 => {}
            other => panic!("{end} bytes: {other:?}"),
        }
    }
}

#[test]
fn lines_that_are_lost_doubled_or_moved_are_named() {
    let all = lines(&export(&items()));
    for lost in 1..all.len() {
        let mut left = all.clone();
        left.remove(lost);
        assert_eq!(damaged(&left.concat()), Some(lost as u64 + 1), "without line {}", lost + 1);
        let mut doubled = all.clone();
        doubled.insert(lost, all[lost].clone());
        assert_eq!(damaged(&doubled.concat()), Some(lost as u64 + 2), "line {} twice", lost + 1);
        let mut moved = all.clone();
        moved.swap(lost, lost - 1);
        assert_eq!(damaged(&moved.concat()).unwrap_or(1), lost as u64, "line {} moved", lost + 1);
    }
}

/// Somebody who removes a row and numbers the lines anew has to count them anew as well.
#[test]
fn the_last_line_covers_every_row() {
    let whole = lines(&export(&items()));
    let fewer = lines(&export(&items()[..5]));
    let last = Line::decode(8, whole[7].strip_suffix(b"\n").unwrap()).unwrap();
    let forged = [fewer[..6].concat(), last.encode(7)].concat();
    assert_eq!(damaged(&forged), Some(7));
    let behind = [whole.concat(), whole[1].clone()].concat();
    assert_eq!(damaged(&behind), Some(9), "nothing follows the last line");
}

#[test]
fn what_is_no_export_and_what_is_a_newer_one_is_said_so() {
    for other in [&b""[..], b"\n", b"{}\n", b"{\"key\":\"k:1\"}\n", b"SQLite format 3\0"] {
        assert!(matches!(read(other), Err(Refused::NotOurs { .. })), "{other:?}");
    }
    let newer = b"{\"progressdb_export\":2,\"version\":\"0.9.0\",\"shape\":\"new\"}\n";
    let refused = read(newer).unwrap_err();
    assert_eq!(refused.to_string(), "x has export layout 2, this version reads 1: use version 0.9.0 or a newer one");
    assert_eq!(refused.exit_code(), 78);
}

#[test]
fn counters_are_counts_and_nothing_else_is() {
    let line = |json: &str| {
        let mut line = json.strip_suffix('}').unwrap().as_bytes().to_vec();
        let sum = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &[b"5:", line.as_slice()].concat());
        line.extend_from_slice(format!(",\"sum\":\"{}\"}}", hex::encode(&sum.as_ref()[..8])).as_bytes());
        Line::decode(5, &line)
    };
    assert!(line("{\"key\":\"s:messages\",\"count\":3}").is_ok());
    for odd in [
        "{\"key\":\"s:messages\",\"value\":\"AA==\"}",
        "{\"key\":\"k:1\",\"count\":3}",
        "{\"key\":\"k:1\",\"value\":\"AA==\",\"count\":3}",
        "{\"key\":\"k:1\"}",
        "{\"key\":\"k:01\",\"value\":\"AA==\"}",
        "{\"key\":\"k:1\",\"value\":\"A\"}",
        "{\"key\":\"k:1\",\"value\":\"AA==\",\"more\":1}",
        "{}",
    ] {
        assert_eq!(line(odd), Err(Wrong::Content), "{odd}");
    }
}

fn any_item() -> impl Strategy<Value = Item> {
    let keys = prop_oneof![
        any::<u32>().prop_map(Key::Epoch),
        (any::<u64>(), any::<u64>(), any::<u64>())
            .prop_map(|(thread, ts, seq)| Key::Thread(ThreadId(thread), ThreadRow::Message(MessageId { ts, seq }))),
        any::<[u8; 16]>().prop_map(|user| Key::User(Hash16(user), UserRow::Profile)),
    ];
    let values = (keys, prop::collection::vec(any::<u8>(), 0..300))
        .prop_map(|(key, value)| Item { key, held: Held::Value(value) });
    let counts = (any::<[u8; 16]>(), any::<i64>())
        .prop_map(|(user, count)| Item { key: Key::User(Hash16(user), UserRow::Seals), held: Held::Count(count) });
    prop_oneof![values, counts]
}

proptest! {
    #[test]
    fn every_row_comes_back(item in any_item(), number in any::<u64>()) {
        let line = Line::Item(item);
        let bytes = line.encode(number);
        let (last, bytes) = bytes.split_last().unwrap();
        prop_assert_eq!(*last, b'\n');
        prop_assert!(!bytes.contains(&b'\n'));
        prop_assert_eq!(Line::decode(number, bytes), Ok(line));
        prop_assert_eq!(Line::decode(number ^ 1, bytes), Err(Wrong::Sum));
    }

    #[test]
    fn foreign_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(Line::decode(1, &bytes).is_err());
        prop_assert!(read(&bytes).is_err());
    }

    #[test]
    fn an_export_of_any_rows_comes_back(items in prop::collection::vec(any_item(), 0..20)) {
        prop_assert_eq!(read(&export(&items)).unwrap(), items);
    }
}
