//! What clients were promised, asked of a running server: one file a subject.
//!
//! Texts, status codes and shapes are those that the released clients and their documentation rely on. The tests know
//! nothing of the code behind them.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod admin;
mod auth;
mod conditional;
mod errors;
mod http_rules;
mod idempotency;
mod keys;
mod metrics;
mod objects;
mod pages;
mod reads;
mod transport;
