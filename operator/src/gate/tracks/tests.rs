//! What a canary may differ by from the stable pods, and what proves nothing.

use proptest::{
    collection::vec,
    prelude::*,
    test_runner::{Config, RngAlgorithm, TestRng, TestRunner},
};

use super::*;
use crate::crd::MetricGate;

const EDGES: [&str; 6] = ["0.001", "0.004", "0.01", "0.05", "0.5", "5"];

fn limits() -> MetricLimits {
    MetricLimits::of(&MetricGate::default())
}

/// A pod that has answered so many requests in each bucket, the last of which has no edge, and failed so many of them.
fn pod(uid: &str, canary: bool, counts: [i64; 7], errors: i64) -> PodCounters {
    let mut sum = 0;
    let mut buckets = BTreeMap::new();
    for (edge, count) in EDGES.iter().zip(counts) {
        sum += count;
        buckets.insert((*edge).to_owned(), sum);
    }
    let requests = counts.iter().sum();
    PodCounters { pod: uid.into(), uid: uid.into(), canary, started_at: 1, requests, errors, buckets }
}

const fn nothing() -> [i64; 7] {
    [0; 7]
}

/// Most within 4 ms, and eight of a thousand within 50 ms.
fn usual(requests: i64) -> [i64; 7] {
    let slow = requests * 8 / 1_000;
    [requests / 2, requests - requests / 2 - slow, 0, slow, 0, 0, 0]
}

/// One stable pod and one canary that had counted nothing before.
fn compared(stable: ([i64; 7], i64), canary: ([i64; 7], i64)) -> GateResult {
    let before = [pod("s", false, nothing(), 0), pod("c", true, nothing(), 0)];
    let after = [pod("s", false, stable.0, stable.1), pod("c", true, canary.0, canary.1)];
    compare_tracks(&before, &after, &limits())
}

#[track_caller]
fn check(result: &GateResult, verdict: Verdict, why: &str) {
    assert!(result.verdict == verdict && result.why.contains(why), "{result:?}");
}

#[test]
fn a_release_that_is_as_good_passes_and_says_what_was_found() {
    let result = compared((usual(10_000), 3), (usual(2_000), 1));
    check(&result, Verdict::Passed, "");
    assert_eq!(result.value, "canary 1 failed, 16 slow of 2000; stable 3 failed, 80 slow of 10000");
    assert_eq!(result.threshold, "1% more failed than of stable, 1.50% slower than 10 ms, of at least 1000");
    assert_eq!(result.samples, 2_000);
}

#[test]
fn a_release_that_is_slow_fails_at_once_and_one_that_is_faster_passes() {
    let slow = |requests: i64| [0, 0, 0, 0, requests, 0, 0];
    check(&compared((usual(10_000), 0), (slow(2_000), 0)), Verdict::Failed, "take longer");
    // So many of a thousand cannot be mended by those that are missing.
    check(&compared((usual(10_000), 0), (slow(32), 0)), Verdict::Failed, "take longer");
    check(&compared((usual(10_000), 0), (slow(31), 0)), Verdict::Inconclusive, "too few requests reach the canaries");
    check(&compared((slow(10_000), 0), (usual(2_000), 0)), Verdict::Passed, "");
    // What nobody feels is not slow.
    check(&compared(([10_000, 0, 0, 0, 0, 0, 0], 0), ([0, 2_000, 0, 0, 0, 0, 0], 0)), Verdict::Passed, "");
}

#[test]
fn a_release_that_fails_more_requests_than_the_other_fails() {
    check(&compared((usual(10_000), 0), (usual(2_000), 39)), Verdict::Passed, "");
    check(&compared((usual(10_000), 0), (usual(2_000), 40)), Verdict::Failed, "too many requests fail: canary 40");
    // Where both fail as many, the release is not to blame, and nothing is proved.
    check(&compared((usual(10_000), 900), (usual(2_000), 180)), Verdict::Inconclusive, "stable pods fail");
    check(&compared((usual(10_000), 900), (usual(2_000), 900)), Verdict::Failed, "too many requests fail");
}

