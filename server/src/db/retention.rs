//! Retention: what was deleted long enough ago is purged, and idempotency records run out.
//!
//! Everything that will expire is filed under the day of its event, so a run reads what is due and nothing else, and
//! a change of the time to live takes effect at the next run. Each removal is one commit; a run that is interrupted
//! is continued by the next. A thread loses its keys before anything else of it goes. Age is what the guarded clock says
//! it is: while a step of the machine's clock is held nothing is removed.

use std::time::Duration;

use super::edit::Settled;
use super::walk::{Partitions, Rows};
use super::{Db, Error, decode, decode_key, idempotency};
use crate::keys::{ExpiryKind, Key, KeyRange, Partition, PartitionKind, ThreadRow, UserRow, day_of};
use crate::model::{MessageId, ThreadId};
use crate::rows::{DeletedMessage, Idempotency, MessageName, Names};
use crate::store::{Commit, Op, Row, SecondaryWrite};

const ENTRIES_A_PAGE: usize = 512;

/// What a run removed, or would have removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Purged {
    /// Deleted threads, with all that was in them.
    pub threads: u64,
    /// Deleted messages, with their versions.
    pub messages: u64,
    /// Idempotency records that ran out.
    pub idempotency_records: u64,
}

/// Which entries a run looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scope {
    /// All that is due.
    Everything,
    /// Idempotency records, from this day on.
    Idempotency { from: u32 },
}

impl Db {
    /// Purges what is due; with `dry_run` only counts it.
    pub async fn purge(&self, dry_run: bool) -> Result<Purged, Error> {
        if !self.0.settings.retention {
            return Err(Error::RetentionDisabled);
        }
        if let Some(left) = self.0.clock.state().settling {
            return Err(Error::ClockSettling { left });
        }
        self.run(Scope::Everything, dry_run).await
    }

    /// Removes idempotency records that ran out, and what is left of erased threads; happens whether retention is on or off. A run that does not look back
    /// passes over days on which earlier runs left none.
    pub async fn expire_idempotency(&self, look_back: bool) -> Result<Purged, Error> {
        const DAYS_OF_A_RECORD: u32 = 3;
        let today = day_of(self.0.clock.settled());
        let from = if look_back { 0 } else { today.saturating_sub(DAYS_OF_A_RECORD) };
        self.run(Scope::Idempotency { from }, false).await
    }

    async fn run(&self, scope: Scope, dry_run: bool) -> Result<Purged, Error> {
        self.0.clock.state().held.map_or(Ok(()), |held| Err(Error::ClockHeld(held)))?;
        let mut purged = Purged::default();
        let after = match scope {
            Scope::Idempotency { from: from @ 1.. } => Some(Partition::Expiry(from - 1)),
            _ => None,
        };
        let mut days = Partitions::behind(&[PartitionKind::Expiry], after);
        while let Some(page) = days.next_page(&self.0.store).await? {
            for day in page {
                self.run_day(day, scope, dry_run, &mut purged).await?;
            }
        }
        Ok(purged)
    }

    async fn run_day(&self, day: Partition, scope: Scope, dry_run: bool, purged: &mut Purged) -> Result<(), Error> {
        if matches!(day, Partition::Expiry(day) if day > day_of(self.0.clock.settled())) {
            return Ok(());
        }
        let mut entries = Rows::of(KeyRange::all(day), ENTRIES_A_PAGE);
        while let Some(page) = entries.next_page(&self.0.store).await? {
            for entry in &page {
                self.run_entry(entry, scope, dry_run, purged).await?;
            }
        }
        Ok(())
    }

