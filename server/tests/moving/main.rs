//! `progressdb export` and `progressdb import`, from outside: what arrives, what is refused, and what an interruption leaves.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod arrives;
mod engines;
mod killed;
mod page;
mod refused;
mod resumed;
mod world;