#[test]
fn too_few_requests_on_either_side_prove_nothing() {
    check(&compared((usual(10_000), 0), (usual(999), 0)), Verdict::Inconclusive, "reach the canaries");
    check(&compared((usual(999), 0), (usual(2_000), 0)), Verdict::Inconclusive, "reach the stable pods");
    check(&compared((nothing(), 0), (nothing(), 0)), Verdict::Inconclusive, "reach the canaries");
    // One connection that is kept alive reaches one pod; the few requests of the others say not what is slow.
    let slow = [0, 0, 0, 5_000, 0, 0, 0];
    check(&compared((nothing(), 0), (slow, 0)), Verdict::Inconclusive, "reach the stable pods");
    check(&compared((usual(999), 0), (slow, 0)), Verdict::Inconclusive, "reach the stable pods");
    check(&compared((usual(2_000), 0), ([0, 0, 0, 0, 5_000, 0, 0], 0)), Verdict::Failed, "take longer");
    check(&compare_tracks(&[], &[], &limits()), Verdict::Inconclusive, "reach the canaries");
}

#[test]
fn stable_pods_that_are_slower_than_every_bucket_are_no_measure() {
    let endless = |requests: i64| [0, 0, 0, 0, 0, 0, requests];
    check(&compared((endless(10_000), 0), (endless(2_000), 0)), Verdict::Inconclusive, "too slow to be a measure");
}

#[test]
fn what_was_counted_before_the_window_does_not_count() {
    let cold = [0, 0, 0, 0, 5_000, 0, 0];
    let warm = |more: [i64; 7]| std::array::from_fn(|index| cold[index] + more[index]);
    let before = [pod("s", false, usual(1_000_000), 9_000), pod("c", true, cold, 400)];
    let grown: [i64; 7] = std::array::from_fn(|index| usual(1_000_000)[index] + usual(5_000)[index]);
    let after = [pod("s", false, grown, 9_000), pod("c", true, warm(usual(2_000)), 400)];
    check(&compare_tracks(&before, &after, &limits()), Verdict::Passed, "");
}

#[test]
fn a_canary_that_was_restarted_fails_and_a_stable_pod_is_left_out() {
    let before = |canary: bool| vec![pod("s", false, usual(100), 0), pod("c", canary, usual(100), 0)];
    let stable = pod("s", false, usual(2_000), 0);
    for anew in [
        PodCounters { started_at: 2, ..pod("c", true, usual(9_000), 0) },
        pod("c", true, usual(90), 0),
        PodCounters { errors: 0, ..pod("c", true, [0, 9_000, 0, 0, 0, 0, 0], 0) },
    ] {
        let after = [stable.clone(), anew.clone()];
        check(&compare_tracks(&before(true), &after, &limits()), Verdict::Failed, "the canary c was restarted");
        // The same of a stable pod says nothing of the release: its requests do not count.
        let after = [stable.clone(), PodCounters { canary: false, ..anew }, pod("d", true, usual(2_000), 0)];
        let before = [before(false), vec![pod("d", true, nothing(), 0)]].concat();
        let result = compare_tracks(&before, &after, &limits());
        check(&result, Verdict::Passed, "");
        assert!(result.value.ends_with("of 1900"), "{}", result.value);
    }
}

#[test]
fn a_pod_that_came_or_went_meanwhile_is_left_out() {
    let before = [pod("s", false, nothing(), 0), pod("gone", true, nothing(), 0)];
    let came = pod("came", true, [0, 0, 0, 0, 9_000, 0, 0], 9_000);
    let after = [pod("s", false, usual(5_000), 0), came];
    check(&compare_tracks(&before, &after, &limits()), Verdict::Inconclusive, "too few requests reach the canaries");
}

#[test]
fn edges_that_only_one_version_has_are_not_compared() {
    let mut before = pod("c", true, nothing(), 0);
    let mut after = pod("c", true, usual(2_000), 0);
    for pod in [&mut before, &mut after] {
        // The new version has a finer bucket, and not the one that would be the edge.
        let count = pod.buckets.remove("0.01").unwrap();
        pod.buckets.insert("0.02".into(), count);
    }
    let stable = [pod("s", false, nothing(), 0), pod("s", false, usual(10_000), 0)];
    let result = compare_tracks(&[stable[0].clone(), before], &[stable[1].clone(), after], &limits());
    check(&result, Verdict::Passed, "");
    assert!(result.threshold.contains("slower than 50 ms"), "{}", result.threshold);
}

