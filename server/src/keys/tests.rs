//! Every key comes back from its bytes and its text, and byte order is the order of the numbers.

use proptest::prelude::*;

use super::*;

fn message() -> impl Strategy<Value = MessageId> {
    (any::<u64>(), any::<u64>()).prop_map(|(ts, seq)| MessageId { ts, seq })
}

fn hash16() -> impl Strategy<Value = Hash16> {
    any::<[u8; 16]>().prop_map(Hash16)
}

fn thread_row() -> impl Strategy<Value = ThreadRow> {
    prop_oneof![
        Just(ThreadRow::Head),
        hash16().prop_map(ThreadRow::Participant),
        hash16().prop_map(ThreadRow::Idempotency),
        Just(ThreadRow::Object),
        any::<u32>().prop_map(ThreadRow::DataKey),
        message().prop_map(ThreadRow::Message),
        (message(), any::<u64>()).prop_map(|(id, revision)| ThreadRow::Version(id, revision)),
        message().prop_map(ThreadRow::Deleted),
        hash16().prop_map(ThreadRow::ReadMarker),
        (message(), hash16(), hash16()).prop_map(|(id, user, reaction)| ThreadRow::Reaction(id, user, reaction)),
        (message(), message()).prop_map(|(parent, child)| ThreadRow::Reply(parent, child)),
        any::<u64>().prop_map(ThreadRow::Change),
    ]
}

fn user_row() -> impl Strategy<Value = UserRow> {
    prop_oneof![
        Just(UserRow::LiveThreads),
        any::<u64>().prop_map(|t| UserRow::Created(ThreadId(t))),
        (any::<u64>(), any::<u64>()).prop_map(|(updated, t)| UserRow::Active { updated, thread: ThreadId(t) }),
        hash16().prop_map(UserRow::Idempotency),
        any::<u64>().prop_map(|t| UserRow::Wrote(ThreadId(t))),
        any::<u32>().prop_map(UserRow::DataKey),
        Just(UserRow::Profile),
        Just(UserRow::Seals),
        hash16().prop_map(UserRow::Receipt),
    ]
}

fn key() -> impl Strategy<Value = Key> {
    let store = [
        StoreRow::Format,
        StoreRow::HighestTime,
        StoreRow::Secret,
        StoreRow::Sealing,
        StoreRow::Erasures,
        StoreRow::Import,
    ]
    .into_iter()
    .chain(Counter::ALL.map(StoreRow::Counter))
    .collect::<Vec<_>>();
    prop_oneof![
        (any::<u64>(), thread_row()).prop_map(|(t, row)| Key::Thread(ThreadId(t), row)),
        (hash16(), user_row()).prop_map(|(user, row)| Key::User(user, row)),
        (any::<u64>(), any::<u64>(), prop::sample::select(ExpiryKind::ALL.to_vec()))
            .prop_map(|(due, t, kind)| Key::Expiry { due, thread: ThreadId(t), kind }),
        any::<u32>().prop_map(Key::Epoch),
        prop::sample::select(store).prop_map(Key::Store),
        any::<u32>().prop_map(|number| Key::Store(StoreRow::Migration(number))),
    ]
}

proptest! {
    #[test]
    fn every_key_comes_back_from_its_bytes_and_its_text(key in key()) {
        prop_assert_eq!(Key::decode(&key.encode()), Some(key));
        prop_assert_eq!(key.to_string().parse(), Ok(key));
        prop_assert_eq!(Partition::decode(&key.encode()), Some(key.partition()));
        prop_assert!(key.encode().starts_with(&key.partition().encode()));
    }

    #[test]
    fn byte_order_is_the_order_of_the_catalogue(
        thread in any::<u64>(),
        user in hash16(),
        rows in (thread_row(), thread_row()),
        user_rows in (user_row(), user_row()),
        day in any::<u32>(),
        in_day in any::<[u64; 4]>(),
        kinds in (prop::sample::select(ExpiryKind::ALL.to_vec()), prop::sample::select(ExpiryKind::ALL.to_vec())),
    ) {
        let row = |row| Key::Thread(ThreadId(thread), row);
        prop_assert_eq!(row(rows.0).encode().cmp(&row(rows.1).encode()), rows.0.cmp(&rows.1));
        let row = |row| Key::User(user, row);
        prop_assert_eq!(row(user_rows.0).encode().cmp(&row(user_rows.1).encode()), user_rows.0.cmp(&user_rows.1));
        let entry = |due: u64, thread, kind| {
            let due = u64::from(day % 200_000) * NANOS_A_DAY + due % NANOS_A_DAY;
            Key::Expiry { due, thread: ThreadId(thread), kind }
        };
        let (a, b) = (entry(in_day[0], in_day[1], kinds.0), entry(in_day[2], in_day[3], kinds.1));
        prop_assert_eq!(a.encode().cmp(&b.encode()), a.cmp(&b));
    }

    #[test]
    fn foreign_bytes_are_no_key_or_are_that_key(bytes in prop::collection::vec(any::<u8>(), 0..48)) {
        if let Some(key) = Key::decode(&bytes) {
            prop_assert_eq!(key.encode(), bytes);
        }
    }

    #[test]
    fn a_range_holds_its_kind_and_nothing_else(key in key(), thread in any::<u64>()) {
        let thread = ThreadId(thread);
        let is_message = matches!(key, Key::Thread(t, ThreadRow::Message(_)) if t == thread);
        prop_assert_eq!(KeyRange::messages(thread).contains(&key.encode()), is_message);
        prop_assert!(KeyRange::only(&key).contains(&key.encode()));
    }
}

#[test]
fn the_parts_of_a_range_around_a_position_leave_out_the_position() {
    let thread = ThreadId(7);
    let row = |ts| Key::Thread(thread, ThreadRow::Message(MessageId { ts, seq: ts }));
    let all = KeyRange::messages(thread);
    let at = KeyRange::only(&row(5));
    let split = |ts| (all.below(&at).contains(&row(ts).encode()), all.above(&at).contains(&row(ts).encode()));
    assert_eq!([split(4), split(5), split(6)], [(true, false), (false, false), (false, true)]);
}

#[test]
fn a_padded_number_names_nothing() {
    assert_eq!("t:007".parse::<Key>(), Err(NotAKey));
    assert_eq!("t:7:m:8:9".parse::<Key>(), Err(NotAKey));
    assert!("t:7:m:8:000000009".parse::<Key>().is_ok());
}
