//! Backups in an object store, or below a `file://` directory that is laid out the same way.
//!
//! ```text
//! objects/<sha256>          files of stores, each once, however many backups hold it
//! backups/<time>-<id>.json  the manifest of a backup; it comes last, and by it the backup is there
//! verified/<time>-<id>.json every object of that backup was read and had its digest
//! damaged/<sha256>          that object was read and had another digest: the next backup sends it again
//! running/upload-<id>       an upload is under way; running/prune-<id>: objects are being removed
//! ```
//!
//! Two marks in `running/` keep an upload and a prune apart, because an upload relies on objects that no manifest may
//! name any more. Each writes its mark before it looks for the other's. An upload waits until no prune is under way; a
//! prune that sees an upload leaves the objects to the next prune. A mark counts for [`LEASE`] after it was last written,
//! by the clock of the object store, so one that a killed process left stops counting.
//!
//! The functions block, and are not for async code.

mod access;
mod choice;
mod client;
mod error;
mod index;
mod location;
mod marks;
mod objects;
mod prune;
mod receive;
mod send;
mod staged;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::backup::Progress;
use crate::files;

pub use self::access::Access;
pub use self::error::Error;
pub use self::location::Location;
pub use self::receive::Checked;
pub use self::send::Sent;

use self::objects::Objects;

/// How long a mark in `running/` counts after it was last written.
const LEASE: Duration = Duration::from_mins(5);

/// An object store that was opened. No request was sent yet.
pub struct Remote {
    objects: Objects,
    runtime: tokio::runtime::Runtime,
}

impl Remote {
    /// For reading, or for writing if it shall be `created`: then the directory of a `file://` location is made.
    pub fn open(location: &Location, access: &Access, created: bool) -> Result<Self, Error> {
        if let Some(directory) = location.directory() {
            prepare(&directory, created)?;
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| Error::io("cannot start a runtime", error))?;
        let store = access.open(location)?;
        Ok(Self { objects: Objects::new(store, location.clone()), runtime })
    }

    /// Where it is.
    pub fn location(&self) -> &Location {
        self.objects.location()
    }

    /// Runs `work` until it ends, or until `progress` says stop.
    fn run<T>(&self, progress: &Progress, work: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        self.runtime.block_on(async {
            tokio::select! {
                done = work => done,
                error = stopped(progress) => Err(Error::io(format!("{} was left", self.location()), error)),
            }
        })
    }
}

async fn stopped(progress: &Progress) -> std::io::Error {
    let mut ticks = tokio::time::interval(Duration::from_millis(100));
    loop {
        ticks.tick().await;
        if let Err(error) = progress.check() {
            return error;
        }
    }
}

/// Backups hold plain text where encryption is off, so a new directory is for its owner alone.
fn prepare(directory: &Path, created: bool) -> Result<(), Error> {
    let cannot = |error| Error::io(format!("cannot open {}", directory.display()), error);
    if !created {
        return match fs::metadata(directory) {
            Ok(metadata) if metadata.is_dir() => Ok(()),
            Ok(_) => Err(cannot(std::io::ErrorKind::NotADirectory.into())),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                Err(Error::Missing { what: directory.display().to_string() })
            }
            Err(error) => Err(cannot(error)),
        };
    }
    let mut made = Vec::new();
    for part in objects::KINDS {
        made.push(files::create_directories(&PathBuf::from(directory).join(part), 0o700).map_err(cannot)?);
    }
    made.iter_mut().for_each(files::Made::keep);
    Ok(())
}

#[cfg(test)]
pub(super) mod tests;
