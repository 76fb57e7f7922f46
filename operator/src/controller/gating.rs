//! Who runs the gates of upgrades. A reconcile starts them and reads what they have found; it never waits for one.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr},
    time::Duration,
};

use kube::ResourceExt;

use crate::{
    crd::{GateStatus, Measured, ProgressDB},
    decide::{self, GateRequest},
    gates::{self, Expectation, Gate, GateKey, Gates, Target},
    objects::api_key_secret,
    observe::{GateOutcome, needs},
};

/// Runs gates beside the reconciles.
pub trait GateRunner: Send + Sync {
    /// Starts a gate of this upgrade, unless it runs or has ended.
    fn start(&self, resource: &ProgressDB, upgrade: &str, request: &GateRequest);

    /// What the gates of this upgrade have found, by gate and pod.
    fn results(&self, resource_uid: &str, upgrade: &str) -> BTreeMap<(String, String), GateOutcome>;

    /// Ends the gates of a resource, but for those of one upgrade.
    fn forget(&self, resource_uid: &str, but_upgrade: Option<&str>);
}

/// Runs none, so that no gate ever has a verdict.
pub struct NoGates;

impl GateRunner for NoGates {
    fn start(&self, _: &ProgressDB, _: &str, _: &GateRequest) {}

    fn results(&self, _: &str, _: &str) -> BTreeMap<(String, String), GateOutcome> {
        BTreeMap::new()
    }

    fn forget(&self, _: &str, _: Option<&str>) {}
}

impl GateRunner for Gates {
    fn start(&self, resource: &ProgressDB, upgrade: &str, request: &GateRequest) {
        // What only reads a log needs no address, and a pod that does not start has none.
        let no_address = IpAddr::from(Ipv4Addr::UNSPECIFIED);
        let Ok(address) = request.address.parse::<IpAddr>().or_else(|error| match &request.gate {
            decide::Gate::Tail { .. } => Ok(no_address),
            _ => Err(error),
        }) else {
            return;
        };
        let namespace = resource.namespace().unwrap_or_default();
        let key = GateKey {
            resource_uid: resource.uid().unwrap_or_default(),
            upgrade: upgrade.to_owned(),
            step: request.name.clone(),
            pod_uid: request.pod_uid.clone(),
        };
        let target = Target::of_pod(address, &namespace, &api_key_secret(resource));
        Self::start(self, key, gate(&request.gate, namespace, resource), target);
    }

    fn results(&self, resource_uid: &str, upgrade: &str) -> BTreeMap<(String, String), GateOutcome> {
        let found = self.of_upgrade(resource_uid, upgrade).into_iter();
        found.map(|(key, result, took)| ((key.step, key.pod_uid), outcome(result, took))).collect()
    }

    fn forget(&self, resource_uid: &str, but_upgrade: Option<&str>) {
        Self::forget(self, resource_uid, but_upgrade);
    }
}

fn gate(request: &decide::Gate, namespace: String, resource: &ProgressDB) -> Gate {
    match request.clone() {
        decide::Gate::Health { successes, period_millis, version, format, sequence } => Gate::Health {
            successes,
            period: Duration::from_millis(period_millis),
            expect: Expectation {
                version,
                format,
                sequence_at_least: sequence.and_then(|sequence| u64::try_from(sequence).ok()),
            },
        },
        decide::Gate::Smoke { read_only } => Gate::Smoke { read_only },
        decide::Gate::Load { samples } => Gate::Load { samples },
        decide::Gate::Prometheus { address, queries } => Gate::Prometheus { address, queries },
        decide::Gate::Logs { pod } => Gate::Logs { pod, namespace },
        decide::Gate::Tail { pod, container } => Gate::Tail { pod, namespace, container, secrets: secrets(resource) },
    }
}

/// The Secrets that the server reads.
fn secrets(resource: &ProgressDB) -> Vec<String> {
    let mut secrets: Vec<String> = needs(&resource.spec).into_iter().map(|need| need.secret).collect();
    secrets.push(api_key_secret(resource));
    secrets.sort();
    secrets.dedup();
    secrets
}

fn outcome(result: gates::GateResult, took: Option<Duration>) -> GateOutcome {
    let number = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    GateOutcome {
        status: GateStatus {
            name: String::new(),
            verdict: result.verdict,
            value: result.value,
            threshold: result.threshold,
            samples: number(result.samples),
            why: result.why,
        },
        load: result.load.map(|load| Measured {
            requests: number(load.requests),
            errors: number(load.errors),
            p50_micros: number(load.p50_micros),
            p99_micros: number(load.p99_micros),
        }),
        log: result.log,
        millis: took.map_or(0, |took| i64::try_from(took.as_millis()).unwrap_or(i64::MAX)),
        has_ended: took.is_some(),
    }
}
