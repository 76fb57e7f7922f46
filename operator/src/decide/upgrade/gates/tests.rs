use serde_json::{Value, json};

use super::{
    super::test_scene::{Scene, asked, load},
    *,
};
use crate::{
    crd::Measured,
    facts::{EndedContainer, Failure, Job, Pod, UpgradeJobFacts},
};

const LOGS: &str = "MetricGate-Logs";
const METRICS: [&str; 3] = ["MetricGate-Metrics", "MetricGate-Metrics-2", "MetricGate-Metrics-3"];

fn result(verdict: Verdict) -> GateResult {
    GateResult::new(verdict, "found", "wanted", 1, "why")
}

/// The metric gate of a server whose log is good, and which was this fast before.
fn scene(policy: Value) -> Scene {
    let mut scene = Scene::new(UpgradeStep::MetricGate, policy);
    scene.record.baseline = Some(Measured { requests: 1_000, errors: 0, p50_micros: 1, p99_micros: 1_000 });
    scene.ends(LOGS, GateResult::new(Verdict::Passed, "an empty log", "none", 0, "nothing was logged"));
    let turn = metrics(scene.at());
    assert_eq!(scene.follow(turn), Next::To(UpgradeStep::MetricGate));
    scene
}

fn next(scene: &mut Scene) -> Next {
    let turn = metrics(scene.at());
    scene.follow(turn)
}

fn back(next: &Next) -> &str {
    match next {
        Next::GoBack(why) => why,
        _ => panic!("{next:?}"),
    }
}

#[test]
fn a_log_that_passed_is_told_with_what_that_leaves_open() {
    let gate = scene(json!({})).gate("Logs");
    assert_eq!((gate.verdict, gate.overridden), (Verdict::Passed, false));
    assert_eq!((gate.value.as_str(), gate.why.as_str()), ("an empty log", "nothing was logged"));
}

#[test]
fn a_load_that_fails_is_repeated_and_one_that_passes_suffices() {
    let mut scene = scene(json!({}));
    for (name, slow) in METRICS.iter().zip([90_000, 90_000]) {
        assert_eq!(asked(&metrics(scene.at())), [*name]);
        scene.ends(name, load(0, slow));
    }
    scene.ends(METRICS[2], load(0, 6_500));
    assert_eq!(next(&mut scene), Next::To(UpgradeStep::MetricGate));
    assert_eq!(scene.gate("Metrics").value, "p50 0.00 ms, p99 6.50 ms, 0 of 1000 failed");
    assert_eq!(next(&mut scene), Next::To(UpgradeStep::Promote));
}

#[test]
fn of_loads_that_do_not_pass_the_best_is_told_and_a_failure_before_what_has_no_verdict() {
    let mut scene = scene(json!({}));
    scene.ends(METRICS[0], load(0, 90_000));
    scene.ends(METRICS[1], load(0, 6_501));
    scene.ends(METRICS[2], GateResult::nothing("", "no answer"));
    let why = "the gate Metrics failed: requests take too long: p50 0.00 ms, p99 6.50 ms, 0 of 1000 failed";
    assert_eq!(back(&next(&mut scene)), why);
    assert_eq!(scene.gate("Metrics").value, "p50 0.00 ms, p99 6.50 ms, 0 of 1000 failed");
    // Clients wait for a person only if none failed.
    for name in METRICS {
        scene.ends(name, GateResult::nothing("", "no answer"));
    }
    assert!(matches!(next(&mut scene), Next::Hold(hold) if hold.reason == "GateInconclusive" && hold.is_stuck));
}

/// The gate that a turn asks for while the upgrade is held for want of a verdict.
fn held(turn: &Turn) -> Vec<String> {
    assert!(matches!(&turn.found.1, Next::Hold(hold) if hold.reason == "GateInconclusive" && hold.is_stuck));
    asked(turn).into_iter().map(str::to_owned).collect()
}

#[test]
fn a_gate_without_a_verdict_is_tried_again_every_minute_while_somebody_is_called() {
    let mut scene = Scene::new(UpgradeStep::SmokeGate, json!({}));
    scene.ends("SmokeGate-Smoke", GateResult::nothing("8 steps", "the Secret cannot be read"));
    let first = smoke(scene.at());
    let again = held(&first);
    assert_eq!(again.len(), 1);
    // What is found meanwhile is not told, so that the status stays as it is.
    scene.ends(&again[0], GateResult::nothing("8 steps", "another reason"));
    let second = smoke(scene.at());
    assert_eq!((held(&second), &second.found), (vec![], &first.found));
    scene.later(AGAIN);
    let later = held(&smoke(scene.at()));
    assert!(later.len() == 1 && later != again, "{later:?}");
    scene.ends(&later[0], result(Verdict::Passed));
    assert_eq!(smoke(scene.at()).found.1, Next::To(UpgradeStep::MetricGate));
    scene.ends(&later[0], result(Verdict::Failed));
    assert_eq!(back(&smoke(scene.at()).found.1), "the gate Smoke failed: why");
    scene.let_pass("Smoke", 60);
    let passed = smoke(scene.at());
    assert_eq!((asked(&passed), &passed.found.1), (vec![], &Next::To(UpgradeStep::MetricGate)));
}

