//! Writes an artefact, so that it is there as a whole or not at all.
//!
//! 1. leftovers of backups whose process is gone are removed from the place
//! 2. everything is written to a temporary beside the target, and synced
//! 3. it is read again and compared: beside a server from the disk, else from memory as far as the system still has it there,
//!    because a sync that succeeded is trusted
//! 4. it gets its name by one rename that replaces nothing, and the directory is synced
//!
//! A temporary is called `progressdb-backup-<id>.tmp` and locked while its process lives. A crash before step 4 leaves it,
//! and one behind it leaves the artefact.

use std::fs::{self, File};
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};

use aws_lc_rs::rand;
use rustix::fs::{Advice, CWD, RenameFlags, fadvise, renameat_with};
use rustix::io::Errno;

use super::artefact::{self, Hashing, directory};
use super::temporary::{self, Temporary, remove_leftovers};
use super::{Artefact, Failed, FileEntry, Form, Header, Manifest, Phase, Progress, Refused, Source};
use crate::clock::Clock;
use crate::files;

/// Which backup it is, and when it was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// Random.
    pub id: [u8; 16],
    /// Unix nanoseconds.
    pub created_ns: u64,
}

impl Stamp {
    /// Of a backup that is made now.
    pub fn now() -> Self {
        let mut id = [0; 16];
        rand::fill(&mut id).expect("the system's random source works");
        Self { id, created_ns: Clock::wall() }
    }

    fn time(&self) -> jiff::Timestamp {
        jiff::Timestamp::from_nanosecond(self.created_ns.into()).unwrap_or_default()
    }

    /// RFC 3339, in UTC, whole seconds.
    pub fn created(&self) -> String {
        format!("{:.0}", self.time())
    }

    /// What the artefact is called in a directory.
    pub fn file_name(&self) -> String {
        format!("progressdb-{}.pdbk", self.time().strftime(DATED))
    }

    /// What the backup is called in an object store. Names sort by time.
    pub(super) fn remote_name(&self) -> String {
        format!("{}-{}", self.time().strftime(DATED), hex::encode(self.id))
    }

    /// What an artefact is called that is not whole.
    pub(super) fn temporary_name(&self) -> String {
        temporary::name(PREFIX, &self.id)
    }

    /// A time as [`Stamp::created`] shows it.
    pub(super) fn time_of(created_ns: u64) -> String {
        Self { id: [0; 16], created_ns }.created()
    }
}

/// Where an artefact goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Nothing is there.
    pub path: PathBuf,
    /// Its form.
    pub form: Form,
}

impl Target {
    /// Into a directory that exists, under a dated name; else literally. Refuses what is there, even if it is a link to
    /// nowhere, and what lies inside the data directory.
    pub fn resolve(out: &Path, form: Form, stamp: &Stamp, data_dir: &Path) -> Result<Self, Failed> {
        let path = if out.is_dir() { out.join(stamp.file_name()) } else { out.to_owned() };
        let exists = fs::symlink_metadata(&path).is_ok() || path.file_name().is_none();
        if files::is_inside(&path, data_dir) {
            return Err(Failed::Inside { path });
        }
        if exists { Err(Failed::Exists { path }) } else { Ok(Self { path, form }) }
    }

    fn parent(&self) -> &Path {
        files::parent(&self.path)
    }
}

/// What was made.
#[derive(Clone, Debug)]
pub struct Summary {
    /// Where it is.
    pub path: PathBuf,
    /// The bytes that it takes on disk.
    pub bytes: u64,
    /// What it says of itself.
    pub manifest: Manifest,
}

