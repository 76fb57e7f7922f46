//! Key management services: every provider against every fault that it must name, outlive or refuse.
//!
//! Through the library and through `progressdb kms check`. `every` holds what is the same for all four providers, the
//! others what one of them alone can suffer. The servers, and which faults a proxy has to commit in their place, are
//! described in `testing::servers`.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]
#![allow(clippy::print_stdout, reason = "captured by the test runner, shown when the test fails")]

mod aws;
mod client;
mod command;
mod every;
mod faults;
mod http;
mod local;
mod proxies;
mod vault;
mod vault_login;
