//! Every value comes back from its bytes, and bytes that are damaged are an error, never a panic.

use proptest::prelude::*;
use serde_json::value::RawValue;

use super::*;
use crate::crypt::seal;
use crate::model::{Incarnation, ProviderKind, WrappedKey};

fn json(text: &str) -> Box<RawValue> {
    RawValue::from_string(text.to_owned()).expect("valid JSON")
}

fn user() -> impl Strategy<Value = UserId> {
    "[a-zA-Zäß:/ ]{1,30}".prop_map(|text| UserId::parse(&text).expect("a valid id"))
}

fn content() -> impl Strategy<Value = MessageContent> {
    let body = prop::sample::select(vec!["{}", "1e400", "[1,  2]", "\"\\ud83d\\ude00\"", "{\"b\":1,\"a\":2}"]);
    (body, prop::option::of(".{0,20}"), prop::option::of((any::<u64>(), any::<u64>())), any::<bool>()).prop_map(
        |(body, role, reply_to, metadata)| MessageContent {
            body: json(body),
            role,
            reply_to: reply_to.map(|(ts, seq)| MessageId { ts, seq }),
            metadata: metadata.then(|| json("{\"k\": [true]}")),
        },
    )
}

fn message() -> impl Strategy<Value = MessageRow> {
    (any::<u64>(), any::<u64>(), user(), content()).prop_map(|(revision, updated, author, content)| MessageRow {
        revision,
        updated,
        author,
        content,
    })
}

/// Comparing the debug form compares every field, also of types whose JSON has no equality.
fn check<R: Row + std::fmt::Debug>(row: &R) {
    for format in [1, 2] {
        check_in_format(row, format);
    }
}

fn check_in_format<R: Row + std::fmt::Debug>(row: &R, format: u32) {
    let bytes = row.encode(format);
    let back = R::decode(&bytes).expect("what was written is read");
    assert_eq!(format!("{back:?}"), format!("{row:?}"));
    assert!(R::decode(&bytes[..bytes.len() - 1]).is_err(), "a truncated value is refused");
    let longer = [bytes.as_slice(), &[0]].concat();
    assert!(R::decode(&longer).is_err(), "a value with a tail is refused");
    for no_version in [0, 0x80, seal::ENVELOPE] {
        let other = [&[no_version], &bytes[1..]].concat();
        assert!(R::decode(&other).is_err(), "a value that does not begin with a version is refused");
    }
}

