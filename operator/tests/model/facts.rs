//! What the operator sees of a state.

use std::collections::BTreeMap;

use jiff::SignedDuration;
use progressdb_operator::{
    crd::{Measured, UpgradeStep, Verdict},
    desired::Desired,
    facts::{self, Facts, Fit, SnapshotClass, State as Doing},
    gate::GateResult,
    kind::Kind,
    objects::{MAIN, UpgradeJob, labels::Role},
};
use serde_json::{Value, json};

use crate::{
    acts::closed,
    operator::{Operator, now, start},
    state::{Clock, Found, Job, JobPhase, Phase, Release, Set, State},
};

/// The pod that each gate is tried on.
pub const SERVER_UID: &str = "server";
const JOB_UID: &str = "job";

impl Operator {
    pub fn facts(&mut self, state: &State, desired: &Desired) -> Facts {
        let current = state.current();
        let data = current.and_then(|(_, claim)| claim.data);
        let (name, release) = ("db-0".to_owned(), &state.set);
        let running = Doing::Running(Some(start() - SignedDuration::from_mins(20)));
        Facts {
            before: facts::Before {
                generation: Some(state.generation),
                claim: Some(state.claim_told.clone()),
                data_format: data.map(|data| data.format),
                has_version: true,
                ..facts::Before::default()
            },
            objects: self.objects(state, desired),
            stateful_set: Some(facts::StatefulSet {
                name: "db".into(),
                uid: "set".into(),
                replicas: Some(i32::from(release.runs)),
                has_pods: state.pod.is_some(),
                image: Some(release.image.clone()),
                roll: Some(self.roll(release.release)),
                ..facts::StatefulSet::default()
            }),
            pod: state.pod.as_ref().map(|pod| facts::Pod {
                name,
                is_deleted: pod.phase >= Phase::Ending,
                deleted_at: (pod.phase >= Phase::Ending).then(|| start() - SignedDuration::from_mins(20)),
                node: (pod.phase == Phase::Lost).then(|| ("node".into(), false)),
                has_run: pod.phase != Phase::Waiting,
                is_ready: pod.phase == Phase::Ready,
                roll: Some(self.roll(pod.of.release)),
                image_id: Some(image_id(&pod.of)),
                container: facts::Container {
                    image: pod.of.image.clone(),
                    is_ready: pod.phase == Phase::Ready,
                    state: match pod.phase {
                        Phase::Waiting => Doing::Waiting("ContainerCreating".into(), String::new()),
                        Phase::Crashing => Doing::Waiting("CrashLoopBackOff".into(), String::new()),
                        _ => running,
                    },
                    ..facts::Container::default()
                },
                ..facts::Pod::default()
            }),
            claim: current.map(|(name, _)| facts::Claim {
                name: name.clone(),
                uid: name.clone(),
                phase: facts::ClaimPhase::Bound,
                ..facts::Claim::default()
            }),
            config_check: Some(facts::Job {
                conclusion: Some(facts::Conclusion { passed: true, at: Some(start()), ..facts::Conclusion::default() }),
                ..facts::Job::default()
            }),
            ran_since_stop: Some(true),
            has_wrapped_keys: true,
            claims_in_conflict: match state.claims.values().filter(|claim| claim.role == Role::Current).count() {
                0 | 1 => Vec::new(),
                _ => vec!["one".into(), "two".into()],
            },
            upgrade: self.upgrade_facts(state, desired),
            ..Facts::default()
        }
    }

    fn roll(&self, release: Release) -> String {
        let found = self.rolls.iter().find(|(_, of)| **of == release);
        found.expect("each release has one").0.clone()
    }

