//! An artefact as a directory.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;

use super::super::create::Writing;
use super::super::direct::Input;
use super::super::manifest::{HEADER, MANIFEST, STORE};
use super::super::{Failed, Manifest, Refused};
use super::{LONGEST_HEADER, LONGEST_MANIFEST, Reading, copy, create_file, sync_files};

/// The bytes of the header.
pub(super) fn read_header(path: &Path) -> Result<Vec<u8>, Refused> {
    if !path.join(HEADER).is_file() {
        return Err(Refused::not_ours(path, format!("it is a directory without {HEADER}")));
    }
    read_small(path, HEADER, LONGEST_HEADER)
}

/// Reads and compares everything.
pub(super) fn read(mut reading: Reading<'_>) -> Result<Manifest, Refused> {
    let path = reading.path;
    for (name, kind) in list(path)? {
        let expected = match name.as_str() {
            HEADER | MANIFEST => kind.is_file(),
            _ => name == STORE.trim_end_matches('/') && kind.is_dir(),
        };
        if !expected {
            return Err(reading.damaged(format!("it has an entry {name:?}, which no backup has")));
        }
    }
    let manifest = read_small(path, MANIFEST, LONGEST_MANIFEST)?;
    let store = path.join(STORE);
    for (name, kind) in list(&store)? {
        let entry = format!("{STORE}{name}");
        if !kind.is_file() {
            return Err(reading.damaged(format!("{entry} is not a plain file")));
        }
        let cannot = |error| Refused::io(format!("cannot read {}", store.join(&name).display()), error);
        let file = File::open(store.join(&name)).map_err(cannot)?;
        let bytes = file.metadata().map_err(cannot)?.len();
        reading.take_file(&entry, bytes, Input::new(file, reading.direct))?;
    }
    reading.finish(&manifest)
}

/// Writes everything into the directory `at`, which is there, and syncs it.
pub(in crate::backup) fn write(writing: &Writing<'_>, at: &Path) -> Result<Manifest, Failed> {
    let cannot = |error| Failed::io(format!("cannot write {}", at.display()), error);
    let small = |name: &str, content: &[u8]| create_file(&at.join(name))?.write_all(content);
    small(HEADER, &writing.header().to_bytes()).map_err(cannot)?;
    let store = at.join(STORE);
    DirBuilder::new().mode(0o700).create(&store).map_err(cannot)?;
    let mut files = Vec::new();
    for name in writing.files() {
        let file = create_file(&store.join(name)).map_err(cannot)?;
        files.push(writing.read_file(name, |content, _| copy(content, &file, writing.direct()).map_err(cannot))?);
    }
    let manifest = writing.manifest(files);
    small(MANIFEST, &manifest.to_bytes()).map_err(cannot)?;
    writing.begin_sync();
    sync_files(&store, writing.files()).map_err(cannot)?;
    sync_files(at, [HEADER, MANIFEST].into_iter()).map_err(cannot)?;
    Ok(manifest)
}

fn read_small(path: &Path, name: &str, longest: u64) -> Result<Vec<u8>, Refused> {
    let mut bytes = Vec::new();
    let read = File::open(path.join(name)).and_then(|file| file.take(longest + 1).read_to_end(&mut bytes));
    match read {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Err(Refused::damaged(path, format!("{name} is missing")))
        }
        Err(error) => Err(Refused::io(format!("cannot read {}", path.join(name).display()), error)),
        Ok(read) if read as u64 > longest => Err(Refused::damaged(path, format!("{name} is too long"))),
        Ok(_) => Ok(bytes),
    }
}

/// The names in a directory, sorted, each with its kind; links are not followed.
fn list(path: &Path) -> Result<BTreeMap<String, fs::FileType>, Refused> {
    let list = || {
        let entry = |entry: io::Result<fs::DirEntry>| {
            let entry = entry?;
            Ok((entry.file_name().to_string_lossy().into_owned(), entry.file_type()?))
        };
        fs::read_dir(path)?.map(entry).collect::<io::Result<_>>()
    };
    list().map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => Refused::damaged(path, "it is missing"),
        _ => Refused::io(format!("cannot list {}", path.display()), error),
    })
}
