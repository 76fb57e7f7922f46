//! What the operator sees of a fleet.

use std::collections::BTreeMap;

use jiff::SignedDuration;
use progressdb_operator::{
    crd::{Measured, PodCounters, ReleaseStatus, Verdict},
    desired::Desired,
    facts::{self, Facts, Fit, State as Doing},
    gate::GateResult,
    kind::Kind,
    objects::{MAIN, UpgradeJob, labels::Track},
};
use serde_json::json;

use super::{
    operator::{Finalization, Operator},
    state::{Deployment, Found, Job, JobPhase, Phase, Pod, State, Template, Users, uid},
};
use crate::{
    operator::{now, start},
    state::{Clock, Release},
};

/// So many requests are enough for a verdict.
const ENOUGH: i64 = 10_000;

impl Operator {
    pub fn facts(&mut self, state: &State, desired: &Desired) -> Facts {
        Facts {
            before: facts::Before {
                generation: Some(state.generation),
                data_format: Some(1),
                has_version: true,
                ..facts::Before::default()
            },
            objects: self.objects(state, desired),
            fleet: Some(self.fleet(state)),
            config_check: Some(passed()),
            has_wrapped_keys: true,
            upgrade: self.upgrade_facts(state, desired),
            ..Facts::default()
        }
    }

    fn fleet(&self, state: &State) -> facts::Fleet {
        let of = |track: Track| Some(self.deployment(state, track, state.deployment(track)?));
        facts::Fleet {
            stable: of(Track::Stable),
            canary: of(Track::Canary),
            pods: state.pods.iter().map(|(number, pod)| self.pod(*number, pod)).collect(),
            schema: Some(passed()),
            asked_schema: Some(passed()),
            asked_data: Some(passed()),
        }
    }

    fn deployment(&self, state: &State, track: Track, live: &Deployment) -> facts::Deployment {
        let count = |counts: &dyn Fn(&Pod) -> bool| {
            i32::try_from(state.there(track).filter(|(_, pod)| counts(pod)).count()).unwrap()
        };
        let name = if track == Track::Stable { "db" } else { "db-canary" }.to_owned();
        let ready = count(&|pod| pod.phase == Phase::Ready);
        facts::Deployment {
            uid: name.clone(),
            name,
            replicas: live.replicas,
            image: Some(live.of.image.clone()),
            roll: Some(self.roll(live.of.release)),
            is_observed: live.is_observed,
            total: count(&|_| true),
            updated: count(&|pod| pod.of == live.of),
            ready,
            available: ready,
            ..facts::Deployment::default()
        }
    }

    fn pod(&self, number: u8, pod: &Pod) -> facts::FleetPod {
        let running = Doing::Running(Some(start() - SignedDuration::from_mins(20)));
        let of_pod = facts::Pod {
            name: uid(number),
            uid: uid(number),
            has_run: pod.phase != Phase::Waiting,
            is_deleted: pod.phase == Phase::Lost,
            deleted_at: (pod.phase == Phase::Lost).then(start),
            is_ready: pod.phase == Phase::Ready,
            roll: Some(self.roll(pod.of.release)),
            image_id: Some(image_id(&pod.of)),
            container: facts::Container {
                image: pod.of.image.clone(),
                is_ready: pod.phase == Phase::Ready,
                restarts: i64::from(pod.has_restarted),
                state: match pod.phase {
                    Phase::Waiting => Doing::Waiting("ContainerCreating".into(), String::new()),
                    Phase::Crashing => Doing::Waiting("CrashLoopBackOff".into(), String::new()),
                    Phase::Ready | Phase::Lost => running,
                },
                ..facts::Container::default()
            },
            ..facts::Pod::default()
        };
        let address = (pod.phase != Phase::Waiting).then(|| format!("10.0.0.{number}"));
        facts::FleetPod { pod: of_pod, track: pod.track, release: Some(pod.of.config.clone()), address }
    }

    fn objects(&mut self, state: &State, desired: &Desired) -> BTreeMap<facts::Id, facts::Object> {
        let mut objects = BTreeMap::new();
        let mut put = |kind: Kind, name: &str, upgrade: Option<String>, is_right: bool| {
            let fit = if is_right { Fit::AsDesired } else { Fit::Differs };
            let object = facts::Object { uid: name.to_owned(), upgrade, fit, ..facts::Object::default() };
            objects.insert((kind, name.to_owned()), object);
        };
        let running = desired.fleet.as_ref().and_then(|fleet| fleet.running.as_ref());
        let wanted = &running.unwrap_or(&desired.server).workload.body;
        let is_right = wanted["spec"]["replicas"] == state.stable.replicas && self.note(wanted) == state.stable.of;
        put(Kind::Deployment, "db", None, is_right);
        if state.canary.is_some() {
            put(Kind::Deployment, "db-canary", None, true);
        }
        for object in desired.always.iter().chain(&desired.api_keys) {
            put(object.kind, &object.name, None, true);
        }
        for name in &state.releases {
            put(Kind::ConfigMap, name, None, true);
        }
        let id = state.record.as_ref().map(|record| record.id.clone());
        for name in state.jobs.keys() {
            put(Kind::Job, name, id.clone(), true);
        }
        objects
    }

