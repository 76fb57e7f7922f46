//! Reads one artefact. Nothing in it is trusted: entries have plain names and a fixed order, lengths and digests are
//! compared, and what the manifest does not name is refused.

pub(super) mod directory;
pub(super) mod tar;

use std::collections::HashSet;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, BufWriter, IntoInnerError, Read};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use aws_lc_rs::digest::{Context, SHA256};

use super::direct::Output;
use super::manifest::{HEADER, MANIFEST, NAME, STORE, is_file_name};
use super::{FileEntry, Header, LAYOUT, Manifest, Phase, Progress, Refused};
use crate::files;
use crate::format::Formats;

/// The form of an artefact.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Form {
    /// One file: a tar archive in a zstd stream.
    #[default]
    Tar,
    /// A directory.
    Dir,
}

/// A backup that can be read; its header was.
#[derive(Debug)]
pub struct Artefact {
    path: PathBuf,
    form: Form,
    header: Header,
    /// Of all files, if they are known; for showing how far a pass is.
    bytes: u64,
    /// It is read past the page cache.
    direct: bool,
}

impl Artefact {
    /// Reads the header of the artefact at `path`, and refuses one that this version cannot read.
    pub fn open(path: &Path, formats: &Formats) -> Result<Self, Refused> {
        let artefact = Self::open_any(path)?;
        let Header { version, store_format, .. } = &artefact.header;
        match formats.check(*store_format) {
            Ok(()) => Ok(artefact),
            Err(unreadable) => Err(Refused::Format { path: path.to_owned(), version: version.clone(), unreadable }),
        }
    }

    /// The same, whatever the format of its store.
    pub fn open_any(path: &Path) -> Result<Self, Refused> {
        let metadata = fs::metadata(path).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => Refused::Missing { path: path.to_owned() },
            _ => Refused::io(format!("cannot read {}", path.display()), error),
        })?;
        let (form, header) = match () {
            () if metadata.is_dir() => (Form::Dir, directory::read_header(path)?),
            () if metadata.is_file() => (Form::Tar, tar::read_header(path)?),
            () => return Err(Refused::not_ours(path, "it is neither a file nor a directory")),
        };
        let header = parse_header(path, &header)?;
        Ok(Self { path: path.to_owned(), form, header, bytes: 0, direct: false })
    }

    /// What a reader must know first. It is compared with the manifest by [`Artefact::check`].
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Which form it has.
    pub fn form(&self) -> Form {
        self.form
    }

    /// The same, known to hold files of so many bytes: a pass can then say how far it is.
    pub(super) fn just_written(self, bytes: u64, direct: bool) -> Self {
        Self { bytes, direct, ..self }
    }

    /// Reads everything and compares every digest.
    pub fn check(&self, progress: &Progress) -> Result<Manifest, Refused> {
        progress.begin(Phase::Checking, self.bytes);
        self.read(None, progress)
    }

    /// The same, and writes the files of the store into `into`, a directory that it makes. When this returns they are on
    /// disk. After a failure what was written is still there.
    pub fn unpack(&self, into: &Path, progress: &Progress) -> Result<Manifest, Refused> {
        let cannot = |error| Refused::io(format!("cannot write {}", into.display()), error);
        progress.begin(Phase::Unpacking, self.bytes);
        DirBuilder::new().mode(0o700).create(into).map_err(cannot)?;
        let manifest = self.read(Some(into), progress)?;
        sync_files(into, manifest.files.iter().map(|file| file.path.as_str())).map_err(cannot)?;
        files::sync_directory_of(into).map_err(cannot)?;
        Ok(manifest)
    }

    fn read(&self, into: Option<&Path>, progress: &Progress) -> Result<Manifest, Refused> {
        let Self { path, direct, .. } = self;
        let reading = Reading { path, direct: *direct, into, progress, found: Vec::new(), names: HashSet::new() };
        let manifest = match self.form {
            Form::Tar => tar::read(reading),
            Form::Dir => directory::read(reading),
        }?;
        if manifest.header == self.header {
            return Ok(manifest);
        }
        Err(Refused::damaged(&self.path, format!("{HEADER} says something else than {MANIFEST}")))
    }
}

/// Syncs files of a directory, and the directory.
pub(super) fn sync_files<'a>(directory: &Path, mut names: impl Iterator<Item = &'a str>) -> io::Result<()> {
    names.try_for_each(|name| File::open(directory.join(name))?.sync_all())?;
    File::open(directory)?.sync_all()
}

/// The longest header, and the longest manifest, that are read: about half a million files.
const LONGEST_HEADER: u64 = 64 << 10;
pub(super) const LONGEST_MANIFEST: u64 = 64 << 20;

