//! Keys that are followed by others: of the epoch, of a thread, of another KMS.

use super::*;

#[tokio::test]
async fn a_new_epoch_takes_over_every_key_and_the_old_one_goes() {
    let world = sealed_world().await;
    let thread = world.thread("t").await;
    world.message(thread, "1").await;
    world.db.run_sealing_job().await.expect("nothing to do");
    let old_copy = world.memory.restarted();
    let before = raw(&world.memory, Key::Thread(thread, ThreadRow::DataKey(1)));
    assert_eq!(world.db.begin_epoch().await.expect("begun"), 2);
    assert_eq!(epochs(&world.memory), [Partition::Epoch(1), Partition::Epoch(2)]);
    assert_eq!(world.db.count_unsealed().await.expect("counted").keys, 2, "one of the thread, one of the user");
    let done = world.db.run_sealing_job().await.expect("done");
    assert_eq!((done.epoch, done.keys, done.values, done.failed), (2, 2, 0, 0));
    assert_ne!(raw(&world.memory, Key::Thread(thread, ThreadRow::DataKey(1))), before);
    assert_eq!(epochs(&world.memory), [Partition::Epoch(2)]);
    let world = world.restarted().await;
    assert_eq!(world.bodies(thread).await, ["1"]);
    let old = World::open(old_copy, crypt()).await;
    assert_eq!(old.bodies(thread).await, ["1"], "a copy from before the rotation still opens");
}

#[tokio::test]
async fn a_rotation_that_dies_after_any_effect_is_finished_by_the_next_start() {
    for effects in 0.. {
        let world = sealed_world().await;
        let thread = world.thread("t").await;
        world.message(thread, "1").await;
        world.memory.die_after(effects);
        let died = match world.db.begin_epoch().await {
            Ok(_) => world.db.run_sealing_job().await.is_err(),
            Err(_) => true,
        };
        let world = world.restarted().await;
        assert_eq!(world.bodies(thread).await, ["1"]);
        let done = world.db.run_sealing_job().await.expect("finished");
        assert_eq!(epochs(&world.memory), [Partition::Epoch(done.epoch)]);
        assert_eq!(world.restarted().await.bodies(thread).await, ["1"]);
        if !died {
            assert!(effects > 6, "a rotation has more effects than {effects}");
            break;
        }
    }
}

/// Two visits of one thread at once: the slower one seals a row with its own, older key just before the other would.
#[tokio::test]
async fn a_row_that_another_visit_seals_with_an_older_key_is_not_lost() {
    let world = sealed_world().await;
    let thread = world.thread("t").await;
    let row = message_row(world.message(thread, "1").await);
    world.db.begin_generation(thread, false).await.expect("the slower visit begins");
    let second = world.db.known_seal(Key::Thread(thread, ThreadRow::DataKey(2))).await.expect("its key");
    let opened = world.db.open_value(row, raw(&world.memory, row)).await.expect("opens");
    let sealed = second.value(row, opened);
    world.db.begin_generation(thread, false).await.expect("the faster visit begins");
    world.memory.meanwhile(Partition::Thread(thread), move |memory| put(memory, row, sealed));
    world.db.run_sealing_job().await.expect("done");
    assert_eq!((head(&world.memory, thread).oldest, data_keys(&world.memory, thread)), (3, 1));
    assert_eq!(world.restarted().await.bodies(thread).await, ["1"]);
}

#[tokio::test]
async fn a_visit_seals_with_a_key_that_is_in_the_store_also_when_it_is_used_up() {
    let world = sealed_world().await;
    let thread = world.thread("t").await;
    world.message(thread, "1").await;
    world.db.begin_generation(thread, false).await.expect("begun");
    let used_up = Head { seals: SEALS_A_KEY, ..head(&world.memory, thread) };
    put(&world.memory, Key::Thread(thread, ThreadRow::Head), used_up.encode(1));
    world.db.run_sealing_job().await.expect("done");
    assert_eq!(world.restarted().await.bodies(thread).await, ["1"]);
}

#[tokio::test]
async fn of_two_processes_that_rotate_at_once_one_wins_and_both_go_on() {
    let one = sealed_world().await;
    let two = World::open(one.memory.clone(), crypt()).await;
    let thread = one.thread("t").await;
    let (first, second) = tokio::join!(one.db.begin_epoch(), two.db.begin_epoch());
    assert_eq!((first.expect("begun"), second.expect("taken over")), (2, 2));
    assert_eq!(one.db.begin_epoch().await.expect("begun"), 3);
    one.message(thread, "1").await;
    one.db.reencrypt_thread(thread).await.expect("a key of an epoch that the other does not know");
    assert_eq!(two.bodies(thread).await, ["1"]);
}

#[tokio::test]
async fn a_thread_is_encrypted_anew_and_its_old_key_goes() {
    let world = sealed_world().await;
    let (thread, kept) = write_canaries(&world).await;
    let before = raw(&world.memory, message_row(kept));
    // Object, participant, message, version, deleted message, four records.
    assert_eq!(world.db.reencrypt_thread(thread).await.expect("done"), Visit { values: 9, keys: 0 });
    let after = head(&world.memory, thread);
    assert_eq!((after.generation, after.oldest, after.seals), (2, 2, 9));
    assert_eq!(data_keys(&world.memory, thread), 1);
    assert_ne!(raw(&world.memory, message_row(kept)), before);
    let caller = Caller { user: UserId::parse(&format!("user-{CANARY}")).expect("a valid id") };
    let world = world.restarted().await;
    world.db.get_message(&caller, thread, kept).await.expect("opens");
}

