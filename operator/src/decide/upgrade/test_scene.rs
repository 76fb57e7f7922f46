//! An upgrade in one step, for tests of what the step decides.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{At, Next, Turn};
use crate::{
    crd::{CanaryStatus, GateStatus, Measured, ProgressDBSpec, UpgradeStatus, UpgradeStep, Verdict},
    decide::{Case, tests},
    desired::{self, Check, Desired, Object, Server},
    facts::{Conclusion, Deployment, Facts, Fleet, FleetPod, Job, Pod, UpgradeJobFacts},
    gate::GateResult,
    objects::{UpgradeJob, labels::Track},
};

/// The uid of the server's pod.
pub(super) const POD: &str = "p";

/// What a step is a function of, to be changed by tests.
pub(super) struct Scene {
    pub(super) spec: ProgressDBSpec,
    pub(super) facts: Facts,
    pub(super) record: UpgradeStatus,
    pub(super) now: Timestamp,
    desired: Desired,
    planned: desired::Upgrade,
}

impl Scene {
    /// A step that has just begun, of an upgrade of a server that is ready, with this `spec.upgrade`.
    pub(super) fn new(step: UpgradeStep, policy: Value) -> Self {
        let mut facts = tests::running("new");
        let ready = Pod { name: "db-0".into(), uid: POD.into(), is_ready: true, ..Pod::default() };
        facts.pod = Some(ready);
        facts.upgrade.server = Some((POD.into(), "10.0.0.1".into()));
        let since = Some(tests::now());
        let record = UpgradeStatus {
            id: "0123abcd".into(),
            changes_image: true,
            step,
            step_started_at: since,
            ..UpgradeStatus::default()
        };
        Self {
            spec: tests::resource(json!({ "upgrade": policy })).spec,
            facts,
            record,
            now: tests::now(),
            desired: tests::desired("new", false),
            planned: planned(),
        }
    }

    /// A step that has just begun, of an upgrade of a fleet: three stable pods, and a canary of the first step.
    pub(super) fn of_fleet(step: UpgradeStep, policy: Value) -> Self {
        let mut scene = Self::new(step, policy);
        let storage = json!({ "cassandra": { "contactPoints": ["a"], "datacenter": "d" } });
        scene.spec = tests::resource(json!({ "storage": storage, "replicas": 3, "upgrade": scene.spec.upgrade })).spec;
        scene.record.canary = Some(CanaryStatus { step: 1, replicas: 1, ..CanaryStatus::default() });
        (scene.record.from.roll, scene.record.to.roll) = ("old".into(), "new".into());
        (scene.facts.pod, scene.facts.stateful_set, scene.facts.upgrade.server) = (None, None, None);
        let stable = ["s-1", "s-2", "s-3"].map(|name| server(name, Track::Stable, "old"));
        scene.facts.fleet = Some(Fleet {
            stable: Some(deployment("db", "old", 3)),
            canary: Some(deployment("db-canary", "new", 1)),
            pods: stable.into_iter().chain([server("c-1", Track::Canary, "new")]).collect(),
            ..Fleet::default()
        });
        scene.planned = desired::Upgrade {
            from: Some(release("old")),
            to: Some(release("new")),
            copies: None,
            jobs: UpgradeJob::ALL.into_iter().map(|job| (job, check(job))).collect(),
            ..scene.planned
        };
        scene
    }

    /// Has the image accept the settings.
    pub(super) fn proves_well(&mut self) {
        let conclusion = Conclusion { passed: true, at: Some(self.now), ..Conclusion::default() };
        self.facts.config_check = Some(Job { conclusion: Some(conclusion), ..Job::default() });
    }

    /// The servers of the fleet.
    pub(super) fn fleet(&mut self) -> &mut Fleet {
        self.facts.fleet.as_mut().unwrap()
    }

    /// A pod of the fleet.
    pub(super) fn pod(&mut self, name: &str) -> &mut Pod {
        self.fleet().pods.iter_mut().map(|server| &mut server.pod).find(|pod| pod.name == name).unwrap()
    }

