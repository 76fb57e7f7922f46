//! Decisions as tables: every combination of facts that matters, and what must never follow from any of them.

use std::collections::HashSet;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::*;
use crate::{
    desired::{Check, Object, Server},
    facts::{
        Claim, ClaimPhase, Conclusion, Deletion, Former, Job, Obstacle, Pod, Secrets, Snapshot, StatefulSet, Volume,
    },
    kind::Kind,
    objects::labels::{FAILED, FINALIZER, RAN},
};

pub(super) fn now() -> Timestamp {
    Timestamp::from_second(1_000_000).unwrap()
}

pub(super) fn resource(more: Value) -> ProgressDB {
    let mut spec = json!({ "image": "a:1", "storage": { "embedded": { "size": "1Gi" } } });
    spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    serde_json::from_value(json!({ "metadata": { "name": "db", "namespace": "ns", "uid": "u" }, "spec": spec }))
        .unwrap()
}

fn object(api_version: &str, kind: &str, name: &str) -> Object {
    Object::new(json!({ "apiVersion": api_version, "kind": kind, "metadata": { "name": name } }))
}

fn check(name: &str) -> Check {
    Check { job: object("batch/v1", "Job", name), container: "check".into() }
}

/// What should be for a server whose annotation `roll` is this.
pub(super) fn desired(roll: &str, has_kms: bool) -> Desired {
    Desired {
        always: Vec::new(),
        api_keys: None,
        claim: Some(object("v1", "PersistentVolumeClaim", "db-data-0")),
        claim_differences: Vec::new(),
        check_settings: object("v1", "ConfigMap", "db-check-0"),
        config_check: check("db-config-check-0"),
        kms_check: has_kms.then(|| check("db-kms-check-0")),
        server: Server {
            config_map: object("v1", "ConfigMap", "db-config"),
            workload: object("apps/v1", "StatefulSet", "db"),
            canary: None,
            roll: roll.into(),
        },
        rollback: None,
        former: None,
        upgrade: None,
        fleet: None,
    }
}

/// A server with this annotation `roll` and its volume.
pub(super) fn running(roll: &str) -> Facts {
    let set = StatefulSet { uid: "s".into(), replicas: Some(1), roll: Some(roll.into()), ..StatefulSet::default() };
    let claim = Claim { uid: "c".into(), phase: ClaimPhase::Bound, ..Claim::default() };
    Facts {
        stateful_set: Some(set),
        pod: Some(Pod { is_ready: true, roll: Some(roll.into()), ..Pod::default() }),
        claim: Some(claim),
        has_wrapped_keys: true,
        ..Facts::default()
    }
}

fn concluded(passed: bool) -> Job {
    Job { conclusion: Some(Conclusion { passed, at: Some(now()), ..Conclusion::default() }), ..Job::default() }
}

/// Every Job that a check may have, and whether it has passed.
fn jobs() -> Vec<(Option<Job>, bool)> {
    let going = Job { is_deleted: true, ..concluded(true) };
    vec![
        (None, false),
        (Some(Job::default()), false),
        (Some(concluded(false)), false),
        (Some(going), false),
        (Some(concluded(true)), true),
    ]
}

fn is_irreversible(write: &Write) -> bool {
    matches!(write, Write::Destroy { .. } | Write::ReleaseClaim { .. })
}

#[test]
fn a_server_is_stopped_only_for_one_that_passed_every_check() {
    let trials = [None, Some(Obstacle { reason: "Unschedulable", message: String::new() })];
    let complaints = [None, Some(("SecretMissing", String::new()))];
    let mut stopped = 0;
    for ((config_check, config_passed), (kms_check, kms_passed)) in
        jobs().into_iter().flat_map(|config| jobs().into_iter().map(move |kms| (config.clone(), kms)))
    {
        for trial in &trials {
            for (api_keys, kms) in complaints.iter().flat_map(|keys| complaints.iter().map(move |kms| (keys, kms))) {
                for lost in [vec![], vec!["admin"]] {
                    for has_volume in [true, false] {
                        let good = config_passed && kms_passed && trial.is_none() && has_volume;
                        let good = good && api_keys.is_none() && kms.is_none() && lost.is_empty();
                        let mut facts = running("old");
                        facts.config_check = config_check.clone();
                        facts.kms_check = kms_check.clone();
                        facts.trial = trial.clone();
                        facts.claim = facts.claim.filter(|_| has_volume);
                        let (api_keys, kms) = (api_keys.clone(), kms.clone());
                        facts.secrets = Secrets { api_keys, kms, lost: lost.clone(), ..Secrets::default() };
                        let resource = resource(json!({ "kms": { "embedded": { "secretName": "k" } } }));
                        let decision = decide(&resource, &Ok(desired("new", true)), &facts, now());
                        let stops = decision.writes.iter().any(|write| matches!(write, Write::Stop { .. }));
                        assert_eq!(stops, good, "{facts:#?}");
                        stopped += u32::from(stops);
                    }
                }
            }
        }
    }
    assert_eq!(stopped, 1);
}

