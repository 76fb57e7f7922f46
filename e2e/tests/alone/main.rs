//! What disturbs the whole cluster or every database in it: one test after the other.

#[path = "../harness/mod.rs"]
mod harness;

mod charts;
mod cluster;
mod operator;