#[test]
fn a_load_without_a_verdict_is_measured_again_too() {
    let mut scene = scene(json!({}));
    for name in METRICS {
        scene.ends(name, GateResult::nothing("", "no answer"));
    }
    let again = held(&metrics(scene.at()));
    // The verdict of the load itself is not that of the comparison.
    let slow = GateResult { verdict: Verdict::Inconclusive, ..load(0, 90_000) };
    scene.ends(&again[0], slow);
    assert!(back(&metrics(scene.at()).found.1).contains("take too long"));
    scene.ends(&again[0], load(0, 900));
    assert_eq!(next(&mut scene), Next::To(UpgradeStep::MetricGate));
}

#[test]
fn one_failure_is_enough_where_that_is_the_limit() {
    let mut scene = scene(json!({ "gates": { "metrics": { "failureLimit": 1 } } }));
    scene.ends(METRICS[0], load(11, 1_000));
    assert!(back(&next(&mut scene)).starts_with("the gate Metrics failed: too many requests fail: "));
}

#[test]
fn a_server_that_was_not_measured_before_is_judged_by_errors_and_that_is_told() {
    let mut scene = scene(json!({}));
    scene.record.baseline = None;
    scene.ends(METRICS[0], load(0, 90_000));
    assert_eq!(next(&mut scene), Next::To(UpgradeStep::MetricGate));
    let gate = scene.gate("Metrics");
    assert_eq!((gate.verdict, gate.threshold.as_str()), (Verdict::Passed, "at most 1% failed"));
    assert!(gate.why.contains("only errors are judged"), "{}", gate.why);
}

#[test]
fn what_a_person_let_pass_stays_so_when_their_time_is_over() {
    let mut scene = Scene::new(UpgradeStep::MetricGate, json!({}));
    scene.let_pass("Logs", 60);
    // It is looked at nevertheless.
    assert_eq!(asked(&metrics(scene.at())), [LOGS]);
    scene.ends(LOGS, result(Verdict::Failed));
    assert_eq!(next(&mut scene), Next::To(UpgradeStep::MetricGate));
    let gate = scene.gate("Logs");
    assert_eq!((gate.verdict, gate.overridden, gate.why.as_str()), (Verdict::Failed, true, "why"));
    scene.later(61);
    assert_eq!(asked(&metrics(scene.at())), METRICS[..1]);
}

#[test]
fn an_override_that_is_over_before_its_gate_ends_lets_nothing_pass() {
    let mut scene = Scene::new(UpgradeStep::MetricGate, json!({}));
    scene.let_pass("Logs", 60);
    scene.later(60);
    scene.ends(LOGS, result(Verdict::Failed));
    assert_eq!(back(&next(&mut scene)), "the gate Logs failed: why");
    assert!(!scene.gate("Logs").overridden);
}

#[test]
fn what_passes_by_itself_was_not_let_pass() {
    let mut scene = Scene::new(UpgradeStep::MetricGate, json!({}));
    scene.let_pass("Logs", 60);
    scene.ends(LOGS, result(Verdict::Passed));
    next(&mut scene);
    assert!(!scene.gate("Logs").overridden);
}

#[test]
fn a_load_that_is_let_pass_is_not_repeated() {
    let mut scene = scene(json!({}));
    scene.let_pass("Metrics", 60);
    scene.ends(METRICS[0], load(0, 90_000));
    assert_eq!(next(&mut scene), Next::To(UpgradeStep::MetricGate));
    assert!(scene.gate("Metrics").overridden);
}

#[test]
fn health_that_is_let_pass_ends_with_what_it_saw_last_once_the_server_is_ready() {
    let mut scene = Scene::new(UpgradeStep::HealthGate, json!({}));
    scene.let_pass("Health", 3_600);
    assert_eq!(asked(&health(scene.at())), ["HealthGate-Health"]);
    scene.shows("HealthGate-Health", GateResult::nothing("5 in a row", "the version is 2 and not 3"));
    let turn = health(scene.at());
    assert_eq!(scene.follow(turn), Next::To(UpgradeStep::SmokeGate));
    let gate = scene.gate("Health");
    assert!(gate.overridden && gate.why == "the version is 2 and not 3", "{gate:?}");
    // Nobody could use a server that is not ready.
    scene.facts.pod = Some(Pod::default());
    assert_eq!(asked(&health(scene.at())), ["HealthGate-Health"]);
    scene.later(301);
    assert!(back(&health(scene.at()).found.1).contains("within 5m"));
}

