//! One row, decoded for the administrator. What users wrote is left out unless it is to be opened, and so is what opens
//! or identifies something: wrapped keys and the store's secret.

use crate::db::{Error, decode};
use crate::keys::{Hash16, Key, StoreRow, ThreadRow, UserRow};
use crate::model::{MessageContent, MessageId, ProviderKind, ThreadContent, UserId, WrappedKey};
use crate::rows::{
    CounterValue, DeletedMessage, EpochKey, Erasures, Format, Head, Idempotency, JobProgress, MessageName, MessageRow,
    MigrationProgress, Names, Number, Participant, Profile, ReceiptRow, ThreadObject,
};

/// A row by its kind. A field in an `Option` called `open` or `user` is there only if the row was to be opened.
#[derive(Clone, Debug)]
pub enum AdminRow {
    /// Counts and times of a thread.
    Head(Head),
    /// The owner of a thread.
    Owner {
        /// Unix nanoseconds since when.
        since: u64,
        /// Who.
        user: Option<UserId>,
    },
    /// What a user wrote about a thread.
    Thread {
        /// One more with every change.
        revision: u64,
        /// The author and what they wrote.
        open: Option<(UserId, ThreadContent)>,
    },
    /// A message, live or in an earlier version.
    Message(MessageFields),
    /// A message that was deleted.
    DeletedMessage {
        /// Unix nanoseconds of the deletion.
        deleted: u64,
        /// What it was.
        message: MessageFields,
    },
    /// Which data key it is.
    DataKey {
        /// Its name in receipts and logs.
        key_id: String,
        /// The epoch under which it is wrapped; none if its bytes are damaged.
        epoch: Option<u32>,
    },
    /// The answer to a write that carried an idempotency key.
    Idempotency(Idempotency),
    /// The receipt of an erasure.
    Receipt(ReceiptRow),
    /// A user.
    Profile {
        /// Unix nanoseconds of the first write.
        since: u64,
        /// Who.
        user: Option<UserId>,
    },
    /// A row that says all by being there.
    Present,
    /// What a newer version wrote.
    Opaque {
        /// Its length.
        bytes: usize,
    },
    /// A counter.
    Counter(i64),
    /// A plain number.
    Number(u64),
    /// The message that expires.
    ExpiringMessage(MessageId),
    /// The names of the row that expires.
    ExpiringNames(Vec<Hash16>),
    /// The key of an epoch.
    Epoch {
        /// Unix nanoseconds.
        created: u64,
        /// Provider and key id of each wrap.
        wrapped_by: Vec<(ProviderKind, String)>,
    },
    /// The identity of the store.
    Format(Format),
    /// The store secret: whoever knows it can tell whose hash a hash is.
    Secret,
    /// How far the sealing job has come.
    Sealing(JobProgress),
    /// Erasures that wait for a compaction.
    Erasures(Erasures),
    /// How far a migration has come.
    Migration(MigrationProgress),
}

/// A message in a row.
#[derive(Clone, Debug)]
pub struct MessageFields {
    /// 1 when created, one more with every edit.
    pub revision: u64,
    /// Unix nanoseconds when this revision was written.
    pub updated: u64,
    /// The author and what they wrote.
    pub open: Option<(UserId, MessageContent)>,
}

/// The value of a row, decoded; with what users wrote if it is to be opened.
pub(super) fn show(key: Key, value: &[u8], open: bool) -> Result<AdminRow, Error> {
    match key {
        Key::Thread(_, row) => show_thread_row(key, row, value, open),
        Key::User(_, row) => show_user_row(key, row, value, open),
        Key::Expiry { .. } => Ok(match decode::<MessageName>(key, value) {
            Ok(name) => AdminRow::ExpiringMessage(name.0),
            Err(_) => AdminRow::ExpiringNames(decode::<Names>(key, value)?.0),
        }),
        Key::Epoch(_) => {
            let EpochKey { created, wraps, .. } = decode(key, value)?;
            let wrapped_by = wraps.into_iter().map(|wrap| (wrap.provider, wrap.key_id)).collect();
            Ok(AdminRow::Epoch { created, wrapped_by })
        }
        Key::Store(row) => show_store_row(key, row, value),
    }
}

fn show_thread_row(key: Key, row: ThreadRow, value: &[u8], open: bool) -> Result<AdminRow, Error> {
    Ok(match row {
        ThreadRow::ReadMarker(_) | ThreadRow::Reaction(..) | ThreadRow::Reply(..) | ThreadRow::Change(_) => {
            AdminRow::Opaque { bytes: value.len() }
        }
        ThreadRow::Head => AdminRow::Head(decode(key, value)?),
        ThreadRow::Participant(_) => {
            let Participant { since, user, .. } = decode(key, value)?;
            AdminRow::Owner { since, user: open.then_some(user) }
        }
        ThreadRow::Idempotency(_) => AdminRow::Idempotency(decode(key, value)?),
        ThreadRow::Object => {
            let ThreadObject { revision, author, content } = decode(key, value)?;
            AdminRow::Thread { revision, open: open.then_some((author, content)) }
        }
        ThreadRow::DataKey(_) => show_data_key(&decode(key, value)?),
        ThreadRow::Message(_) | ThreadRow::Version(..) => AdminRow::Message(show_message(decode(key, value)?, open)),
        ThreadRow::Deleted(_) => {
            let DeletedMessage { deleted, message } = decode(key, value)?;
            AdminRow::DeletedMessage { deleted, message: show_message(message, open) }
        }
    })
}

fn show_data_key(key: &WrappedKey) -> AdminRow {
    AdminRow::DataKey { key_id: key.commitment.key_id(), epoch: key.epoch() }
}

fn show_message(row: MessageRow, open: bool) -> MessageFields {
    let MessageRow { revision, updated, author, content } = row;
    MessageFields { revision, updated, open: open.then_some((author, content)) }
}

fn show_user_row(key: Key, row: UserRow, value: &[u8], open: bool) -> Result<AdminRow, Error> {
    Ok(match row {
        UserRow::DataKey(_) => show_data_key(&decode(key, value)?),
        UserRow::LiveThreads | UserRow::Seals => AdminRow::Counter(decode::<CounterValue>(key, value)?.0),
        UserRow::Created(_) | UserRow::Active { .. } | UserRow::Wrote(_) => AdminRow::Present,
        UserRow::Idempotency(_) => AdminRow::Idempotency(decode(key, value)?),
        UserRow::Receipt(_) => AdminRow::Receipt(decode(key, value)?),
        UserRow::Profile => {
            let Profile { since, user } = decode(key, value)?;
            AdminRow::Profile { since, user: open.then_some(user) }
        }
    })
}

fn show_store_row(key: Key, row: StoreRow, value: &[u8]) -> Result<AdminRow, Error> {
    Ok(match row {
        StoreRow::Format => AdminRow::Format(decode(key, value)?),
        StoreRow::Counter(_) => AdminRow::Counter(decode::<CounterValue>(key, value)?.0),
        StoreRow::HighestTime => AdminRow::Number(decode::<Number>(key, value)?.0),
        StoreRow::Secret => AdminRow::Secret,
        StoreRow::Sealing => AdminRow::Sealing(decode(key, value)?),
        StoreRow::Erasures => AdminRow::Erasures(decode(key, value)?),
        StoreRow::Migration(_) => AdminRow::Migration(decode(key, value)?),
        // Nobody serves a store that has it.
        StoreRow::Import => AdminRow::Opaque { bytes: value.len() },
    })
}
