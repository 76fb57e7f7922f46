//! Runs ProgressDB on Kubernetes.
//!
//! A reconcile of a resource reads the cluster, decides without looking again, reports what it decided and then writes:
//!
//! ```text
//! controller   watches trigger it ─┐
//!              observe ─► facts ─► decide ─► report ─► apply
//!              reads      pure     pure      status    writes
//!                 └► desired ┘
//!                    what should be there, built by objects
//! ```
//!
//! A reconcile that ends early is repeated. Every write can be repeated, and is refused if it was meant for another object.

pub mod apply;
pub mod args;
pub mod clock;
pub mod conditions;
pub mod controller;
pub mod crd;
pub mod decide;
pub mod desired;
pub mod drift;
pub mod error;
pub mod facts;
pub mod gate;
pub mod gates;
#[cfg(test)]
mod golden;
mod hash;
pub mod kind;
pub mod lease;
pub mod metrics;
pub mod notify;
pub mod objects;
pub mod observe;
pub mod outcomes;
pub mod plugin;
pub mod probe;
pub mod raw;
pub mod refusals;
pub mod report;
pub mod status;
pub mod telemetry;

/// Under this name the operator owns fields of objects.
pub const MANAGER: &str = "progressdb-operator";
