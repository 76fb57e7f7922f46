use serde_json::json;

use super::{
    super::test_scene::{Scene, asked, load},
    *,
};
use crate::crd::{Hold, Measured};

fn scene() -> Scene {
    Scene::new(UpgradeStep::Approval, json!({}))
}

fn turn(scene: &Scene) -> Turn {
    measure(scene.at(), scene.record.clone())
}

/// Has one load after another end as these do, each as it is asked for.
fn measured(scene: &mut Scene, loads: &[GateResult]) {
    for load in loads {
        let turn = turn(scene);
        let [name] = asked(&turn)[..] else { panic!("{:?}", asked(&turn)) };
        scene.ends(name, load.clone());
    }
}

fn reason(next: &Next) -> &str {
    match next {
        Next::Hold(hold) => &hold.reason,
        _ => "",
    }
}

#[test]
fn the_best_of_three_loads_is_what_the_new_server_is_held_to() {
    let mut scene = scene();
    measured(&mut scene, &[load(0, 9_000), load(0, 4_000), load(0, 30_000)]);
    let last = turn(&scene);
    assert_eq!((asked(&last), &last.found.1), (vec![], &Next::Stay));
    scene.follow(last);
    assert_eq!(scene.record.baseline.as_ref().map(|load| load.p99_micros), Some(4_000));
    assert_eq!(scene.record.timings.load_millis, Some(7));
    let gate = scene.gate(NAME);
    assert_eq!((gate.verdict, gate.samples, gate.why.as_str()), (Verdict::Passed, 1_000, "the best of 3"));
    let next = turn(&scene);
    assert_eq!(next.found.1, Next::To(UpgradeStep::Drain));
    assert_eq!(next.found.0.drained_pod.as_deref(), Some("p"));
}

#[test]
fn a_load_that_is_no_measure_is_repeated_up_to_the_limit_and_one_that_is_suffices() {
    let mut scene = Scene::new(UpgradeStep::Approval, json!({ "gates": { "metrics": { "failureLimit": 5 } } }));
    measured(&mut scene, &[load(500, 1), load(500, 1), load(500, 1), load(500, 1), load(499, 8_000)]);
    let last = turn(&scene);
    scene.follow(last);
    assert_eq!(scene.record.baseline.as_ref().map(|load| load.p99_micros), Some(8_000));
    assert_eq!(scene.gate(NAME).why, "the best of 1");
}

fn without_keys() -> GateResult {
    GateResult::nothing("1000 requests", "the Secret has no backend key: add one")
}

#[test]
fn a_server_that_cannot_be_measured_holds_the_upgrade_while_it_still_serves() {
    let few = Measured { requests: 120, errors: 0, p50_micros: 1, p99_micros: 1 };
    let few = GateResult { load: Some(few), ..GateResult::new(Verdict::Inconclusive, "few", "", 120, "too few") };
    for (unusable, why) in [(without_keys(), "no backend key"), (few, "too few"), (load(500, 1), "500 of 1000 failed")]
    {
        let mut scene = scene();
        measured(&mut scene, &vec![unusable; 3]);
        let turn = turn(&scene);
        let Next::Hold(hold) = &turn.found.1 else { panic!("{:?}", turn.found.1) };
        assert_eq!((hold.reason.as_str(), hold.is_stuck), ("BaselineUnusable", false));
        assert_eq!(hold.next_command.as_deref(), Some("kubectl progressdb override db Baseline"));
        assert!(hold.message.contains(why), "{}", hold.message);
    }
}

#[test]
fn while_it_is_held_it_is_measured_again_every_few_minutes_and_goes_on_by_itself() {
    let mut scene = scene();
    measured(&mut scene, &[without_keys(), without_keys(), without_keys()]);
    let first = turn(&scene);
    let [again] = asked(&first)[..] else { panic!("{:?}", asked(&first)) };
    scene.ends(again, load(800, 3));
    let held = turn(&scene);
    // The same is said, and nothing is asked for until it is time.
    assert_eq!((asked(&held), &held.found), (vec![], &first.found));
    scene.later(PAUSE);
    let other = turn(&scene);
    let [later] = asked(&other)[..] else { panic!("{:?}", asked(&other)) };
    assert!(later != again && reason(&other.found.1) == "BaselineUnusable");
    scene.ends(later, load(0, 5_000));
    let found = turn(&scene);
    assert_eq!(scene.follow(found), Next::Stay);
    assert_eq!(scene.record.baseline.as_ref().map(|load| load.p99_micros), Some(5_000));
}

#[test]
fn a_person_may_go_on_without_and_that_is_told() {
    let mut scene = scene();
    scene.let_pass(NAME, 60);
    // Not before it was tried.
    assert_eq!(asked(&turn(&scene)), ["Baseline"]);
    measured(&mut scene, &[without_keys(), without_keys(), without_keys()]);
    let released = turn(&scene);
    assert_eq!(scene.follow(released), Next::To(UpgradeStep::Drain));
    let gate = scene.gate(NAME);
    assert!(gate.overridden && gate.verdict == Verdict::Inconclusive, "{gate:?}");
    assert!(gate.why.contains("no backend key") && gate.why.contains("only errors"), "{}", gate.why);
    assert_eq!(scene.record.baseline, None);
}

#[test]
fn whatever_was_held_looks_at_the_new_pod_once_more_before_anything_stops() {
    let mut scene = scene();
    scene.let_pass(NAME, 60);
    for reason in ["WindowClosed", UNUSABLE] {
        scene.record.hold = Some(Hold { reason: reason.into(), ..Hold::default() });
        measured(&mut scene, &if reason == UNUSABLE { vec![without_keys(); 3] } else { vec![] });
        let held = turn(&scene);
        assert_eq!((asked(&held), &held.found.1), (vec![], &Next::Stay), "{reason}");
    }
    scene.record.hold = None;
    assert_eq!(turn(&scene).found.1, Next::To(UpgradeStep::Drain));
}

#[test]
fn a_server_without_a_pod_is_waited_for_and_stopped_unmeasured_only_if_a_person_says_so() {
    let mut scene = scene();
    scene.facts.upgrade.server = None;
    assert!(matches!(turn(&scene).found.1, Next::Hold(hold) if hold.reason == UNUSABLE && !hold.is_stuck));
    scene.let_pass(NAME, 60);
    let turn = turn(&scene);
    assert_eq!(scene.follow(turn), Next::To(UpgradeStep::Drain));
    assert!(scene.gate(NAME).why.contains("only errors"));
}

#[test]
fn without_a_load_or_another_image_nothing_is_measured() {
    let without = Scene::new(UpgradeStep::Approval, json!({ "gates": { "metrics": { "minimumSamples": 0 } } }));
    assert_eq!(turn(&without).found.1, Next::To(UpgradeStep::Drain));
    let mut settings = scene();
    settings.record.changes_image = false;
    assert_eq!(turn(&settings).found.1, Next::To(UpgradeStep::Drain));
}
