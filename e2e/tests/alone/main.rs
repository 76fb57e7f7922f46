//! What disturbs the whole cluster or every database in it: one test after the other.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod charts;
mod cluster;
mod figures;
mod fleets;
mod installations;
mod operator;
mod upgrades;
