//! ProgressDB: a database for chat threads.
//!
//! The map, arrows only down: [`serve`] wires [`http`] (routes, wire types, auth) to [`db`] (what is promised about
//! threads and messages), which knows storage only through [`store`] (one partition a commit, durable before it
//! returns). [`keys`] and [`rows`] are the catalogue of what lies on disk, [`model`] the checked types that every
//! layer shares, [`mod@format`] which stores this version reads, [`data_dir`] who may open which directory. [`backup`] is a
//! store as a file, [`moving`] a database as text. [`commands`] is the program around all of it.

pub mod args;
pub mod backup;
pub mod clock;
pub mod commands;
pub mod config;
pub mod crypt;
pub mod data_dir;
pub mod db;
mod error_chain;
mod files;
mod forgetting_cache;
pub mod format;
pub mod http;
pub mod keys;
pub mod model;
pub mod moving;
pub mod outgoing;
pub mod rows;
pub mod serve;
pub mod store;
pub mod telemetry;
pub mod termination;
mod token_bucket;
