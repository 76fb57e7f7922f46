//! Erasure: a thread is destroyed by destroying its keys, and then cleared away.
//!
//! The first commit removes every wrapped key of the thread and takes it out of all lists; from then on nothing in the
//! live store opens it. The second removes what is left. A stop between the two is made good by retention, which finds
//! the thread filed as erased. What the files of the store still hold of the wrapped keys goes with the next
//! compaction, which is due by the horizon that the receipt names.

use std::sync::PoisonError;
use std::time::Duration;

use super::detached::Detached;
use super::draft::Draft;
use super::edit::{Edited, Settled, repeat};
use super::receipts::Request;
use super::{Caller, Db, Error, WriteOptions, access, decode, walk};
use crate::crypt::keyring::WrappedKey;
use crate::keys::{ExpiryKind, Key, Partition, StoreRow};
use crate::model::ThreadId;
use crate::rows::{Erasures, Head, Present, Row as _};
use crate::store::{Commit, Compaction, Op, SecondaryWrite};
use crate::telemetry;

const PENDING: Key = Key::Store(StoreRow::Erasures);
/// Retention waits this long for the reader of the log before each thread.
const AUDIT_PATIENCE: Duration = Duration::from_mins(1);
/// An erasure this long before a compaction may have been committed after it began.
const SLACK_NS: u64 = 60_000_000_000;

/// What the caller of an erasure may show to whoever asked for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// The thread.
    pub thread: ThreadId,
    /// The keys that were destroyed, by the names under which they can be recognised; none if it was never encrypted.
    pub key_ids: Vec<String>,
    /// Unix nanoseconds from which nothing in the live store opened the thread.
    pub erased: u64,
    /// Unix nanoseconds until which files of the store may hold remains of its keys or, if it was never encrypted,
    /// of its rows.
    pub horizon: u64,
    /// Where copies of the store are that may hold the thread for as long as they are kept: checkpoints and former stores in
    /// the data directory, and the oldest backup that is known.
    pub checkpoints: Vec<String>,
}

impl Receipt {
    /// A copy that was made after the list and before the commit that erased holds the thread as well. True if there is one.
    fn add_copies(&mut self, copies: Vec<String>) -> bool {
        let before = self.checkpoints.len();
        for copy in copies {
            if !self.checkpoints.contains(&copy) {
                self.checkpoints.push(copy);
            }
        }
        self.checkpoints.len() > before
    }
}

impl Db {
    /// Destroys a thread, live or deleted, for good. With an idempotency key the receipt is kept for as long as other
    /// answers are, outside of the thread, and a repetition gets it again; true if this is one.
    pub async fn erase_thread(
        &self,
        caller: &Caller,
        thread: ThreadId,
        options: WriteOptions,
    ) -> Result<(Receipt, bool), Error> {
        let (db, request) = (self.clone(), Request::new(self, caller, thread, options));
        // A client that hangs up must not leave a half of it undone.
        Detached::new(async move {
            let _turn = db.0.erasing.turn(thread).await;
            let known = db.known_receipt(&request).await?;
            if let Some(receipt) = &known
                && db.head(thread).await?.is_none()
            {
                return Ok((receipt.clone(), true));
            }
            let mut receipt = db.shred_thread(&request, known).await?;
            let is_longer = receipt.add_copies(db.copies());
            db.clear_erased(&request, &receipt, is_longer).await?;
            Ok((receipt, false))
        })
        .await
    }

    /// `known` is the receipt of the same request if that was interrupted.
    async fn shred_thread(&self, request: &Request, known: Option<Receipt>) -> Result<Receipt, Error> {
        let known = known.as_ref();
        let head = self.head(request.thread).await?.ok_or(Error::AccessDenied)?.head;
        self.check_erasable(request, known, &head).await?;
        // Before the edit: a thread that is written to would have another head by the time that the note is on disk. What
        // the sealing job has sealed was plain before, and files hold that until all is sealed and compacted.
        self.note_erasure(self.next_timestamp()?, head.oldest == 0 || !self.is_all_sealed()).await?;
        let edited = self.edit_thread(request.thread, |draft| self.draft_erasure(request, known, draft)).await?;
        let receipt = edited.ok_or(Error::AccessDenied)?;
        let Receipt { thread, key_ids, erased, horizon, .. } = &receipt;
        let keys = key_ids.join(" ");
        tracing::info!(target: "audit", event = "thread.erased", thread = %thread, keys, erased, horizon);
        Ok(receipt)
    }

