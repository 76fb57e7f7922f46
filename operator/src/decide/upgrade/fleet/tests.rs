//! What each step of a fleet decides, by tables of facts.

mod backups;
mod comparison;
mod finalization;
mod waits;

use std::collections::BTreeMap;

use serde_json::json;

use super::{super::test_scene::*, *};
use crate::{
    crd::{CanaryStatus, Hold, Outcome, PodCounters, Verdict},
    facts::{Container, EndedContainer, Failure, FleetPod, Job, State, UpgradeJobFacts},
    gate::{Gate, GateResult},
    objects::{MAIN, UpgradeJob, labels::Track},
};

/// Takes the step, and has the record say what it wants.
fn next(scene: &mut Scene) -> Next {
    let turn = step(scene.at());
    scene.follow(turn)
}

/// What the step asks for.
fn gates(scene: &Scene) -> Vec<String> {
    step(scene.at()).gates.into_iter().map(|request| request.name).collect()
}

#[track_caller]
fn back(next: Next, said: &str) {
    match next {
        Next::GoBack(why) if why.contains(said) => {}
        other => panic!("{said}: {other:?}"),
    }
}

/// It is held, and what is held is on record as it would be.
#[track_caller]
fn held(scene: &mut Scene, next: Next, reason: &str, said: &str) -> Hold {
    match next {
        Next::Hold(hold) if hold.reason == reason && hold.message.contains(said) => {
            assert!(hold.next_command.is_some(), "{reason} names no command");
            scene.record.hold = Some(hold.clone());
            hold
        }
        other => panic!("{reason}: {other:?}"),
    }
}

fn passed() -> GateResult {
    GateResult { took_millis: Some(1), ..GateResult::new(Verdict::Passed, "good", "", 1, "") }
}

#[test]
fn canaries_that_prove_bad_go_back_in_every_step() {
    use UpgradeStep::*;
    for step in [Canary, HealthGate, SmokeGate, MetricGate] {
        let mut scene = Scene::of_fleet(step, json!({}));
        scene.pod("c-1").container = Container { restarts: 1, ..Container::default() };
        back(next(&mut scene), "the pod c-1 was restarted");
    }
    // A stable pod that is restarted is nothing that the release has done.
    let mut scene = Scene::of_fleet(SmokeGate, json!({}));
    scene.pod("s-1").container.restarts = 3;
    assert_eq!(next(&mut scene), Next::Stay);
}

#[test]
fn every_canary_has_to_be_healthy_and_taken_for_ready() {
    let mut scene = Scene::of_fleet(UpgradeStep::HealthGate, json!({ "gates": { "health": { "deadline": "30s" } } }));
    scene.record.canary = Some(CanaryStatus { step: 3, replicas: 2, ..CanaryStatus::default() });
    assert_eq!(gates(&scene), Vec::<String>::new(), "one is missing");
    scene.fleet().pods.push(server("c-2", Track::Canary, "new"));
    scene.fleet().canary.as_mut().unwrap().replicas = 2;
    scene.pod("c-2").is_ready = false;
    for pod in ["c-1", "c-2"] {
        let [request] = &*step(scene.at()).gates else { panic!("{:?}", gates(&scene)) };
        assert_eq!((request.name.as_str(), request.pod_uid.as_str()), ("HealthGate-Health", pod));
        scene.facts.upgrade.gates.insert((request.name.clone(), pod.to_owned()), passed());
    }
    assert_eq!(next(&mut scene), Next::Stay, "the cluster does not route to the second one");
    scene.later(31);
    back(next(&mut scene), "not healthy and ready within 30s");
    scene.pod("c-2").is_ready = true;
    assert_eq!(next(&mut scene), Next::To(UpgradeStep::SmokeGate));
}

#[test]
fn steps_that_add_no_canary_are_left_out_and_settings_need_one() {
    let steps = |policy: serde_json::Value, changes_image: bool| {
        let mut scene = Scene::of_fleet(UpgradeStep::MetricGate, policy);
        scene.record.changes_image = changes_image;
        let mut found = Vec::new();
        let mut from = 1;
        loop {
            let turn = canary::begin(scene.at(), from);
            match scene.follow(turn) {
                Next::To(UpgradeStep::Canary) => {}
                Next::To(UpgradeStep::Promote) => return found,
                other => panic!("{other:?}"),
            }
            let canary = scene.record.canary.clone().unwrap();
            found.push((canary.step, canary.replicas));
            from = canary.step + 1;
        }
    };
    assert_eq!(steps(json!({}), true), [(1, 1), (3, 2)]);
    assert_eq!(steps(json!({}), false), [(1, 1)]);
    assert_eq!(steps(json!({ "canary": { "steps": ["100%", 1] } }), true), [(1, 3)]);
}