#[tokio::test]
async fn rows_that_were_read_before_their_key_went_open_with_the_newer_one() {
    let world = sealed_world().await;
    let thread = world.thread("t").await;
    world.message(thread, "1").await;
    let range = KeyRange::messages(thread);
    let read = world.memory.scan(&range, Direction::Ascending, 10).expect("scanned").rows;
    world.db.reencrypt_thread(thread).await.expect("done");
    let opened = world.db.open_rows(read.clone()).await.expect("opened anew");
    let body = |row: &crate::store::Row| crate::rows::MessageRow::decode(&row.value).expect("a message").content.body;
    assert_eq!(opened.iter().map(|row| body(row).get().to_owned()).collect::<Vec<_>>(), ["1"]);
    world.erase(thread).await.expect("erased");
    assert!(matches!(world.db.open_rows(read).await, Err(Error::Erased)));
}

#[tokio::test]
async fn a_reencryption_that_dies_after_any_effect_is_finished_by_the_job_of_the_next_start() {
    for effects in 0.. {
        let world = sealed_world().await;
        let thread = world.thread("t").await;
        world.message(thread, "1").await;
        world.db.run_sealing_job().await.expect("done");
        world.memory.die_after(effects);
        let died = world.db.reencrypt_thread(thread).await.is_err();
        let world = world.restarted().await;
        assert_eq!(world.bodies(thread).await, ["1"]);
        world.db.run_sealing_job().await.expect("finishes");
        let after = head(&world.memory, thread);
        assert_eq!((after.oldest, data_keys(&world.memory, thread)), (after.generation, 1), "died after {effects}");
        if !died {
            assert!(effects > 5, "it has more effects than {effects}");
            break;
        }
    }
}

#[tokio::test]
async fn a_key_that_is_used_up_is_followed_by_another() {
    let world = sealed_world().await;
    let thread = world.thread("t").await;
    world.message(thread, "1").await;
    assert_eq!(head(&world.memory, thread).seals, 3, "object, participant, message");
    let used_up = Head { seals: SEALS_A_KEY, ..head(&world.memory, thread) };
    put(&world.memory, Key::Thread(thread, ThreadRow::Head), used_up.encode(1));
    let world = world.restarted().await;
    world.message(thread, "2").await;
    let after = head(&world.memory, thread);
    assert_eq!((after.generation, after.oldest, after.seals), (2, 1, 1));
    assert_eq!(world.restarted().await.bodies(thread).await, ["1", "2"]);
}

#[tokio::test]
async fn keys_move_to_another_kms_and_open_with_both_until_the_last_step() {
    let (mut effects, mut both) = (0, 0);
    loop {
        let world = sealed_world().await;
        let thread = world.thread("t").await;
        world.message(thread, "1").await;
        world.db.begin_epoch().await.expect("begun");
        let (from, to) = (crypt().expect("sealed"), crypt_with([8; 32]).expect("sealed"));
        let store = Store::Memory(world.memory.clone());
        world.memory.die_after(effects);
        let died = migrate_keys(&store, &from.kms, &to.kms, ID).await.is_err();
        let memory = world.memory.restarted();
        let old = World::try_open(memory.restarted(), crypt()).await;
        let new = World::try_open(memory.restarted(), crypt_with([8; 32])).await;
        assert!(old.is_ok() || new.is_ok(), "after {effects} neither opens");
        both += usize::from(old.is_ok() && new.is_ok());
        let store = Store::Memory(memory.clone());
        migrate_keys(&store, &from.kms, &to.kms, ID).await.expect("goes on");
        let world = World::open(memory.clone(), crypt_with([8; 32])).await;
        assert_eq!(world.bodies(thread).await, ["1"]);
        assert!(World::try_open(memory, crypt()).await.is_err(), "the old key still opens it");
        if !died {
            break;
        }
        effects += 1;
    }
    assert!(effects >= 4 && both > 0, "{effects} {both}");
}

#[tokio::test]
async fn verification_names_the_keys_that_do_not_open() {
    let world = sealed_world().await;
    let (good, bad) = (world.thread("good").await, world.thread("bad").await);
    let verify = async |crypt: Option<Arc<Crypt>>| {
        let store = Store::Memory(world.memory.restarted());
        verify_keys(&store, &crypt.expect("sealed"), ID).await.expect("verified")
    };
    let report = verify(crypt()).await;
    assert_eq!((report.epochs, report.data_keys, report.failed), (1, 3, 0));
    let place = |thread| Key::Thread(thread, ThreadRow::DataKey(1));
    put(&world.memory, place(bad), raw(&world.memory, place(good)));
    let report = verify(crypt()).await;
    let failure = KeyFailure { key: place(bad).to_string(), why: "the wrapped key is damaged".into() };
    assert_eq!((report.failed, report.failures), (1, vec![failure]));
    let report = verify(crypt_with([8; 32])).await;
    assert_eq!((report.epochs, report.data_keys, report.failed), (1, 3, 4), "without the epoch nothing opens");
}
