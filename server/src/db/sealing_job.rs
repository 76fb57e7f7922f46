//! The job that brings the whole store to the newest epoch: seals what is plain, and wraps data keys anew.
//!
//! It visits every thread and then every user, remembers how far it has come, and goes on from there after a stop.
//! Rows change one by one, each only if it still is what was read, so writers never wait for it. A thread's last step
//! declares it done, in a commit that its writers cannot overtake. When nothing failed, the job reseals the store
//! secret, after which a plain private row is refused as a forgery, and retires the epochs that nothing needs.

use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::task::JoinSet;

use super::edit::{Edited, Settled};
use super::epochs::list_epochs;
use super::progress::Run;
use super::sealing::Seal;
use super::walk::{self, OWNERS, Partitions, Rows};
use super::{Db, Error, decode, decode_key};
use crate::clock::monotonic;
use crate::crypt::Crypt;
use crate::crypt::keyring::WrappedKey;
use crate::crypt::seal;
use crate::keys::{Hash16, Key, KeyRange, Partition, PartitionKind, ThreadRow, UserRow};
use crate::model::ThreadId;
use crate::rows::{JobProgress, Row as _};
use crate::store::{Commit, Direction, Op, Row, SecondaryWrite};

const ROWS_A_PAGE: usize = 64;
const COUNTED_A_PAGE: usize = 1_000;

/// What a visit changed, or would have changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Visit {
    /// Values sealed, or sealed anew.
    pub values: u64,
    /// Data keys wrapped anew.
    pub keys: u64,
}

/// What one walk over rows came to.
#[derive(Clone, Copy, Debug, Default)]
struct Sealed {
    /// Rows sealed.
    rows: u64,
    /// Rows that another changed first.
    overtaken: u64,
}

/// A thread that was asked to be sealed.
#[derive(Debug)]
pub struct SealedThread {
    /// Which.
    pub thread: ThreadId,
    /// The name of its key, or why it was not sealed.
    pub outcome: Result<Option<String>, Error>,
}

/// Holds the job to its rate.
struct Pace {
    a_second: u32,
    began: std::time::Instant,
    done: u64,
}

impl Pace {
    async fn keep(&mut self, visit: Visit) {
        self.done += 1 + visit.values + visit.keys;
        let due = Duration::from_secs_f64(self.done as f64 / f64::from(self.a_second.max(1)));
        let ahead = due.saturating_sub(monotonic().duration_since(self.began));
        if ahead > Duration::from_millis(50) {
            tokio::time::sleep(ahead).await;
        }
    }
}

impl Db {
    /// Has the job look for work.
    pub fn want_sealing(&self) {
        self.0.sealing_wanted.notify_one();
    }

    /// Waits until the job has reason to look for work.
    pub async fn sealing_wanted(&self) {
        self.0.sealing_wanted.notified().await;
    }

    /// Seals threads that hold plain values, a thousand at most, and counts those passed over.
    pub async fn seal_threads(&self) -> Result<(Vec<SealedThread>, u64), Error> {
        const MOST: usize = 1_000;
        let crypt = self.crypt().ok_or(Error::EncryptionDisabled)?.clone();
        let (mut sealed, mut skipped) = (Vec::new(), 0);
        let mut threads = Partitions::all(&[PartitionKind::Thread]);
        while sealed.len() < MOST
            && let Some(page) = threads.next_page(&self.0.store).await?
        {
            for partition in page {
                let Partition::Thread(thread) = partition else { continue };
                if self.head(thread).await?.is_none_or(|read| read.head.oldest != 0) {
                    skipped += 1;
                    continue;
                }
                let outcome = match self.visit_thread(&crypt, thread).await {
                    Ok(_) => Ok(self.key_id(thread).await?),
                    Err(error @ Error::Corrupt { .. }) => Err(error),
                    Err(error) => return Err(error),
                };
                sealed.push(SealedThread { thread, outcome });
            }
        }
        Ok((sealed, skipped))
    }

    /// The name of the thread's newest data key.
    async fn key_id(&self, thread: ThreadId) -> Result<Option<String>, Error> {
        let keys = KeyRange::data_keys(Partition::Thread(thread));
        let newest = self.0.store.scan(keys, Direction::Descending, 1).await?.rows;
        let wrapped = newest.first().map(|row| decode::<WrappedKey>(decode_key(&row.key)?, &row.value)).transpose()?;
        Ok(wrapped.map(|wrapped| wrapped.commitment.key_id()))
    }

