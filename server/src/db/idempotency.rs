//! Idempotency: a repeated request gives the first answer again and changes nothing.
//!
//! The record is part of the commit that it answers for, so after a crash there are both or neither. It is kept for
//! [`KEPT`]; an older one counts as absent, and retention removes it.

use std::time::Duration;

use super::{Caller, Db, Error, Idempotency};
use crate::keys::{ExpiryKind, Hash16, Key};
use crate::model::{MessageId, ThreadId};
use crate::rows::{self, Row};
use crate::store::SecondaryWrite;

/// How long an answer is kept.
pub(super) const KEPT: Duration = Duration::from_hours(24);
pub(super) const KEPT_NS: u64 = KEPT.as_nanos() as u64;

impl Db {
    /// The name of the record. No user id contains a zero byte, so no user's key is another's.
    pub(super) fn hash_idempotency(&self, caller: &Caller, idempotency: &Idempotency) -> Hash16 {
        self.hash(&[b"\0", caller.user.as_str().as_bytes(), b"\0", idempotency.key.as_bytes()])
    }

    /// The record, if it is still in force and of the same request.
    pub(super) fn check_record(
        &self,
        record: Option<rows::Idempotency>,
        idempotency: &Idempotency,
    ) -> Result<Option<rows::Idempotency>, Error> {
        match record {
            Some(record) if !self.has_run_out(&record) => {
                if record.request == idempotency.request {
                    Ok(Some(record))
                } else {
                    Err(Error::IdempotencyMismatch)
                }
            }
            _ => Ok(None),
        }
    }

    /// The record is not in force any more.
    pub(super) fn has_run_out(&self, record: &rows::Idempotency) -> bool {
        self.is_run_out(record.expires)
    }

    /// The same of any answer that is kept for as long.
    pub(super) fn is_run_out(&self, expires: u64) -> bool {
        self.0.clock.is_over(expires.saturating_sub(KEPT_NS), KEPT)
    }
}

/// The record of a write at `ts`.
pub(super) fn record(
    idempotency: &Idempotency,
    thread: ThreadId,
    message: Option<MessageId>,
    revision: u64,
    ts: u64,
) -> rows::Idempotency {
    rows::Idempotency { request: idempotency.request, expires: ts + KEPT_NS, thread, message, revision }
}

/// Files a record of a thread for removal.
pub(super) fn expire_in_thread(format: u32, thread: ThreadId, ts: u64, name: Hash16) -> SecondaryWrite {
    let key = Key::Expiry { due: ts, thread, kind: ExpiryKind::ThreadIdempotency };
    SecondaryWrite::Put(key, rows::Names(vec![name]).encode(format))
}

/// Where the record of a thread's creation is filed.
pub(super) fn creation_entry(thread: ThreadId) -> Key {
    Key::Expiry { due: thread.0, thread, kind: ExpiryKind::UserIdempotency }
}

/// Files a record of a user for removal.
pub(super) fn expire_of_user(format: u32, user: Hash16, thread: ThreadId, name: Hash16) -> SecondaryWrite {
    SecondaryWrite::Put(creation_entry(thread), rows::Names(vec![user, name]).encode(format))
}
