//! The operator against an API server and a cluster in this process: every scenario with a crash at every call, with
//! caches that lag, with refusals and with replies that are lost.
#![allow(unreachable_pub, reason = "modules of a suite, not a crate")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod bad_input;
mod cluster;
mod crash;
mod crash_loop;
mod deletion;
mod events;
mod every_call;
mod evicted;
mod fleet;
mod gating;
mod installations;
mod keys;
mod lease;
mod loops;
mod optional_kinds;
mod ownership;
mod played;
mod plugin;
mod rbac;
mod restart;
mod rollout;
mod running;
mod status_owners;
mod successor;
mod told;
mod unreadable;
mod upgrade;
mod upgrade_commands;
mod watching;
mod writes;

use testing::kubernetes::{api, rules, world};

testing::test_rules!(place);

/// The double, as a place where the rules are tried.
async fn place() -> rules::Place {
    let server = api::Server::new();
    let objects = kube::Api::namespaced(server.client(), "ns");
    let claims = kube::Api::namespaced(server.client(), "ns");
    let settle = move || {
        server.with(|store| store.collect_garbage());
    };
    rules::Place { objects, claims, settle: Box::new(settle) }
}
