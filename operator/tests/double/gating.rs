//! The gates of upgrades in a world: what the model of the server at an address gives at once, and nothing else. They are
//! forgotten with the operator's process.

use std::{collections::BTreeMap, sync::Mutex};

use kube::ResourceExt;
use progressdb_operator::{
    controller::gating::GateRunner,
    crd::{Measured, PodCounters, ProgressDB, Verdict},
    gate::{Expectation, Gate, GateRequest, GateResult, TrackedPod},
};

use crate::{
    api::Server,
    world::{Image, Servers},
};

/// How often a smoke test and a load write.
const SMOKE_WRITES: u64 = 6;
const LOAD_WRITES: u64 = 20;

/// The uid of a resource and the id of an upgrade.
type Upgrade = (String, String);
/// The name of a gate and the uid of a pod.
type Tried = (String, String);

/// Tries the servers of a world.
pub struct Gates {
    server: Server,
    servers: Servers,
    found: Mutex<BTreeMap<Upgrade, BTreeMap<Tried, GateResult>>>,
}

impl Gates {
    pub fn new(server: &Server, servers: Servers) -> Self {
        Self { server: server.clone(), servers, found: Mutex::default() }
    }

    /// What a gate finds; `None` as long as it goes on.
    fn outcome(&self, request: &GateRequest) -> Option<GateResult> {
        let program = self.servers.program(&request.address);
        match &request.gate {
            Gate::Health { expect: Expectation { version, format, sequence_at_least }, .. } => {
                let (_, said) = self.servers.get(&request.address, "/readyz").filter(|(status, _)| *status == 200)?;
                let is_expected = version.as_ref().is_none_or(|version| said["version"] == **version)
                    && format.is_none_or(|format| said["format"]["data"] == format)
                    && sequence_at_least.is_none_or(|least| said["sequence"].as_i64().is_some_and(|now| now >= least));
                is_expected.then(|| ended(Verdict::Passed, 500, ""))
            }
            Gate::Smoke { read_only } => Some(self.smoke(request, program.as_ref(), *read_only)),
            Gate::Load { samples } => Some(self.load(request, program.as_ref(), i64::from(*samples))),
            Gate::Logs { .. } => {
                let log = self.server.with(|store| store.logs.get(&request.pod_uid).cloned()).unwrap_or_default();
                let is_grave = |line: &str| ["panic", "store.", "kms.failing"].iter().any(|event| line.contains(event));
                Some(match log.lines().find(|line| is_grave(line)) {
                    Some(line) => ended(Verdict::Failed, 100, line),
                    None => ended(Verdict::Passed, 100, ""),
                })
            }
            Gate::Tail { .. } => {
                let log = self.server.with(|store| store.logs.get(&request.pod_uid).cloned());
                Some(GateResult { log, ..ended(Verdict::Passed, 100, "") })
            }
            Gate::Counters { pods } => Some(self.counters(pods)),
            Gate::Prometheus { .. } => panic!("the world has no Prometheus"),
        }
    }

    fn counters(&self, pods: &[TrackedPod]) -> GateResult {
        let read = |pod: &TrackedPod| {
            let (address, _) = pod.management.rsplit_once(':')?;
            let counted = self.servers.counted(address)?;
            let seconds = |micros: i64| (micros as f64 / 1e6).to_string();
            Some(PodCounters {
                pod: pod.name.clone(),
                uid: pod.uid.clone(),
                canary: pod.canary,
                started_at: counted.started_at,
                requests: counted.requests,
                errors: counted.errors,
                buckets: counted.within.iter().map(|(edge, count)| (seconds(*edge), *count)).collect(),
            })
        };
        let silent = pods.iter().find(|pod| read(pod).is_none());
        let why = silent.map(|pod| format!("the metrics of the pod {} cannot be read", pod.name)).unwrap_or_default();
        GateResult { counters: pods.iter().map(read).collect(), ..ended(Verdict::Inconclusive, 100, &why) }
    }

    fn smoke(&self, request: &GateRequest, program: Option<&Image>, read_only: bool) -> GateResult {
        let answers = read_only || self.servers.commit(&request.address, SMOKE_WRITES).is_some();
        match program {
            Some(program) if answers && !program.fails_smoke => ended(Verdict::Passed, 700, ""),
            Some(program) if program.fails_smoke => ended(Verdict::Failed, 700, "edit: an edit is lost"),
            _ => ended(Verdict::Failed, 700, "sign: nobody answers"),
        }
    }

    fn load(&self, request: &GateRequest, program: Option<&Image>, samples: i64) -> GateResult {
        let program = program.filter(|_| self.servers.commit(&request.address, LOAD_WRITES).is_some());
        let Some(program) = program else {
            return ended(Verdict::Inconclusive, 2_000, "nobody answers");
        };
        let samples = if program.load_is_short { samples / 2 } else { samples };
        let (errors, p99_micros) = (program.errors * samples / 1_000, program.p99_micros);
        let load = Measured { requests: samples, errors, p50_micros: p99_micros / 2, p99_micros };
        GateResult { load: Some(load), ..ended(Verdict::Passed, 2_000, "") }
    }
}

fn ended(verdict: Verdict, millis: i64, why: &str) -> GateResult {
    GateResult { took_millis: Some(millis), ..GateResult::new(verdict, "", "", 0, why) }
}

impl GateRunner for Gates {
    fn start(&self, resource: &ProgressDB, upgrade: &str, request: &GateRequest) {
        let upgrade = (resource.uid().unwrap(), upgrade.to_owned());
        let tried = (request.name.clone(), request.pod_uid.clone());
        let mut found = self.found.lock().unwrap();
        let of_upgrade = found.entry(upgrade).or_default();
        if !of_upgrade.contains_key(&tried) {
            of_upgrade.extend(self.outcome(request).map(|outcome| (tried, outcome)));
        }
    }

    fn results(&self, resource_uid: &str, upgrade: &str) -> BTreeMap<Tried, GateResult> {
        let key = (resource_uid.to_owned(), upgrade.to_owned());
        self.found.lock().unwrap().get(&key).cloned().unwrap_or_default()
    }

    fn forget(&self, resource_uid: &str, but_upgrade: Option<&str>) {
        let stays = |(uid, upgrade): &Upgrade| uid != resource_uid || Some(&**upgrade) == but_upgrade;
        self.found.lock().unwrap().retain(|key, _| stays(key));
    }
}
