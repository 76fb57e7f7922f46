//! What passes and what fails: at the limits, with few requests, and on a machine that does other things as well.

use super::*;

fn limits() -> MetricLimits {
    MetricLimits::of(&MetricGate::default())
}

const BASELINE: Measured = figures(1_000, 0, 2_000, 10_000);

const fn figures(requests: i64, errors: i64, p50_micros: i64, p99_micros: i64) -> Measured {
    Measured { requests, errors, p50_micros, p99_micros }
}

#[track_caller]
fn check(load: Measured, baseline: Option<Measured>, wanted: Verdict, word: &str) {
    let result = compare(&load, baseline.as_ref(), &limits());
    assert_eq!((result.load.as_ref(), result.samples), (Some(&load), load.requests));
    let (verdict, why) = (result.verdict, result.why);
    assert!(verdict == wanted && why.contains(word), "{load} against {baseline:?}: {verdict:?}, {why}");
}

#[test]
fn a_load_may_be_slower_by_the_limit_and_no_more() {
    // 10 ms, half as much again, and 5 ms.
    check(figures(1_000, 0, 2_000, 20_000), Some(BASELINE), Verdict::Passed, "");
    check(figures(1_000, 0, 2_000, 20_001), Some(BASELINE), Verdict::Failed, "too long");
    // And in the middle 2 ms, half as much again, and 5 ms.
    check(figures(1_000, 0, 8_000, 10_000), Some(BASELINE), Verdict::Passed, "");
    check(figures(1_000, 0, 8_001, 10_000), Some(BASELINE), Verdict::Failed, "too long");
    let fast = figures(1_000, 0, 100, 200);
    check(figures(1_000, 0, 100, 5_300), Some(fast.clone()), Verdict::Passed, "");
    check(figures(1_000, 0, 100, 5_301), Some(fast), Verdict::Failed, "too long");
}

#[test]
fn a_load_may_have_errors_up_to_the_limit_and_no_more() {
    check(figures(1_000, 10, 2_000, 10_000), Some(BASELINE), Verdict::Passed, "");
    check(figures(1_000, 11, 2_000, 10_000), Some(BASELINE), Verdict::Failed, "fail");
    check(figures(2_000, 20, 2_000, 10_000), Some(BASELINE), Verdict::Passed, "");
    check(figures(1_000, 1_000, 0, 0), Some(BASELINE), Verdict::Failed, "fail");
    check(figures(1_000, 11, 2_000, 10_000), None, Verdict::Failed, "fail");
}

#[test]
fn few_requests_prove_nothing_unless_the_missing_ones_could_not_mend_it() {
    check(figures(999, 0, 2_000, 10_000), Some(BASELINE), Verdict::Inconclusive, "too few");
    check(figures(20, 10, 2_000, 10_000), Some(BASELINE), Verdict::Inconclusive, "too few");
    check(figures(20, 11, 2_000, 10_000), Some(BASELINE), Verdict::Failed, "fail");
    check(figures(999, 0, 2_000, 90_000), Some(BASELINE), Verdict::Failed, "too long");
    check(figures(500, 0, 2_000, 90_000), Some(BASELINE), Verdict::Inconclusive, "too few");
    check(figures(18, 0, 90_000, 90_000), Some(BASELINE), Verdict::Inconclusive, "too few");
    check(figures(20, 0, 90_000, 90_000), Some(BASELINE), Verdict::Failed, "too long");
    check(figures(0, 0, 0, 0), Some(BASELINE), Verdict::Inconclusive, "too few");
    // Each of four users waited five seconds for each answer, and there was none.
    check(figures(24, 24, 0, 0), Some(BASELINE), Verdict::Failed, "fail");
}

#[test]
fn without_a_baseline_errors_alone_are_judged_of_whatever_requests_there_are() {
    let slow = figures(40, 0, 900_000, 900_000);
    for baseline in [None, Some(figures(1_000, 500, 1, 1)), Some(figures(0, 0, 0, 0))] {
        check(slow.clone(), baseline.clone(), Verdict::Passed, "only errors");
        check(figures(40, 1, 1, 1), baseline.clone(), Verdict::Failed, "fail");
        check(figures(0, 0, 0, 0), baseline, Verdict::Inconclusive, "no request");
    }
}

#[test]
fn a_load_is_usable_that_is_large_enough_and_mostly_works() {
    let usable = |requests, errors| is_usable(&figures(requests, errors, 1, 1), &limits());
    assert!(usable(1_000, 0) && usable(1_000, 499));
    assert!(!usable(999, 0) && !usable(1_000, 500) && !usable(0, 0));
    let loads = [figures(1, 0, 1, 30), figures(1, 0, 3, 10), figures(1, 0, 2, 20)];
    assert_eq!((best(&loads), best([])), (Some(&loads[1]), None));
}

