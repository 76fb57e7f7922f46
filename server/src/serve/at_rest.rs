//! A store that nobody serves, opened read-only and checked: that of a stopped database, or one that was unpacked from a
//! backup.

use std::path::Path;
use std::sync::Arc;

use super::StartupError;
use super::home::runtime;
use super::offline::reading;
use super::open::{open_engine_at, open_error_at, tables};
use crate::config::Config;
use crate::crypt::Crypt;
use crate::db::{Db, Integrity, OpenError, check_integrity};
use crate::format::{Formats, Identity};
use crate::store::{self, Engine};

/// Where a store is, and whose it is.
pub(super) struct AtRest<'a> {
    /// What messages call it.
    pub(super) name: &'a Path,
    /// The directory of the store.
    pub(super) store: &'a Path,
    pub(super) identity: Identity,
}

/// What a store must open with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Keys {
    /// Those that seal it, or it is refused.
    Needed,
    /// Without a KMS, what is sealed is counted and not opened.
    IfConfigured,
}

impl AtRest<'_> {
    /// Opens the store, its keys and its database, and checks every row. Changes nothing.
    pub(super) fn check(
        &self,
        config: &Config,
        crypt: Option<Arc<Crypt>>,
        keys: Keys,
        formats: &Formats,
    ) -> Result<Integrity, StartupError> {
        let settings = store::Settings {
            path: self.store.to_owned(),
            create: false,
            memory_bytes: config.storage.memory_bytes,
            reserve_bytes: 0,
            max_tables: tables(config)?,
            read_only: true,
        };
        let engine = open_engine_at(self.name, formats, settings)?;
        let checked = check_store(&engine, self.identity, config, crypt, keys, formats);
        runtime()?.block_on(checked).map_err(|error| open_error_at(self.name, error))
    }
}

/// Opens keys and database of an engine that is open, and checks every row. Changes nothing.
pub(super) async fn check_store(
    engine: &Engine,
    identity: Identity,
    config: &Config,
    crypt: Option<Arc<Crypt>>,
    keys: Keys,
    formats: &Formats,
) -> Result<Integrity, OpenError> {
    let store = engine.store();
    let open = |crypt| Db::open(store.clone(), identity, formats, reading(config), crypt);
    let db = open_with(crypt, keys, open).await?;
    check_integrity(&store, db.as_ref()).await.map_err(OpenError::Unreadable)
}

/// Opens a database by `open`, which is given the keys that there are. None if it is sealed and they are not needed.
pub(super) async fn open_with<F>(
    crypt: Option<Arc<Crypt>>,
    keys: Keys,
    open: impl Fn(Option<Arc<Crypt>>) -> F,
) -> Result<Option<Db>, OpenError>
where
    F: Future<Output = Result<Db, OpenError>>,
{
    match open(crypt).await {
        // Nothing in it was ever sealed.
        Err(OpenError::NoKeys) => open(None).await.map(Some),
        Err(OpenError::Sealed) if keys == Keys::IfConfigured => Ok(None),
        opened => opened.map(Some),
    }
}