    /// What a run would change.
    pub async fn count_unsealed(&self) -> Result<JobProgress, Error> {
        let crypt = self.crypt().ok_or(Error::EncryptionDisabled)?;
        let epoch = crypt.keyring.current_epoch().map_or(0, |epoch| epoch.number);
        let mut progress = JobProgress { epoch, started: self.next_timestamp()?, ..JobProgress::default() };
        let mut owners = Partitions::all(OWNERS);
        while let Some(page) = owners.next_page(&self.0.store).await? {
            for partition in page {
                if !self.concerns(&progress, partition) {
                    continue;
                }
                let visit = self.count_partition(partition, epoch).await?;
                progress.note(partition, visit);
            }
        }
        Ok(progress)
    }

    /// Runs until the whole store is at the newest epoch. Does nothing if it already is.
    pub async fn run_sealing_job(&self) -> Result<JobProgress, Error> {
        let crypt = self.crypt().ok_or(Error::EncryptionDisabled)?.clone();
        let mut pace = Pace { a_second: self.0.settings.rewrap_rate, began: monotonic(), done: 0 };
        loop {
            let epoch = crypt.keyring.current_epoch().map_or(0, |epoch| epoch.number);
            let mut run = self.recorded_run().await?;
            let JobProgress { epoch: of, finished, failed, .. } = run.progress;
            if of == epoch && finished != 0 && failed == 0 {
                return Ok(run.progress);
            }
            if of != epoch || finished != 0 {
                run.progress = JobProgress { epoch, started: self.next_timestamp()?, ..JobProgress::default() };
                // From here on whoever takes the record away is noticed.
                if !self.save_run(&mut run).await? {
                    continue;
                }
            }
            self.check_all_seal_with(epoch).await?;
            tracing::info!(event = "encryption.sealing_started", epoch, resumed = run.progress.position.is_some());
            if self.walk(&crypt, &mut run, &mut pace).await? && self.finish(&mut run).await? {
                return Ok(run.progress);
            }
        }
    }