/// Writes `source` to `target`. After a failure there is nothing that was not there before.
pub fn create(source: &Source, target: &Target, stamp: &Stamp, progress: &Progress) -> Result<Summary, Failed> {
    let cannot = |path: &Path, error| Failed::io(format!("cannot write {}", path.display()), error);
    let writing = Writing { source, stamp, progress };
    let total = source.bytes().map_err(|error| writing.cannot_read(&source.directory, error))?;
    let mut parents =
        files::create_directories(target.parent(), 0o777).map_err(|error| cannot(target.parent(), error))?;
    remove_leftovers(target.parent(), PREFIX);
    let temporary = Temporary::create(target.parent().join(stamp.temporary_name()), target.form);
    let temporary = temporary.map_err(|error| cannot(target.parent(), error))?;
    progress.begin(Phase::Writing, total);
    let written = match target.form {
        Form::Tar => artefact::tar::write(&writing, &temporary.path, &temporary.file),
        Form::Dir => directory::write(&writing, &temporary.path),
    }?;
    let bytes = match target.form {
        Form::Tar => temporary.file.metadata().map_err(|error| cannot(&temporary.path, error))?.len(),
        Form::Dir => written.bytes(),
    };
    let artefact = Artefact::open_any(&temporary.path).map(|artefact| artefact.just_written(total, source.live));
    let read = artefact.and_then(|artefact| artefact.check(progress));
    let manifest = read.map_err(|refused| match refused {
        Refused::Io { what, source } => Failed::Io { what, source },
        unreadable => Failed::Unreadable(unreadable),
    })?;
    // Nobody reads it soon: the memory is for what a server reads. Where that cannot be said, it goes by age.
    let _ = fadvise(&temporary.file, 0, None, Advice::DontNeed);
    progress.advance(0).map_err(|error| cannot(&target.path, error))?;
    publish(&temporary, target)?;
    parents.keep();
    Ok(Summary { path: target.path.clone(), bytes, manifest })
}

/// What the forms ask while they write.
pub(super) struct Writing<'a> {
    source: &'a Source,
    stamp: &'a Stamp,
    pub(super) progress: &'a Progress,
}

impl Writing<'_> {
    pub(super) fn header(&self) -> Header {
        self.manifest(Vec::new()).header
    }

    pub(super) fn manifest(&self, files: Vec<FileEntry>) -> Manifest {
        Manifest::new(self.stamp, &self.source.description, files)
    }

    pub(super) fn created_s(&self) -> u64 {
        self.stamp.created_ns / 1_000_000_000
    }

    pub(super) fn files(&self) -> impl Iterator<Item = &str> {
        self.source.files.iter().map(String::as_str)
    }

    /// Gives a file of the source and its length to `write`, which reads it to that length.
    pub(super) fn read_file(
        &self,
        name: &str,
        write: impl FnOnce(&mut dyn Read, u64) -> Result<(), Failed>,
    ) -> Result<FileEntry, Failed> {
        let path = self.source.directory.join(name);
        let opened = File::open(&path).and_then(|file| Ok((file.metadata()?.len(), file)));
        let (bytes, file) = opened.map_err(|error| self.cannot_read(&path, error))?;
        let content = BufReader::with_capacity(256 << 10, file.take(bytes));
        let mut content = Hashing::new(content, self.progress);
        let written = write(&mut content, bytes);
        let (read, sha256) = content.finish().map_err(|error| self.cannot_read(&path, error))?;
        written?;
        if read != bytes {
            return Err(self.cannot_read(&path, io::Error::other("it became shorter while it was read")));
        }
        Ok(FileEntry { path: name.to_owned(), bytes, sha256 })
    }

    /// Whether it is written past the page cache.
    pub(super) fn direct(&self) -> bool {
        self.source.live
    }

    pub(super) fn begin_sync(&self) {
        self.progress.begin(Phase::Syncing, 0);
    }

    fn cannot_read(&self, path: &Path, error: io::Error) -> Failed {
        Failed::io(format!("cannot read {}", path.display()), error)
    }
}

const DATED: &str = "%Y%m%dT%H%M%SZ";
const PREFIX: &str = "progressdb-backup-";

/// Gives it its name, unless something has that name.
fn publish(temporary: &Temporary, target: &Target) -> Result<(), Failed> {
    let cannot = |error: io::Error| Failed::io(format!("cannot write {}", target.path.display()), error);
    match rename_to_nothing(&temporary.path, &target.path, target.form) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(Failed::Exists { path: target.path.clone() }),
        renamed => renamed.and_then(|()| files::sync_directory_of(&target.path)).map_err(cannot),
    }
}

fn rename_to_nothing(from: &Path, to: &Path, form: Form) -> io::Result<()> {
    match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        // The file system cannot do that.
        Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => {}
        renamed => return Ok(renamed?),
    }
    match form {
        Form::Tar => fs::hard_link(from, to).and_then(|()| fs::remove_file(from)),
        // One that somebody makes this very moment is replaced only if it is an empty directory.
        Form::Dir if fs::symlink_metadata(to).is_ok() => Err(io::ErrorKind::AlreadyExists.into()),
        Form::Dir => fs::rename(from, to),
    }
}

#[cfg(test)]
pub(super) mod tests;
