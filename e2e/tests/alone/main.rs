//! What disturbs the whole cluster or every database in it: one test after the other.

mod charts;
mod cluster;
mod operator;
