//! An upgrade in one step, for tests of what the step decides.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{At, Next, Turn};
use crate::{
    crd::{GateStatus, Measured, ProgressDBSpec, UpgradeStatus, UpgradeStep, Verdict},
    decide::{Case, tests},
    desired::{self, Desired, Object},
    facts::{Facts, Job, Pod, UpgradeJobFacts},
    gate::GateResult,
    objects::UpgradeJob,
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
        online_snapshot: object("VolumeSnapshot"),
        final_snapshot: object("VolumeSnapshot"),
        finalize_snapshot: object("VolumeSnapshot"),
        staging_claim: object("PersistentVolumeClaim"),
        restored_claim: object("PersistentVolumeClaim"),
        rehearsal_policy: object("NetworkPolicy"),
    }
}
