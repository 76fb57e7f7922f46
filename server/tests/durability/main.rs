//! An acknowledged write is on disk, once, in order: after kill -9 under load, after a stop under load, and whatever
//! directory the server is pointed at.
//!
//! `PROGRESSDB_TORTURE_LOOPS` (default 20) says how often the server is killed; `PROGRESSDB_TEST_SEED` repeats a run.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod checkpoints;
mod directories;
mod logs;
mod power_cut;
mod stop;
mod torture;