    async fn run_entry(&self, entry: &Row, scope: Scope, dry_run: bool, purged: &mut Purged) -> Result<(), Error> {
        let key = decode_key(&entry.key)?;
        let Key::Expiry { due, thread, kind } = key else { return Err(Error::Corrupt { key: key.to_string() }) };
        let kept = match kind {
            ExpiryKind::Thread => self.0.settings.thread_ttl,
            ExpiryKind::Erasure => Duration::ZERO,
            ExpiryKind::Message => self.0.settings.message_ttl,
            ExpiryKind::ThreadIdempotency | ExpiryKind::UserIdempotency | ExpiryKind::Receipt => idempotency::KEPT,
        };
        let always = !matches!(kind, ExpiryKind::Thread | ExpiryKind::Message);
        let in_scope = always || scope == Scope::Everything;
        if !in_scope || !self.0.clock.is_over(due, kept) {
            return Ok(());
        }
        let count = match kind {
            ExpiryKind::Thread | ExpiryKind::Erasure => &mut purged.threads,
            ExpiryKind::Message => &mut purged.messages,
            ExpiryKind::ThreadIdempotency | ExpiryKind::UserIdempotency | ExpiryKind::Receipt => {
                &mut purged.idempotency_records
            }
        };
        if dry_run {
            *count += 1;
            return Ok(());
        }
        let commit = match kind {
            ExpiryKind::Thread => self.purge_thread(thread, due).await?,
            ExpiryKind::Erasure => self.clear_of_erasure(thread, due).await?,
            ExpiryKind::Message => self.purge_message(thread, decode::<MessageName>(key, &entry.value)?.0, due).await?,
            ExpiryKind::ThreadIdempotency | ExpiryKind::UserIdempotency => {
                self.purge_record(thread, &decode::<Names>(key, &entry.value)?).await?
            }
            ExpiryKind::Receipt => self.purge_receipt(&decode::<Names>(key, &entry.value)?).await?,
        };
        let removed = u64::from(commit.is_some());
        // An entry about something that is gone or was replaced has only itself to remove.
        let mut commit = commit.unwrap_or_else(|| Commit::of(key.partition(), Vec::new()));
        if commit.partition == key.partition() {
            commit.ops.push(Op::Delete(key));
        } else {
            commit.secondary.push(SecondaryWrite::Delete(key));
        }
        // What changed in between is left for the next run to look at again.
        if self.commit(commit).await? == Settled::Committed {
            *count += removed;
        }
        Ok(())
    }

    async fn purge_thread(&self, thread: ThreadId, deleted: u64) -> Result<Option<Commit>, Error> {
        // What nobody can open any more may go in any order.
        self.shred_expired(thread, deleted).await?;
        let is_it = self.head(thread).await?.is_some_and(|read| read.head.deleted == deleted);
        if is_it { self.removal(thread).await } else { Ok(None) }
    }

    /// The entry of an erasure is there before the erasure, which may have failed: a thread that was deleted later is not it.
    async fn clear_of_erasure(&self, thread: ThreadId, erased: u64) -> Result<Option<Commit>, Error> {
        let is_it = self.head(thread).await?.is_some_and(|read| read.head.deleted <= erased);
        if is_it { self.removal(thread).await } else { Ok(None) }
    }

    /// The commit that removes a deleted thread; none if there is none.
    pub(super) async fn removal(&self, thread: ThreadId) -> Result<Option<Commit>, Error> {
        let Some(read) = self.head(thread).await?.filter(|read| read.head.deleted != 0) else { return Ok(None) };
        self.close_creation(thread).await?;
        let key = Key::Thread(thread, ThreadRow::Head);
        let wrote = SecondaryWrite::Delete(Key::User(read.head.owner, UserRow::Wrote(thread)));
        let mut commit = Commit::remove(key, read.bytes).with([wrote]);
        commit.ops.push(Op::DeleteRange(KeyRange::thread_without_head(thread)));
        Ok(Some(commit))
    }

    async fn purge_message(&self, thread: ThreadId, id: MessageId, deleted: u64) -> Result<Option<Commit>, Error> {
        let key = Key::Thread(thread, ThreadRow::Deleted(id));
        let Some(bytes) = self.0.store.get(&key).await? else { return Ok(None) };
        let row: DeletedMessage = match self.open_value(key, bytes.clone()).await {
            Err(Error::Erased) => return Ok(None),
            opened => decode(key, &opened?)?,
        };
        let versions = Op::DeleteRange(KeyRange::versions(thread, id));
        Ok((row.deleted == deleted).then(|| {
            let mut commit = Commit::remove(key, bytes);
            commit.ops.push(versions);
            commit
        }))
    }

    async fn purge_record(&self, thread: ThreadId, names: &Names) -> Result<Option<Commit>, Error> {
        let key = match *names.0.as_slice() {
            [name] => Key::Thread(thread, ThreadRow::Idempotency(name)),
            [user, name] => Key::User(user, UserRow::Idempotency(name)),
            _ => return Ok(None),
        };
        let Some(bytes) = self.0.store.get(&key).await? else { return Ok(None) };
        let in_force = match self.open_value(key, bytes.clone()).await {
            Ok(opened) => !self.has_run_out(decode::<Idempotency>(key, &opened)?.expires),
            // Of a thread that was erased.
            Err(Error::Erased) => false,
            Err(error) => return Err(error),
        };
        Ok((!in_force).then(|| Commit::remove(key, bytes)))
    }
}
