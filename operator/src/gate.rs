//! A gate of an upgrade: what is to be tried on a server before something depends on it, what was found, and how a load is
//! judged. Plain data and pure functions, for those who decide and for those who run gates.

mod compare;
mod result;
mod tracks;

use std::time::Duration;

pub use self::{
    compare::{MetricLimits, Share, best, compare, is_usable},
    result::{GateResult, shortened},
    tracks::{compare_tracks, has_enough},
};
use crate::crd::{MetricGate, PrometheusQuery, SmokeGate};

/// A gate that should run, against one pod. It is started once for each pod and name.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct GateRequest {
    /// Which gate, and in which part of the upgrade.
    pub name: String,
    /// The uid of the pod.
    pub pod_uid: String,
    /// Its address.
    pub address: String,
    /// What is to be tried.
    pub gate: Gate,
}

/// What is to be tried.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Gate {
    /// `/healthz` and `/readyz` are 200 so often in a row, and `/readyz` says what is expected.
    Health {
        /// How often in a row.
        successes: u32,
        /// From one look to the next.
        period: Duration,
        /// What `/readyz` has to say.
        expect: Expectation,
    },
    /// What a user does in a minute, each answer compared.
    Smoke {
        /// Write nothing.
        read_only: bool,
    },
    /// The synthetic load: the same on the old pod, as the baseline, and on the new one.
    Load {
        /// How many requests are measured; it ends after half a minute with fewer.
        samples: u32,
    },
    /// The log of the server tells of no panic, no trouble with its store and no failing KMS.
    Logs {
        /// Its pod.
        pod: String,
    },
    /// The end of a log, without anything that is in a Secret which the server reads. It has no verdict: it is for people.
    Tail {
        /// The pod.
        pod: String,
        /// The container.
        container: String,
    },
    /// What pods of both tracks of a fleet have counted of the requests that users make. It has no verdict:
    /// [`compare_tracks`] compares two of them.
    Counters {
        /// The pods.
        pods: Vec<TrackedPod>,
    },
    /// What a Prometheus says.
    Prometheus {
        /// Its URL, such as `http://prometheus.monitoring:9090`.
        address: String,
        /// What it is asked.
        queries: Vec<PrometheusQuery>,
    },
}

/// A pod of a fleet.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct TrackedPod {
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: String,
    /// Where it tells its metrics: address and port.
    pub management: String,
    /// Whether it is a canary.
    pub canary: bool,
}

/// What a ready server has to say of itself; what is `None` may be anything.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Expectation {
    /// Its version.
    pub version: Option<String>,
    /// The format of its data.
    pub format: Option<i32>,
    /// The client writes ever made: fewer mean that it has other data.
    pub sequence_at_least: Option<i64>,
}

impl Gate {
    /// The smoke test of a policy; `None` if there is none.
    pub fn smoke(policy: SmokeGate) -> Option<Self> {
        match policy {
            SmokeGate::Off => None,
            policy => Some(Self::Smoke { read_only: policy == SmokeGate::ReadOnly }),
        }
    }

    /// The load of a policy; `None` if there is none.
    pub fn load(policy: &MetricGate) -> Option<Self> {
        let samples = u32::try_from(policy.minimum_samples).ok().filter(|samples| *samples > 0)?;
        Some(Self::Load { samples })
    }
}
