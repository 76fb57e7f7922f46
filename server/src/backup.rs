//! Backups: what one holds, how it is written, and how it is read again.
//!
//! ```text
//! manifest     what a backup says of itself: whose it is, which files it holds, their digests
//! source       the files of one store as they were at one moment, and what is said of them
//! checkpoints  such files of the store that this process serves, each held for one backup
//! online       such files from the server that has the data directory
//! service      backups that a server makes of its own store
//! destination  where one goes: a disk, or an object store
//! create       writes an artefact: it is there as a whole, or not at all
//! temporary    what a command writes before it is whole, and what a killed one left
//! artefact     reads one, an archive or a directory, and trusts nothing in it
//! place        where backups are kept: lists, checks and prunes them
//! retention    which of them may go
//! remote       object stores
//! progress     how far this is, how fast it may go, and whether it shall stop
//! background   work that leaves the processors to a server
//! direct       files that leave it the page cache
//! zstd, pipe   streams
//! ```
//!
//! ```text
//! progressdb-backup.json   the header, first
//! store/<file> …           the files of the store
//! manifest.json            last: who reads it whole has all that it names
//! ```
//! These are the entries of a tar archive in a zstd stream (`progressdb-<YYYYMMDDTHHMMSSZ>.pdbk`), or the files of a
//! directory. A backup holds no key, no certificate and no secret of the configuration.

mod artefact;
mod background;
mod checkpoints;
mod create;
mod destination;
mod direct;
mod error;
mod manifest;
mod online;
mod pipe;
mod place;
mod progress;
pub mod remote;
mod retention;
mod service;
mod source;
mod temporary;
mod zstd;

pub use self::artefact::{Artefact, Form};
pub use self::checkpoints::{Checkpoint, Checkpoints, CutError, Describe, Figures, Hold, LEASE, MOST};
pub use self::create::{Stamp, Summary, Target, create};
pub use self::destination::{Destination, Made};
pub use self::error::{Failed, Refused, STOPPED, is_stop};
pub use self::manifest::{Counts, FileEntry, Header, KmsMetadata, LAYOUT, Manifest, NOT_INCLUDED};
pub use self::online::{Lease, Online, OnlineError};
pub use self::place::{Listed, Place, Pruned};
pub use self::progress::{Phase, Progress, Seen};
pub use self::retention::{Keep, Verdict};
pub use self::service::{Backups, MakeError};
pub use self::source::{Description, Source};
pub use self::temporary::Temporary;