/// What the step writes, in words.
fn writes(scene: &Scene) -> Vec<String> {
    step(scene.at()).writes.iter().map(|write| format!("{} {}", write.name(), write.about())).collect()
}

#[test]
fn none_of_the_old_pods_is_touched_for_canaries_and_what_others_change_is_set_right() {
    use UpgradeStep::*;
    for step in [Preflight, SnapshotOnline, Approval, Canary, HealthGate, SmokeGate, MetricGate] {
        let mut scene = Scene::of_fleet(step, json!({ "approval": "Manual" }));
        let first = writes(&scene);
        assert!(first.iter().all(|write| !write.contains("Deployment")), "{step:?}: {first:?}");
        // Somebody scales both.
        scene.fleet().stable.as_mut().unwrap().replicas = 1;
        scene.fleet().canary.as_mut().unwrap().replicas = 9;
        let found = writes(&scene);
        assert!(found.contains(&"apply Deployment db".to_owned()), "{step:?}: {found:?}");
        let has_canaries = found.contains(&"apply Deployment db-canary".to_owned());
        assert_eq!(has_canaries, step >= Canary, "{step:?}: {found:?}");
    }
}

#[test]
fn a_scale_in_the_middle_is_followed_by_both_tracks() {
    let mut scene = Scene::of_fleet(UpgradeStep::MetricGate, json!({ "canary": { "steps": ["50%"] } }));
    scene.record.canary.as_mut().unwrap().replicas = 2;
    scene.fleet().canary.as_mut().unwrap().replicas = 2;
    scene.spec.replicas = Some(2);
    assert_eq!(next(&mut scene), Next::Stay);
    assert_eq!(scene.record.canary.as_ref().unwrap().replicas, 1);
    let writes = writes(&scene);
    let deployments: Vec<&String> = writes.iter().filter(|write| write.contains("Deployment")).collect();
    assert_eq!(deployments, ["apply Deployment db", "apply Deployment db-canary"]);
    // An autoscaler goes up again: more canaries would begin the comparison anew each time.
    scene.spec.replicas = Some(8);
    assert_eq!(next(&mut scene), Next::Stay);
    assert_eq!(scene.record.canary.as_ref().unwrap().replicas, 1);
    let turn = canary::begin(scene.at(), 1);
    assert_eq!(scene.follow(turn), Next::To(UpgradeStep::Canary));
    assert_eq!(scene.record.canary.as_ref().unwrap().replicas, 4, "each step begins with its share");
}

/// A promotion in which all stable pods run the new image, or only the last one does not.
fn promotion(is_done: bool) -> Scene {
    let mut scene = Scene::of_fleet(UpgradeStep::Promote, json!({}));
    scene.record.promoted = true;
    scene.fleet().stable = Some(deployment("db", "new", 3));
    for name in ["s-1", "s-2", "s-3"] {
        scene.pod(name).roll = Some("new".into());
    }
    if !is_done {
        scene.pod("s-3").roll = Some("old".into());
    }
    scene
}

#[test]
fn canaries_go_when_all_pods_run_the_new_image_and_not_before() {
    let mut scene = promotion(false);
    assert_eq!((next(&mut scene), writes(&scene)), (Next::Stay, Vec::<String>::new()));
    let mut scene = promotion(true);
    assert_eq!((next(&mut scene), writes(&scene)), (Next::Stay, vec!["delete Deployment db-canary".to_owned()]));
    (scene.fleet().canary, scene.pod("c-1").is_deleted) = (None, true);
    assert_eq!(next(&mut scene), Next::Stay, "its pod has not ended");
    scene.fleet().pods.retain(|server| server.track == Track::Stable);
    assert_eq!(next(&mut scene), Next::To(UpgradeStep::Soak));
}

#[test]
fn a_pod_that_fails_in_the_promotion_leads_back_as_the_policy_says() {
    let failing = |policy: &str| {
        let mut scene = promotion(false);
        scene.spec.upgrade.rollback.after_promotion = serde_json::from_value(json!(policy)).unwrap();
        scene.pod("s-1").container.restarts = 1;
        next(&mut scene)
    };
    back(failing("ImageOnly"), "the new image fails while clients use it: the pod s-1 was restarted");
    assert_eq!(failing("Never"), Next::Stay);
    let mut scene = promotion(false);
    held(&mut scene, failing("Approve"), "RollbackRequiresApproval", "going back loses nothing");
}