#[test]
fn no_check_is_made_of_a_pod_that_the_api_server_refuses() {
    let made = |trial: Option<Obstacle>| {
        let facts = Facts { trial, ..running("old") };
        let decision = decide(&resource(json!({})), &Ok(desired("new", false)), &facts, now());
        decision.writes.iter().filter(|write| matches!(write, Write::Create(_))).count()
    };
    // The Job and its settings.
    assert_eq!(made(None), 2);
    assert_eq!(made(Some(Obstacle { reason: "PodRefused", message: String::new() })), 0);
}

/// All facts about a resource that is being deleted that its deletion rests on.
fn deletions() -> HashSet<Facts> {
    let pick = |all: &[Facts], change: &dyn Fn(&Facts) -> Vec<Facts>| all.iter().flat_map(change).collect::<Vec<_>>();
    let mut start = running("old");
    (start.is_deleted, start.finalizers) = (true, vec![FINALIZER.to_owned()]);
    start.deletion.has_snapshots = true;
    let set = |replicas: i32| Some(StatefulSet { replicas: Some(replicas), ..StatefulSet::default() });
    let all = pick(&[start], &|facts| {
        let runs = [(set(1), facts.pod.clone()), (set(0), facts.pod.clone()), (set(0), None), (None, None)];
        runs.into_iter().map(|(stateful_set, pod)| Facts { stateful_set, pod, ..facts.clone() }).collect()
    });
    let all = pick(&all, &|facts| {
        let claim = facts.claim.clone().unwrap();
        let states = [(false, false), (false, true), (true, false), (true, true)];
        let claims = states.map(|(is_deleted, is_held)| Some(Claim { is_deleted, is_held, ..claim.clone() }));
        claims.into_iter().chain([None]).map(|claim| Facts { claim, ..facts.clone() }).collect()
    });
    let all = pick(&all, &|facts| {
        let snapshot = |is_proof| Some(Snapshot { error: None, is_proof });
        let failed = Some(Snapshot { error: Some("no".into()), is_proof: false });
        let snapshots = [None, snapshot(false), snapshot(true), failed].into_iter();
        let with = |snapshot| Deletion { snapshot, ..facts.deletion.clone() };
        snapshots.map(|snapshot| Facts { deletion: with(snapshot), ..facts.clone() }).collect()
    });
    pick(&all, &|facts| {
        let volume = |is_retained| Some(Volume { name: "v".into(), is_retained });
        let volumes = [None, volume(false), volume(true)].into_iter();
        let worlds = volumes.flat_map(|volume| [false, true].map(|namespace_ends| (volume.clone(), namespace_ends)));
        let with = |(volume, namespace_ends)| Deletion { volume, namespace_ends, ..facts.deletion.clone() };
        worlds.map(|world| Facts { deletion: with(world), ..facts.clone() }).collect()
    })
    .into_iter()
    .collect()
}

#[test]
fn data_goes_only_as_its_policy_says_and_never_under_a_server() {
    let mut destroyed = [0; 3];
    for (index, policy) in ["Retain", "Snapshot", "Delete"].into_iter().enumerate() {
        for facts in deletions() {
            let resource = resource(json!({ "deletionPolicy": policy }));
            let decision = decide(&resource, &Ok(desired("old", false)), &facts, now());
            assert!(!decision.writes.iter().any(is_irreversible), "{policy} {facts:#?}");
            let is_stopped = facts.pod.is_none() && facts.stateful_set.as_ref().is_none_or(|set| !set.runs());
            let is_kept = facts.deletion.snapshot.as_ref().is_some_and(|snapshot| snapshot.is_proof);
            let is_destroyed = matches!(decision.irreversible, Some(Write::Destroy { kind: Kind::Claim, .. }));
            assert!(!is_destroyed || is_stopped, "under a server: {facts:#?}");
            assert!(!is_destroyed || policy == "Delete" || (policy == "Snapshot" && is_kept), "{policy} {facts:#?}");
            destroyed[index] += usize::from(is_destroyed);
        }
    }
    assert!(destroyed[0] == 0 && destroyed[1] > 0 && destroyed[2] > destroyed[1], "{destroyed:?}");
}

#[test]
fn a_claim_whose_only_copy_it_is_is_released_under_the_policy_snapshot_only_when_its_volume_stays() {
    for facts in deletions() {
        let decision =
            decide(&resource(json!({ "deletionPolicy": "Snapshot" })), &Ok(desired("old", false)), &facts, now());
        let releases = matches!(decision.irreversible, Some(Write::ReleaseClaim { .. }));
        let has_copy = facts.deletion.snapshot.as_ref().is_some_and(|snapshot| snapshot.is_proof);
        let stays = facts.deletion.volume.as_ref().is_none_or(|volume| volume.is_retained);
        assert!(!releases || has_copy || stays, "{facts:#?}");
    }
}

