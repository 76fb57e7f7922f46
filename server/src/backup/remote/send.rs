//! Sends a store: files that are not there yet, then the manifest.
//!
//! 1. every file is read and gets its digest
//! 2. the mark of an upload is written, and prunes that are under way are waited for
//! 3. the objects that are there are listed, and the others sent
//! 4. the same again, until none is missing: a prune may have begun while the mark did not count
//! 5. the manifest is created
//!
//! A process that is killed leaves objects, which the next upload does not send again, and parts of one that was not
//! complete, which nobody sees.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use aws_lc_rs::digest::{Context, SHA256};
use bytes::Bytes;
use object_store::MultipartUpload;
use tokio::task::{JoinError, JoinSet, spawn_blocking};

use super::super::artefact::Hashing;
use super::super::{FileEntry, Manifest, Phase, Progress, Source, Stamp};
use super::marks::{Mark, Work};
use super::objects::{BACKUPS, DAMAGED, JSON, OBJECTS, Objects};
use super::{Error, LEASE, Remote};

/// What was sent.
#[derive(Clone, Debug)]
pub struct Sent {
    /// The URL of the backup.
    pub url: String,
    /// What it says of itself.
    pub manifest: Manifest,
    /// Files that were not there yet.
    pub sent_files: u64,
    /// Their bytes.
    pub sent_bytes: u64,
    /// Bytes of the files that were there already, or are there under another name.
    pub shared_bytes: u64,
}

/// Files that are sent at one time. With it, memory is bounded by twice the parts of so many files.
const AT_ONCE: usize = 4;
/// The least that object stores take as a part.
const PART: u64 = 5 << 20;
/// Object stores take 10 000 parts.
const PARTS: u64 = 9_000;
const BLOCK: usize = 256 << 10;
/// How often what was removed meanwhile is sent again.
const ROUNDS: u32 = 5;

impl Remote {
    /// Sends a backup of `source`. It is there when this returns, and was not if this fails.
    pub fn send(&self, source: &Source, stamp: &Stamp, progress: &Arc<Progress>) -> Result<Sent, Error> {
        if let Some(name) = self.location().backup() {
            return Err(Error::Url { url: self.location().to_string(), why: format!("it names the backup {name}") });
        }
        self.run(progress, Box::pin(send(&self.objects, source, stamp, progress)))
    }
}

async fn send(objects: &Objects, source: &Source, stamp: &Stamp, progress: &Arc<Progress>) -> Result<Sent, Error> {
    let manifest = Manifest::new(stamp, &source.description, hash(source, progress).await?);
    let (mut sent_files, mut sent_bytes, mut shared_bytes, mut rounds) = (0, 0, manifest.bytes(), 0);
    let mut mark = Mark::begin(objects, Work::Upload, &stamp.id).await?;
    loop {
        mark.wait_for_prunes(objects).await?;
        let missing = Missing::find(objects, &manifest.files).await?;
        if missing.files.is_empty() && mark.is_fresh() {
            break;
        }
        rounds += 1;
        if rounds == 1 {
            shared_bytes -= missing.bytes();
        }
        if rounds > ROUNDS {
            let (place, doing) = (objects.location().place().to_string(), "keeping what was sent".to_owned());
            let reason = format!("{} files are missing again", missing.files.len());
            return Err(Error::Unavailable { place, doing, reason });
        }
        sent_files += missing.files.len() as u64;
        sent_bytes = missing.bytes().saturating_add(sent_bytes);
        tokio::select! {
            done = send_all(objects, &source.directory, missing, progress) => done?,
            never = keep(&mut mark, objects) => match never {},
        }
        mark.renew(objects).await?;
    }
    let name = stamp.remote_name();
    objects.create(BACKUPS, &format!("{name}{JSON}"), manifest.to_bytes().into()).await?;
    if let Err(error) = mark.end(objects).await {
        tracing::warn!(event = "backup.mark_left", %error, "prunes leave the objects alone until it is forgotten");
    }
    Ok(Sent { url: objects.location().of(&name), manifest, sent_files, sent_bytes, shared_bytes })
}

/// Renews the mark again and again. If it cannot be, objects may be removed meanwhile, which is noticed later.
async fn keep(mark: &mut Mark, objects: &Objects) -> Infallible {
    loop {
        tokio::time::sleep(LEASE / 3).await;
        if let Err(error) = mark.renew(objects).await {
            tracing::warn!(event = "backup.mark_not_renewed", %error);
        }
    }
}

/// Every file of the source with its digest.
async fn hash(source: &Source, progress: &Arc<Progress>) -> Result<Vec<FileEntry>, Error> {
    let (directory, names, progress) = (source.directory.clone(), source.files.clone(), Arc::clone(progress));
    let total = source.bytes().map_err(|error| cannot_read(&directory, error))?;
    progress.begin(Phase::Checking, total);
    let hashed = spawn_blocking(move || {
        names.into_iter().map(|name| hash_file(&directory.join(&name), name, &progress)).collect()
    });
    hashed.await.map_err(panicked)?
}

fn hash_file(path: &Path, name: String, progress: &Progress) -> Result<FileEntry, Error> {
    let hash = || {
        let mut content = Hashing::new(File::open(path)?, progress);
        let mut block = vec![0; BLOCK];
        while content.failed.is_none() && content.read(&mut block).unwrap_or_default() > 0 {}
        content.finish()
    };
    let (bytes, sha256) = hash().map_err(|error| cannot_read(path, error))?;
    Ok(FileEntry { path: name, bytes, sha256 })
}

