//! The comparison of canaries with the servers beside them, look by look.

use super::*;

/// What every pod has counted: so many requests of each stable pod and of each canary, so many of which are slow.
fn counted(stable: i64, canary: i64, slow: i64) -> GateResult {
    let pod = |name: &str, canary: bool, requests: i64, slow: i64| PodCounters {
        pod: name.into(),
        uid: name.into(),
        canary,
        started_at: 1,
        requests,
        errors: 0,
        buckets: BTreeMap::from([("0.01".to_owned(), requests - slow), ("1".to_owned(), requests)]),
    };
    let pods = [("s-1", false), ("s-2", false), ("s-3", false), ("c-1", true)];
    let told = pods.map(|(name, is_canary)| match is_canary {
        true => pod(name, true, canary, slow),
        false => pod(name, false, stable, 0),
    });
    GateResult { counters: Some(told.into()), ..GateResult::default() }
}

/// The metric gate of canaries whose logs are good, with a comparison of a minute.
fn scene(more: serde_json::Value) -> Scene {
    let mut policy = json!({ "canary": { "stepDuration": "60s" } });
    policy.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let mut scene = Scene::of_fleet(UpgradeStep::MetricGate, policy);
    scene.facts.upgrade.gates.insert(("MetricGate-Logs".into(), "c-1".into()), passed());
    assert_eq!(next(&mut scene), Next::To(UpgradeStep::MetricGate));
    scene
}

/// The gate that is asked for ends with this.
fn tell(scene: &mut Scene, which: &str, found: GateResult) {
    let [name] = &*gates(scene) else { panic!("{:?}", gates(scene)) };
    assert!(name.starts_with(&format!("MetricGate-{which}-")), "{name}");
    let found = GateResult { took_millis: Some(1), ..found };
    scene.facts.upgrade.gates.insert((name.clone(), String::new()), found);
}

/// After the warm-up, with what was counted until then.
fn begun(more: serde_json::Value) -> Scene {
    let mut scene = scene(more);
    assert_eq!((next(&mut scene), gates(&scene)), (Next::Stay, Vec::<String>::new()), "they are cold");
    scene.later(6);
    tell(&mut scene, "Begin", counted(5_000, 10, 10));
    assert_eq!(next(&mut scene), Next::Stay);
    let window = scene.record.canary.as_ref().unwrap().window.clone().expect("it has begun");
    assert_eq!((window.since, window.pods.len()), (Some(scene.now), 4));
    scene
}

#[test]
fn canaries_that_are_as_good_pass_once_the_step_is_over() {
    let mut scene = begun(json!({}));
    scene.later(30);
    tell(&mut scene, "Look", counted(7_000, 3_010, 10));
    assert_eq!(next(&mut scene), Next::Stay, "it is not over");
    scene.later(30);
    tell(&mut scene, "Look", counted(9_000, 3_010, 10));
    assert_eq!(next(&mut scene), Next::To(UpgradeStep::MetricGate));
    assert_eq!((scene.gate("Metrics").verdict, scene.gate("Metrics").samples), (Verdict::Passed, 3_000));
    // A quarter of three is one: there are two at the next step.
    assert_eq!(next(&mut scene), Next::To(UpgradeStep::Canary));
    let canary = scene.record.canary.clone().unwrap();
    assert_eq!(canary, CanaryStatus { step: 3, replicas: 2, ..CanaryStatus::default() });
    assert!(scene.record.gates.is_empty(), "each step passes its gates anew: {:?}", scene.record.gates);
}

#[test]
fn canaries_that_are_slow_go_back_after_as_many_looks_as_may_fail() {
    let mut scene = begun(json!({}));
    scene.later(3);
    tell(&mut scene, "Look", counted(7_000, 510, 510));
    assert_eq!(next(&mut scene), Next::Stay);
    assert!(scene.record.canary.as_ref().unwrap().failing_since.is_some());
    // It was busy for a moment.
    scene.later(3);
    tell(&mut scene, "Look", counted(8_000, 9_010, 11));
    assert_eq!(next(&mut scene), Next::Stay);
    assert_eq!(scene.record.canary.as_ref().unwrap().failing_since, None);
    for seconds in [3, 3, 3] {
        scene.later(seconds);
        tell(&mut scene, "Look", counted(9_000, 19_010, 9_000));
        match seconds {
            _ if scene.record.canary.as_ref().unwrap().failing_since.is_none() => {
                assert_eq!(next(&mut scene), Next::Stay);
            }
            _ => drop(next(&mut scene)),
        }
    }
    back(next(&mut scene), "the gate Metrics failed: too many requests take longer");
    assert_eq!(scene.gate("Metrics").verdict, Verdict::Failed);
}

