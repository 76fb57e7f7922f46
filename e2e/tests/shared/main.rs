//! What can be tried beside each other, each test in a namespace of its own.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod charts;
mod deletion;
mod hands;
mod kms;
mod lives;
mod plugin;
mod refusals;
mod rules;
mod serves;
mod successors;
