//! What no client should send: always an error of the contract or a closed connection, never a panic, never a partial
//! write, never memory without bound.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod bodies;
mod framing;
mod open_files;
mod replies;
mod slow;
mod victim;
