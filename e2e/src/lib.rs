//! What people use to run a database on Kubernetes (`kubectl`, `helm`, the plugin), as functions of a test.
//!
//! `e2e/run` has put them on the path and installed the operator. [`Namespace`] is a test's own and gone when it ends,
//! [`Database`] a resource in it, [`Writers`] are its clients, who remember what was acknowledged.
#![allow(clippy::unwrap_used, reason = "a harness that cannot go on fails the test")]
#![allow(clippy::print_stderr, clippy::print_stdout, reason = "captured by the test runner, shown when the test fails")]
#![allow(clippy::disallowed_methods, reason = "the one place where tests wait, read the clock and the environment")]

mod api;
mod command;
mod database;
mod forward;
mod namespace;
mod relay;
mod writers;

use std::time::Duration;

pub use command::{cluster_script, helm, kubectl, kubectl_with, plugin, root, run, try_kubectl};
pub use database::{Client, Database};
pub use namespace::Namespace;
pub use relay::Relay;
use testing::variable;
use testing::waiting::poll_every;
pub use writers::Writers;

/// How long a server may take to answer.
const TO_ANSWER: Duration = Duration::from_secs(5);
/// How long anything may take that normally takes seconds: machines differ fivefold, and several tests run at once.
pub const PATIENCE: Duration = Duration::from_secs(300);
/// How long to wait between two looks at the cluster: many tests look at once.
const PAUSE: Duration = Duration::from_millis(500);

/// The namespace of the operator.
pub const SYSTEM: &str = "progressdb-system";

/// An image as pods of the cluster name it: `E2E_IMAGE_PREFIX` says where, this machine's own builds otherwise.
pub fn image(name: &str) -> String {
    format!("{}{name}", variable("E2E_IMAGE_PREFIX").unwrap_or_else(|| "localhost/".to_owned()))
}

/// Whether the cluster is the one of `make cluster-up`, whose parts tests may stop.
pub fn is_own_cluster() -> bool {
    variable("E2E_OWN_CLUSTER").is_some()
}

/// Asks again until there is an answer; fails the test when there is none within [`PATIENCE`].
#[track_caller]
pub fn wait_for<T>(what: &str, ask: impl FnMut() -> Option<T>) -> T {
    poll_every(PAUSE, PATIENCE, ask).unwrap_or_else(|| panic!("it never came that {what}"))
}

/// Asks again until it is so.
#[track_caller]
pub fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    wait_for(what, || is_so().then_some(()));
}

/// Goes on after this time, for what happens at intervals.
pub fn pause(duration: Duration) {
    std::thread::sleep(duration);
}