/// The step in which the Job of the resource's owner has come to this, after so many seconds.
fn own_test(found: UpgradeJobFacts, seconds: i64) -> Scene {
    let job = json!({ "deadline": "10m", "template": { "spec": {} } });
    let mut scene = scene(json!({ "gates": { "job": job, "metrics": { "minimumSamples": 0 } } }));
    scene.tests(found);
    scene.later(seconds);
    scene
}

fn failed(ended: &[(&str, i64, &str)]) -> UpgradeJobFacts {
    let of = |(name, code, message): &(&str, i64, &str)| {
        let ended =
            EndedContainer { passed: *code == 0, exit_code: Some(*code), message: (*message).into(), millis: 1 };
        ((*name).to_owned(), ended)
    };
    let failure = Failure { at: None, message: "Job has reached the specified backoff limit".into() };
    let job = Job { failure: Some(failure), ..Job::default() };
    UpgradeJobFacts { job, ended: ended.iter().map(of).collect(), ..UpgradeJobFacts::default() }
}

#[test]
fn the_exit_code_of_ones_own_test_is_the_verdict() {
    let complete = Job { is_complete: true, ..Job::default() };
    // Also if its pod is gone.
    let mut good = own_test(UpgradeJobFacts { job: complete, ..UpgradeJobFacts::default() }, 0);
    assert_eq!(next(&mut good), Next::To(UpgradeStep::MetricGate));
    let gate = good.gate("Job");
    assert_eq!(
        (gate.verdict, gate.value.as_str(), gate.threshold.as_str()),
        (Verdict::Passed, "exit code 0", "exit code 0 within 10m")
    );
    assert_eq!(next(&mut good), Next::To(UpgradeStep::Promote));

    let mut bad = own_test(failed(&[("load", 0, ""), ("test", 3, "orders are missing")]), 0);
    let why = "Job has reached the specified backoff limit: orders are missing";
    assert_eq!(back(&next(&mut bad)), format!("the gate Job failed: {why}"));
    let gate = bad.gate("Job");
    assert_eq!((gate.value.as_str(), gate.samples, gate.why.as_str()), ("exit code 3 of test", 2, why));
    // Its pod is gone, and with it what it said.
    let mut gone = own_test(failed(&[]), 0);
    assert!(back(&next(&mut gone)).ends_with("backoff limit"));
    assert_eq!(gone.gate("Job").value, "no exit code");
}

#[test]
fn ones_own_test_has_until_its_deadline_and_is_not_waited_for_if_it_is_let_pass() {
    let running = || UpgradeJobFacts { job: Job { pod: Some(Pod::default()), ..Job::default() }, ..Default::default() };
    assert_eq!(next(&mut own_test(running(), 600)), Next::Stay);
    let mut late = own_test(running(), 601);
    assert_eq!(back(&next(&mut late)), "the gate Job failed: it did not end in time");
    let mut unwanted = own_test(running(), 5);
    unwanted.let_pass("Job", 60);
    assert_eq!(next(&mut unwanted), Next::To(UpgradeStep::MetricGate));
    let gate = unwanted.gate("Job");
    assert!(gate.overridden && gate.verdict == Verdict::Inconclusive, "{gate:?}");
}

#[test]
fn ones_own_test_that_the_cluster_refuses_fails_within_a_minute() {
    let mut scene = own_test(failed(&[]), 60);
    scene.facts.upgrade.jobs.clear();
    scene.facts.refusal = Some("creating the Job: its pod has no containers".into());
    assert_eq!(next(&mut scene), Next::Stay);
    scene.later(1);
    assert_eq!(back(&next(&mut scene)), "the gate Job failed: creating the Job: its pod has no containers");
    assert_eq!(scene.gate("Job").samples, 0);
    // One that is not there for another reason has its time.
    scene.facts.refusal = None;
    assert_eq!(next(&mut scene), Next::Stay);
    scene.later(540);
    assert_eq!(back(&next(&mut scene)), "the gate Job failed: it did not end in time");
}

#[test]
fn ones_own_test_that_no_node_can_take_fails_within_a_minute() {
    let pod = Pod { unschedulable: Some("0/1 nodes are available".into()), ..Pod::default() };
    let found = || UpgradeJobFacts { job: Job { pod: Some(pod.clone()), ..Job::default() }, ..Default::default() };
    assert_eq!(next(&mut own_test(found(), 60)), Next::Stay);
    let mut scene = own_test(found(), 61);
    assert_eq!(back(&next(&mut scene)), "the gate Job failed: no node can take the pod: 0/1 nodes are available");
    assert_eq!(scene.gate("Job").value, "it was not started");
}
