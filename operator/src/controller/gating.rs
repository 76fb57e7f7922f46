//! Who runs the gates of upgrades. A reconcile starts them and reads what they have found; it never waits for one.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr},
};

use kube::ResourceExt;

use crate::{
    crd::ProgressDB,
    gate::{Gate, GateRequest, GateResult},
    gates::{GateKey, Gates, Target},
    objects::api_key_secret,
    observe::needs,
};

/// Runs gates beside the reconciles.
pub trait GateRunner: Send + Sync {
    /// Starts a gate of this upgrade, unless it runs or has ended.
    fn start(&self, resource: &ProgressDB, upgrade: &str, request: &GateRequest);

    /// What the gates of this upgrade have found, by gate and pod.
    fn results(&self, resource_uid: &str, upgrade: &str) -> BTreeMap<(String, String), GateResult>;

    /// Ends the gates of a resource, but for those of one upgrade.
    fn forget(&self, resource_uid: &str, but_upgrade: Option<&str>);
}

/// Runs none, so that no gate ever has a verdict.
pub struct NoGates;

impl GateRunner for NoGates {
    fn start(&self, _: &ProgressDB, _: &str, _: &GateRequest) {}

    fn results(&self, _: &str, _: &str) -> BTreeMap<(String, String), GateResult> {
        BTreeMap::new()
    }

    fn forget(&self, _: &str, _: Option<&str>) {}
}

impl GateRunner for Gates {
    fn start(&self, resource: &ProgressDB, upgrade: &str, request: &GateRequest) {
        // What only reads a log needs no address, and a pod that does not start has none; counters are of many pods.
        let no_address = IpAddr::from(Ipv4Addr::UNSPECIFIED);
        let Ok(address) = request.address.parse::<IpAddr>().or_else(|error| match &request.gate {
            Gate::Tail { .. } | Gate::Counters { .. } => Ok(no_address),
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
        let target = Target::of_pod(address, &namespace, &api_key_secret(resource), secrets(resource));
        Self::start(self, key, request.gate.clone(), target);
    }

    fn results(&self, resource_uid: &str, upgrade: &str) -> BTreeMap<(String, String), GateResult> {
        let found = self.of_upgrade(resource_uid, upgrade).into_iter();
        found.map(|(key, result)| ((key.step, key.pod_uid), result)).collect()
    }

    fn forget(&self, resource_uid: &str, but_upgrade: Option<&str>) {
        Self::forget(self, resource_uid, but_upgrade);
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
