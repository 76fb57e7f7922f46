//! An artefact as one file: a tar archive in a zstd stream.
//!
//! Two threads share the work each way: one reads and hashes the files of the store, the other compresses or decompresses
//! and has the artefact. Entries are plain files with short names; an archive with any other kind of entry is refused.

use std::fs::File;
use std::io::{self, BufRead as _, Read, Write as _};
use std::path::Path;
use std::thread;

use tar::{Archive, Builder, EntryType, Header};

use super::super::create::Writing;
use super::super::direct::{Input, Output};
use super::super::error::is_stop;
use super::super::manifest::{HEADER, MANIFEST, STORE};
use super::super::pipe::{Sink, Tap, pipe};
use super::super::zstd::{Decoder, Encoder, MAGIC};
use super::super::{Failed, Manifest, Refused};
use super::{LONGEST_HEADER, LONGEST_MANIFEST, Reading};

/// Behind the last entry there are zeros: two blocks, or as many as fill a record.
const LONGEST_END: u64 = 64 << 10;

/// The bytes of the header.
pub(super) fn read_header(path: &Path) -> Result<Vec<u8>, Refused> {
    let not_ours = |reason: &str| Refused::not_ours(path, reason);
    let cannot = |error| Refused::io(format!("cannot read {}", path.display()), error);
    let mut file = open(path)?;
    let mut magic = Vec::new();
    (&mut file).take(MAGIC.len() as u64).read_to_end(&mut magic).map_err(cannot)?;
    if magic.is_empty() {
        return Err(not_ours("it is empty"));
    }
    if magic != MAGIC {
        return Err(not_ours("it does not begin as one"));
    }
    let mut archive = Archive::new(Decoder::new(magic.chain(file)));
    let mut entries = archive.entries().map_err(cannot)?.raw(true);
    let mut first = match entries.next() {
        Some(Ok(first)) if *first.path_bytes() == *HEADER.as_bytes() => first,
        Some(Err(error)) if error.raw_os_error().is_some() => return Err(cannot(error)),
        Some(Ok(_)) => return Err(not_ours("it is an archive of something else")),
        Some(Err(_)) | None => return Err(not_ours("it holds no archive, or its beginning is damaged")),
    };
    read_small(&mut first, HEADER, LONGEST_HEADER).map_err(|what| Refused::damaged(path, what))
}

/// Reads and compares everything.
pub(super) fn read(mut reading: Reading<'_>) -> Result<Manifest, Refused> {
    let file = Input::new(open(reading.path)?, reading.direct);
    let (sink, tap) = pipe();
    thread::scope(|scope| {
        scope.spawn(|| decompress(file, sink));
        read_entries(&mut reading, tap)
    })
}

fn open(path: &Path) -> Result<File, Refused> {
    File::open(path).map_err(|error| Refused::io(format!("cannot read {}", path.display()), error))
}

/// If the reader of the other end is gone, it knows why.
fn decompress(file: Input, mut sink: Sink) {
    let mut decoder = Decoder::new(file);
    let mut block = vec![0; 128 << 10];
    let end = loop {
        match decoder.read(&mut block) {
            Ok(0) => break Ok(()),
            Ok(read) if sink.write_all(&block[..read]).is_err() => return,
            Ok(_) => {}
            Err(error) => break Err(error),
        }
    };
    drop(sink.finish(end));
}

fn read_entries(reading: &mut Reading<'_>, tap: Tap) -> Result<Manifest, Refused> {
    let mut archive = Archive::new(tap);
    let mut before = "its beginning".to_owned();
    let mut manifest = None;
    for entry in archive.entries().map_err(|error| reading.cannot_read(&before, error))?.raw(true) {
        let mut entry = entry.map_err(|error| no_entry(reading, &before, error))?;
        let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let refuse = |what: &str| Err(Refused::damaged(reading.path, format!("its entry {name:?} {what}")));
        if !matches!(entry.header().entry_type(), EntryType::Regular) {
            return refuse("is not a plain file");
        }
        match name.as_str() {
            _ if manifest.is_some() => return refuse("follows the manifest"),
            HEADER if before == "its beginning" => {
                read_small(&mut entry, HEADER, LONGEST_HEADER).map_err(|what| reading.damaged(what))?;
            }
            _ if before == "its beginning" => return refuse("comes before the header"),
            MANIFEST => {
                let line = read_small(&mut entry, MANIFEST, LONGEST_MANIFEST).map_err(|what| reading.damaged(what))?;
                manifest = Some(reading.finish(&line)?);
            }
            _ => reading.take_file(&name, entry.size(), &mut entry)?,
        }
        before = name;
    }
    let manifest = manifest.ok_or_else(|| reading.damaged(format!("it ends without {MANIFEST}")))?;
    check_end(reading, archive.into_inner())?;
    Ok(manifest)
}

