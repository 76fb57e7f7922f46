//! Backup, verify, restore and reset of a database, from outside: exit codes, events, output, and what is on the disk.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod administrator;
mod clock;
mod crash;
mod fetched;
mod full_disk;
mod kept;
mod marks;
mod offline;
mod online;
mod page;
mod place;
mod priority;
mod rehearsal;
mod remote;
mod remote_faults;
mod reset;
mod restore;
mod restore_crash;
mod schedule;
mod stores;
mod tree;
mod under_load;
mod verify;
mod world;
