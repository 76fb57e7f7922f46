//! What the tests of several crates share. Never part of a product: only tests depend on it.
//!
//! It starts the real `progressdb` on loopback with a directory of its own, and talks to it over sockets:
//!
//! | Module | What |
//! |---|---|
//! | [`setup`] | a data directory and a configuration: [`Setup`] |
//! | [`server`] | one running process on it: [`Server`] |
//! | [`user`] | one user who calls it: [`User`] |
//! | [`http`] | the client below all of them, which may also send what no HTTP library would |
//! | [`clock`] | a wall clock that a test sets |
//! | [`command`] | programs that are run to their end |
//! | [`interrupt`] | a command that is killed at each of its changes to the disk |
//! | [`servers`] | servers that stand for key management services |
//! | `kubernetes` | an API server and a cluster in this process, with the feature of that name: the server's tests need no `kube` |
//! | [`layers`] | what a module of a crate may use of the others |
//! | [`filled`] | a database with something of every kind in it |
//! | [`disk`] | a file system of a test's own, to fill or to break |
//! | [`machine`] | what a test needs of the machine, and how it is skipped without |
//! | [`page`] | the commands of a page of the documentation, typed as they stand there |
//! | [`waiting`] | conditions that are waited for |
//!
//! A server is killed when it is dropped; a panic line in its log fails the test that owned it. A helper panics where it
//! cannot go on, which fails the test that called it. No test needs more than loopback.
#![allow(clippy::unwrap_used, reason = "a helper that cannot go on fails the test")]
#![allow(clippy::print_stdout, reason = "captured by the test runner, shown when the test fails")]
#![allow(clippy::disallowed_methods, reason = "the one place where tests wait, read the clock and the environment")]

pub mod clock;
pub mod command;
mod directory;
pub mod disk;
pub mod filled;
pub mod fleet;
pub mod http;
pub mod interrupt;
#[cfg(feature = "kubernetes")]
pub mod kubernetes;
pub mod layers;
pub mod load;
pub mod machine;
pub mod page;
mod pump;
mod random;
pub mod server;
pub mod servers;
pub mod setup;
pub mod user;
pub mod waiting;

pub use command::{Finished, finish, program};
pub use directory::copy_directory;
pub use http::Answer;
pub use interrupt::{fail_at_each_change, kill_at_each_change};
pub use machine::{build_directory, missing, python, skip, temporary_directory, variable};
pub use random::Random;
pub use server::Server;
pub use setup::Setup;
pub use user::{THREADS, User, message, messages, thread};
pub use waiting::{GENEROUS, timed, wait_until};

/// The frontend key of every server that a test starts.
pub const FRONTEND_KEY: &str = "pk_example";
/// Its backend key.
pub const BACKEND_KEY: &str = "sk_example";
/// Its admin key.
pub const ADMIN_KEY: &str = "admin_example";
/// The key that user ids are signed with.
pub const SIGNING_KEY: &str = "sign_example";