fn cannot_read(path: &Path, error: io::Error) -> Error {
    Error::io(format!("cannot read {}", path.display()), error)
}

fn panicked(error: JoinError) -> Error {
    Error::io("a part of the backup ended early", io::Error::other(error))
}

/// What has to be sent.
struct Missing {
    /// By the names of their objects.
    files: BTreeMap<String, FileEntry>,
    /// Objects that are there and have other bytes.
    damaged: BTreeSet<String>,
}

impl Missing {
    async fn find(objects: &Objects, files: &[FileEntry]) -> Result<Self, Error> {
        let there = objects.list(OBJECTS).await?;
        let damaged: BTreeSet<_> = objects.list(DAMAGED).await?.into_keys().collect();
        let named = files.iter().map(|file| (hex::encode(file.sha256), file.clone()));
        let is_there = |name: &String, file: &FileEntry| {
            there.get(name).is_some_and(|found| found.bytes == file.bytes) && !damaged.contains(name)
        };
        let files = named.filter(|(name, file)| !is_there(name, file)).collect();
        Ok(Self { files, damaged })
    }

    fn bytes(&self) -> u64 {
        self.files.values().fold(0, |bytes, file| bytes.saturating_add(file.bytes))
    }
}

async fn send_all(
    objects: &Objects,
    directory: &Path,
    missing: Missing,
    progress: &Arc<Progress>,
) -> Result<(), Error> {
    progress.begin(Phase::Writing, missing.bytes());
    let Missing { files, damaged } = missing;
    // Those that still run when one fails end with the set.
    let mut tasks = JoinSet::new();
    for (name, file) in files {
        if tasks.len() == AT_ONCE
            && let Some(done) = tasks.join_next().await
        {
            done.map_err(panicked)??;
        }
        let (objects, path, progress) = (objects.clone(), directory.join(&file.path), Arc::clone(progress));
        let was_damaged = damaged.contains(&name);
        tasks.spawn(async move {
            send_file(&objects, &name, file, path, progress).await?;
            if was_damaged { objects.delete(DAMAGED, &[name]).await } else { Ok(()) }
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.map_err(panicked)??;
    }
    Ok(())
}

async fn send_file(
    objects: &Objects,
    name: &str,
    file: FileEntry,
    path: PathBuf,
    progress: Arc<Progress>,
) -> Result<(), Error> {
    let content = Content::open(path, progress)?;
    if file.bytes <= PART {
        let (content, bytes) = content.read(file.bytes).await?;
        content.finish(&file)?;
        return objects.put(OBJECTS, name, bytes).await;
    }
    let mut upload = objects.begin_parts(OBJECTS, name).await?;
    let sent = send_parts(objects, name, &mut *upload, &file, content).await;
    if sent.is_err() {
        // What cannot be given up is never seen either.
        let _ = upload.abort().await;
    }
    sent
}

/// One part is on its way while the next one is read.
async fn send_parts(
    objects: &Objects,
    name: &str,
    upload: &mut dyn MultipartUpload,
    file: &FileEntry,
    mut content: Content,
) -> Result<(), Error> {
    let part = PART.max(file.bytes.div_ceil(PARTS));
    let cannot_write = |error| objects.cannot_write(OBJECTS, name, &error);
    let mut on_its_way = JoinSet::new();
    let mut left = file.bytes;
    while left > 0 {
        let bytes;
        (content, bytes) = content.read(part.min(left)).await?;
        left -= bytes.len() as u64;
        if let Some(done) = on_its_way.join_next().await {
            Result::map_err(done.map_err(panicked)?, cannot_write)?;
        }
        on_its_way.spawn(upload.put_part(bytes.into()));
    }
    content.finish(file)?;
    while let Some(done) = on_its_way.join_next().await {
        Result::map_err(done.map_err(panicked)?, cannot_write)?;
    }
    upload.complete().await.map(drop).map_err(cannot_write)
}

/// A file that is read once more, to be sent.
struct Content {
    path: PathBuf,
    file: File,
    at: u64,
    hash: Context,
    progress: Arc<Progress>,
}

impl Content {
    fn open(path: PathBuf, progress: Arc<Progress>) -> Result<Self, Error> {
        let file = File::open(&path).map_err(|error| cannot_read(&path, error))?;
        Ok(Self { path, file, at: 0, hash: Context::new(&SHA256), progress })
    }

    /// The next bytes, off the runtime: the rate limit makes it wait.
    async fn read(mut self, bytes: u64) -> Result<(Self, Bytes), Error> {
        let read = spawn_blocking(move || {
            let mut part = vec![0; usize::try_from(bytes).unwrap_or(usize::MAX)];
            for block in part.chunks_mut(BLOCK) {
                let read = self.file.read_exact_at(block, self.at);
                let read = read.and_then(|()| self.progress.advance(block.len() as u64));
                read.map_err(|error| cannot_read(&self.path, error))?;
                self.hash.update(block);
                self.at += block.len() as u64;
            }
            Ok((self, Bytes::from(part)))
        });
        read.await.map_err(panicked)?
    }

    /// Refuses what is not what was read before.
    fn finish(self, file: &FileEntry) -> Result<(), Error> {
        let more = self.file.metadata().map_err(|error| cannot_read(&self.path, error))?.len() != file.bytes;
        if more || self.hash.finish().as_ref() != file.sha256 {
            return Err(cannot_read(&self.path, io::Error::other("it changed while it was read")));
        }
        Ok(())
    }
}