    /// Visits what is left; false if another epoch began meanwhile, or the job is to start over.
    async fn walk(&self, crypt: &Crypt, run: &mut Run, pace: &mut Pace) -> Result<bool, Error> {
        let mut owners = Partitions::behind(OWNERS, run.progress.position.as_deref().and_then(Partition::decode));
        while let Some(page) = owners.next_page(&self.0.store).await? {
            let progress = &mut run.progress;
            for partition in page {
                if !self.concerns(progress, partition) {
                    continue;
                }
                match self.visit(crypt, partition).await {
                    Ok(visit) => {
                        progress.note(partition, visit);
                        pace.keep(visit).await;
                    }
                    // Gone since it was listed.
                    Err(Error::Erased | Error::ThreadNotFound) => progress.note(partition, Visit::default()),
                    // What is damaged, or written to without a pause, holds up nothing else.
                    Err(error @ (Error::Corrupt { .. } | Error::Busy)) => {
                        tracing::error!(event = "encryption.sealing_failed", ?partition, %error);
                        progress.note(partition, Visit::default());
                        progress.failed += 1;
                    }
                    Err(error) => return Err(error),
                }
            }
            let epoch = progress.epoch;
            if !self.save_run(run).await? || crypt.keyring.current_epoch().is_some_and(|now| now.number != epoch) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Nothing was left out: what remains is the store's own secret, and to retire what is not needed any more. False if
    /// the job is to start over.
    async fn finish(&self, run: &mut Run) -> Result<bool, Error> {
        let JobProgress { epoch, threads, users, values, keys, failed, .. } = run.progress;
        if values > 0 || !self.is_all_sealed() {
            // Files still hold what was plain, sealed by whomever and in whichever run. Before it is said that all is
            // sealed, because from then on an erasure has only keys to remove.
            self.note_erasure(self.next_timestamp()?, true).await?;
        }
        if failed == 0 {
            self.check_all_seal_with(epoch).await?;
            self.reseal_secret(true).await?;
            self.retire_epochs_before(epoch).await?;
        }
        run.progress.finished = self.0.clock.now();
        if !self.save_run(run).await? {
            return Ok(false);
        }
        tracing::info!(target: "audit", event = "encryption.sealed", epoch, threads, users, values, keys, failed);
        Ok(true)
    }

    /// Seals a thread's rows with a new key, and removes its older ones.
    pub async fn reencrypt_thread(&self, thread: ThreadId) -> Result<Visit, Error> {
        let crypt = self.crypt().ok_or(Error::EncryptionDisabled)?.clone();
        // A visit that does not come to its end is made good by the job, which then starts over.
        self.forget_run().await?;
        self.begin_generation(thread, false).await?;
        let visit = self.visit(&crypt, Partition::Thread(thread)).await?;
        self.want_sealing();
        tracing::info!(target: "audit", event = "encryption.thread_reencrypted", thread = %thread, values = visit.values);
        Ok(visit)
    }

    async fn visit(&self, crypt: &Crypt, partition: Partition) -> Result<Visit, Error> {
        match partition {
            Partition::Thread(thread) => self.visit_thread(crypt, thread).await,
            Partition::User(user) => self.visit_user(crypt, user).await,
            _ => Ok(Visit::default()),
        }
    }

    async fn visit_thread(&self, crypt: &Crypt, thread: ThreadId) -> Result<Visit, Error> {
        let mut values = 0;
        loop {
            let Some(read) = self.head(thread).await? else { return Ok(Visit::default()) };
            if read.head.generation == 0 {
                self.begin_generation(thread, true).await?;
                continue;
            }
            if read.head.oldest == read.head.generation {
                break;
            }
            let place = Key::Thread(thread, ThreadRow::DataKey(read.head.generation));
            if self.0.store.get(&place).await?.is_none() {
                // Erased, and about to go.
                return Ok(Visit::default());
            }
            let seal = self.known_seal(place).await?;
            let Sealed { rows, overtaken } = self.seal_rows(KeyRange::thread_without_head(thread), &seal, None).await?;
            values += rows;
            // Another visit may have sealed those with an older key, which must not go before they are sealed anew.
            if overtaken == 0 {
                // Those of earlier walks count as well: the head must not say that its key sealed fewer than it did.
                self.finish_thread(thread, read.head.generation, values).await?;
            }
        }
        Ok(Visit { values, keys: self.rewrap_keys(crypt, Partition::Thread(thread)).await? })
    }

    /// Gives the thread a new key; `first` only if it has none.
    pub(super) async fn begin_generation(&self, thread: ThreadId, first: bool) -> Result<(), Error> {
        let edited = self.edit_thread(thread, |mut draft| async move {
            if first && draft.before().generation != 0 {
                return Ok(Edited::Unchanged(()));
            }
            draft.renew_key().await?;
            Ok(Edited::Changed(draft, ()))
        });
        edited.await?.ok_or(Error::ThreadNotFound)
    }

    /// Declares that no row is older than the key, and removes the older ones; nothing if a newer key came between.
    async fn finish_thread(&self, thread: ThreadId, generation: u32, sealed: u64) -> Result<(), Error> {
        let is_older = |place: &Key| matches!(place, Key::Thread(_, ThreadRow::DataKey(older)) if *older < generation);
        let keys = walk::data_keys(&self.0.store, Partition::Thread(thread)).await?;
        // Before the edit: a thread that is written to would have another head by the time that the note is on disk.
        if keys.iter().any(|(place, _)| is_older(place)) {
            self.note_erasure(self.next_timestamp()?, false).await?;
        }
        let edited = self.edit_thread(thread, |mut draft| async move {
            if draft.before().generation != generation {
                return Ok(Edited::Unchanged(()));
            }
            draft.head.oldest = generation;
            draft.head.seals += sealed;
            for (place, _) in walk::data_keys(draft.store(), Partition::Thread(thread)).await? {
                if is_older(&place) {
                    draft.ops.push(Op::Delete(place));
                    draft.forgotten.push(place);
                }
            }
            Ok(Edited::Changed(draft, ()))
        });
        edited.await.map(|_| ())
    }

    async fn visit_user(&self, crypt: &Crypt, user: Hash16) -> Result<Visit, Error> {
        let profile = KeyRange::only(&Key::User(user, UserRow::Profile));
        let rows = [KeyRange::idempotency_of_user(user), profile, KeyRange::receipts_of_user(user)];
        let mut values = 0;
        for range in rows {
            let seal = self.seal_for_user(user).await?;
            values += self.seal_rows(range, &seal, Some(user)).await?.rows;
        }
        Ok(Visit { values, keys: self.rewrap_keys(crypt, Partition::User(user)).await? })
    }

    /// Seals the private rows of the range that are not sealed with this key yet. Those of a user are counted by the
    /// commits that seal them, those of a thread in its head.
    async fn seal_rows(&self, range: KeyRange, seal: &Seal, user: Option<Hash16>) -> Result<Sealed, Error> {
        let (mut sealed, mut walk) = (Sealed::default(), Rows::of(range, ROWS_A_PAGE));
        while let Some(rows) = walk.next_page(&self.0.store).await? {
            let mut commits = JoinSet::new();
            for Row { key, value } in rows {
                let key = decode_key(&key)?;
                // What is opaque is sealed anew if it was sealed, or it would be lost with its key.
                let sealed_with = seal::generation(&value);
                let concerned = key.is_private() || (key.is_reserved() && sealed_with.is_some());
                if !concerned || sealed_with == Some(seal.generation()) {
                    continue;
                }
                let opened = self.open_value(key, value.clone()).await?;
                let (db, new) = (self.clone(), seal.value(key, opened));
                let counted = user.into_iter().flat_map(|user| seal.count_for_user(user)).collect();
                commits.spawn(async move { db.replace_row(key, value, new, counted).await });
            }
            while let Some(outcome) = commits.join_next().await {
                match outcome.map_err(|_| Error::Stopped)?? {
                    true => sealed.rows += 1,
                    false => sealed.overtaken += 1,
                }
            }
        }
        Ok(sealed)
    }

    /// Wraps the data keys of a thread or a user under the newest epoch; how many that were.
    async fn rewrap_keys(&self, crypt: &Crypt, owner: Partition) -> Result<u64, Error> {
        let newest = crypt.keyring.current_epoch().map(|epoch| epoch.number);
        let mut rewrapped = 0;
        for (place, before) in walk::data_keys(&self.0.store, owner).await? {
            let mut found = Some(before);
            while let Some(before) = found.take() {
                let wrapped: WrappedKey = decode(place, &before)?;
                if wrapped.epoch() == newest {
                    break;
                }
                let anew = crypt.keyring.rewrap(place, &wrapped);
                let anew = anew.map_err(|_| Error::Corrupt { key: place.to_string() })?;
                let writing = self.begin_write();
                match self.replace_row(place, before, anew.encode(writing.format()), Vec::new()).await? {
                    true => rewrapped += 1,
                    // Another has wrapped it, perhaps under an epoch before the newest.
                    false => found = self.0.store.get(&place).await?,
                }
            }
        }
        Ok(rewrapped)
    }

    /// Replaces a row by itself, if it still is what it was.
    pub(super) async fn replace_row(
        &self,
        key: Key,
        before: Vec<u8>,
        after: Vec<u8>,
        secondary: Vec<SecondaryWrite>,
    ) -> Result<bool, Error> {
        let commit = Commit::replace(key, Some(before), after).with(secondary);
        Ok(self.commit(commit).await? == Settled::Committed)
    }

    async fn count_partition(&self, partition: Partition, epoch: u32) -> Result<Visit, Error> {
        let (mut visit, mut walk) = (Visit::default(), Rows::of(KeyRange::all(partition), COUNTED_A_PAGE));
        while let Some(rows) = walk.next_page(&self.0.store).await? {
            for Row { key, value } in &rows {
                let key = decode_key(key)?;
                if key.is_private() {
                    visit.values += u64::from(seal::generation(value).is_none());
                } else if matches!(key, Key::Thread(_, ThreadRow::DataKey(_)) | Key::User(_, UserRow::DataKey(_))) {
                    visit.keys += u64::from(decode::<WrappedKey>(key, value)?.epoch() != Some(epoch));
                }
            }
        }
        Ok(visit)
    }

    /// Seals the store secret under the newest epoch.
    pub(super) async fn reseal_secret(&self, strict: bool) -> Result<(), Error> {
        let crypt = self.crypt().ok_or(Error::EncryptionDisabled)?;
        super::open::seal_secret(&self.0.store, crypt, strict).await?;
        self.0.strict.store(strict, Ordering::Relaxed);
        Ok(())
    }

    /// The epochs that have a key, with when they began and which key of the KMS wrapped theirs.
    pub async fn epochs(&self) -> Result<Vec<(u32, u64, String)>, Error> {
        let epochs = list_epochs(&self.0.store).await?;
        let key_ids = |row: &crate::rows::EpochKey| {
            row.wraps.iter().map(|wrap| format!("{}:{}", wrap.provider, wrap.key_id)).collect::<Vec<_>>().join(" ")
        };
        Ok(epochs.into_iter().map(|(epoch, row, _)| (epoch, row.created, key_ids(&row))).collect())
    }
}