/// Reads the header, or a manifest as one: it begins with the same fields.
pub(super) fn parse_header(path: &Path, bytes: &[u8]) -> Result<Header, Refused> {
    /// Name and layout first: a newer layout may have other fields.
    #[derive(serde::Deserialize)]
    struct First {
        name: String,
        layout: u32,
        #[serde(default)]
        version: String,
    }
    let unreadable = |error: serde_json::Error| Refused::damaged(path, format!("{HEADER} is unreadable: {error}"));
    let First { name, layout, version } = serde_json::from_slice(bytes).map_err(unreadable)?;
    if name != NAME {
        return Err(Refused::not_ours(path, format!("its {HEADER} belongs to something else")));
    }
    if layout > LAYOUT {
        return Err(Refused::TooNew { path: path.to_owned(), found: layout, newest: LAYOUT, version });
    }
    serde_json::from_slice(bytes).map_err(unreadable)
}

/// One pass over an artefact. The forms tell it what they find, in order.
struct Reading<'a> {
    path: &'a Path,
    direct: bool,
    /// Where the files of the store go, if they are wanted.
    into: Option<&'a Path>,
    progress: &'a Progress,
    found: Vec<FileEntry>,
    names: HashSet<String>,
}

impl Reading<'_> {
    /// A file of the store, by the name of its entry: `bytes` are expected.
    fn take_file(&mut self, entry: &str, bytes: u64, content: impl Read) -> Result<(), Refused> {
        let Some(name) = entry.strip_prefix(STORE).filter(|name| is_file_name(name)) else {
            return Err(self.damaged(format!("it has an entry {entry:?}, which no backup has")));
        };
        if !self.names.insert(name.to_owned()) {
            return Err(self.damaged(format!("{entry} is there twice")));
        }
        let mut content = Hashing::new(content, self.progress);
        match self.into.map(|into| into.join(name)) {
            None => drop(io::copy(&mut content, &mut io::sink())),
            Some(path) => {
                let written = create_file(&path).and_then(|file| copy(&mut content, &file, false));
                if let (Err(error), None) = (written, &content.failed) {
                    return Err(Refused::io(format!("cannot write {}", path.display()), error));
                }
            }
        }
        let (read, sha256) = content.finish().map_err(|error| self.cannot_read(entry, error))?;
        if read != bytes {
            return Err(self.damaged(format!("{entry} ends after {read} of {bytes} bytes")));
        }
        self.found.push(FileEntry { path: name.to_owned(), bytes, sha256 });
        Ok(())
    }

    /// The manifest, which comes last.
    fn finish(&self, manifest: &[u8]) -> Result<Manifest, Refused> {
        let manifest = Manifest::from_bytes(manifest).map_err(|what| self.damaged(format!("{MANIFEST}: {what}")))?;
        match manifest.difference(&self.found) {
            None => Ok(manifest),
            Some(what) => Err(self.damaged(what)),
        }
    }

    fn damaged(&self, what: String) -> Refused {
        Refused::damaged(self.path, what)
    }

    /// A disk that fails says so by a number; everything else is about what was read.
    fn cannot_read(&self, entry: &str, error: io::Error) -> Refused {
        let of_system = error.raw_os_error().is_some() || super::error::is_stop(&error);
        match of_system {
            true => Refused::io(format!("cannot read {}", self.path.display()), error),
            false => self.damaged(format!("{entry} cannot be read: {error}")),
        }
    }
}

/// Hashes and counts what is read through it, and notes why a read failed: then it was not the write.
pub(super) struct Hashing<'a, R> {
    from: R,
    hash: Context,
    bytes: u64,
    progress: &'a Progress,
    pub(super) failed: Option<io::Error>,
}

impl<'a, R: Read> Hashing<'a, R> {
    pub(super) fn new(from: R, progress: &'a Progress) -> Self {
        Self { from, hash: Context::new(&SHA256), bytes: 0, progress, failed: None }
    }

    /// How many bytes were read, and their SHA-256; or why a read failed.
    pub(super) fn finish(self) -> io::Result<(u64, [u8; 32])> {
        match self.failed {
            Some(error) => Err(error),
            None => Ok((self.bytes, self.hash.finish().as_ref().try_into().expect("a SHA-256 has 32 bytes"))),
        }
    }
}

impl<R: Read> Read for Hashing<'_, R> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let read = self.from.read(bytes).and_then(|read| self.progress.advance(read as u64).map(|()| read));
        match read {
            Ok(read) => {
                self.hash.update(&bytes[..read]);
                self.bytes += read as u64;
                Ok(read)
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Err(error),
            Err(error) => {
                let kind = error.kind();
                self.failed = Some(error);
                Err(kind.into())
            }
        }
    }
}

/// Copies to the end in large blocks, past the page cache if that is wanted and possible.
pub(super) fn copy(from: &mut (impl Read + ?Sized), to: &File, direct: bool) -> io::Result<()> {
    let mut to = BufWriter::with_capacity(256 << 10, Output::new(to, direct));
    io::copy(from, &mut to)?;
    to.into_inner().map_err(IntoInnerError::into_error)?.finish()
}

/// Makes a file that only its owner can read; fails if anything is there.
pub(super) fn create_file(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
}

#[cfg(test)]
mod tests;
