use std::sync::atomic::{AtomicU32, Ordering};

use super::*;

const POLICY: Policy = Policy {
    timeout: Duration::from_secs(30),
    tries: 3,
    back_off: Duration::ZERO,
    rate: 1000,
    failures: 100,
    open_for: Duration::from_hours(1),
};

fn run<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime").block_on(future)
}

/// Calls through a guard; each attempt gets the next of `results`, and the last one again from then on. Gives the
/// result and the number of attempts.
fn check(policy: Policy, results: &[Result<u8, Error>]) -> (Result<u8, Error>, u32) {
    check_with(&Guard::new(ProviderKind::Http, policy), results)
}

fn check_with(guard: &Guard, results: &[Result<u8, Error>]) -> (Result<u8, Error>, u32) {
    let attempts = AtomicU32::new(0);
    let result = run(guard.call("test", || {
        let attempt = attempts.fetch_add(1, Ordering::Relaxed) as usize;
        std::future::ready(results[attempt.min(results.len() - 1)].clone())
    }));
    (result, attempts.into_inner())
}

fn down() -> Error {
    Error::unavailable("connection refused")
}

#[test]
fn what_may_pass_by_itself_is_tried_three_times() {
    assert_eq!(check(POLICY, &[Err(down())]), (Err(down()), 3));
    assert_eq!(check(POLICY, &[Err(down()), Err(Error::throttled("slow", None)), Ok(7)]), (Ok(7), 3));
}

#[test]
fn what_does_not_pass_by_itself_is_tried_once() {
    for error in [
        Error::denied("no"),
        Error::key_unusable("disabled"),
        Error::invalid("flipped"),
        Error::WrongKey { wanted: "a".to_owned(), have: "b".to_owned() },
        Error::Settings("no file".to_owned()),
    ] {
        assert_eq!(check(POLICY, &[Err(error.clone()), Ok(7)]), (Err(error), 1));
    }
}

#[test]
fn a_wait_longer_than_the_timeout_is_left_to_the_caller() {
    let throttled = Error::throttled("slow down", Some(Duration::from_secs(31)));
    assert_eq!(check(POLICY, &[Err(throttled.clone()), Ok(7)]), (Err(throttled), 1));
}

#[test]
fn the_wait_is_no_shorter_than_the_kms_asks_for() {
    let guard = Guard::new(ProviderKind::Http, POLICY);
    let after = Duration::from_secs(12);
    assert_eq!(guard.wait_before(1, &Error::throttled("slow down", Some(after))), Some(after));
    assert_eq!(guard.wait_before(1, &down()), Some(Duration::ZERO));
}

#[test]
fn waits_double_and_spread_over_their_whole_range() {
    let base = Duration::from_millis(200);
    let longest = [1, 2, 3].map(|tried| back_off(base, tried, u32::MAX));
    assert_eq!(longest, [base, base * 2, base * 4]);
    assert_eq!(back_off(base, 3, 0), Duration::ZERO);
}

#[test]
fn who_does_not_answer_is_unavailable() {
    let guard = Guard::new(ProviderKind::Http, Policy { timeout: Duration::from_millis(1), tries: 1, ..POLICY });
    let result = run(guard.call("test", std::future::pending::<Result<u8, Error>>));
    assert_eq!(result, Err(Error::unavailable("no response within 1ms")));
}

#[test]
fn an_open_breaker_ends_a_call_s_tries_and_stops_the_next_ones() {
    let guard = Guard::new(ProviderKind::Http, Policy { failures: 2, ..POLICY });
    assert_eq!(check_with(&guard, &[Err(down())]), (Err(down()), 2));
    assert_eq!(check_with(&guard, &[Ok(7)]).1, 0);
}

#[test]
fn a_probe_asks_in_spite_of_the_breaker_and_closes_it() {
    let guard = Guard::new(ProviderKind::Http, Policy { failures: 1, ..POLICY });
    assert_eq!(check_with(&guard, &[Err(down())]).1, 1);
    assert_eq!(run(guard.probe(std::future::ready(Err::<u8, _>(down())))), Err(down()));
    assert_eq!(check_with(&guard, &[Ok(7)]).1, 0);
    assert_eq!(run(guard.probe(std::future::ready(Ok(7)))), Ok(7));
    assert_eq!(check_with(&guard, &[Ok(7)]), (Ok(7), 1));
}

#[test]
fn who_would_wait_longer_than_the_timeout_for_its_turn_is_throttled() {
    let guard = Guard::new(ProviderKind::Http, Policy { rate: 1, timeout: Duration::ZERO, ..POLICY });
    assert!(run(guard.admit()).is_ok());
    let message = "more than 1 calls a second are waiting here";
    assert_eq!(run(guard.admit()), Err(Error::throttled(message, None)));
}
