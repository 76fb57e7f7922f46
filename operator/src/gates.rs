//! The evidence that gates of an upgrade rest on: what a server does when it is tried.
//!
//! Each gate runs as a task, so that no reconcile waits for one, and at most once for each [`GateKey`]: a gate that ended
//! without a verdict is tried again under another step. What a task leaves is one small [`GateResult`]; how long it may take
//! is decided by whoever started it, who forgets it then.
//!
//! | Gate | Passed | Failed | Inconclusive |
//! |---|---|---|---|
//! | [`Gate::Health`] | so many good looks in a row | never | while it runs: what the last look has shown |
//! | [`Gate::Smoke`] | every step was answered as it has to be | the first answer that was not | no keys to call with |
//! | [`Gate::Load`] | it was measured; `gate/compare.rs` judges it | never | too few requests in its time, or none that worked |
//! | [`Gate::Logs`] | no line tells of a grave fault | one does | it cannot be read, or not all of it |
//! | [`Gate::Prometheus`] | every value is within its limits | one is not | one is missing |
//! | [`Gate::Counters`] | never | never | always: `gate/tracks.rs` compares what two of them tell |
//! | [`Gate::Tail`] | never | never | always: it is the end of a log, for people |
//!
//! Smoke and load work as probe users, whose ids begin with `progressdb-probe-`. What they make is removed when they end,
//! also when they are forgotten, and what a process that died has left by the next of their kind.

mod client;
mod counters;
mod health;
mod keys;
mod load;
mod logs;
mod prometheus;
mod registry;
mod smoke;
mod tail;
mod user;

use std::net::{IpAddr, SocketAddr};

pub use self::registry::Gates;
use crate::{
    crd::{PrometheusQuery as Query, Verdict},
    gate::{Expectation, Gate, GateResult},
    objects::{API_PORT, MANAGEMENT_PORT},
};

/// Which gate, of which upgrade, against which pod: a task is started once for each.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct GateKey {
    /// Of the resource that is upgraded.
    pub resource_uid: String,
    /// The id of the upgrade.
    pub upgrade: String,
    /// Whatever tells this gate from others of the upgrade.
    pub step: String,
    /// Of the pod that is tried.
    pub pod_uid: String,
}

/// Which server is tried, and with which keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Where its API is.
    pub api: SocketAddr,
    /// Where health is told.
    pub management: SocketAddr,
    /// The namespace of its pod and its Secrets.
    pub namespace: String,
    /// The Secret with its API keys. A task reads it when it begins, and keeps it no longer than it runs.
    pub secret: String,
    /// The Secrets that it reads: nothing that is in them may be in what is kept of its log.
    pub secrets: Vec<String>,
}

impl Target {
    /// The server of a pod.
    pub fn of_pod(address: IpAddr, namespace: &str, secret: &str, secrets: Vec<String>) -> Self {
        Self {
            api: (address, API_PORT).into(),
            management: (address, MANAGEMENT_PORT).into(),
            namespace: namespace.to_owned(),
            secret: secret.to_owned(),
            secrets,
        }
    }
}