proptest! {
    #[test]
    fn heads_come_back(numbers in any::<[u64; 7]>(), owner in any::<[u8; 16]>()) {
        let [revision, commit_id, updated, last_message, next_seq, live, deleted] = numbers;
        let (owner, generation, oldest, seals) = (Hash16(owner), u32::from(owner[0]), u32::from(owner[1]), live);
        check(&Head { revision, commit_id, owner, updated, last_message, next_seq, live, deleted, generation, oldest, seals });
    }

    #[test]
    fn messages_and_deleted_messages_come_back(message in message(), deleted in any::<u64>()) {
        check(&message);
        check(&DeletedMessage { deleted, message });
    }

    #[test]
    fn thread_objects_come_back(revision in any::<u64>(), author in user(), title in ".{1,40}", slug in prop::option::of(".{0,9}")) {
        let metadata = slug.as_ref().map(|_| json("{\"a\" : 1}"));
        check(&ThreadObject { revision, author, content: ThreadContent { title, slug, metadata } });
    }

    #[test]
    fn idempotency_records_come_back(numbers in any::<[u64; 5]>(), request in any::<[u8; 32]>(), is_message in any::<bool>()) {
        let [expires, thread, ts, seq, revision] = numbers;
        let message = is_message.then_some(MessageId { ts, seq: seq / 2 });
        check(&Idempotency { request, expires, thread: ThreadId(thread), message, revision });
    }

    #[test]
    fn receipts_come_back(numbers in any::<[u64; 4]>(), request in any::<[u8; 32]>(), names in prop::collection::vec("[0-9a-f]{16}", 0..5)) {
        let [expires, thread, erased, horizon] = numbers;
        let (key_ids, checkpoints) = (names.clone(), names.into_iter().take(1).collect::<Vec<_>>());
        let row = ReceiptRow { request, expires, thread: ThreadId(thread), erased, horizon, key_ids, checkpoints };
        prop_assert_eq!(ReceiptRow::decode(&row.encode(1)), Ok(row.clone()));
        let bytes = row.encode(1);
        prop_assert_eq!(ReceiptRow::decode(&[&bytes[..], &[0]].concat()), Err(Damaged));
        if !row.key_ids.is_empty() {
            prop_assert_eq!(ReceiptRow::decode(&bytes[..bytes.len() - 1]), Err(Damaged));
        }
    }

    #[test]
    fn the_small_ones_come_back(number in any::<u64>(), signed in any::<i64>(), format in any::<u32>(), user in user()) {
        check(&Number(number));
        check(&CounterValue(signed));
        check(&Present);
        check(&Names(vec![Hash16([3; 16]), Hash16([4; 16])]));
        check(&MessageName(MessageId { ts: number, seq: 7 }));
        check(&Format { format, incarnation: Incarnation(number), created: number, database_id: [7; 16] });
        check(&Profile { since: number, user: user.clone() });
        check(&Participant { role: Role::Owner, since: number, user });
        let secret = Secret { bytes: [9; 32], strict: number % 2 == 0 };
        prop_assert!(Secret::decode(&secret.encode(1)) == Ok(secret));
    }

    #[test]
    fn wrapped_keys_and_progress_come_back(
        bytes in any::<[u8; 32]>(), blob in prop::collection::vec(any::<u8>(), 0..80), numbers in any::<[u64; 4]>(), position: bool,
    ) {
        let commitment = Commitment(bytes);
        check(&WrappedKey { commitment, sealed: [&bytes[..], &bytes, &[7]].concat() });
        let wrap = |provider| Wrapped { provider, key_id: "arn:aws:kms:x/ä".into(), blob: blob.clone() };
        let wraps = vec![wrap(ProviderKind::Local), wrap(ProviderKind::Aws)];
        let row = EpochKey { created: numbers[0], commitment, wraps };
        prop_assert_eq!(EpochKey::decode(&row.encode(1)), Ok(row.clone()));
        let short = &row.encode(1)[..row.encode(1).len() - 1];
        prop_assert_eq!(EpochKey::decode(short), Err(Damaged));
        let [started, finished, threads, values] = numbers;
        check(&Erasures { oldest: started, latest: finished, plain: threads % 2 == 0 });
        let position = position.then(|| blob.clone());
        let version = "0.4.0".to_owned();
        let rows = values;
        check(&MigrationProgress {
            finalizes: threads % 2 == 0, to: 2, version, position: position.clone(), started, finished, rows, changed: threads,
        });
        check(&ImportProgress { database_id: [3; 16], export: [4; 16], position: position.clone() });
        check(&JobProgress { epoch: 3, position, started, finished, threads, users: 1, values, keys: 2, failed: 3 });
    }

    #[test]
    fn foreign_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let bytes = [&[1], bytes.as_slice()].concat();
        let _ = (Head::decode(&bytes), ThreadObject::decode(&bytes), MessageRow::decode(&bytes));
        let _ = (DeletedMessage::decode(&bytes), Idempotency::decode(&bytes), Participant::decode(&bytes));
        let _ = ReceiptRow::decode(&bytes);
        let _ = (Profile::decode(&bytes), Format::decode(&bytes), CounterValue::decode(&bytes));
        let _ = (WrappedKey::decode(&bytes), EpochKey::decode(&bytes), JobProgress::decode(&bytes), Secret::decode(&bytes));
        let _ = (MigrationProgress::decode(&bytes), ImportProgress::decode(&bytes));
    }
}

/// The bytes of format 1, as released: a change here is a change of format.
#[test]
fn format_1_is_what_it_was() {
    let message = MessageRow {
        revision: 1,
        updated: 2,
        author: UserId::parse("ann").expect("valid"),
        content: MessageContent {
            body: json("{\"a\":1}"),
            role: Some("user".into()),
            reply_to: Some(MessageId { ts: 3, seq: 4 }),
            metadata: None,
        },
    };
    let head = Head {
        revision: 1,
        commit_id: 2,
        owner: Hash16([3; 16]),
        updated: 4,
        last_message: 5,
        next_seq: 6,
        live: 7,
        deleted: 8,
        generation: 9,
        oldest: 10,
        seals: 11,
    };
    let lines = [
        "010000000000000001000000000000000200000003616e6e000000077b2261223a317d0100000004757365720100000000000000030000000000000004",
        "00",
    ];
    assert_eq!(hex::encode(message.encode(1)), lines.concat());
    let numbers = |range: std::ops::RangeInclusive<u64>| range.map(|n| format!("{n:016x}")).collect::<String>();
    let sealing = "000000090000000a000000000000000b";
    let expected = format!("01{}{}{}{sealing}", numbers(1..=2), "03".repeat(16), numbers(4..=8));
    assert_eq!(hex::encode(head.encode(1)), expected);
}