/// p50 and p99 of loads on one server, in microseconds, while others compile on the same two cores.
const BUSY: &str = "
    377/870 389/4481 381/6060 372/5136 364/3903 403/14157 406/3170 413/13577 414/4793 387/8613
    417/3876 351/6137 474/2930 417/7799 468/4123 435/902 402/3471 490/2577 472/5409 352/6348
    312/936 459/4633 387/3612 454/9941 398/4316 330/3789 474/4898 441/3740 372/2789 352/3958
    342/3869 400/3887 441/8261 443/3770 458/7800 390/7946 359/5944 310/1674 480/3229 430/8758";
/// The same while four programs compute and three sync the same disk as fast as they can.
const LOUD: &str = "
    1455/76657 2800/41762 784/63657 679/62537 1548/84629 1083/40081 1107/37743 533/58189 1136/48044 2746/54934
    544/34057 3724/105544 2280/58664 2894/53344 1542/47641 1119/35906 3087/37413 1991/31244 1529/45168 2643/48072
    1466/34132 2788/49261 2642/42194 3628/42547 3323/49157 1565/47270 1997/41900 1500/32795 2703/40356 837/30116
    2561/50076 917/48826 471/48941 2920/71448 1946/64706 782/37800 2514/53391 724/49134 831/37305 1040/46373";
fn recorded(text: &str) -> Vec<(i64, i64)> {
    let pair = |text: &str| text.split_once('/').map(|(p50, p99)| (p50.parse().unwrap(), p99.parse().unwrap()));
    text.split_whitespace().map(|text| pair(text).unwrap()).collect()
}

/// Of a hundred upgrades of a server that is measured so, how many fail if the new one takes so much `more` for each request:
/// each with the best of so many loads before, and up to three after.
fn fail_of_100(recorded: &[(i64, i64)], baselines: usize, more: i64) -> usize {
    let mut next = 1_usize;
    let mut any = || {
        // A generator that a test can repeat: Knuth's constants, and the upper bits.
        next = next.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let (p50, p99) = recorded[(next >> 33) % recorded.len()];
        figures(1_000, 0, p50, p99)
    };
    let fails = |_: &usize| {
        let before: Vec<Measured> = (0..baselines).map(|_| any()).collect();
        let passes = |load: Measured| {
            // So many are made by four users in half a minute.
            let requests = load.requests.min(4 * 30_000_000 / (load.p50_micros + more));
            let load = figures(requests, 0, load.p50_micros + more, load.p99_micros + more);
            let verdict = compare(&load, best(&before), &limits()).verdict;
            assert_ne!(verdict, Verdict::Inconclusive, "that would keep clients waiting");
            verdict == Verdict::Passed
        };
        !(0..3).any(|_| passes(any()))
    };
    (0..100).filter(fails).count()
}

#[test]
fn on_a_busy_machine_a_good_release_passes_and_a_slow_one_never_does() {
    const SLOW: i64 = 250_000;
    let (busy, loud) = (recorded(BUSY), recorded(LOUD));
    for recorded in [&busy, &loud] {
        let fail = fail_of_100(recorded, 3, 0);
        assert!(fail <= 2, "{fail} of 100 good ones fail");
        assert_eq!(fail_of_100(recorded, 3, SLOW), 100);
    }
    // However slow the slowest of a hundred are before: half of all requests tell.
    let stalled: Vec<(i64, i64)> = loud.iter().map(|(p50, p99)| (*p50, p99 * 100)).collect();
    assert_eq!(fail_of_100(&stalled, 3, SLOW), 100);
}

#[test]
fn what_was_found_is_told_beside_what_was_wanted() {
    let result = compare(&figures(1_000, 11, 2_345, 10_000), Some(&BASELINE), &limits());
    assert_eq!(result.value, "p50 2.34 ms, p99 10.00 ms, 11 of 1000 failed");
    assert_eq!(result.threshold, "p50 at most 8.00 ms, p99 at most 20.00 ms, at most 1% of at least 1000 failed");
    let alone = compare(&BASELINE, None, &limits());
    assert_eq!(alone.threshold, "at most 1% failed");
}

#[test]
fn a_share_is_a_percentage() {
    let all =
        [("1%", 100_000), ("50%", 5_000_000), ("0.25%", 25_000), ("9999999%", 999_999_900_000), ("0.12345%", 12_345)];
    for (text, share) in all {
        let parsed: Share = text.parse().unwrap();
        assert_eq!((parsed, parsed.to_string().as_str()), (Share(share), text));
    }
    assert_eq!("0.50%".parse(), Ok(Share(50_000)));
    for text in ["", "1", "%", "-1%", "1.%", ".5%", "0.123456%", "1 %", "99999999999999999%", "+1%"] {
        assert!(text.parse::<Share>().is_err(), "{text}");
    }
}

#[test]
fn whatever_percentage_the_api_server_admits_is_read() {
    for text in ["0%", "00.10%", "1234567%", "0.00001%", "123.456%"] {
        assert!(text.len() <= 8 && text.parse::<Share>().is_ok(), "{text}");
    }
}
