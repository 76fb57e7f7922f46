//! Reads backups: to check them, or to have them as a directory artefact. Nothing that comes is trusted: lengths and digests
//! are compared with the manifest, and the manifest with its own digest.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File};
use std::io::Write as _;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use aws_lc_rs::digest::{Context, SHA256};
use bytes::Bytes;
use futures_util::StreamExt as _;
use tokio::task::JoinSet;

use super::super::artefact::{LONGEST_MANIFEST, create_file, parse_header, sync_files};
use super::super::manifest::{HEADER, MANIFEST, STORE};
use super::super::{FileEntry, Manifest, Phase, Progress, Refused};
use super::objects::{BACKUPS, DAMAGED, JSON, OBJECTS, Objects, VERIFIED};
use super::{Error, Remote};
use crate::files;
use crate::format::Formats;

/// A backup whose every byte was read and is right.
#[derive(Clone, Debug)]
pub struct Checked {
    /// Its URL.
    pub url: String,
    /// What it says of itself.
    pub manifest: Manifest,
    /// Why the object store could not be told, if it could not: then a prune does not know.
    pub unmarked: Option<String>,
}

/// Objects that are read at one time.
const AT_ONCE: usize = 4;

impl Remote {
    /// The name of the backup that the URL means: the one that it names, or the newest.
    pub fn resolve(&self, progress: &Progress) -> Result<String, Error> {
        if let Some(name) = self.location().backup() {
            return Ok(name.to_owned());
        }
        let newest = self.list(progress)?.pop().map(|backup| backup.name);
        newest.ok_or_else(|| Error::Missing { what: format!("a backup in {}", self.location()) })
    }

    /// What a backup says of itself, if this version reads it.
    pub fn manifest(&self, name: &str, formats: &Formats, progress: &Progress) -> Result<Manifest, Error> {
        let read = self.run(progress, Box::pin(read_known(&self.objects, name, formats)));
        read.map(|(manifest, _)| manifest)
    }

    /// Reads every object of a backup and notes there what was found, for prunes and for the next upload.
    pub fn check(&self, name: &str, progress: &Arc<Progress>) -> Result<Checked, Error> {
        self.run(progress, Box::pin(check(&self.objects, name, progress)))
    }

    /// Writes a backup into the directory `into`, which it makes, as an artefact of the form `dir`. When this returns it is
    /// on disk. After a failure what was written is still there.
    pub fn fetch(
        &self,
        name: &str,
        into: &Path,
        formats: &Formats,
        progress: &Arc<Progress>,
    ) -> Result<Manifest, Error> {
        self.run(progress, Box::pin(fetch(&self.objects, name, into, formats, progress)))
    }
}

/// The manifest of a backup, which is what it was when it was written.
pub(super) async fn read_manifest(objects: &Objects, name: &str) -> Result<(Manifest, Bytes), Error> {
    let bytes = objects.get_small(BACKUPS, &format!("{name}{JSON}"), LONGEST_MANIFEST).await?;
    let backup = objects.location().of(name);
    parse_header(Path::new(&backup), &bytes)?;
    match Manifest::from_bytes(&bytes) {
        Ok(manifest) => Ok((manifest, bytes)),
        Err(what) => Err(Error::Damaged { backup, what: format!("{MANIFEST}: {what}") }),
    }
}

/// The same, if this version reads the store.
async fn read_known(objects: &Objects, name: &str, formats: &Formats) -> Result<(Manifest, Bytes), Error> {
    let (manifest, line) = read_manifest(objects, name).await?;
    let (path, version) = (PathBuf::from(objects.location().of(name)), manifest.header.version.clone());
    match formats.check(manifest.header.store_format) {
        Ok(()) => Ok((manifest, line)),
        Err(unreadable) => Err(Refused::Format { path, version, unreadable }.into()),
    }
}

async fn check(objects: &Objects, name: &str, progress: &Arc<Progress>) -> Result<Checked, Error> {
    let (manifest, _) = read_manifest(objects, name).await?;
    let unique: BTreeMap<_, _> = manifest.files.iter().map(|file| (file.sha256, file.clone())).collect();
    let bytes = unique.values().fold(0, |bytes: u64, file| bytes.saturating_add(file.bytes));
    progress.begin(Phase::Checking, bytes);
    let wanted = unique.into_values().map(|file| (file, None)).collect();
    let damaged = receive_all(objects, wanted, progress).await?;
    let (url, mark) = (objects.location().of(name), format!("{name}{JSON}"));
    let Some((_, first)) = damaged.first() else {
        let marked = mark_right(objects, &manifest, &mark).await;
        return Ok(Checked { url, manifest, unmarked: marked.err().map(|error| error.to_string()) });
    };
    // Who may only read cannot note it, which changes nothing about what was found.
    let _ = objects.delete(VERIFIED, &[mark]).await;
    for (file, _) in &damaged {
        let _ = objects.put(DAMAGED, &hex::encode(file.sha256), "{}\n".into()).await;
    }
    let more = if damaged.len() > 1 { format!(", and {} more files", damaged.len() - 1) } else { String::new() };
    Err(Error::Damaged { backup: url, what: format!("{first}{more}") })
}