#[test]
fn a_promotion_that_takes_long_is_told_and_goes_on() {
    let mut scene = promotion(false);
    scene.later(3 * (300 + 45 + 120) + 1);
    let slow = next(&mut scene);
    let hold = held(&mut scene, slow, "RolloutSlow", "(not s-3); none is stopped before its successor does");
    assert_eq!((hold.is_stuck, &*hold.next_command.unwrap()), (false, "kubectl progressdb abort db (to go back)"));
    let mut done = promotion(true);
    (done.now, done.fleet().canary) = (scene.now, None);
    done.fleet().pods.retain(|server| server.track == Track::Stable);
    assert_eq!(next(&mut done), Next::To(UpgradeStep::Soak));
}

#[test]
fn before_the_promotion_going_back_takes_the_canaries_away_and_nothing_else() {
    let mut scene = Scene::of_fleet(UpgradeStep::RollbackStop, json!({}));
    scene.record.message = Some("why".into());
    assert_eq!((next(&mut scene), writes(&scene)), (Next::Stay, vec!["delete Deployment db-canary".to_owned()]));
    scene.fleet().canary = None;
    assert_eq!((next(&mut scene), writes(&scene)), (Next::Stay, Vec::<String>::new()));
    scene.later(181);
    let stuck = next(&mut scene);
    held(&mut scene, stuck, "RollbackStuck", "the canaries do not go away");
    scene.fleet().pods.retain(|server| server.track == Track::Stable);
    assert_eq!(next(&mut scene), Next::End(Outcome::RolledBack, "why".into()));
    assert_eq!(writes(&scene), Vec::<String>::new());
}

#[test]
fn after_the_promotion_all_pods_take_the_old_image_again() {
    let mut scene = promotion(true);
    scene.record.step = UpgradeStep::RollbackStop;
    scene.fleet().canary = None;
    scene.fleet().pods.retain(|server| server.track == Track::Stable);
    assert_eq!((next(&mut scene), writes(&scene)), (Next::To(UpgradeStep::RollbackStart), Vec::<String>::new()));
    scene.record.step = UpgradeStep::RollbackStart;
    assert_eq!(writes(&scene), ["apply ConfigMap db-config-old", "apply Deployment db"]);
    scene.fleet().stable = Some(deployment("db", "old", 3));
    assert_eq!(next(&mut scene), Next::Stay, "the pods are still the new ones");
    for name in ["s-1", "s-2", "s-3"] {
        scene.pod(name).roll = Some("old".into());
    }
    assert_eq!(next(&mut scene), Next::To(UpgradeStep::RollbackGate));
    scene.record.step = UpgradeStep::RollbackGate;
    for pod in ["s-1", "s-2", "s-3"] {
        assert_eq!(next(&mut scene), Next::Stay);
        scene.facts.upgrade.gates.insert(("RollbackGate-Health".into(), pod.into()), passed());
    }
    assert!(matches!(next(&mut scene), Next::End(Outcome::RolledBack, _)));
}

/// A Job that has ended with this, or has failed.
fn ended(job: UpgradeJob, code: i64, message: &str) -> (UpgradeJob, UpgradeJobFacts) {
    let container = EndedContainer { passed: code == 0, exit_code: Some(code), message: message.into(), millis: 1 };
    let failure = (code != 0).then(|| Failure { at: None, message: "BackoffLimitExceeded".into() });
    let of_job =
        Job { name: job.as_str().into(), uid: job.as_str().into(), is_complete: code == 0, failure, ..Job::default() };
    let of_job = Job { pod: Some(Pod::default()), ..of_job };
    (job, UpgradeJobFacts { job: of_job, ended: [(MAIN.to_owned(), container)].into(), ..UpgradeJobFacts::default() })
}

#[test]
fn tables_that_are_missing_are_added_before_anything_else() {
    let version = json!({ "version": "0.4.0", "formats": { "reads": [1, 2] }, "migrations": [] }).to_string();
    let scene = |schema: (i64, &str)| {
        let mut scene = Scene::of_fleet(UpgradeStep::Preflight, json!({}));
        scene.proves_well();
        let jobs = [ended(UpgradeJob::Version, 0, &version), ended(UpgradeJob::Schema, schema.0, schema.1)];
        scene.facts.upgrade.jobs.extend(jobs);
        scene
    };
    let mut there = scene((0, ""));
    assert_eq!(next(&mut there), Next::Stay);
    assert_eq!(there.gate("Schema").value, "nothing was missing");
    assert_eq!(next(&mut there), Next::To(UpgradeStep::Approval));
    assert_eq!(there.record.backing, Some(crate::crd::Backing::NotApplicable));

    let mut missing = scene((78, "the table expiry is missing"));
    assert_eq!(
        (next(&mut missing), writes(&missing)),
        (Next::Stay, vec!["create Job db-0123abcd-schema-apply".to_owned()])
    );
    missing.facts.upgrade.jobs.extend([ended(UpgradeJob::SchemaApply, 0, "")]);
    assert_eq!(next(&mut missing), Next::Stay);
    assert_eq!(missing.gate("Schema").value, "what was missing was added");

    let mut denied = scene((1, "the cluster does not answer"));
    let hold = next(&mut denied);
    let hold = held(&mut denied, hold, "SchemaFailed", "the cluster does not answer");
    assert_eq!(hold.next_command.as_deref(), Some("kubectl delete job db-0123abcd-schema"));
    let mut denied = scene((78, "missing"));
    denied.facts.upgrade.jobs.extend([ended(UpgradeJob::SchemaApply, 1, "may not create tables")]);
    let hold = next(&mut denied);
    held(&mut denied, hold, "SchemaFailed", "may not create tables");
}

