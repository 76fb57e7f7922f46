//! What tests on a real Kubernetes share. `e2e/run` installs the operator and puts `kubectl` and `helm` on the path.
//!
//! | Module | What |
//! |---|---|
//! | [`namespace`] | a namespace of a test's own: [`Namespace`] |
//! | [`scope`] | the objects of a namespace or of the cluster, read and written through the API server: [`Scope`] |
//! | [`database`] | one ProgressDB resource and what the operator made of it: [`Database`] |
//! | [`fleet`] | one over Cassandra, its servers and who answered: [`Fleet`] |
//! | [`course`] | what its guarded upgrades go through, without a gap: [`Course`] |
//! | [`client`] | one user who calls a database through its Service: [`Client`] |
//! | [`writers`] | clients that write throughout a test and check what was acknowledged: [`Writers`] |
//! | [`command`] | `kubectl`, `helm` and the plugin, where a test is about what people type |
//!
//! A test waits with [`wait_until`] and in no other way: for a condition, and a failure says what was last seen.
#![allow(clippy::unwrap_used, reason = "a harness that cannot go on fails the test")]
#![allow(clippy::print_stderr, clippy::print_stdout, reason = "captured by the test runner, shown when the test fails")]
#![allow(clippy::disallowed_methods, reason = "the one place where tests wait, read the clock and the environment")]

pub mod client;
mod cluster;
pub mod command;
pub mod course;
pub mod database;
pub mod fleet;
mod forward;
pub mod namespace;
pub mod scope;
pub mod writers;

use std::fmt::Debug;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

pub use client::Client;
pub use command::{cluster_script, helm, is_allowed, kubectl, plugin, root, run, try_helm, try_kubectl};
pub use course::Course;
pub use database::Database;
pub use fleet::Fleet;
pub use namespace::Namespace;
pub use scope::{CLUSTER, SYSTEM, Scope};
use testing::variable;
use testing::waiting::poll_every;
pub use writers::Writers;

/// Where pods of the cluster of `make cluster-up` reach this machine.
pub const MACHINE: IpAddr = IpAddr::V4(Ipv4Addr::new(198, 18, 0, 1));
/// How long anything may take that normally takes seconds: machines differ fivefold, and several tests run at once.
const PATIENCE: Duration = Duration::from_secs(300);
/// How long to wait between two looks at the cluster: many tests look at once.
const PAUSE: Duration = Duration::from_millis(500);

/// An image as pods of the cluster name it: `E2E_IMAGE_PREFIX` says where, this machine's own builds otherwise.
pub fn image(name: &str) -> String {
    format!("{}{name}", variable("E2E_IMAGE_PREFIX").unwrap_or_else(|| "localhost/".to_owned()))
}

/// Whether the cluster is the one of `make cluster-up`, whose parts tests may stop and whose pods reach this machine.
pub fn is_own_cluster() -> bool {
    variable("E2E_OWN_CLUSTER").is_some()
}

/// Looks again until what is seen holds, and returns it. Fails the test after five minutes with what was last seen.
#[track_caller]
pub fn wait_until<T: Debug>(what: &str, mut see: impl FnMut() -> T, holds: impl Fn(&T) -> bool) -> T {
    let mut last = None;
    let found = poll_every(PAUSE, PATIENCE, || {
        let seen = see();
        if holds(&seen) {
            Some(seen)
        } else {
            drop(last.replace(seen));
            None
        }
    });
    match found {
        Some(found) => found,
        None => panic!("waited in vain until {what}; last seen: {:?}", last.unwrap()),
    }
}

/// Lets time pass, for what a test does at intervals. Never to wait for something.
pub fn pause(duration: Duration) {
    std::thread::sleep(duration);
}
