//! Where an export goes: standard output, or a file. A file that is not whole lacks the last line.
//!
//! An interrupted export goes on behind the last partition that is whole in its file. Everything from the first line that is
//! wrong is cut, and so is the partition in front of it, of which nobody knows whether it was at its end.

use std::fs::{File, OpenOptions, Permissions};
use std::io::{self, BufReader, BufWriter, Read as _, Seek as _, SeekFrom};
use std::os::fd::AsFd as _;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use super::reader::FIRST;
use super::{Header, Reader, Refused, Trailer, Writer};
use crate::db::Reading;
use crate::files;

const BUFFER: usize = 1 << 20;

/// Where an export goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// Standard output.
    Stdout,
    /// A file.
    File(PathBuf),
}

/// What an export begins with.
#[derive(Debug)]
pub enum Begun {
    /// Rows are to be written.
    Writing {
        /// What it says of itself.
        header: Header,
        /// Writes behind what is there.
        writer: Writer<BufWriter<File>>,
        /// Reads what is not there yet.
        reading: Box<Reading>,
        /// It goes on with what another run has begun.
        resumed: bool,
    },
    /// It is whole already.
    Whole {
        /// What it says of itself.
        header: Header,
        /// What it ends with.
        trailer: Trailer,
        /// Bytes of the file.
        bytes: u64,
    },
}

impl Target {
    /// What `--to` means. Not into the data directory, which holds nothing but its database.
    pub fn of(to: &Path, data_dir: Option<&Path>) -> Result<Self, Refused> {
        if to == Path::new("-") {
            return Ok(Self::Stdout);
        }
        let path = to.to_owned();
        match data_dir.is_some_and(|data_dir| files::is_inside(to, data_dir)) {
            true => Err(Refused::Inside { path }),
            false => Ok(Self::File(path)),
        }
    }

    /// Makes the file, for its owner alone, or goes on with it if it is to be `resumed`. `progress` is told of the bytes of
    /// an earlier run that were read, and may end it.
    pub fn begin(
        &self,
        header: Header,
        resume: bool,
        progress: impl FnMut(u64) -> io::Result<()>,
    ) -> Result<Begun, Refused> {
        let name = self.name();
        let cannot = |error| Refused::io(format!("cannot write {name}"), error);
        let file = match self {
            Self::Stdout if resume => return Err(Refused::NoFile),
            Self::Stdout => File::from(io::stdout().as_fd().try_clone_to_owned().map_err(cannot)?),
            Self::File(path) => {
                match OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(path) {
                    Ok(file) => file,
                    Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                        return if resume {
                            Interrupted::open(path)?.go_on(header, progress)
                        } else {
                            Err(Refused::Exists { path: path.clone() })
                        };
                    }
                    Err(error) => return Err(cannot(error)),
                }
            }
        };
        begin(file, header).map_err(cannot)
    }

    /// Has the whole export on disk.
    pub fn sync(&self, file: &File) -> Result<(), Refused> {
        if let Self::File(path) = self { sync(file, path) } else { Ok(()) }
    }

    /// What messages call it.
    pub fn name(&self) -> String {
        match self {
            Self::Stdout => "standard output".to_owned(),
            Self::File(path) => path.display().to_string(),
        }
    }
}

fn begin(file: File, header: Header) -> io::Result<Begun> {
    let writer = Writer::begin(BufWriter::with_capacity(BUFFER, file), &header)?;
    Ok(Begun::Writing { header, writer, reading: Box::new(Reading::behind(None)), resumed: false })
}

/// What an earlier run left.
struct Interrupted<'a> {
    path: &'a Path,
    file: File,
}

impl<'a> Interrupted<'a> {
    fn open(path: &'a Path) -> Result<Self, Refused> {
        let file = OpenOptions::new().read(true).write(true).open(path);
        let file = file.map_err(|error| cannot_write(path, error))?;
        // Somebody may have copied it, or made it beforehand.
        file.set_permissions(Permissions::from_mode(0o600)).map_err(|error| cannot_write(path, error))?;
        Ok(Self { path, file })
    }

    fn go_on(mut self, now: Header, mut progress: impl FnMut(u64) -> io::Result<()>) -> Result<Begun, Refused> {
        if self.lacks_first_line()? {
            self.cut(0)?;
            return begin(self.file, now).map_err(|error| cannot_write(self.path, error));
        }
        let mut reader = Reader::open(BufReader::with_capacity(BUFFER, &self.file), self.path)?;
        let header = reader.header().clone();
        check_same(self.path, &header, &now)?;
        let (mut cut, mut behind, mut partition) = (reader.mark(), None, None);
        loop {
            let mark = reader.mark();
            match reader.next_item() {
                Ok(Some(item)) => {
                    let next = item.key.partition();
                    if partition != Some(next) {
                        (cut, behind, partition) = (mark, partition, Some(next));
                    }
                }
                Ok(None) => break,
                Err(Refused::Damaged { .. }) => {
                    self.cut(cut.offset)?;
                    let writer = Writer::behind(BufWriter::with_capacity(BUFFER, self.file), cut);
                    let reading = Box::new(Reading::behind(behind));
                    return Ok(Begun::Writing { header, writer, reading, resumed: true });
                }
                Err(refused) => return Err(refused),
            }
            progress(reader.bytes() - mark.offset).map_err(|error| cannot_write(self.path, error))?;
        }
        // The run that wrote it may have ended before it was on disk.
        sync(&self.file, self.path)?;
        let bytes = reader.bytes();
        let trailer = reader.trailer().cloned().expect("it was read to its end");
        Ok(Begun::Whole { header, trailer, bytes })
    }

    /// Nothing is there but a part of what the first line begins with, or of that line.
    fn lacks_first_line(&mut self) -> Result<bool, Refused> {
        const LONGEST_HEADER: u64 = 4 << 10;
        let mut start = Vec::new();
        let read = (&self.file).take(LONGEST_HEADER).read_to_end(&mut start);
        read.and_then(|_| self.file.seek(SeekFrom::Start(0))).map_err(|error| cannot_write(self.path, error))?;
        let begins = start.starts_with(FIRST) || FIRST.starts_with(&start);
        Ok(begins && !start.contains(&b'\n') && (start.len() as u64) < LONGEST_HEADER)
    }

    /// Removes what stands behind `offset`, and goes there.
    fn cut(&mut self, offset: u64) -> Result<(), Refused> {
        let cut = self.file.set_len(offset).and_then(|()| self.file.seek(SeekFrom::Start(offset)));
        cut.map(drop).map_err(|error| cannot_write(self.path, error))
    }
}

fn sync(file: &File, path: &Path) -> Result<(), Refused> {
    let synced = file.sync_all().and_then(|()| files::sync_directory_of(path));
    synced.map_err(|error| cannot_write(path, error))
}

fn cannot_write(path: &Path, error: io::Error) -> Refused {
    Refused::io(format!("cannot write {}", path.display()), error)
}

/// The export was begun from what the store holds now, as far as its own row tells.
fn check_same(path: &Path, begun: &Header, now: &Header) -> Result<(), Refused> {
    let differs = |what: String| Err(Refused::Outdated { path: path.to_owned(), what });
    if begun.database_id != now.database_id {
        let [begun, now] = [begun, now].map(|header| hex::encode(header.database_id));
        return differs(format!("it is of database {begun}, and this is database {now}"));
    }
    let stand = |header: &Header| (header.incarnation.clone(), header.store_format, header.sequence);
    match stand(begun) == stand(now) {
        true => Ok(()),
        false => differs("the database was served since it was begun".to_owned()),
    }
}