#[test]
fn canaries_that_stop_being_ready_are_not_passed_over() {
    let mut scene = begun(json!({ "gates": { "health": { "deadline": "90s" } } }));
    scene.later(61);
    scene.pod("c-1").is_ready = false;
    assert_eq!((gates(&scene), next(&mut scene)), (vec![], Next::Stay), "nobody is there to be compared");
    scene.later(80);
    assert_eq!(next(&mut scene), Next::Stay);
    scene.pod("c-1").is_ready = true;
    tell(&mut scene, "Look", counted(9_000, 3_010, 10));
    assert_eq!(next(&mut scene), Next::Stay);
    assert_eq!(scene.record.canary.as_ref().unwrap().failing_since, None, "it came back in time");
    scene.pod("c-1").is_ready = false;
    assert_eq!(next(&mut scene), Next::Stay);
    scene.later(91);
    back(next(&mut scene), "the gate Metrics failed: canaries were not ready for 90s");
}

/// The operator comes back when the period has passed in which it asked, each time.
#[test]
fn what_was_told_counts_also_for_whoever_comes_late() {
    let mut scene = scene(json!({ "canary": { "steps": [1], "stepDuration": "10s" } }));
    let late = |scene: &mut Scene, which: &str, found: GateResult| {
        tell(scene, which, found);
        scene.later(3);
        next(scene)
    };
    scene.later(6);
    assert_eq!(late(&mut scene, "Begin", counted(5_000, 10, 10)), Next::Stay);
    assert_eq!(scene.record.canary.as_ref().unwrap().window.as_ref().map(|window| window.pods.len()), Some(4));
    let mut looks = 0;
    scene.later(1);
    while late(&mut scene, "Look", counted(9_000, 3_010, 10)) == Next::Stay {
        looks += 1;
        assert!(looks < 10, "it never gets to the end of the step");
    }
    assert_eq!(scene.gate("Metrics").verdict, Verdict::Passed);
    assert!(looks >= 3, "a step lasts ten seconds, and not {looks} looks of three");
}

/// An idle fleet until the operator has asked both tracks itself, with what that found.
fn probed(stable: i64, canary: i64) -> (Scene, Next) {
    let mut scene = begun(json!({}));
    scene.later(60);
    tell(&mut scene, "Look", counted(5_100, 60, 10));
    for (pod, slowest) in [("s-1", stable), ("c-1", canary)] {
        let [probe] = &*step(scene.at()).gates else { panic!("{:?}", gates(&scene)) };
        assert_eq!((probe.name.as_str(), probe.pod_uid.as_str()), ("MetricGate-Probes", pod));
        assert!(matches!(probe.gate, Gate::Load { samples: 1_000 }));
        let found = GateResult { took_millis: Some(1), ..load(0, slowest) };
        scene.facts.upgrade.gates.insert((probe.name.clone(), pod.to_owned()), found);
    }
    let next = next(&mut scene);
    (scene, next)
}

#[test]
fn an_idle_fleet_is_asked_by_the_operator_and_waits_for_users() {
    let (mut scene, first) = probed(1_000, 1_200);
    let hold = held(&mut scene, first, "GateInconclusive", "users ask the canaries or the stable pods too little");
    assert_eq!((hold.is_stuck, hold.next_command.as_deref()), (false, Some("kubectl progressdb override db Metrics")));
    assert_eq!((scene.gate("Probes").verdict, scene.gate("Metrics").verdict), (Verdict::Passed, Verdict::Inconclusive));
    let canary = scene.record.canary.clone().unwrap();
    assert!(canary.probed && canary.window.is_none(), "what it asked itself does not count");
    // It waits as it is, and looks now and then.
    let told = scene.record.clone();
    tell(&mut scene, "Begin", counted(6_000, 1_010, 10));
    assert_eq!(next(&mut scene), Next::Hold(hold.clone()));
    for minutes in 1..5 {
        scene.later(60);
        tell(&mut scene, "Look", counted(6_000 + minutes, 1_010 + minutes, 10));
        let again = next(&mut scene);
        held(&mut scene, again, "GateInconclusive", "too few requests reach the canaries");
        if minutes > 1 {
            assert_eq!(scene.record.gates, told_gates(&scene), "its figures would change the status each time");
        }
    }
    assert_eq!(scene.record.steps, told.steps);
    // Users have come.
    scene.later(60);
    tell(&mut scene, "Look", counted(9_000, 9_010, 10));
    assert_eq!(next(&mut scene), Next::To(UpgradeStep::MetricGate));
}

fn told_gates(scene: &Scene) -> Vec<crate::crd::GateStatus> {
    let mut again = scene.record.gates.clone();
    again.iter_mut().for_each(|gate| gate.value = gate.value.clone());
    again
}