/// Notes that the backup was read and is right, and so are those of its objects that were damaged before.
async fn mark_right(objects: &Objects, manifest: &Manifest, mark: &str) -> Result<(), Error> {
    let noted = objects.list(DAMAGED).await?;
    let names = manifest.files.iter().map(|file| hex::encode(file.sha256));
    let mended: Vec<_> = names.filter(|name| noted.contains_key(name)).collect();
    objects.delete(DAMAGED, &mended).await?;
    let line = serde_json::json!({ "id": hex::encode(manifest.header.id), "by": env!("CARGO_PKG_VERSION") });
    objects.put(VERIFIED, mark, format!("{line}\n").into()).await
}

async fn fetch(
    objects: &Objects,
    name: &str,
    into: &Path,
    formats: &Formats,
    progress: &Arc<Progress>,
) -> Result<Manifest, Error> {
    let (manifest, line) = read_known(objects, name, formats).await?;
    let path = PathBuf::from(objects.location().of(name));
    let cannot = |error| Error::io(format!("cannot write {}", into.display()), error);
    let store = into.join(STORE);
    let make = |directory: &Path| DirBuilder::new().mode(0o700).create(directory).map_err(cannot);
    make(into)?;
    make(&store)?;
    progress.begin(Phase::Writing, manifest.bytes());
    let wanted = manifest.files.iter().map(|file| (file.clone(), Some(store.join(&file.path)))).collect();
    if let Some((_, what)) = receive_all(objects, wanted, progress).await?.into_iter().next() {
        return Err(Error::Damaged { backup: path.display().to_string(), what });
    }
    let small = |name: &str, content: &[u8]| create_file(&into.join(name))?.write_all(content);
    small(HEADER, &manifest.header.to_bytes()).map_err(cannot)?;
    small(MANIFEST, &line).map_err(cannot)?;
    sync_files(&store, manifest.files.iter().map(|file| file.path.as_str())).map_err(cannot)?;
    sync_files(into, [HEADER, MANIFEST].into_iter()).map_err(cannot)?;
    files::sync_directory_of(into).map_err(cannot)?;
    Ok(manifest)
}

/// Reads files and writes those that have a path. Returns those whose object is missing or wrong, with what is wrong.
async fn receive_all(
    objects: &Objects,
    wanted: Vec<(FileEntry, Option<PathBuf>)>,
    progress: &Arc<Progress>,
) -> Result<Vec<(FileEntry, String)>, Error> {
    let mut damaged = Vec::new();
    let mut tasks = JoinSet::new();
    let mut wanted = wanted.into_iter();
    loop {
        while tasks.len() < AT_ONCE
            && let Some((file, path)) = wanted.next()
        {
            let (objects, progress) = (objects.clone(), Arc::clone(progress));
            tasks.spawn(async move {
                let found = receive_file(&objects, &file, path.as_deref(), &progress).await;
                found.map(|wrong| wrong.map(|what| (file, what)))
            });
        }
        let Some(done) = tasks.join_next().await else { return Ok(damaged) };
        let done = done.map_err(|error| Error::io("a part of the work ended early", std::io::Error::other(error)))?;
        damaged.extend(done?);
    }
}

/// Reads an object once more if its bytes are wrong: the network may have changed them.
async fn receive_file(
    objects: &Objects,
    file: &FileEntry,
    path: Option<&Path>,
    progress: &Progress,
) -> Result<Option<String>, Error> {
    match receive_once(objects, file, path, progress).await? {
        None => Ok(None),
        Some(_) => {
            if let Some(path) = path {
                let _ = fs::remove_file(path);
            }
            receive_once(objects, file, path, progress).await
        }
    }
}

async fn receive_once(
    objects: &Objects,
    file: &FileEntry,
    path: Option<&Path>,
    progress: &Progress,
) -> Result<Option<String>, Error> {
    let name = hex::encode(file.sha256);
    let object = match objects.get(OBJECTS, &name).await {
        Err(Error::Missing { .. }) => return Ok(Some(format!("{STORE}{} is missing: {OBJECTS}/{name}", file.path))),
        object => object?,
    };
    if object.meta.size != file.bytes {
        let what = format!("{STORE}{} has {} bytes, and its manifest says {}", file.path, object.meta.size, file.bytes);
        return Ok(Some(what));
    }
    let cannot_write = |error| Error::io(format!("cannot write {}", path.unwrap_or(Path::new("")).display()), error);
    let mut out = path.map(create_file).transpose().map_err(cannot_write)?;
    let (mut hash, mut blocks, mut bytes) = (Context::new(&SHA256), object.into_stream(), 0);
    while let Some(block) = blocks.next().await {
        let block = block.map_err(|error| objects.cannot_read(OBJECTS, &name, &error))?;
        bytes += block.len() as u64;
        hash.update(&block);
        if let Some(out) = &mut out {
            File::write_all(out, &block).map_err(cannot_write)?;
        }
        // Waiting here lets the sender wait too, which is what a rate limit is for.
        progress.advance(block.len() as u64).map_err(cannot_write)?;
    }
    let found = hash.finish();
    if found.as_ref() == file.sha256 {
        return Ok(None);
    }
    let found = format!("{bytes} bytes with the SHA-256 {}", hex::encode(found.as_ref()));
    Ok(Some(format!("{STORE}{} is {found}, and its manifest says {name}", file.path)))
}