/// Errors of the archive quote what they found, which may be data of a user.
fn no_entry(reading: &Reading<'_>, before: &str, error: io::Error) -> Refused {
    let what = format!("what follows {before}");
    match error.kind() {
        io::ErrorKind::Other if !is_stop(&error) => reading.damaged(format!("{what} is no entry of an archive")),
        _ => reading.cannot_read(&what, error),
    }
}

/// Nothing but zeros follows, and the stream is whole.
fn check_end(reading: &Reading<'_>, tap: Tap) -> Result<(), Refused> {
    let mut rest = Vec::new();
    let read = tap.take(LONGEST_END + 1).read_to_end(&mut rest);
    read.map_err(|error| reading.cannot_read("its end", error))?;
    match rest.iter().all(|byte| *byte == 0) && rest.len() as u64 <= LONGEST_END {
        true => Ok(()),
        false => Err(reading.damaged(format!("something follows {MANIFEST}"))),
    }
}

fn read_small(entry: &mut tar::Entry<'_, impl Read>, name: &str, longest: u64) -> Result<Vec<u8>, String> {
    if entry.size() > longest {
        return Err(format!("{name} is too long"));
    }
    let mut bytes = Vec::new();
    match entry.read_to_end(&mut bytes) {
        Ok(read) if read as u64 == entry.size() => Ok(bytes),
        Ok(_) => Err(format!("{name} ends early")),
        Err(error) => Err(format!("{name} cannot be read: {error}")),
    }
}

/// Writes everything to `file`, which is empty, and syncs it.
pub(in crate::backup) fn write(writing: &Writing<'_>, at: &Path, file: &File) -> Result<Manifest, Failed> {
    let cannot = |error| Failed::io(format!("cannot write {}", at.display()), error);
    let (sink, tap) = pipe();
    let manifest = thread::scope(|scope| {
        let compressing = scope.spawn(|| compress(tap, Output::new(file, writing.direct())));
        let written = write_entries(writing, sink, at);
        match compressing.join().expect("it does not panic") {
            // It broke the pipe, and knows why.
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(cannot(error)),
            _ => written,
        }
    })?;
    writing.begin_sync();
    file.sync_all().map_err(cannot)?;
    Ok(manifest)
}

fn compress(mut tap: Tap, out: Output<'_>) -> io::Result<()> {
    let mut encoder = Encoder::new(out)?;
    loop {
        let block = tap.fill_buf()?;
        let length = block.len();
        if length == 0 {
            return encoder.finish()?.finish();
        }
        encoder.write_all(block)?;
        tap.consume(length);
    }
}

fn write_entries(writing: &Writing<'_>, sink: Sink, at: &Path) -> Result<Manifest, Failed> {
    let cannot = |error| Failed::io(format!("cannot write {}", at.display()), error);
    let mut builder = Builder::new(sink);
    let header = writing.header().to_bytes();
    let entry = |name: &str, bytes| entry(name, bytes, writing.created_s());
    builder.append(&entry(HEADER, header.len() as u64).map_err(cannot)?, header.as_slice()).map_err(cannot)?;
    let mut files = Vec::new();
    for name in writing.files() {
        files.push(writing.read_file(name, |content, bytes| {
            let header = entry(&format!("{STORE}{name}"), bytes);
            header.and_then(|header| builder.append(&header, content)).map_err(cannot)
        })?);
    }
    let manifest = writing.manifest(files);
    let line = manifest.to_bytes();
    builder.append(&entry(MANIFEST, line.len() as u64).map_err(cannot)?, line.as_slice()).map_err(cannot)?;
    builder.into_inner().and_then(|sink| sink.finish(Ok(()))).map_err(cannot)?;
    Ok(manifest)
}

fn entry(name: &str, bytes: u64, created_s: u64) -> io::Result<Header> {
    let mut header = Header::new_ustar();
    header.set_path(name)?;
    header.set_entry_type(EntryType::Regular);
    header.set_size(bytes);
    header.set_mode(0o600);
    header.set_mtime(created_s);
    header.set_cksum();
    Ok(header)
}