#[test]
fn an_idle_fleet_whose_canary_is_slow_goes_back() {
    let mut scene = probed(1_000, 90_000).0;
    for number in 2..=3 {
        for pod in ["s-1", "c-1"] {
            let [probe] = &*gates(&scene) else { panic!("{:?}", gates(&scene)) };
            assert_eq!(*probe, format!("MetricGate-Probes-{number}"));
            let found = GateResult { took_millis: Some(1), ..load(0, if pod == "s-1" { 1_000 } else { 90_000 }) };
            scene.facts.upgrade.gates.insert((probe.clone(), pod.to_owned()), found);
        }
    }
    back(next(&mut scene), "the gate Probes failed: requests take too long");
}

#[test]
fn a_pod_that_does_not_tell_is_waited_for_and_then_somebody_is_told() {
    let mut scene = begun(json!({}));
    let silent = || GateResult::nothing("4 pods", "the metrics of the pod s-2 cannot be read: connection refused");
    scene.later(60);
    tell(&mut scene, "Look", silent());
    assert_eq!(next(&mut scene), Next::Stay, "half a picture is none");
    scene.later(121);
    tell(&mut scene, "Look", silent());
    let hold = next(&mut scene);
    held(&mut scene, hold, "GateInconclusive", "the pod s-2 cannot be read");
    scene.later(60);
    tell(&mut scene, "Look", counted(9_000, 9_010, 10));
    assert_eq!(next(&mut scene), Next::To(UpgradeStep::MetricGate));
}

#[test]
fn a_canary_that_is_made_anew_begins_the_comparison_anew() {
    let mut scene = begun(json!({}));
    (scene.pod("c-1").uid, scene.pod("c-1").ready_since) = ("c-2".into(), Some(scene.now));
    assert_eq!(next(&mut scene), Next::Stay);
    assert_eq!(scene.record.canary.as_ref().unwrap().window, None);
    scene.later(3);
    assert_eq!((next(&mut scene), gates(&scene)), (Next::Stay, Vec::<String>::new()), "it is cold");
    scene.later(3);
    assert_eq!(gates(&scene).len(), 1);
}

#[test]
fn canaries_that_are_replaced_again_and_again_are_told() {
    let mut scene = begun(json!({}));
    for number in 1..=5 {
        (scene.pod("c-1").uid, scene.pod("c-1").ready_since) = (format!("c-1-{number}"), Some(scene.now));
        let told = next(&mut scene);
        match number {
            5 => drop(held(&mut scene, told, "GateInconclusive", "canaries are replaced before a step is over")),
            _ => assert_eq!(told, Next::Stay),
        }
        scene.later(7);
        let counted = GateResult { counters: of_canary(&scene, 10), ..GateResult::default() };
        tell(&mut scene, "Begin", counted);
        drop(next(&mut scene));
    }
    assert_eq!(scene.record.canary.as_ref().unwrap().restarts, 5);
    // The last one stays for as long as a step lasts.
    scene.later(61);
    let counted = GateResult { counters: of_canary(&scene, 9_010), ..GateResult::default() };
    tell(&mut scene, "Look", counted);
    assert_eq!(next(&mut scene), Next::To(UpgradeStep::MetricGate));
}

/// What all pods have counted, by the uid that the canary has now.
fn of_canary(scene: &Scene, requests: i64) -> Option<Vec<PodCounters>> {
    let uid = scene.facts.fleet.as_ref()?.pods.iter().find(|server| server.track == Track::Canary)?.pod.uid.clone();
    let mut counters = counted(5_000 + requests, requests, 10).counters?;
    counters.iter_mut().filter(|pod| pod.canary).for_each(|pod| pod.uid.clone_from(&uid));
    Some(counters)
}

#[test]
fn canaries_that_nothing_can_be_compared_with_are_told() {
    let mut scene = begun(json!({}));
    for pod in ["s-1", "s-2", "s-3"] {
        scene.pod(pod).is_ready = false;
    }
    scene.later(60);
    let counters = of_canary(&scene, 3_010).map(|all| all.into_iter().filter(|pod| pod.canary).collect());
    tell(&mut scene, "Look", GateResult { counters, ..GateResult::default() });
    let told = next(&mut scene);
    held(&mut scene, told, "GateInconclusive", "no server of the old image takes requests");
}

#[test]
fn a_person_may_let_it_pass_and_no_samples_leave_it_out() {
    let mut scene = scene(json!({}));
    scene.let_pass("Metrics", 60);
    assert_eq!(next(&mut scene), Next::To(UpgradeStep::MetricGate));
    assert!(scene.gate("Metrics").overridden);
    let none = json!({ "gates": { "metrics": { "minimumSamples": 0 } } });
    let mut scene = self::scene(none);
    scene.later(59);
    assert_eq!((next(&mut scene), gates(&scene)), (Next::Stay, Vec::<String>::new()), "the canaries serve meanwhile");
    scene.later(1);
    assert_eq!(next(&mut scene), Next::To(UpgradeStep::MetricGate));
}