/// The same cases each time: a test that fails once in a thousand runs is a broken one.
fn runner() -> TestRunner {
    let config = Config { cases: 300, failure_persistence: None, ..Config::default() };
    TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha))
}

/// How often each of some weights is drawn, by so many of these.
fn drawn(weights: &[u32], draws: &[u32]) -> [i64; 7] {
    let whole: u32 = weights.iter().sum();
    let mut counts = nothing();
    for draw in draws {
        let mut rest = draw % whole;
        let bucket = weights.iter().position(|weight| {
            let is_here = rest < *weight;
            rest = rest.saturating_sub(*weight);
            is_here
        });
        counts[bucket.unwrap()] += 1;
    }
    counts
}

#[test]
fn chance_alone_fails_no_release() {
    let weights = vec(1_u32..10_000, 7);
    let draws = (vec(any::<u32>(), 1_000..3_000), vec(any::<u32>(), 1_000..6_000));
    let ran = runner().run(&(weights, draws, 0_i64..4), |(weights, (canary, stable), failing)| {
        let errors = |count: usize| count as i64 * failing / 1_000;
        let result = compared(
            (drawn(&weights, &stable), errors(stable.len())),
            (drawn(&weights, &canary), errors(canary.len())),
        );
        prop_assert!(result.verdict != Verdict::Failed, "{result:?}");
        Ok(())
    });
    ran.unwrap();
}

#[test]
fn a_release_that_sends_a_twentieth_of_its_requests_into_the_slow_buckets_always_fails() {
    let ran = runner().run(&(1_000_i64..50_000, 1_000_i64..50_000, 20_i64..500), |(canary, stable, slow)| {
        let slow = canary * slow.max(50) / 1_000;
        let found = [canary - slow, 0, 0, 0, slow, 0, 0];
        let result = compared((usual(stable), 0), (found, 0));
        prop_assert!(result.verdict == Verdict::Failed, "{result:?}");
        Ok(())
    });
    ran.unwrap();
}

#[test]
fn more_errors_or_slower_requests_never_make_a_verdict_better() {
    let rank = |result: &GateResult| match result.verdict {
        Verdict::Passed => 0,
        Verdict::Inconclusive => 1,
        Verdict::Failed => 2,
    };
    let counts = || vec(0_i64..2_000, 7).prop_map(|counts| <[i64; 7]>::try_from(counts).unwrap());
    let strategy = (counts(), counts(), 0_i64..100, 0_i64..100, 0_usize..6, 1_i64..500);
    let ran = runner().run(&strategy, |(stable, canary, errors, more, from, moved)| {
        let before = compared((stable, errors), (canary, errors));
        let worse = compared((stable, errors), (canary, errors + more));
        prop_assert!(rank(&worse) >= rank(&before), "{before:?} {worse:?}");
        let mut slower = canary;
        let moved = moved.min(slower[from]);
        (slower[from], slower[6]) = (slower[from] - moved, slower[6] + moved);
        let worse = compared((stable, errors), (slower, errors));
        prop_assert!(rank(&worse) >= rank(&before), "{before:?} {worse:?}");
        Ok(())
    });
    ran.unwrap();
}

#[test]
fn nothing_but_a_verdict_with_enough_requests_passes() {
    let counts = || vec(0_i64..800, 7).prop_map(|counts| <[i64; 7]>::try_from(counts).unwrap());
    let ran = runner().run(&(counts(), counts()), |(stable, canary)| {
        let result = compared((stable, 0), (canary, 0));
        let is_enough = [stable, canary].iter().all(|counts| counts.iter().sum::<i64>() >= 1_000);
        prop_assert!(is_enough || result.verdict != Verdict::Passed, "{result:?}");
        Ok(())
    });
    ran.unwrap();
}
