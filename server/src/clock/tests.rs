//! How steps of the clock are handled, on clocks that the tests set.

use std::sync::Arc;

use super::*;

const SECOND: u64 = 1_000_000_000;
const MINUTE: u64 = 60 * SECOND;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;
const START: u64 = 1_763_700_000 * SECOND;

struct World {
    time: Arc<Manual>,
    clock: Clock,
}

/// A process that started at [`START`] on a store whose newest row is of `highest`.
fn started(wall: u64, highest: u64) -> World {
    let time = Arc::new(Manual::at(START));
    time.set(wall);
    World { clock: Clock::manual(time.clone(), highest), time }
}

impl World {
    fn is_held(&self) -> bool {
        self.clock.next(None).is_err()
    }

    /// A minute with readings now and then, as in a server.
    fn pass_a_minute(&self) {
        for _ in 0..60 {
            self.time.pass(SECOND);
            self.clock.now();
        }
    }
}

#[test]
fn timestamps_grow_when_the_clock_stands_or_steps_back() {
    let World { time, clock } = started(START, 0);
    let first = [clock.next(None), clock.next(None)];
    time.set(START - HOUR);
    let back = clock.next(None);
    time.set(START + HOUR);
    assert_eq!((first, back, clock.next(None)), ([Ok(START), Ok(START + 1)], Ok(START + 2), Ok(START + HOUR)),);
}

#[test]
fn timestamps_go_on_above_the_store_s_highest() {
    let ahead = START + HOUR;
    assert_eq!(started(START, ahead).clock.next(None), Ok(ahead + 1));
}

#[test]
fn a_step_within_the_limit_dates_at_once_and_one_beyond_is_held() {
    for (step, held) in [(23 * HOUR, false), (DAY, false), (DAY + 1, true), (70 * 365 * DAY, true)] {
        let world = started(START, START - 1);
        world.time.step(step);
        assert_eq!(world.is_held(), held, "{step}");
        let now = world.clock.now();
        assert_eq!(now, if held { START } else { START + step }, "a step that is held dates nothing");
    }
}

#[test]
fn a_held_step_says_how_far_and_when_to_ask_again() {
    let world = started(START, START - 1);
    world.time.step(3 * DAY);
    assert!(world.is_held());
    world.time.pass(20 * SECOND);
    let held = world.clock.next(None).expect_err("held");
    assert_eq!((held.ahead.as_secs(), held.retry_after.as_secs()), (3 * 86_400, 40));
}

#[test]
fn a_step_that_stands_for_a_minute_is_taken_if_it_is_plausible() {
    for (days, taken) in [(2, true), (399, true), (401, false), (70 * 365, false)] {
        let world = started(START, START - 1);
        world.time.step(days * DAY);
        assert!(world.is_held(), "{days} days");
        world.time.pass(59 * SECOND);
        assert!(world.is_held(), "{days} days, before the minute is over");
        world.time.pass(SECOND);
        assert_eq!(world.is_held(), !taken, "{days} days, after a minute");
    }
}

#[test]
fn a_clock_that_moves_on_while_it_is_held_begins_another_minute() {
    let world = started(START, START - 1);
    world.time.step(2 * DAY);
    assert!(world.is_held());
    world.time.pass(50 * SECOND);
    world.time.step(HOUR);
    assert!(world.is_held());
    world.time.pass(50 * SECOND);
    assert!(world.is_held(), "it has stood for 50 seconds only");
    world.time.pass(10 * SECOND);
    assert!(!world.is_held());
}

#[test]
fn what_was_synchronised_is_taken_at_once() {
    let world = started(START, START - 1);
    world.time.step(700 * DAY);
    assert!(world.is_held());
    world.time.synchronised.store(true, Ordering::Relaxed);
    assert_eq!(world.clock.next(None), Ok(START + 700 * DAY));
    assert_eq!(world.clock.settled(), START + 700 * DAY);
}

#[test]
fn a_board_without_a_battery_goes_on_from_what_it_knows_until_its_clock_is_set() {
    for highest in [0, START - DAY] {
        let world = started(1_451_606_400 * SECOND, highest);
        let first = world.clock.next(None).expect("time goes on");
        assert!(first >= highest.max(START - 10 * DAY) && first < START, "{first} is after all that is known");
        world.time.set(START + 900 * DAY);
        assert_eq!(world.clock.next(None), Ok(START + 900 * DAY), "from an impossible time to a possible one");
    }
    let world = started(1_451_606_400 * SECOND, 0);
    world.time.set(START + 70 * 365 * DAY);
    assert!(world.is_held(), "70 years after the build is no possible time");
}

#[test]
fn what_was_dated_before_the_clock_was_set_is_as_old_as_it_is() {
    let world = started(1_451_606_400 * SECOND, START - 2 * DAY);
    let dated = world.clock.next(None).expect("time goes on");
    world.time.pass(10 * SECOND);
    world.time.set(START + 90 * DAY);
    world.clock.next(None).expect("taken");
    world.pass_a_minute();
    assert_eq!(world.clock.settled(), START + 90 * DAY + MINUTE);
    assert!(!world.clock.is_over(dated, Duration::from_mins(2)), "it is seventy seconds old");
    assert!(world.clock.is_over(dated, Duration::from_mins(1)));
    assert!(world.clock.is_over(START - 2 * DAY, Duration::from_hours(2_000)), "older rows have their age");
}

