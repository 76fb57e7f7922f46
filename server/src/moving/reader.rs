//! Reads the lines of an export. What it gives was compared with the checksum of its line; the end was compared with all of
//! them.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read as _};
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::line::{Line, Wrong};
use super::{Header, LAYOUT, Mark, Refused, Trailer};
use crate::db::Item;
use crate::format::Formats;

/// No line is longer: whatever is, is no export.
const LONGEST_LINE: u64 = 256 << 20;
const BUFFER: usize = 1 << 20;
/// What the first line of an export of any layout begins with.
pub(super) const FIRST: &[u8] = b"{\"progressdb_export\":";

/// Where an export comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// Standard input, which is read once.
    Stdin,
    /// A file.
    File(PathBuf),
}

impl Source {
    /// What `--from` means.
    pub fn of(from: &Path) -> Self {
        if from == Path::new("-") { Self::Stdin } else { Self::File(from.to_owned()) }
    }

    /// The first line was read. Bytes of the whole; 0 where nobody knows.
    pub fn open(&self) -> Result<(Reader<BufReader<File>>, u64), Refused> {
        let name = match self {
            Self::Stdin => Path::new("standard input"),
            Self::File(path) => path,
        };
        let opened = match self {
            Self::Stdin => io::stdin().as_fd().try_clone_to_owned().map(|input| (File::from(input), 0)),
            Self::File(path) => {
                File::open(path).and_then(|file| Ok((file.metadata()?.len(), file))).map(|(n, f)| (f, n))
            }
        };
        let (file, bytes) = opened.map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => Refused::Missing { path: name.to_owned() },
            _ => Refused::io(format!("cannot read {}", name.display()), error),
        })?;
        Ok((Reader::open(BufReader::with_capacity(BUFFER, file), name)?, bytes))
    }
}

/// An export that is being read.
#[derive(Debug)]
pub struct Reader<R> {
    from: R,
    path: PathBuf,
    header: Header,
    mark: Mark,
    line: Vec<u8>,
    trailer: Option<Trailer>,
}

/// What every layout has in its first line.
#[derive(Deserialize)]
struct AnyHeader {
    progressdb_export: u32,
    version: String,
}

impl<R: BufRead> Reader<R> {
    /// Reads the first line; messages call the export `path`.
    pub fn open(mut from: R, path: &Path) -> Result<Self, Refused> {
        let mut line = Vec::new();
        let ended = read_line(&mut from, path, &mut line)?;
        if !line.starts_with(FIRST) {
            let reason = if line.is_empty() { "it is empty" } else { "its first line is another" };
            return Err(Refused::NotOurs { path: path.to_owned(), reason });
        }
        if let Ok(AnyHeader { progressdb_export: found, version }) = serde_json::from_slice(&line)
            && found > LAYOUT
        {
            return Err(Refused::TooNew { path: path.to_owned(), found, newest: LAYOUT, version });
        }
        if !ended {
            return Err(Refused::damaged(path, 1, CUT_OFF));
        }
        let header = match Line::decode(1, &line) {
            Ok(Line::Header(header)) => header,
            Ok(_) => return Err(Refused::damaged(path, 1, Wrong::Content)),
            Err(wrong) => return Err(Refused::damaged(path, 1, wrong)),
        };
        let mut mark = Mark::default();
        mark.pass(line.len() + 1, None);
        Ok(Self { from, path: path.to_owned(), header, mark, line, trailer: None })
    }

    /// What it says of itself.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// What messages call it.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// This version reads the rows in it.
    pub fn check_format(&self, formats: &Formats) -> Result<(), Refused> {
        let (path, version) = (self.path.clone(), self.header.version.clone());
        formats.check(self.header.store_format).map_err(|unreadable| Refused::Format { path, version, unreadable })
    }

    /// Bytes that were read so far.
    pub fn bytes(&self) -> u64 {
        self.mark.offset
    }

    /// What it ends with: there once [`Self::next_item`] gave no row.
    pub fn trailer(&self) -> Option<&Trailer> {
        self.trailer.as_ref()
    }

    /// Where the next line begins.
    pub(super) fn mark(&self) -> Mark {
        self.mark
    }

    /// The next row; none behind the last line, which says that it has all of them.
    pub fn next_item(&mut self) -> Result<Option<Item>, Refused> {
        if self.trailer.is_some() {
            return Ok(None);
        }
        let number = self.mark.lines + 1;
        let ended = read_line(&mut self.from, &self.path, &mut self.line)?;
        if !ended {
            return Err(self.damaged(CUT_OFF));
        }
        match Line::decode(number, &self.line) {
            Ok(Line::Item(item)) => {
                self.mark.pass(self.line.len() + 1, Some(&item));
                Ok(Some(item))
            }
            Ok(Line::Trailer(trailer)) if !trailer.is_of(&self.mark.content) => {
                Err(self.damaged("it counts other rows than those in front of it"))
            }
            Ok(Line::Trailer(trailer)) => {
                self.mark.pass(self.line.len() + 1, None);
                match read_line(&mut self.from, &self.path, &mut self.line)? || !self.line.is_empty() {
                    true => Err(self.damaged("the line in front of it is the last of an export")),
                    false => {
                        self.trailer = Some(trailer);
                        Ok(None)
                    }
                }
            }
            Ok(Line::Header(_)) => Err(self.damaged("it is the first line of an export")),
            Err(wrong) => Err(self.damaged(wrong)),
        }
    }

    /// The line behind those that were read is wrong.
    fn damaged(&self, what: impl ToString) -> Refused {
        Refused::damaged(&self.path, self.mark.lines + 1, what)
    }
}

const CUT_OFF: &str = "the file ends there, and not with the last line of an export";

/// Reads a line without its end. False if there is no such end.
fn read_line(from: &mut impl BufRead, path: &Path, line: &mut Vec<u8>) -> Result<bool, Refused> {
    line.clear();
    let read = from.by_ref().take(LONGEST_LINE).read_until(b'\n', line);
    read.map_err(|error| Refused::io(format!("cannot read {}", path.display()), error))?;
    Ok(line.pop_if(|last| *last == b'\n').is_some())
}