    async fn check_erasable(&self, request: &Request, known: Option<&Receipt>, head: &Head) -> Result<(), Error> {
        access::check_access(head, request.user)?;
        if known.is_none() {
            self.check_key_is_free(request).await?;
            if request.options.if_match.is_some() || request.options.if_none_match.is_some() {
                request.options.check_revision(self.thread_object(request.thread).await?.revision)?;
            }
        }
        Ok(())
    }

    async fn draft_erasure<'a>(
        &self,
        request: &Request,
        known: Option<&Receipt>,
        mut draft: Draft<'a>,
    ) -> Result<Edited<'a, Receipt>, Error> {
        let (thread, before) = (request.thread, *draft.before());
        self.check_erasable(request, known, &before).await?;
        let erased = draft.next_message_timestamp()?;
        if before.deleted == 0 {
            draft.delete_thread(erased);
        }
        let mut key_ids = known.map_or_else(Vec::new, |known| known.key_ids.clone());
        for key_id in draft.destroy_keys().await? {
            if !key_ids.contains(&key_id) {
                key_ids.push(key_id);
            }
        }
        let (horizon, checkpoints) = (erased + self.horizon_ns(), self.copies());
        let receipt = Receipt { thread, key_ids, erased, horizon, checkpoints };
        let kept = self.keep_receipt(request, &receipt, draft.format()).await?;
        draft.secondary.extend(kept);
        let entry = Key::Expiry { due: erased, thread, kind: ExpiryKind::Erasure };
        let noted = Present.encode(draft.format());
        draft.secondary.push(SecondaryWrite::Put(entry, noted));
        draft.client_writes += 1;
        Ok(Edited::Changed(draft, receipt))
    }

    /// Every place that may hold what is in the store now, as far as is known.
    fn copies(&self) -> Vec<String> {
        let mut copies = self.0.store.copies();
        copies.extend(self.oldest_backup());
        copies
    }

    /// Receipts name this backup from now on: the oldest of this database, where it can be looked for. None: there is none,
    /// or it is not known.
    pub fn know_oldest_backup(&self, at: Option<String>) {
        *self.0.oldest_backup.lock().unwrap_or_else(PoisonError::into_inner) = at;
    }

    /// The backup that receipts name.
    pub fn oldest_backup(&self) -> Option<String> {
        self.0.oldest_backup.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn horizon_ns(&self) -> u64 {
        u64::try_from(self.erasure_horizon().as_nanos()).unwrap_or(u64::MAX / 2)
    }

    /// Has the files compacted in time: those of wrapped keys or, if rows were plain, all. A commit of its own, before
    /// the one that erases: the note is shared by all erasures, and of two at once neither may lose the other's.
    pub(super) async fn note_erasure(&self, erased: u64, plain: bool) -> Result<(), Error> {
        // Many at once would overtake one another more often than an edit is repeated.
        let _turn = self.0.erasure_note.lock().await;
        repeat(|| async {
            let before = self.0.store.get(&PENDING).await?;
            let noted = match &before {
                Some(bytes) => {
                    let other: Erasures = decode(PENDING, bytes)?;
                    let (oldest, latest) = (other.oldest.min(erased), other.latest.max(erased));
                    Erasures { oldest, latest, plain: plain || other.plain }
                }
                None => Erasures { oldest: erased, latest: erased, plain },
            };
            self.replace_note(before, Some(noted)).await
        })
        .await
    }

    /// Replaces the note of what waits for a compaction; nothing if another was first.
    async fn replace_note(&self, before: Option<Vec<u8>>, after: Option<Erasures>) -> Result<Option<()>, Error> {
        let writing = self.begin_write();
        let commit = match (before, after) {
            (before, Some(noted)) => Commit::replace(PENDING, before, noted.encode(writing.format())),
            (Some(before), None) => Commit::remove(PENDING, before),
            (None, None) => return Ok(Some(())),
        };
        Ok((self.commit(commit).await? == Settled::Committed).then_some(()))
    }

    /// Removes what is left of an erased thread, and keeps the receipt anew if it `is_longer` than the one that is kept.
    async fn clear_erased(&self, request: &Request, receipt: &Receipt, is_longer: bool) -> Result<(), Error> {
        let entry = Key::Expiry { due: receipt.erased, thread: request.thread, kind: ExpiryKind::Erasure };
        repeat(|| async {
            let Some(mut commit) = self.removal(request.thread).await? else { return Ok(Some(())) };
            let writing = self.begin_write();
            if is_longer {
                commit.secondary.extend(self.keep_receipt(request, receipt, writing.format()).await?);
            }
            commit.secondary.push(SecondaryWrite::Delete(entry));
            Ok((self.commit(commit).await? == Settled::Committed).then_some(()))
        })
        .await
    }

    /// Destroys the keys of a deleted thread whose time is over, before anything else of it goes.
    pub(super) async fn shred_expired(&self, thread: ThreadId, deleted: u64) -> Result<(), Error> {
        let Some(head) = self.head(thread).await?.map(|read| read.head) else { return Ok(()) };
        let keys = walk::data_keys(&self.0.store, Partition::Thread(thread)).await?;
        if head.deleted != deleted || keys.is_empty() {
            return Ok(());
        }
        // Each has its line: while nobody reads the log, this goes on slowly rather than lose them.
        telemetry::audit_is_written(AUDIT_PATIENCE).await;
        self.note_erasure(self.next_timestamp()?, head.oldest == 0 || !self.is_all_sealed()).await?;
        let edited = self.edit_thread(thread, |mut draft| async {
            if draft.before().deleted != deleted {
                return Ok(Edited::Unchanged(None));
            }
            let key_ids = draft.destroy_keys().await?;
            if key_ids.is_empty() {
                return Ok(Edited::Unchanged(None));
            }
            Ok(Edited::Changed(draft, Some(key_ids)))
        });
        if let Some(Some(key_ids)) = edited.await? {
            tracing::info!(target: "audit", event = "thread.shredded", thread = %thread, keys = key_ids.join(" "));
        }
        Ok(())
    }

    /// Compacts if something was erased and its horizon comes near. True if it did.
    pub async fn compact_if_due(&self) -> Result<bool, Error> {
        let Some(pending) = self.row::<Erasures>(PENDING).await? else { return Ok(false) };
        if let Some(horizon) = self.0.store.erasure_horizon() {
            // The engine compacts by itself, and needs as long as this for all of it.
            if self.0.clock.is_over(pending.latest, horizon) {
                self.settle_erasures(self.next_timestamp()?, Compaction::Rows).await?;
            }
            return Ok(false);
        }
        // Half of the time is left for the compaction itself, and for a server that was down.
        if !self.0.clock.is_over(pending.oldest, self.0.settings.erasure_horizon / 2) {
            return Ok(false);
        }
        let compaction = if pending.plain { Compaction::Rows } else { Compaction::Keys };
        self.compact(compaction).await.map(|()| true)
    }

    /// Rewrites every file of the store and deletes its checkpoints.
    pub async fn compact_everything(&self) -> Result<(), Error> {
        self.compact(Compaction::Everything).await
    }

    /// Rewrites files so that nothing of what was removed is left in them.
    async fn compact(&self, compaction: Compaction) -> Result<(), Error> {
        let began = self.next_timestamp()?;
        self.0.store.compact(compaction).await?;
        self.settle_erasures(began, compaction).await?;
        tracing::info!(target: "audit", event = "encryption.compacted", ?compaction);
        Ok(())
    }

    /// Notes that a compaction is done that began then. What was erased while it ran waits for the next.
    async fn settle_erasures(&self, began: u64, compaction: Compaction) -> Result<(), Error> {
        repeat(|| async {
            let Some(before) = self.0.store.get(&PENDING).await? else { return Ok(Some(())) };
            let Erasures { latest, plain, .. } = decode(PENDING, &before)?;
            if plain && compaction == Compaction::Keys {
                // Noted since the files to compact were chosen.
                return Ok(Some(()));
            }
            let is_over = latest.saturating_add(SLACK_NS) < began;
            let rest = (!is_over).then_some(Erasures { oldest: latest, latest, plain });
            self.replace_note(Some(before), rest).await
        })
        .await
    }

    /// Since when an erased key waits for a compaction, in Unix nanoseconds.
    pub async fn erasure_pending_since(&self) -> Result<Option<u64>, Error> {
        Ok(self.row::<Erasures>(PENDING).await?.map(|pending| pending.oldest))
    }

    /// How long the remains of an erased key stay in the files at most.
    pub fn erasure_horizon(&self) -> Duration {
        let (configured, engine) = (self.0.settings.erasure_horizon, self.0.store.erasure_horizon());
        engine.map_or(configured, |engine| engine.max(configured))
    }
}

impl Draft<'_> {
    /// Makes the removal of every wrapped key of the thread part of the commit; their names.
    async fn destroy_keys(&mut self) -> Result<Vec<String>, Error> {
        let mut key_ids = Vec::new();
        for (place, wrapped) in walk::data_keys(self.store(), Partition::Thread(self.thread)).await? {
            key_ids.push(decode::<WrappedKey>(place, &wrapped)?.commitment.key_id());
            self.ops.push(Op::Delete(place));
            self.forgotten.push(place);
        }
        Ok(key_ids)
    }
}
