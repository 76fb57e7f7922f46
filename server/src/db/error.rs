//! What can go wrong below the HTTP layer, by what the caller can do about it.

use std::time::Duration;

use super::EpochError;
use crate::clock::Held;
use crate::crypt::kms;
use crate::keys::{Key, ThreadRow};
use crate::model::ThreadId;
use crate::store;

/// The error of every operation of the database.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// No such thread, or one that the caller has nothing to do with: the two look the same from outside.
    #[error("not the thread's owner or participant")]
    AccessDenied,
    /// The thread was deleted; only said to those who could see it.
    #[error("thread not found")]
    ThreadNotFound,
    /// The message never was, or was deleted.
    #[error("message not found")]
    MessageNotFound,
    /// The key names a message of another thread.
    #[error("message not found in thread")]
    MessageNotInThread,
    /// `reply_to` names a message that the thread does not have.
    #[error("the message answered is not in this thread")]
    ParentNotFound,
    /// The object is at another revision than the caller demanded.
    #[error("at revision {current}")]
    PreconditionFailed {
        /// The revision that it is at.
        current: u64,
    },
    /// The idempotency key was used for another request.
    #[error("idempotency key already used for another request")]
    IdempotencyMismatch,
    /// Retention is off, so there is nothing that a purge could remove.
    #[error("retention is disabled")]
    RetentionDisabled,
    /// The machine's clock is so far ahead that nobody believes it.
    #[error("the clock jumped ahead by {} s", .0.ahead.as_secs())]
    ClockHeld(Held),
    /// The machine's clock was set; nothing is removed before it has stood for a minute.
    #[error("the clock was set less than a minute ago")]
    ClockSettling {
        /// Until it has.
        left: Duration,
    },
    /// The thread's key was destroyed.
    #[error("the thread was erased")]
    Erased,
    /// Encryption is off.
    #[error("encryption is disabled")]
    EncryptionDisabled,
    /// The KMS has been gone for longer than keys in memory may be used, or refused what was asked of it.
    #[error("the KMS is not available: {message}")]
    KmsUnavailable {
        /// The provider's message.
        message: String,
    },
    /// A row does not decode. Never skipped.
    #[error("row {key} is damaged")]
    Corrupt {
        /// The row, in its readable form.
        key: String,
    },
    /// A queue is full; the same request may succeed soon.
    #[error("too many writes are waiting")]
    Busy,
    /// Less disk is free than `storage.reserve`; nothing was written.
    #[error("disk almost full")]
    DiskFull,
    /// The store stopped taking writes for good; the process is about to exit.
    #[error("the store stopped")]
    Stopped,
    /// The storage engine does not answer, or not whether it did what it was asked.
    #[error("the store does not answer")]
    Unavailable,
    /// The write carries more than the storage engine takes at once; nothing was written.
    #[error("the write carries {bytes} bytes, and the storage engine takes {most}")]
    TooLarge {
        /// What it carries.
        bytes: usize,
        /// The most that it may.
        most: usize,
    },
    /// The storage engine cannot do this.
    #[error("the storage engine cannot do this")]
    Unsupported,
    /// The storage engine failed a read or a compaction.
    #[error("storage engine failed")]
    Store(#[source] store::Error),
}

impl From<store::Error> for Error {
    /// By what the caller can do about it: try again, free some disk, wait for the next start, or nothing.
    fn from(error: store::Error) -> Self {
        match error {
            store::Error::Busy => Self::Busy,
            store::Error::DiskFull => Self::DiskFull,
            store::Error::Stopped(_) => Self::Stopped,
            store::Error::Unavailable(_) | store::Error::Undecided(_) => Self::Unavailable,
            store::Error::TooLarge { bytes, most } => Self::TooLarge { bytes, most },
            store::Error::Unsupported => Self::Unsupported,
            other @ (store::Error::Read(_)
            | store::Error::Compaction(_)
            | store::Error::Contradiction
            | store::Error::Checkpoint(_)) => Self::Store(other),
        }
    }
}

impl From<kms::Error> for Error {
    fn from(error: kms::Error) -> Self {
        Self::KmsUnavailable { message: error.to_string() }
    }
}

impl From<EpochError> for Error {
    fn from(error: EpochError) -> Self {
        match error {
            EpochError::Kms { error, .. } => error.into(),
            EpochError::Store(error) => error,
            other => Self::KmsUnavailable { message: other.to_string() },
        }
    }
}

impl Error {
    pub(super) fn kms_gone(health: kms::Health) -> Self {
        Self::KmsUnavailable { message: health.failure.unwrap_or_else(|| "it was never reached".to_owned()) }
    }

    /// A thread that says it is sealed, in a store that has no keys.
    pub(super) fn sealed_without_keys(thread: ThreadId) -> Self {
        Self::Corrupt { key: Key::Thread(thread, ThreadRow::Head).to_string() }
    }
}
