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

/// An idempotency key under the name by which its record is found, and the request that it stands for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Token {
    pub(super) name: Hash16,
    request: [u8; 32],
}

impl Token {
    /// The record of a write at `ts`.
    pub(super) fn record(
        &self,
        thread: ThreadId,
        message: Option<MessageId>,
        revision: u64,
        ts: u64,
    ) -> rows::Idempotency {
        rows::Idempotency { request: self.request, expires: ts + KEPT_NS, thread, message, revision }
    }
}

impl Db {
    /// Hashes the key, which happens once for each request. No user id contains a zero byte, so no user's key is
    /// another's.
    pub(super) fn token(&self, caller: &Caller, idempotency: Option<&Idempotency>) -> Option<Token> {
        idempotency.map(|Idempotency { key, request }| {
            let name = self.hash(&[b"\0", caller.user.as_str().as_bytes(), b"\0", key.as_bytes()]);
            Token { name, request: *request }
        })
    }

    /// The record that was found, if it is still in force. An error if it is of another request.
    pub(super) fn check_record(
        &self,
        record: Option<rows::Idempotency>,
        token: &Token,
    ) -> Result<Option<rows::Idempotency>, Error> {
        match record.filter(|record| !self.has_run_out(record.expires)) {
            Some(record) if record.request != token.request => Err(Error::IdempotencyMismatch),
            record => Ok(record),
        }
    }

    /// An answer that is kept until `expires` is not in force any more.
    pub(super) fn has_run_out(&self, expires: u64) -> bool {
        self.0.clock.is_over(expires.saturating_sub(KEPT_NS), KEPT)
    }
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
