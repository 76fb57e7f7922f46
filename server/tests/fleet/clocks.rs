//! Clocks of replicas that do not agree, and clocks that do too well.

use std::collections::{BTreeMap, BTreeSet};

use testing::clock::Clock;
use testing::{THREADS, thread};

use crate::world::{World, check_under_load};

#[test]
fn clocks_that_are_ten_seconds_apart_disturb_nothing() {
    let test = "clocks_that_are_ten_seconds_apart_disturb_nothing";
    let Some(world) = World::take(test) else { return };
    let directory = testing::temporary_directory();
    let made = |replica: usize| {
        let own = directory.path().join(replica.to_string());
        std::fs::create_dir(&own).unwrap();
        Clock::make(test, &own)
    };
    let Some(clocks) = (0..3).map(made).collect::<Option<Vec<Clock>>>() else { return };
    for (clock, ahead) in clocks.iter().zip([0, 5, -5]) {
        clock.set(ahead);
    }
    let fleet = world.fleet_of(3, |replica, setup| clocks[replica].of(setup));
    check_under_load(test, world.ring(), &fleet, |load| {
        load.wait_for(100);
        clocks[0].set(5);
        clocks[1].set(-5);
        load.wait_for(100);
    });
    fleet.stop_all();
}

#[test]
fn threads_of_one_nanosecond_are_different_threads() {
    let test = "threads_of_one_nanosecond_are_different_threads";
    let Some(world) = World::take(test) else { return };
    let directory = testing::temporary_directory();
    let Some(clock) = Clock::make(test, directory.path()) else { return };
    let fleet = world.fleet_of(2, |_, setup| clock.of(setup));
    clock.freeze();
    let mut titles = BTreeMap::new();
    let mut moments = Vec::new();
    for replica in 0..2 {
        let user = fleet.replica(replica).user("ann");
        let created: Vec<_> = (0..20).map(|n| format!("{replica} {n}")).collect();
        let keys: Vec<_> = created.iter().map(|title| user.create_thread(title)).collect();
        // The low eight bits say which replica it was.
        let moment = |key: &String| key.rsplit(':').next().unwrap().parse::<u64>().unwrap() >> 8;
        moments.push(keys.iter().map(moment).collect::<BTreeSet<u64>>());
        titles.extend(keys.into_iter().zip(created));
    }
    assert!(moments[0].intersection(&moments[1]).count() > 10, "the clocks do not meet: {moments:?}");
    assert_eq!(titles.len(), 40);
    for replica in 0..2 {
        let user = fleet.replica(replica).user("ann");
        let mut listed = user.get(&format!("{THREADS}?limit=100")).check_status(200).keys("threads");
        listed.sort();
        assert!(listed.iter().eq(titles.keys()), "{listed:?}");
        for (key, title) in &titles {
            assert_eq!(user.get(&thread(key)).check_status(200).json()["thread"]["title"], *title);
        }
    }
    fleet.stop_all();
}