/// A successor that should have started long ago and that no node can take, and what is asked for.
fn unplaceable() -> (Desired, Facts) {
    let former = object("v1", "ConfigMap", "db-former");
    let mut facts = running("new");
    facts.pod = Some(Pod { unschedulable: Some("no".into()), roll: Some("new".into()), ..Pod::default() });
    let (tried, tried_at) = (Some("new".into()), Some(Timestamp::UNIX_EPOCH));
    facts.former = Some(Former { tried, tried_at, ..Former::default() });
    facts.ran_since_stop = Some(false);
    facts.config_check = Some(concluded(true));
    facts.objects.insert((Kind::ConfigMap, former.name.clone()), crate::facts::Object::default());
    (Desired { former: Some(former), ..desired("new", false) }, facts)
}

/// The annotations that are written on the ConfigMap with what ran before, and the names of all writes.
fn written(desired: &Desired, facts: &Facts) -> (Value, Vec<&'static str>) {
    let decision = decide(&resource(json!({})), &Ok(desired.clone()), facts, now());
    let of = |write: &Write| match write {
        Write::Apply(body) if body["metadata"]["name"] == "db-former" => Some(body["metadata"]["annotations"].clone()),
        _ => None,
    };
    let annotations = decision.writes.iter().find_map(of).unwrap_or_default();
    (annotations, decision.writes.iter().map(Write::name).collect())
}

#[test]
fn a_successor_is_given_up_only_if_it_is_known_that_it_never_ran_and_stopped_at_once() {
    let mut given_up = 0;
    for ran_since_stop in [None, Some(false), Some(true)] {
        for (pod_has_run, ran) in [(false, false), (false, true), (true, false), (true, true)] {
            for has_pod in [true, false] {
                let (desired, mut facts) = unplaceable();
                facts.ran_since_stop = ran_since_stop;
                facts.former.as_mut().unwrap().ran = ran;
                facts.pod.as_mut().unwrap().has_run = pod_has_run;
                facts.pod = facts.pod.filter(|_| has_pod);
                let never_ran = ran_since_stop == Some(false) && !ran && !(has_pod && pod_has_run);
                let (annotations, writes) = written(&desired, &facts);
                assert_eq!(!annotations[FAILED].is_null(), never_ran, "{facts:#?}");
                assert_eq!(writes.contains(&"stop"), never_ran, "{facts:#?}");
                // What is found out is written down, once.
                assert_eq!(!annotations[RAN].is_null(), !never_ran && !ran, "{facts:#?}");
                given_up += u32::from(never_ran);
            }
        }
    }
    assert_eq!(given_up, 3);
}

#[test]
fn a_successor_that_runs_after_it_was_given_up_is_not_replaced() {
    for (has_run, ran_since_stop) in [(true, Some(false)), (false, Some(true)), (true, None)] {
        let (mut desired, mut facts) = unplaceable();
        desired.rollback = Some(Server { roll: "old".into(), ..desired.server.clone() });
        facts.former.as_mut().unwrap().failed = Some("no".into());
        assert!(written(&desired, &facts).1.contains(&"stop"));
        facts.pod.as_mut().unwrap().has_run = has_run;
        facts.ran_since_stop = ran_since_stop;
        let (annotations, writes) = written(&desired, &facts);
        assert!(!annotations[RAN].is_null() && annotations[FAILED].is_null(), "{annotations}");
        assert!(!writes.contains(&"stop"), "{writes:?}");
        // What ran before runs again already, and of that nothing is asked.
        facts.stateful_set.as_mut().unwrap().roll = Some("old".into());
        facts.pod.as_mut().unwrap().roll = Some("old".into());
        assert_eq!(written(&desired, &facts).0, Value::Null);
    }
}

#[test]
fn a_start_that_is_under_way_is_written_down_once() {
    for ran in [false, true] {
        let (desired, mut facts) = unplaceable();
        let set = StatefulSet { replicas: Some(0), roll: Some("old".into()), ..StatefulSet::default() };
        (facts.stateful_set, facts.pod) = (Some(set), None);
        let tried_at = Some(now() - jiff::SignedDuration::from_secs(10));
        facts.former = Some(Former { tried: Some("new".into()), tried_at, ran, ..Former::default() });
        assert_eq!(written(&desired, &facts).0, Value::Null, "{ran}");
        // Of another successor it is written, with what is known of this one.
        facts.former.as_mut().unwrap().tried = Some("other".into());
        assert_eq!(!written(&desired, &facts).0[RAN].is_null(), ran);
    }
}

#[test]
fn a_check_of_the_kms_after_a_rollback_finds_its_settings() {
    let (mut desired, mut facts) = unplaceable();
    desired.rollback = Some(Server { roll: "old".into(), ..desired.server.clone() });
    desired.kms_check = Some(check("db-kms-check-0"));
    facts.former.as_mut().unwrap().failed = Some("no".into());
    facts.stateful_set.as_mut().unwrap().roll = Some("old".into());
    let resource = resource(json!({ "kms": { "embedded": { "secretName": "k" } } }));
    let decision = decide(&resource, &Ok(desired), &facts, now());
    let made = decision.writes.iter().filter(|write| matches!(write, Write::Create(_))).map(Write::about);
    assert_eq!(made.collect::<Vec<_>>(), ["ConfigMap db-check-0", "Job db-kms-check-0"]);
}