#[test]
fn a_start_believes_what_is_plausible_and_no_more() {
    let year = 365 * DAY;
    for (wall, highest, held) in [
        (START, 0, false),
        (START + 9 * year, 0, false),
        (START + 70 * year, 0, true),
        (START + 300 * DAY, START, false),
        (START + 2 * year, START, true),
        (START + 70 * year, START, true),
        (START, START + 70 * year, false),
    ] {
        assert_eq!(started(wall, highest).is_held(), held, "{wall} {highest}");
    }
}

#[test]
fn a_clock_that_comes_back_is_followed_again() {
    let world = started(START, START - 1);
    world.time.step(70 * 365 * DAY);
    assert!(world.is_held());
    world.time.pass(4 * SECOND);
    world.time.set(START + 4 * SECOND);
    assert_eq!(world.clock.next(None), Ok(START + 4 * SECOND));
    world.time.set(0);
    assert_eq!(world.clock.now(), START + 4 * SECOND, "an impossible time is not looked at");
    world.time.set(START - 5 * DAY);
    assert_eq!(world.clock.now(), START - 5 * DAY);
    world.time.set(START + 5 * SECOND);
    assert_eq!(world.clock.next(None), Ok(START + 5 * SECOND), "it may come back to where it was");
}

#[test]
fn removals_follow_a_step_when_it_has_stood_for_a_minute() {
    let world = started(START, START - 1);
    world.time.step(23 * HOUR);
    assert_eq!(world.clock.now(), START + 23 * HOUR);
    assert!(!world.clock.is_over(START, Duration::from_hours(1)), "nobody knows yet whether it is true");
    world.time.pass(4 * SECOND);
    world.time.set(START + 4 * SECOND);
    world.pass_a_minute();
    assert!(!world.clock.is_over(START, Duration::from_hours(1)), "it was not");
    world.time.step(23 * HOUR);
    world.clock.now();
    assert_eq!(world.clock.state().settling.map(|left| left.as_secs()), Some(60));
    world.pass_a_minute();
    assert_eq!(world.clock.state().settling, None);
    assert!(world.clock.is_over(START, Duration::from_hours(1)), "it is");
}

#[test]
fn a_start_removes_nothing_before_its_clock_has_stood_for_a_minute() {
    let world = started(START + 300 * DAY, START);
    assert!(!world.clock.is_over(START, Duration::from_hours(1)));
    world.pass_a_minute();
    assert!(world.clock.is_over(START, Duration::from_hours(1)));
}

#[test]
fn an_administrator_can_accept_any_time_that_a_clock_can_show() {
    let world = started(START, START - 1);
    world.time.step(70 * 365 * DAY);
    assert!(world.is_held());
    assert!(world.clock.accept());
    assert_eq!(world.clock.next(None), Ok(START + 70 * 365 * DAY));
    let early = started(START - 20 * DAY, 0);
    assert!(early.clock.state().impossible, "the machine that built the program was ahead");
    assert!(early.clock.accept());
    assert_eq!((early.clock.next(None), early.clock.state().impossible), (Ok(START - 20 * DAY), false));
    early.time.set(u64::MAX);
    assert!(!early.clock.accept());
}

#[test]
fn the_machine_s_clock_is_after_the_build() {
    let clock = Clock::system(0, Duration::from_hours(24));
    let now = clock.next(None).expect("a clock that is right");
    assert!(now >= BUILT, "{now} {BUILT}");
}

#[test]
fn a_record_of_synchronisation_speaks_for_the_clock_that_it_is_dated_by() {
    let record = tempfile::NamedTempFile::new().expect("a file");
    let path = record.path().to_str().expect("a path").to_owned();
    let now = Clock::wall();
    for (wall, vouched) in
        [(now, true), (now + 2 * HOUR, false), (now - 2 * HOUR, false), (now + 70 * 365 * DAY, false)]
    {
        assert_eq!(was_synchronised(&path, wall), vouched, "{wall}");
    }
    drop(record);
    assert!(!was_synchronised(&path, now), "without a record nobody knows");
}

#[test]
fn slots_never_give_out_the_same_time() {
    let clocks = [0, 7, 255].map(|slot| (slot, started(START, START).clock));
    let mut given = std::collections::HashSet::new();
    for _ in 0..1_000 {
        for (slot, clock) in &clocks {
            let next = clock.next(Some(*slot)).expect("time goes on");
            assert_eq!(next & 0xff, u64::from(*slot));
            assert!(next >= START && given.insert(next), "{next} twice");
        }
    }
    let clock = started(START, START).clock;
    let mut last = 0;
    for slot in [3, 200, 3, 3, 199, 0] {
        let next = clock.next(Some(slot)).expect("time goes on");
        assert!(next > last, "a slot may change, and time goes on");
        last = next;
    }
}