    fn objects(&mut self, state: &State, desired: &Desired) -> BTreeMap<facts::Id, facts::Object> {
        let mut objects = BTreeMap::new();
        let mut put = |kind: Kind, name: &str, upgrade: Option<&String>, is_right: bool| {
            let fit = if is_right { Fit::AsDesired } else { Fit::Differs };
            let object =
                facts::Object { uid: name.to_owned(), upgrade: upgrade.cloned(), fit, ..facts::Object::default() };
            objects.insert((kind, name.to_owned()), object);
        };
        let wanted = self.note_set(&desired.running().workload.body);
        put(Kind::StatefulSet, "db", None, wanted == state.set);
        for object in desired.always.iter().chain(&desired.api_keys) {
            let is_right = object.kind != Kind::Service || object.name != "db" || closed(&object.body) == state.closed;
            put(object.kind, &object.name, None, is_right);
        }
        for name in &state.releases {
            put(Kind::ConfigMap, name, None, true);
        }
        for (name, claim) in &state.claims {
            put(Kind::Claim, name, claim.upgrade.as_ref(), true);
        }
        for (name, job) in &state.jobs {
            put(Kind::Job, name, Some(&job.upgrade), true);
        }
        for (name, snapshot) in state.snapshots.iter().filter(|(_, snapshot)| !snapshot.is_gone) {
            put(Kind::VolumeSnapshot, name, Some(&snapshot.upgrade), true);
        }
        for (name, upgrade) in &state.walls {
            put(Kind::NetworkPolicy, name, Some(upgrade), true);
        }
        objects
    }

    fn upgrade_facts(&self, state: &State, desired: &Desired) -> facts::Upgrade {
        use UpgradeStep::*;
        let step = state.under_way().map(|record| record.step);
        let of_jobs = desired.upgrade.iter().flat_map(|planned| &planned.jobs);
        let live = state.pod.as_ref().filter(|pod| pod.phase != Phase::Waiting && pod.phase < Phase::Ending);
        let current = state.current().map(|(name, _)| name);
        let is_asked = |steps: &[UpgradeStep]| step.is_some_and(|step| steps.contains(&step));
        facts::Upgrade {
            record: state.record.as_deref().cloned().map(Box::new),
            history: (*state.history).clone(),
            approved: state.approved.clone(),
            aborted: state.aborted.clone(),
            overrides: state
                .overridden
                .iter()
                .map(|name| (name.clone(), now(Clock::Ages) + SignedDuration::from_hours(99)))
                .collect(),
            running: progressdb_operator::crd::ReleaseStatus {
                config: state.set.config.clone(),
                roll: self.roll(state.set.release),
                image: state.set.image.clone(),
                image_id: state.pod.as_ref().map(|pod| image_id(&pod.of)),
                ..Default::default()
            },
            running_claim: Some(state.set.claim.clone()),
            releases: state.releases.iter().cloned().collect(),
            mounted: state
                .pod
                .as_ref()
                .map_or(facts::Mounted::None, |pod| facts::Mounted::Release(pod.of.config.clone())),
            jobs: of_jobs
                .filter_map(|(kind, check)| Some((*kind, self.job(&check.job.name, state.jobs.get(&check.job.name)?))))
                .collect(),
            busy: state
                .jobs
                .iter()
                .filter(|(_, job)| job.is_busy() || job.phase == JobPhase::Waiting)
                .map(|(name, _)| name)
                .chain(state.lingering.iter().map(|(name, ..)| name))
                .map(|name| format!("{name}-x"))
                .collect(),
            snapshots: state
                .snapshots
                .iter()
                .filter(|(_, snapshot)| !snapshot.is_gone)
                .map(|(name, found)| {
                    let seen = facts::UpgradeSnapshot {
                        uid: name.clone(),
                        upgrade: found.upgrade.clone(),
                        is_deleted: false,
                        is_cut: found.data.is_some(),
                        is_ready: found.is_ready,
                        made_at: Some(start()),
                        says_ready: found.is_ready,
                        error: None,
                        content: found.data.map(|_| (name.clone(), found.is_retained)),
                    };
                    (name.clone(), seen)
                })
                .collect(),
            class: is_asked(&[Preflight, SnapshotOnline, SnapshotFinal, FinalizeSnapshot]).then(|| {
                match self.setup.has_snapshots {
                    true => SnapshotClass::Found("class".into()),
                    false => SnapshotClass::None("there is none".into()),
                }
            }),
            other_claims: state
                .claims
                .iter()
                .filter(|(name, _)| Some(*name) != current)
                .map(|(name, claim)| {
                    let (role, upgrade) = (Some(claim.role), claim.upgrade.clone());
                    (
                        name.clone(),
                        facts::OtherClaim {
                            uid: name.clone(),
                            is_deleted: false,
                            made_at: Some(start()),
                            role,
                            upgrade,
                        },
                    )
                })
                .collect(),
            has_left: (is_asked(&[Drain, FinalizeDrain, RollbackStop]) && state.pod.is_none())
                .then_some(!state.attached),
            server: live.map(|_| (SERVER_UID.into(), "10.0.0.1".into())),
            gates: state.gates.iter().map(|(name, found)| outcome(name, *found)).collect(),
            is_served: is_asked(&[Promote])
                .then(|| state.closed.is_none() && live.is_some_and(|pod| pod.phase == Phase::Ready)),
            ..facts::Upgrade::default()
        }
    }

