//! What is to be tried on a server before something depends on it. A gate runs beside the reconciles, which read what it has
//! found.

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
    /// `/healthz` and `/readyz`, so often in a row.
    Health {
        /// How often.
        successes: u32,
        /// Between two of them, in milliseconds.
        period_millis: u64,
        /// The version that it must name.
        version: Option<String>,
        /// The format of the data that it must name.
        format: Option<i32>,
        /// The sequence that it must have reached.
        sequence: Option<i64>,
    },
    /// What a user does.
    Smoke {
        /// Nothing is written.
        read_only: bool,
    },
    /// A synthetic load.
    Load {
        /// So many requests.
        samples: u32,
    },
    /// What a Prometheus says.
    Prometheus {
        /// Its URL.
        address: String,
        /// What it is asked.
        queries: Vec<PrometheusQuery>,
    },
    /// What the server has logged since it started.
    Logs {
        /// Its pod.
        pod: String,
    },
    /// The end of a log, which has no verdict: for people.
    Tail {
        /// The pod.
        pod: String,
        /// The container.
        container: String,
    },
}

impl Gate {
    /// The smoke test of a policy; `None` if there is none.
    pub(super) fn smoke(policy: SmokeGate) -> Option<Self> {
        match policy {
            SmokeGate::Off => None,
            policy => Some(Self::Smoke { read_only: policy == SmokeGate::ReadOnly }),
        }
    }

    /// The load of a policy; `None` if there is none.
    pub(super) fn load(policy: &MetricGate) -> Option<Self> {
        let samples = u32::try_from(policy.minimum_samples).ok().filter(|samples| *samples > 0)?;
        Some(Self::Load { samples })
    }
}
