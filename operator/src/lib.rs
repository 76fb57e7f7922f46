//! Runs ProgressDB on Kubernetes.
//!
//! A pass over a resource reads the cluster, decides without looking again, reports what it decided and then acts:
//!
//! ```text
//! controller   watches wake it ─┐
//!              observe ─► decide ─► report ─► apply
//!              reads      pure      status    writes
//!                           │
//!                        objects  what should be there, pure
//! ```
//!
//! A pass that ends early is repeated; every act can be repeated, and is refused if it was meant for another object.

pub mod apply;
pub mod args;
pub mod clock;
pub mod controller;
pub mod crd;
pub mod decide;
pub mod drift;
pub mod error;
#[cfg(test)]
mod golden;
pub mod kind;
pub mod lease;
pub mod metrics;
pub mod objects;
pub mod observe;
pub mod outcomes;
pub mod plugin;
pub mod probe;
pub mod raw;
pub mod refusals;
pub mod report;
pub mod telemetry;

/// Under this name the operator owns fields of objects.
pub const MANAGER: &str = "progressdb-operator";
