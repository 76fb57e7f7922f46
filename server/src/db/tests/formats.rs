//! A store stays in the format in which it is, whichever binary serves it.

use super::*;

plain_and_sealed!(
    a_newer_version_writes_the_format_of_the_store_and_an_older_one_goes_on,
    a_store_that_a_newer_version_made_is_refused_by_an_older_one,
);

/// A version that knows one format more.
const NEXT: Formats = Formats { reads: [1, 2], writes: 2, ..Formats::CURRENT };

/// The version bytes of the rows that are never sealed and differ between formats.
fn versions(memory: &Memory) -> Vec<u8> {
    let is_head = |key: &[u8]| matches!(Key::decode(key), Some(Key::Thread(_, ThreadRow::Head)));
    let heads = memory.rows().into_iter().filter(|(key, _)| is_head(key));
    heads.map(|(_, value)| value[0]).collect()
}

async fn a_newer_version_writes_the_format_of_the_store_and_an_older_one_goes_on(encryption: Encryption) {
    let world = World::new(encryption).await;
    let old = world.thread("old").await;
    let (memory, time) = (world.memory.restarted(), world.time.clone());
    let next =
        World::of_version(&NEXT, memory.clone(), time.clone(), encryption.crypt()).await.expect("it reads format 1");
    let health = next.db.health();
    assert_eq!((health.format, health.reads, health.writes), (1, [1, 2], 2));
    next.message(old, "1").await;
    let new = next.thread("new").await;
    assert_eq!(versions(&memory), [1, 1]);
    let back = World::on(memory.restarted(), time, encryption).await;
    for thread in [old, new] {
        back.message(thread, "2").await;
    }
}

async fn a_store_that_a_newer_version_made_is_refused_by_an_older_one(encryption: Encryption) {
    let time = Arc::new(Manual::at(START));
    let next =
        World::of_version(&NEXT, Memory::default(), time.clone(), encryption.crypt()).await.expect("it creates one");
    let made = next.thread("t").await;
    next.message(made, "1").await;
    assert_eq!((next.db.health().format, versions(&next.memory)), (2, vec![2]));
    let refused = World::with(next.memory.restarted(), time, encryption.crypt()).await.err();
    let expected = Unreadable { found: 2, reads: [1, 1] };
    assert!(matches!(refused, Some(OpenError::Format(unreadable)) if unreadable == expected), "{refused:?}");
}
