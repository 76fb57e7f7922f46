//! What people use to run a database on Kubernetes (`kubectl`, `helm`, the plugin), as functions of a test.
//!
//! `e2e/run` has put them on the path and installed the operator. [`Namespace`] is a test's own and gone when it ends,
//! [`Database`] a resource in it, [`Writers`] are its clients, who remember what was acknowledged.
#![allow(dead_code, unused_imports, reason = "each suite uses its part")]
#![allow(unreachable_pub, reason = "a module of each suite, not a crate")]
#![allow(clippy::unwrap_used, reason = "a harness that cannot go on fails the test")]
#![allow(clippy::print_stderr, clippy::print_stdout, reason = "captured by the test runner, shown when the test fails")]
#![allow(clippy::disallowed_methods, reason = "the one place where tests wait, read the clock and the environment")]

mod api;
mod command;
mod database;
#[path = "../../../server/tests/harness/environment.rs"]
mod environment;
mod forward;
#[path = "../../../server/tests/harness/http.rs"]
pub mod http;
mod namespace;
mod relay;
mod writers;

use std::time::{Duration, Instant};

pub use command::{cluster_script, helm, kubectl, kubectl_with, plugin, root, run, try_kubectl};
pub use database::{Client, Database};
pub use environment::{missing, python, skip, variable};
pub use namespace::Namespace;
pub use relay::Relay;
pub use writers::Writers;

/// How long a server may take to answer.
pub const GENEROUS: Duration = Duration::from_secs(5);
/// How long anything may take that normally takes seconds: machines differ fivefold, and several tests run at once.
pub const PATIENCE: Duration = Duration::from_secs(300);

pub const FRONTEND_KEY: &str = "pk_example";
pub const BACKEND_KEY: &str = "sk_example";
pub const ADMIN_KEY: &str = "admin_example";
pub const SIGNING_KEY: &str = "sign_example";

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

/// Asks again until there is an answer.
#[track_caller]
pub fn wait_for<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let (deadline, mut between) = (Instant::now() + PATIENCE, Duration::from_millis(250));
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < deadline, "it never came that {what}");
        pause(between);
        // A look by kubectl costs a tenth of a second of a core, and many tests look at once.
        between = (between * 5 / 4).min(Duration::from_secs(1));
    }
}

/// Asks again until it is so.
#[track_caller]
pub fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    wait_for(what, || is_so().then_some(()));
}

pub fn pause(duration: Duration) {
    std::thread::sleep(duration);
}