    fn job(&self, name: &str, job: &Job) -> facts::UpgradeJobFacts {
        let failure = || facts::Failure { at: Some(start()), message: "it failed".into() };
        let ended = |message: Value| facts::EndedContainer {
            passed: true,
            message: message.to_string(),
            millis: 1,
            ..Default::default()
        };
        let containers: Vec<(&str, Value)> = match (job.phase, job.kind) {
            (JobPhase::Passed(_), UpgradeJob::Version) => vec![(MAIN, self.version(job.release))],
            (JobPhase::Passed(_), UpgradeJob::RehearseFinalize) => {
                vec![("migrate", json!({})), (MAIN, json!({ "root": "same" }))]
            }
            (JobPhase::Passed(Some(data)), _) => {
                vec![(MAIN, json!({ "database_id": "id", "sequence": data.sequence(), "format": data.format }))]
            }
            (JobPhase::Passed(None), _) => vec![(MAIN, json!({}))],
            (JobPhase::Serving(root), UpgradeJob::RehearseOld) => vec![("digest", json!({ "root": root }))],
            (JobPhase::Serving(root), _) => vec![("migrate", json!({})), ("digest", json!({ "root": root }))],
            _ => Vec::new(),
        };
        facts::UpgradeJobFacts {
            job: facts::Job {
                name: name.to_owned(),
                uid: name.to_owned(),
                failure: (job.phase == JobPhase::Failed).then(failure),
                ..facts::Job::default()
            },
            pod: job.is_busy().then(|| (JOB_UID.into(), "10.0.0.2".into())),
            made_at: Some(start()),
            took: None,
            serves_since: matches!(job.phase, JobPhase::Serving(_)).then(start),
            ended: containers.into_iter().map(|(name, message)| (name.to_owned(), ended(message))).collect(),
        }
    }

    /// What an image says of itself.
    fn version(&self, release: Release) -> Value {
        let of = |at: &str, is_made: bool| {
            (is_made && release == Release::New).then(|| json!({ "name": format!("at-{at}"), "at": at }))
        };
        let migrations = [of("start", self.setup.starts_with_migration), of("finalize", self.setup.is_finalized)];
        let newest = if release == Release::Old { 1 } else { 2 };
        let migrations: Vec<_> = migrations.into_iter().flatten().collect();
        json!({ "version": "0", "formats": { "reads": [1, newest] }, "migrations": migrations })
    }
}

fn image_id(set: &Set) -> String {
    match set.image.contains('@') {
        true => set.image.clone(),
        false => format!("registry/image@sha256:{:?}", set.release),
    }
}

/// What a gate has found.
fn outcome(name: &str, found: Found) -> ((String, String), GateResult) {
    let is_load = name.starts_with("Baseline") || name.contains("-Metrics");
    let load = |errors: i64, requests: i64| Measured { requests, errors, p50_micros: 1, p99_micros: 1 };
    let verdict = match found {
        Found::Passed => Verdict::Passed,
        Found::Failed => Verdict::Failed,
        Found::Inconclusive => Verdict::Inconclusive,
    };
    let load = is_load.then(|| match found {
        Found::Passed => load(0, 1_000),
        Found::Failed => load(900, 1_000),
        Found::Inconclusive => load(0, 1),
    });
    let uid = if name.starts_with("Rehearsal-") { JOB_UID } else { SERVER_UID };
    let found = GateResult { verdict, why: "because".into(), load, took_millis: Some(1), ..GateResult::default() };
    ((name.to_owned(), uid.to_owned()), found)
}
