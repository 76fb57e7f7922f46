//! The format of the data is changed, or not.

use super::*;

#[test]
fn the_format_is_changed_when_every_pod_is_new_and_a_failure_is_held() {
    let mut scene = promotion(true);
    scene.record.step = UpgradeStep::FinalizeMigrate;
    scene.pod("s-3").roll = Some("old".into());
    assert_eq!((next(&mut scene), writes(&scene)), (Next::Stay, Vec::<String>::new()), "an old pod is back");
    scene.pod("s-3").roll = Some("new".into());
    assert_eq!(writes(&scene), ["create Job db-0123abcd-finalize"]);
    scene.facts.upgrade.jobs.extend([ended(UpgradeJob::Finalize, 1, "a node is down")]);
    let failed = next(&mut scene);
    let hold = held(&mut scene, failed, "FinalizeFailed", "a node is down; the new image serves on");
    assert!(!hold.is_stuck && hold.message.contains("kubectl delete job finalize"), "{hold:?}");
    scene.facts.upgrade.jobs.extend([ended(UpgradeJob::Finalize, 0, "{}")]);
    assert_eq!(next(&mut scene), Next::To(UpgradeStep::FinalizeGate));
    scene.record.step = UpgradeStep::FinalizeGate;
    scene.record.to.newest_format = Some(2);
    for pod in ["s-1", "s-2", "s-3"] {
        let [request] = &*step(scene.at()).gates else { panic!("{:?}", gates(&scene)) };
        assert!(matches!(&request.gate, Gate::Health { expect, .. } if expect.format == Some(2)));
        scene.facts.upgrade.gates.insert(("FinalizeGate-Health".into(), pod.into()), passed());
    }
    assert_eq!(next(&mut scene), Next::Stay);
    scene.facts.upgrade.gates.insert(("FinalizeGate-Smoke".into(), "s-1".into()), passed());
    assert_eq!(next(&mut scene), Next::Stay);
    assert!(matches!(next(&mut scene), Next::End(Outcome::Succeeded, _)));
}

#[test]
fn an_old_server_that_does_not_end_keeps_the_format_from_being_changed() {
    let mut scene = promotion(true);
    (scene.record.step, scene.fleet().canary) = (UpgradeStep::FinalizeMigrate, None);
    scene.fleet().pods.retain(|server| server.track == Track::Stable);
    scene.fleet().pods.push(server("s-0", Track::Stable, "old"));
    scene.pod("s-0").is_deleted = true;
    assert_eq!((next(&mut scene), writes(&scene)), (Next::Stay, Vec::<String>::new()));
    scene.later(300 + 45 + 120 + 1);
    let told = next(&mut scene);
    held(&mut scene, told, "RolloutSlow", "(not s-0)");
    scene.fleet().pods.retain(|server| server.pod.name != "s-0");
    assert_eq!(writes(&scene), ["create Job db-0123abcd-finalize"]);
}

#[test]
fn whoever_does_not_want_the_new_format_any_more_leaves_the_old_one() {
    let scene = |job: Option<(UpgradeJob, UpgradeJobFacts)>| {
        let mut scene = promotion(true);
        scene.record.step = UpgradeStep::FinalizeMigrate;
        (scene.record.finalizing, scene.record.data_mutation_started) = (true, true);
        scene.facts.upgrade.jobs.extend(job);
        scene
    };
    let running = |pod: Option<(String, String)>| {
        let facts = UpgradeJobFacts { pod, ..UpgradeJobFacts::default() };
        Some((UpgradeJob::Finalize, facts))
    };
    let failed = || Some(ended(UpgradeJob::Finalize, 1, "a bug"));
    let asked = |job, by_abort: bool| {
        let mut scene = scene(job);
        match by_abort {
            true => scene.facts.upgrade.aborted = Some("0123abcd".into()),
            false => scene.let_pass("Finalize", 60),
        }
        let next = next(&mut scene);
        (next, scene.record)
    };
    for by_abort in [true, false] {
        for job in [None, failed(), running(None)] {
            let (next, record) = asked(job, by_abort);
            assert!(matches!(next, Next::End(Outcome::Succeeded, why) if why.contains("left as it is")));
            assert_eq!((record.finalizing, record.data_mutation_started), (false, true), "it may have begun");
        }
        // What is being changed is not left half way.
        let (next, _) = asked(running(Some(("p".into(), "10.0.0.9".into()))), by_abort);
        assert_eq!(next, Next::Stay);
        let (next, _) = asked(Some(ended(UpgradeJob::Finalize, 0, "{}")), by_abort);
        assert_eq!(next, Next::To(UpgradeStep::FinalizeGate));
    }
    let mut held_up = scene(failed());
    let told = next(&mut held_up);
    let hold = held(&mut held_up, told, "FinalizeFailed", "a bug; the new image serves on");
    let command = "kubectl progressdb override db Finalize (to leave the format as it is)";
    assert_eq!(hold.next_command.as_deref(), Some(command));
}

#[test]
fn a_pod_that_is_missing_on_the_new_format_is_told_and_can_be_passed_over() {
    let mut scene = promotion(true);
    scene.record.step = UpgradeStep::FinalizeGate;
    let pods: Vec<String> = scene.fleet().pods.iter().map(|server| server.pod.name.clone()).collect();
    scene.fleet().pods.iter_mut().for_each(|server| (server.pod.is_ready, server.address) = (false, None));
    assert_eq!(next(&mut scene), Next::Stay);
    scene.later(301);
    let told = next(&mut scene);
    held(&mut scene, told, "GateFailed", "a pod is missing");
    scene.let_pass("Finalize-Health", 600);
    assert_eq!(next(&mut scene), Next::Stay);
    assert!(scene.gate("Finalize-Health").overridden, "{pods:?}");
    scene.later(200);
    let told = next(&mut scene);
    held(&mut scene, told, "GateFailed", "the gate Finalize-Smoke");
    scene.let_pass("Finalize-Smoke", 600);
    assert_eq!(next(&mut scene), Next::Stay);
    assert!(matches!(next(&mut scene), Next::End(Outcome::Succeeded, _)));
}