    pub(super) fn at(&self) -> At<'_> {
        let Self { spec, desired, facts, now, record, planned } = self;
        let case = Case { name: "db", spec, desired, facts, now: *now };
        At { case, record, planned, facts: &facts.upgrade }
    }

    /// Has time pass.
    pub(super) fn later(&mut self, seconds: i64) {
        self.now = Timestamp::from_second(self.now.as_second() + seconds).unwrap();
    }

    /// Has a gate end with this, on the server's pod.
    pub(super) fn ends(&mut self, gate: &str, result: GateResult) {
        self.shows(gate, GateResult { took_millis: Some(7), ..result });
    }

    /// Has a gate show this while it runs.
    pub(super) fn shows(&mut self, gate: &str, result: GateResult) {
        self.facts.upgrade.gates.insert((gate.to_owned(), POD.to_owned()), result);
    }

    /// Has a person let something pass for so many seconds.
    pub(super) fn let_pass(&mut self, name: &str, seconds: i64) {
        let until = Timestamp::from_second(self.now.as_second() + seconds).unwrap();
        self.facts.upgrade.overrides.insert(format!("{}/{name}", self.record.id), until);
    }

    /// Has the Job of the resource's owner come to this.
    pub(super) fn tests(&mut self, found: UpgradeJobFacts) {
        let job = Job { name: "db-0123abcd-gate".into(), ..found.job };
        self.facts.upgrade.jobs.insert(UpgradeJob::Gate, UpgradeJobFacts { job, ..found });
    }

    /// Has the record say what a turn wants, and tells where that leads.
    pub(super) fn follow(&mut self, turn: Turn) -> Next {
        let (record, next) = turn.found;
        self.record = record;
        next
    }

    /// A gate on record.
    pub(super) fn gate(&self, name: &str) -> GateStatus {
        self.record.gates.iter().find(|gate| gate.name == name).cloned().unwrap()
    }
}

/// A Deployment that has all its pods.
pub(super) fn deployment(name: &str, roll: &str, replicas: i32) -> Deployment {
    let counts = Deployment { total: replicas, updated: replicas, ready: replicas, ..Deployment::default() };
    let (name, uid) = (name.to_owned(), name.to_owned());
    Deployment { name, uid, roll: Some(roll.into()), replicas, available: replicas, is_observed: true, ..counts }
}

/// A server of a fleet that takes requests.
pub(super) fn server(name: &str, track: Track, roll: &str) -> FleetPod {
    let roll = Some(roll.to_owned());
    let pod = Pod { name: name.into(), uid: name.into(), is_ready: true, roll, ..Pod::default() };
    FleetPod { pod, track, release: None, address: Some("10.0.0.1".into()) }
}

fn release(roll: &str) -> Server {
    let deployment = |name: &str| {
        let body = json!({ "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": name }, "spec": {} });
        Object::new(body)
    };
    let map = json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": format!("db-config-{roll}") } });
    Server {
        config_map: Object::new(map),
        workload: deployment("db"),
        canary: Some(deployment("db-canary")),
        roll: roll.to_owned(),
    }
}

fn check(job: UpgradeJob) -> Check {
    let name = format!("db-0123abcd-{}", job.as_str());
    let body = json!({ "apiVersion": "batch/v1", "kind": "Job", "metadata": { "name": name } });
    Check { job: Object::new(body), container: "main".into() }
}

/// A load of a thousand requests.
pub(super) fn load(errors: i64, p99_micros: i64) -> GateResult {
    let load = Measured { requests: 1_000, errors, p50_micros: 1, p99_micros };
    GateResult { load: Some(load.clone()), ..GateResult::new(Verdict::Passed, &load.to_string(), "", 1_000, "") }
}

/// The names of the gates that a turn asks for.
pub(super) fn asked(turn: &Turn) -> Vec<&str> {
    turn.gates.iter().map(|request| request.name.as_str()).collect()
}

fn planned() -> desired::Upgrade {
    let object = |kind: &str| {
        let api_version = match kind {
            "VolumeSnapshot" => "snapshot.storage.k8s.io/v1",
            "NetworkPolicy" => "networking.k8s.io/v1",
            _ => "v1",
        };
        Object::new(json!({ "apiVersion": api_version, "kind": kind, "metadata": { "name": "x" } }))
    };
    desired::Upgrade {
        id: "0123abcd".into(),
        from: None,
        to: None,
        jobs: BTreeMap::new(),
        copies: Some(desired::Copies {
            online_snapshot: object("VolumeSnapshot"),
            final_snapshot: object("VolumeSnapshot"),
            finalize_snapshot: object("VolumeSnapshot"),
            staging_claim: object("PersistentVolumeClaim"),
            restored_claim: object("PersistentVolumeClaim"),
            rehearsal_policy: object("NetworkPolicy"),
        }),
    }
}
