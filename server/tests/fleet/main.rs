//! Several servers on one Cassandra of three nodes, and everything that can befall either: nothing acknowledged is lost,
//! nothing is there twice, sequences have no gap, and lists and totals agree with what they count.
//!
//! Without Cassandra these tests are skipped by name. `PROGRESSDB_FLEET_PAUSE_S` (default 15) says for how long a node hangs.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]
#![allow(clippy::print_stdout, reason = "captured by the test runner, shown when the test fails")]

mod clocks;
mod credentials;
mod full_node;
mod nodes;
mod replicas;
mod rotation;
mod schema;
mod tls;
mod tour;
mod world;
