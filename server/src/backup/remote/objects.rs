//! The calls to an object store, with names in place of keys, and errors that say what to do.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::StreamExt as _;
use object_store::path::Path;
use object_store::{GetResult, MultipartUpload, ObjectStore, ObjectStoreExt as _, PutMode, PutOptions, PutPayload};

use super::error::is_gone;
use super::{Error, Location};

pub(super) const OBJECTS: &str = "objects";
pub(super) const BACKUPS: &str = "backups";
pub(super) const VERIFIED: &str = "verified";
pub(super) const DAMAGED: &str = "damaged";
pub(super) const RUNNING: &str = "running";

/// The folders below a prefix.
pub(super) const KINDS: [&str; 5] = [OBJECTS, BACKUPS, VERIFIED, DAMAGED, RUNNING];

/// What the names of backups and their marks end with.
pub(super) const JSON: &str = ".json";

/// An object store, and where in it backups are.
#[derive(Clone)]
pub(super) struct Objects {
    store: Arc<dyn ObjectStore>,
    location: Arc<Location>,
}

/// An object that was listed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Found {
    pub(super) bytes: u64,
    /// When it was written, by the clock of the object store: Unix nanoseconds.
    pub(super) modified_ns: u64,
}

impl Objects {
    pub(super) fn new(store: Arc<dyn ObjectStore>, location: Location) -> Self {
        Self { store, location: Arc::new(location) }
    }

    pub(super) fn location(&self) -> &Location {
        &self.location
    }

    fn key(&self, kind: &str, name: &str) -> Path {
        self.location.key(kind, name)
    }

    fn failed(&self, doing: &str, kind: &str, name: &str, error: &object_store::Error) -> Error {
        Error::of(&self.location, &format!("{doing} {kind}/{name}"), error)
    }

    /// Every object of a kind, by name.
    pub(super) async fn list(&self, kind: &str) -> Result<BTreeMap<String, Found>, Error> {
        let mut found = BTreeMap::new();
        let mut listed = self.store.list(Some(&self.key(kind, "")));
        while let Some(object) = listed.next().await {
            let object = object.map_err(|error| self.failed("listing", kind, "", &error))?;
            let modified_ns = object.last_modified.timestamp_nanos_opt().unwrap_or_default().unsigned_abs();
            if let Some(name) = object.location.filename() {
                found.insert(name.to_owned(), Found { bytes: object.size, modified_ns });
            }
        }
        Ok(found)
    }

    pub(super) async fn put(&self, kind: &str, name: &str, content: Bytes) -> Result<(), Error> {
        let put = self.store.put(&self.key(kind, name), PutPayload::from(content)).await;
        put.map(drop).map_err(|error| self.failed("writing", kind, name, &error))
    }

    /// Writes what must not be there yet. A try whose answer was lost may have written it, so the same content counts as
    /// written.
    pub(super) async fn create(&self, kind: &str, name: &str, content: Bytes) -> Result<(), Error> {
        let mut tries = 3;
        loop {
            let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
            let put = self.store.put_opts(&self.key(kind, name), PutPayload::from(content.clone()), options).await;
            let error = match put {
                Ok(_) => return Ok(()),
                Err(error) => error,
            };
            let is_there = matches!(error, object_store::Error::AlreadyExists { .. });
            let failed = self.failed("writing", kind, name, &error);
            if !is_there && !matches!(failed, Error::Unavailable { .. }) {
                return Err(failed);
            }
            match self.get_small(kind, name, content.len() as u64).await {
                Ok(there) if there == content => return Ok(()),
                _ if is_there || tries == 1 => return Err(failed),
                _ => tries -= 1,
            }
        }
    }

    pub(super) async fn begin_parts(&self, kind: &str, name: &str) -> Result<Box<dyn MultipartUpload>, Error> {
        let begun = self.store.put_multipart(&self.key(kind, name)).await;
        begun.map_err(|error| self.failed("writing", kind, name, &error))
    }

    /// The same error as that of another call that writes.
    pub(super) fn cannot_write(&self, kind: &str, name: &str, error: &object_store::Error) -> Error {
        self.failed("writing", kind, name, error)
    }

    pub(super) fn cannot_read(&self, kind: &str, name: &str, error: &object_store::Error) -> Error {
        self.failed("reading", kind, name, error)
    }

    /// [`Error::Missing`] if it is not there.
    pub(super) async fn get(&self, kind: &str, name: &str) -> Result<GetResult, Error> {
        self.store.get(&self.key(kind, name)).await.map_err(|error| match error {
            object_store::Error::NotFound { .. } => self.missing(kind, name, &error),
            error => self.cannot_read(kind, name, &error),
        })
    }

    fn missing(&self, kind: &str, name: &str, error: &object_store::Error) -> Error {
        match self.cannot_read(kind, name, error) {
            no_bucket @ Error::NoBucket { .. } => no_bucket,
            _ => Error::Missing { what: format!("{}: {kind}/{name}", self.location.place()) },
        }
    }

    /// The whole of an object that has at most `longest` bytes.
    pub(super) async fn get_small(&self, kind: &str, name: &str, longest: u64) -> Result<Bytes, Error> {
        let object = self.get(kind, name).await?;
        if object.meta.size > longest {
            let what = format!("{kind}/{name} has {} bytes", object.meta.size);
            return Err(Error::Damaged { backup: self.location.place().to_string(), what });
        }
        object.bytes().await.map_err(|error| self.cannot_read(kind, name, &error))
    }

    /// When the object was written, by the clock of the object store: Unix nanoseconds.
    pub(super) async fn modified_ns(&self, kind: &str, name: &str) -> Result<u64, Error> {
        let found = self.store.head(&self.key(kind, name)).await;
        let found = found.map_err(|error| self.cannot_read(kind, name, &error))?;
        Ok(found.last_modified.timestamp_nanos_opt().unwrap_or_default().unsigned_abs())
    }

    /// Removes objects; those that are not there are removed already.
    pub(super) async fn delete(&self, kind: &str, names: &[String]) -> Result<(), Error> {
        let keys: Vec<_> = names.iter().map(|name| Ok(self.key(kind, name))).collect();
        let mut deleted = self.store.delete_stream(futures_util::stream::iter(keys).boxed());
        while let Some(done) = deleted.next().await {
            match done {
                Ok(_) => {}
                Err(error) if is_gone(&error) => {}
                Err(error) => return Err(self.failed("removing from", kind, "", &error)),
            }
        }
        Ok(())
    }
}
