//! Brings an open store to where this version serves it: start migrations at every start, and the change of format when it
//! is wanted.
//!
//! A change of format begins with a checkpoint. Then the store is raised in one commit, opened anew, and its rows follow.
//! Whatever ends this in the middle, the next run goes on: before the raise with everything as it was, behind it with the
//! rows that are left. A store that was raised is brought to its end whoever opens it, wanted or not. That of a shared store
//! is changed beside its servers, and by the command alone: see [`super::format_change`].

use std::io;
use std::sync::Arc;

use serde::Serialize;

use super::StartupError;
use super::home::Home;
use super::open::database_settings;
use crate::clock::Clock;
use crate::config::Config;
use crate::crypt::Crypt;
use crate::data_dir::CheckpointOf;
use crate::db::{self, Db, Foreseen, Inspected, Migrated, Pending, inspect_any};
use crate::format::{Formats, Migration, MigrationTime};
use crate::store::Engine;

/// What migrations run on.
pub(super) struct Stage<'a> {
    pub(super) home: &'a Home,
    pub(super) engine: &'a Engine,
    pub(super) config: &'a Config,
    pub(super) formats: &'a Formats,
    pub(super) crypt: Option<Arc<Crypt>>,
}

/// What was done to a store.
#[derive(Debug, Serialize)]
pub struct Report {
    /// The format that it has now.
    pub format: u32,
    /// The checkpoint that was made before its format was raised.
    pub checkpoint: Option<String>,
    /// The migrations that ran.
    pub ran: Vec<Migrated>,
    /// What it still has before it.
    pub pending: Pending,
}

/// What would be done to a store.
#[derive(Debug, Serialize)]
pub struct Forecast {
    /// The format that it has.
    pub format: u32,
    /// What it has before it.
    pub pending: Pending,
    /// What each of these migrations would do.
    pub would_run: Vec<Foreseen>,
}

impl Stage<'_> {
    /// Opens the database on the store.
    pub(super) async fn open(&self, settings: db::Settings) -> Result<Db, db::OpenError> {
        let identity = self.home.identity();
        Db::open(self.engine.store(), identity, self.formats, settings, self.crypt.clone()).await
    }

    /// Runs what is pending: start migrations, and the change of format if it is wanted or has begun. Returns the database
    /// as it is to be served, which is another handle if the format was raised.
    pub(super) async fn run(&self, mut db: Db, finalize: bool) -> Result<(Db, Report), StartupError> {
        let (mut ran, mut checkpoint) = (Vec::new(), None);
        let pending = self.pending(&db).await?;
        for migration in &pending.start {
            ran.push(self.migrate(&db, migration).await?);
        }
        let is_own = self.home.directory().is_some();
        if is_own && (pending.begun || (finalize && pending.raise_to.is_some())) {
            if pending.raise_to.is_some() {
                checkpoint = self.checkpoint().await?;
                db = self.raise(db, &pending).await?;
            }
            for migration in &pending.finalize {
                ran.push(self.migrate(&db, migration).await?);
            }
        }
        let pending = self.pending(&db).await?;
        let format = db.health().format;
        Ok((db, Report { format, checkpoint, ran, pending }))
    }

    /// Says what a run would do; changes nothing.
    pub(super) async fn foresee(&self, db: &Db, finalize: bool) -> Result<Forecast, StartupError> {
        let pending = self.pending(db).await?;
        let mut would_run = Vec::new();
        let finalizing = pending.finalize.iter().filter(|_| finalize || pending.begun);
        for migration in pending.start.iter().chain(finalizing) {
            would_run.push(db.foresee(migration).await.map_err(|error| self.unreadable(error))?);
        }
        Ok(Forecast { format: db.health().format, pending, would_run })
    }

    pub(super) async fn pending(&self, db: &Db) -> Result<Pending, StartupError> {
        db.pending_migrations().await.map_err(|error| self.unreadable(error))
    }

    fn unreadable(&self, error: db::Error) -> StartupError {
        self.home.open_error(db::OpenError::Unreadable(error))
    }

    async fn migrate(&self, db: &Db, migration: &'static Migration) -> Result<Migrated, StartupError> {
        let failed = |error| match migration.at {
            MigrationTime::Start => StartupError::migration(
                format!("migration {} did not end", migration.name),
                "start again to go on with it; the version before serves the store as it is",
                error,
            ),
            MigrationTime::Finalize => StartupError::migration(
                format!("migration {} did not end", migration.name),
                format!("start again to go on with it, or go back{} with `progressdb rollback`", self.way_back()),
                error,
            ),
        };
        db.migrate(migration).await.map_err(failed)
    }

    fn way_back(&self) -> String {
        self.home.newest_checkpoint().map(|name| format!(" to checkpoint {name}")).unwrap_or_default()
    }

    /// The way back. Nothing is changed if it cannot be made.
    async fn checkpoint(&self) -> Result<Option<String>, StartupError> {
        let Home::Own(directory) = self.home else { return Ok(None) };
        let inspected = inspect_any(&self.engine.store()).await.map_err(|error| self.unreadable(error))?;
        let Inspected { database_id, format, sequence, messages, .. } = inspected;
        let version = self.formats.version.to_owned();
        let of = CheckpointOf { database_id, format, sequence, messages, version, created_ns: Clock::wall() };
        let cut = |path: &std::path::Path| self.engine.checkpoint(path, &[]).map(drop).map_err(io::Error::other);
        let made = tokio::task::block_in_place(|| directory.make_checkpoint(of, cut));
        let checkpoint = made.map_err(|error| {
            StartupError::migration("the format was not changed", "the store is as it was: start again", error)
        })?;
        tracing::info!(target: "audit", event = "checkpoint.made", checkpoint = checkpoint.name, format, sequence);
        Ok(Some(checkpoint.name))
    }

    async fn raise(&self, db: Db, pending: &Pending) -> Result<Db, StartupError> {
        db.raise_format(pending).await.map_err(|error| {
            StartupError::migration("the format was not changed", "the store is as it was: start again", error)
        })?;
        let settings = database_settings(self.config);
        self.open(settings).await.map_err(|error| self.home.open_error(error))
    }
}