#[test]
fn what_is_asked_for_in_the_middle_gives_the_canaries_up_and_later_goes_back() {
    use UpgradeStep::*;
    let asks = |for_old: Option<&'static str>, for_another: Option<&'static str>| Asks { for_old, for_another };
    let asked = |step: UpgradeStep, asks: Asks, suspend: bool| {
        let mut scene = Scene::of_fleet(step, json!({}));
        scene.spec.suspend = suspend;
        interruption(scene.at(), asks)
    };
    for step in [Canary, HealthGate, SmokeGate, MetricGate] {
        let goes = |next: Option<Next>, why: &str| assert_eq!(next, Some(Next::GoBack(why.into())), "{step:?}");
        goes(asked(step, asks(Some("old"), None), false), "old");
        goes(asked(step, asks(None, Some("another")), false), "another");
        goes(asked(step, asks(None, None), true), "the resource is suspended");
        assert_eq!(asked(step, asks(None, None), false), None);
    }
    for step in [Promote, Soak] {
        assert_eq!(asked(step, asks(Some("old"), None), false), Some(Next::GoBack("old".into())));
        assert_eq!(asked(step, asks(None, Some("another")), true), None);
    }
    // Where the policy bars the way back, all that counts is a word, as long as not all servers are new.
    for (step, is_aborted, leads_back) in [(Promote, true, true), (Promote, false, false), (Soak, true, false)] {
        let mut scene = Scene::of_fleet(step, json!({ "rollback": { "afterPromotion": "Never" } }));
        scene.facts.upgrade.aborted = is_aborted.then(|| "0123abcd".into());
        let found = interruption(scene.at(), asks(Some("old"), None));
        assert_eq!(found, leads_back.then(|| Next::GoBack("old".into())), "{step:?}, {is_aborted}");
    }
    for step in [FinalizeSnapshot, FinalizeMigrate, FinalizeGate, RollbackStop, RollbackStart] {
        assert_eq!(asked(step, asks(Some("old"), Some("another")), true), None, "{step:?}");
    }
}

#[test]
fn a_step_that_a_fleet_has_not_leads_back() {
    for step in [UpgradeStep::Drain, UpgradeStep::Swap, UpgradeStep::SnapshotFinal] {
        back(next(&mut Scene::of_fleet(step, json!({}))), "a step that a fleet has not");
    }
}

#[test]
fn a_fleet_is_tried_against_only_if_all_of_it_serves() {
    let fleet = |change: fn(&mut Fleet)| {
        let mut fleet = Fleet {
            stable: Some(deployment("db", "old", 2)),
            pods: vec![server("s-1", Track::Stable, "old"), server("s-2", Track::Stable, "old")],
            ..Fleet::default()
        };
        change(&mut fleet);
        (serves(&fleet, "old"), is_about_to_serve(&fleet, jiff::Timestamp::UNIX_EPOCH))
    };
    assert_eq!(fleet(|_| ()), (true, true));
    assert_eq!(fleet(|fleet| fleet.stable.as_mut().unwrap().updated = 1), (false, true));
    assert_eq!(fleet(|fleet| fleet.pods[0].pod.is_ready = false), (false, true));
    assert_eq!(fleet(|fleet| fleet.pods[0].pod.roll = None), (false, true));
    let crashes = |server: &mut FleetPod| {
        let state = State::Waiting("ImagePullBackOff".into(), String::new());
        server.pod.container.state = state;
        server.pod.is_ready = false;
    };
    assert_eq!(fleet(|fleet| fleet.pods.clear()), (true, true));
    let mut one = vec![server("s-1", Track::Stable, "old"), server("s-2", Track::Stable, "old")];
    crashes(&mut one[0]);
    let mut half = Fleet { pods: one.clone(), ..Fleet::default() };
    assert!(is_about_to_serve(&half, jiff::Timestamp::UNIX_EPOCH));
    crashes(&mut half.pods[1]);
    assert!(!is_about_to_serve(&half, jiff::Timestamp::UNIX_EPOCH), "none of them will serve by waiting");
}