    fn upgrade_facts(&self, state: &State, desired: &Desired) -> facts::Upgrade {
        let of_jobs = desired.upgrade.iter().flat_map(|planned| &planned.jobs);
        let far = now(Clock::Ages) + SignedDuration::from_hours(99);
        let ready = state.of_track(Track::Stable).find(|(_, pod)| pod.phase == Phase::Ready);
        facts::Upgrade {
            record: state.record.as_deref().cloned().map(Box::new),
            history: (*state.history).clone(),
            approved: state.approved.clone(),
            aborted: state.aborted.clone(),
            overrides: state.overridden.iter().map(|name| (name.clone(), far)).collect(),
            running: ReleaseStatus {
                config: state.stable.of.config.clone(),
                roll: self.roll(state.stable.of.release),
                image: state.stable.of.image.clone(),
                image_id: ready.map(|(_, pod)| image_id(&pod.of)),
                ..ReleaseStatus::default()
            },
            releases: state.releases.iter().cloned().collect(),
            jobs: of_jobs
                .filter_map(|(kind, check)| {
                    let name = &check.job.name;
                    Some((*kind, self.job(name, state.jobs.get(name)?)))
                })
                .collect(),
            gates: state.gates.iter().map(|(tried, found)| (tried.clone(), outcome(&tried.0, found))).collect(),
            ..facts::Upgrade::default()
        }
    }

    fn job(&self, name: &str, job: &Job) -> facts::UpgradeJobFacts {
        let failure = || facts::Failure { at: Some(start()), message: "it failed".into() };
        let ended = |code: i64, message: String| facts::EndedContainer {
            passed: code == 0,
            exit_code: Some(code),
            message,
            millis: 1,
        };
        let main = match (job.phase, job.kind) {
            (JobPhase::Runs, _) => None,
            (JobPhase::Failed, _) => Some(ended(1, "it failed".into())),
            (JobPhase::Passed, UpgradeJob::Version) => Some(ended(0, self.version())),
            // What is missing is added.
            (JobPhase::Passed, UpgradeJob::Schema) => Some(ended(78, "a table is missing".into())),
            (JobPhase::Passed, UpgradeJob::Finalize) => Some(match self.setup.finalization {
                Finalization::None | Finalization::Works => ended(0, "{}".into()),
                Finalization::IsRefused => ended(75, "servers run".into()),
                Finalization::Fails => ended(1, "it fails each time".into()),
            }),
            (JobPhase::Passed, _) => Some(ended(0, "{}".into())),
        };
        let has_failed = main.as_ref().is_some_and(|main| !main.passed);
        facts::UpgradeJobFacts {
            job: facts::Job {
                name: name.to_owned(),
                uid: name.to_owned(),
                is_complete: main.as_ref().is_some_and(|main| main.passed),
                failure: has_failed.then(failure),
                pod: Some(facts::Pod::default()),
                ..facts::Job::default()
            },
            made_at: Some(start()),
            pod: Some((name.to_owned(), "10.0.1.1".to_owned())),
            ended: main.into_iter().map(|main| (MAIN.to_owned(), main)).collect(),
            ..facts::UpgradeJobFacts::default()
        }
    }

    /// What the new image says of itself; no other is asked.
    fn version(&self) -> String {
        let migrations = [json!({ "name": "at-finalize", "at": "finalize" })];
        let migrations = if self.setup.finalization == Finalization::None { &[] } else { &migrations[..] };
        json!({ "version": "0", "formats": { "reads": [1, 2] }, "migrations": migrations }).to_string()
    }
}

/// A Job that has ended well.
fn passed() -> facts::Job {
    let conclusion = facts::Conclusion { passed: true, at: Some(start()), ..facts::Conclusion::default() };
    facts::Job { conclusion: Some(conclusion), ..facts::Job::default() }
}

fn image_id(of: &Template) -> String {
    match of.image.contains('@') {
        true => of.image.clone(),
        false => format!("registry/image@sha256:{}", if of.release == Release::Old { "old" } else { "other" }),
    }
}

fn outcome(name: &str, found: &Found) -> GateResult {
    let verdict = match found {
        Found::Passed => Verdict::Passed,
        Found::Failed => Verdict::Failed,
        Found::Inconclusive | Found::Counted(..) => Verdict::Inconclusive,
    };
    let errors = if *found == Found::Failed { 900 } else { 0 };
    let load = Measured { requests: 1_000, errors, p50_micros: 1, p99_micros: 1 };
    let counters = match found {
        Found::Counted(pods, users) => Some(pods.iter().map(|pod| counted(pod, *users)).collect()),
        _ => None,
    };
    GateResult {
        verdict,
        why: "because".into(),
        load: name.contains("-Probes").then_some(load),
        counters,
        took_millis: Some(1),
        ..GateResult::default()
    }
}

fn counted((pod, canary): &(String, bool), users: Users) -> PodCounters {
    let (requests, errors) = match users {
        Users::None => (0, 0),
        Users::Few => (1, 0),
        Users::Badly if *canary => (ENOUGH, ENOUGH / 2),
        Users::Badly | Users::Well => (ENOUGH, 0),
    };
    PodCounters {
        pod: pod.clone(),
        uid: pod.clone(),
        canary: *canary,
        started_at: 0,
        requests,
        errors,
        buckets: [("1".to_owned(), requests)].into(),
    }
}
