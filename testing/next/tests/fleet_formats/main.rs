//! A format is raised while servers of a fleet serve beside it, with this version's program and the one after it
//! (`testing/next`), on a real Cassandra: nothing acknowledged is lost, every thread has the new form at the end, and whatever
//! interrupts the command, a repetition ends it.
//!
//! Without Cassandra these tests are skipped by name.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]
#![allow(clippy::print_stdout, reason = "captured by the test runner, shown when the test fails")]

mod interrupted;
mod raised;
mod refused;
mod world;
