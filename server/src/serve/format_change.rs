//! Raises the format of a shared store while servers of it serve.
//!
//! ```text
//! claim    the format: no server starts any more that could not work in the new one
//! able     until no server runs that could not
//! raise    the format, in one conditional commit; the claim is given back
//! follow   until every server has said that it writes the new format and nothing in the former one is on its way
//! rewrite  the rows, and once more what start migrations added while older servers wrote beside them
//! ```
//!
//! It may end anywhere and is repeated. Before the raise nothing is changed; behind it a repetition goes on with waiting, and
//! with the rows that are left. A server that dies or stands still is waited for until its slot expires.

use std::time::Duration;

use super::StartupError;
use super::migrations::{Report, Stage};
use crate::clock::monotonic;
use crate::db::{self, Db, Migrated};
use crate::format::Migration;
use crate::store::{self, Peer};

/// How long servers that cannot work in the new format, and another command, are waited for: longer than those take to
/// expire that are gone.
const ABLE_WITHIN: Duration = Duration::from_secs(45);
/// How long servers are waited for that do not follow, although they renew their slots.
const FOLLOWED_WITHIN: Duration = Duration::from_secs(300);
const PAUSE: Duration = Duration::from_secs(1);
const LOG_EVERY: u32 = 5;
/// How often a migration is begun anew that the engine has interrupted, and after which pause.
const INTERRUPTIONS: u32 = 60;
const PAUSE_AFTER_ONE: Duration = Duration::from_secs(2);

const AGAIN: &str = "repeat the command: it goes on from there, and servers of this version serve meanwhile";

impl Stage<'_> {
    /// Runs what is pending, beside the servers of a shared store: start migrations, and the change of format if it is wanted
    /// or has begun.
    pub(super) async fn run_beside(&self, db: &Db, finalize: bool) -> Result<Report, StartupError> {
        let mut ran = Vec::new();
        let pending = self.pending(db).await?;
        for migration in &pending.start {
            ran.push(self.migrate_beside(db, migration).await?);
        }
        if let Some(to) = pending.raise_to.filter(|_| finalize) {
            self.raise_beside(db, to).await?;
        }
        self.follow(db).await?;
        let format = db.health().format;
        let pending = self.pending(db).await?;
        // Of a format that this version knows and that is still to come there is nothing to do yet.
        let begun: Vec<_> = pending.finalize.iter().filter(|migration| migration.to <= format).collect();
        if !begun.is_empty() {
            self.await_followers(format).await?;
        }
        for migration in begun {
            ran.push(self.migrate_beside(db, migration).await?);
        }
        Ok(Report { format, checkpoint: None, ran, pending: self.pending(db).await? })
    }

    async fn raise_beside(&self, db: &Db, to: u32) -> Result<(), StartupError> {
        self.claim_format(to).await?;
        self.await_able(to).await?;
        // Another command may have been first.
        let pending = self.pending(db).await?;
        let raised = db.clone().raise_format(&pending).await;
        raised.map_err(|error| StartupError::migration("the format may not have been changed", AGAIN, error))?;
        // What keeps older servers away from now on is the format. What cannot be given back expires.
        let _ = self.engine.release_format().await;
        Ok(())
    }

    async fn claim_format(&self, to: u32) -> Result<(), StartupError> {
        let began = monotonic();
        while !self.engine.claim_format(to).await.map_err(unreachable)? {
            if began.elapsed() >= ABLE_WITHIN {
                return Err(StartupError::FormatClaimed);
            }
            tokio::time::sleep(PAUSE).await;
        }
        tracing::info!(event = "format.claimed", to);
        Ok(())
    }

    /// Waits until every server can work in that format.
    async fn await_able(&self, to: u32) -> Result<(), StartupError> {
        let is_able = |peer: &Peer| (peer.formats[0]..=peer.formats[1]).contains(&to);
        let unable = self.await_peers(is_able, to, ABLE_WITHIN).await?;
        match unable.is_empty() {
            true => Ok(()),
            false => Err(StartupError::ServersTooOld { servers: named(&unable), to }),
        }
    }

    /// Waits until every server writes that format and no other.
    async fn await_followers(&self, format: u32) -> Result<(), StartupError> {
        let follows = |peer: &Peer| peer.follows.is_some_and(|follows| follows >= format);
        let behind = self.await_peers(follows, format, FOLLOWED_WITHIN).await?;
        if behind.is_empty() {
            return Ok(());
        }
        let what = format!("the store has format {format}, and its rows are not rewritten yet");
        let why = format!("{} did not say in time that they write it", named(&behind));
        Err(StartupError::migration(what, AGAIN, why))
    }

    /// The servers of which it does not hold after that time.
    async fn await_peers(
        &self,
        holds: impl Fn(&Peer) -> bool,
        format: u32,
        limit: Duration,
    ) -> Result<Vec<Peer>, StartupError> {
        let began = monotonic();
        for looks in 0.. {
            let mut others = self.engine.peers().await.map_err(unreachable)?;
            others.retain(|peer| !holds(peer));
            if others.is_empty() || began.elapsed() >= limit {
                return Ok(others);
            }
            if looks % LOG_EVERY == 0 {
                tracing::info!(event = "format.awaited", format, servers = named(&others));
            }
            tokio::time::sleep(PAUSE).await;
        }
        unreachable!("it looks until the time is over")
    }

    /// Has this process write the format that the store has, and say so.
    async fn follow(&self, db: &Db) -> Result<(), StartupError> {
        db.follow_others()
            .await
            .map_err(|error| StartupError::migration("the store could not be followed", AGAIN, error))
    }

    async fn migrate_beside(&self, db: &Db, migration: &'static Migration) -> Result<Migrated, StartupError> {
        for interruptions in 0.. {
            match db.migrate(migration).await {
                Err(error @ (db::Error::Unavailable | db::Error::Busy)) if interruptions < INTERRUPTIONS => {
                    tracing::warn!(event = "migration.interrupted", migration = migration.name, %error);
                    tokio::time::sleep(PAUSE_AFTER_ONE).await;
                }
                ended => {
                    let what = format!("migration {} did not end", migration.name);
                    return ended.map_err(|error| StartupError::migration(what, AGAIN, error));
                }
            }
        }
        unreachable!("the last attempt is not repeated")
    }
}

fn unreachable(error: store::Error) -> StartupError {
    StartupError::migration("the servers of the store could not be seen", AGAIN, error)
}

fn named(peers: &[Peer]) -> String {
    let one = |Peer { slot, version, formats: [oldest, newest], .. }: &Peer| {
        format!("slot {slot} (version {version}, formats {oldest} to {newest})")
    };
    peers.iter().map(one).collect::<Vec<_>>().join(", ")
}
