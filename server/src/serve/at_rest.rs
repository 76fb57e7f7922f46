//! A store that nobody serves, opened read-only and checked: that of a stopped database, or one that was unpacked from a
//! backup.

use std::path::Path;
use std::sync::Arc;

use super::StartupError;
use super::offline::{reading, runtime};
use super::open::{open_engine_at, open_error_at, tables};
use crate::config::Config;
use crate::crypt::Crypt;
use crate::db::{Db, Integrity, OpenError, check_integrity};
use crate::format::{Formats, Identity};
use crate::store;

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
        let store = engine.store();
        runtime()?.block_on(async {
            let db = self.open(&store, config, crypt, keys, formats).await;
            let db = db.map_err(|error| open_error_at(self.name, error))?;
            let checked = check_integrity(&store, db.as_ref()).await;
            checked.map_err(|error| open_error_at(self.name, OpenError::Unreadable(error)))
        })
    }

    async fn open(
        &self,
        store: &store::Store,
        config: &Config,
        crypt: Option<Arc<Crypt>>,
        keys: Keys,
        formats: &Formats,
    ) -> Result<Option<Db>, OpenError> {
        let open = |crypt| Db::open(store.clone(), self.identity, formats, reading(config), crypt);
        match open(crypt).await {
            // Nothing in it was ever sealed.
            Err(OpenError::NoKeys) => open(None).await.map(Some),
            Err(OpenError::Sealed) if keys == Keys::IfConfigured => Ok(None),
            opened => opened.map(Some),
        }
    }
}
