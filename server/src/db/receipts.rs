//! Receipts of erasures that carried an idempotency key: kept in the user's partition, because the thread's goes.
//!
//! The receipt is a secondary write of the commit that erases, so it is there no later than that. A receipt whose thread is still
//! there is one of an erasure that was interrupted: nobody was answered, and a repetition goes through with it. It runs
//! out like every idempotency record, and is named by user, key and thread.

use tokio::sync::{Mutex, MutexGuard};

use super::edit::{Settled, repeat};
use super::idempotency::{self, KEPT_NS};
use super::{Caller, Db, Error, Receipt, WriteOptions, decode};
use crate::keys::{ExpiryKind, Hash16, Key, ThreadRow, UserRow};
use crate::model::ThreadId;
use crate::rows::{self, Idempotency, Names, ReceiptRow, Row as _};
use crate::store::{Commit, SecondaryWrite};

const SHARDS: usize = 64;

/// Erasures of one thread happen one after the other, so that a repetition waits for the first answer.
pub(super) struct Turns([Mutex<()>; SHARDS]);

impl Default for Turns {
    fn default() -> Self {
        Self(std::array::from_fn(|_| Mutex::default()))
    }
}

impl Turns {
    pub(super) async fn turn(&self, thread: ThreadId) -> MutexGuard<'_, ()> {
        let shard = usize::try_from(thread.0 % SHARDS as u64).expect("a small number");
        self.0[shard].lock().await
    }
}

/// An erasure as it was asked for.
pub(super) struct Request {
    pub(super) thread: ThreadId,
    pub(super) user: Hash16,
    pub(super) options: WriteOptions,
    /// The name of its receipt, if that is to be kept.
    receipt: Option<Hash16>,
    /// The name under which the thread would know another write with the same idempotency key.
    other: Option<Hash16>,
}

impl Request {
    pub(super) fn new(db: &Db, caller: &Caller, thread: ThreadId, options: WriteOptions) -> Self {
        let key = options.idempotency.as_ref();
        let receipt = key.map(|wanted| {
            let (user, key) = (caller.user.as_str().as_bytes(), wanted.key.as_bytes());
            db.hash(&[b"\0", user, b"\0", key, b"\0", &thread.0.to_be_bytes()])
        });
        let other = db.token(caller, key).map(|token| token.name);
        Self { thread, user: db.hash_user(&caller.user), options, receipt, other }
    }
}

impl Db {
    /// The receipt of the same request, if it was made before.
    pub(super) async fn known_receipt(&self, request: &Request) -> Result<Option<Receipt>, Error> {
        let (Some(name), Some(wanted)) = (request.receipt, &request.options.idempotency) else { return Ok(None) };
        let row = self.row::<ReceiptRow>(Key::User(request.user, UserRow::Receipt(name))).await?;
        match row.filter(|row| !self.has_run_out(row.expires)) {
            Some(row) if row.request != wanted.request => Err(Error::IdempotencyMismatch),
            Some(ReceiptRow { thread, erased, horizon, key_ids, checkpoints, .. }) => {
                Ok(Some(Receipt { thread, key_ids, erased, horizon, checkpoints }))
            }
            None => Ok(None),
        }
    }

    /// An error if the idempotency key stands for another write to the thread.
    pub(super) async fn check_key_is_free(&self, request: &Request) -> Result<(), Error> {
        let Some(name) = request.other else { return Ok(()) };
        let record = self.row::<rows::Idempotency>(Key::Thread(request.thread, ThreadRow::Idempotency(name))).await;
        match record {
            Ok(Some(record)) if !self.has_run_out(record.expires) => Err(Error::IdempotencyMismatch),
            // Its keys went with those of the thread.
            Ok(_) | Err(Error::Erased) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// What the commit that erases has to carry for the receipt to be kept.
    pub(super) async fn keep_receipt(
        &self,
        request: &Request,
        receipt: &Receipt,
        format: u32,
    ) -> Result<Vec<SecondaryWrite>, Error> {
        let (Some(name), Some(wanted)) = (request.receipt, &request.options.idempotency) else {
            return Ok(Vec::new());
        };
        let Receipt { thread, key_ids, erased, horizon, checkpoints } = receipt.clone();
        let expires = erased + KEPT_NS;
        let row = ReceiptRow { request: wanted.request, expires, thread, erased, horizon, key_ids, checkpoints };
        let key = Key::User(request.user, UserRow::Receipt(name));
        let seal = self.seal_for_user(request.user).await?;
        let entry = Key::Expiry { due: erased, thread, kind: ExpiryKind::Receipt };
        let secondary = [
            SecondaryWrite::Put(key, seal.value(key, row.encode(format))),
            SecondaryWrite::Put(entry, Names(vec![request.user, name]).encode(format)),
        ];
        Ok(seal.count_for_user(request.user).chain(secondary).collect())
    }

    /// The commit that removes a receipt that ran out; none if there is none.
    pub(super) async fn purge_receipt(&self, names: &Names) -> Result<Option<Commit>, Error> {
        let [user, name] = *names.0.as_slice() else { return Ok(None) };
        let key = Key::User(user, UserRow::Receipt(name));
        let Some(bytes) = self.0.store.get(&key).await? else { return Ok(None) };
        let row: ReceiptRow = decode(key, &self.open_value(key, bytes.clone()).await?)?;
        Ok(self.has_run_out(row.expires).then(|| Commit::remove(key, bytes)))
    }

    /// Marks the record of the thread's creation, if that may still be repeated: a repetition must not bring a thread
    /// back that was removed for good.
    pub(super) async fn close_creation(&self, thread: ThreadId) -> Result<(), Error> {
        let entry = idempotency::creation_entry(thread);
        let Some(Names(names)) = self.row(entry).await? else { return Ok(()) };
        let [user, name] = *names.as_slice() else { return Ok(()) };
        let key = Key::User(user, UserRow::Idempotency(name));
        repeat(|| async {
            let Some(before) = self.0.store.get(&key).await? else { return Ok(Some(())) };
            let record: Idempotency = decode(key, &self.open_value(key, before.clone()).await?)?;
            if record.thread != thread || record.revision == 0 || self.has_run_out(record.expires) {
                return Ok(Some(()));
            }
            let (seal, writing) = (self.seal_for_user(user).await?, self.begin_write());
            let marked = Idempotency { revision: 0, ..record };
            let commit = Commit::replace(key, Some(before), seal.value(key, marked.encode(writing.format())))
                .with(seal.count_for_user(user));
            Ok((self.commit(commit).await? == Settled::Committed).then_some(()))
        })
        .await
    }
}
