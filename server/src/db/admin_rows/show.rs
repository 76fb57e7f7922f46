//! One row as JSON. What users wrote is left out unless it is to be opened; the store's secret is never shown.

use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::crypt::keyring::WrappedKey;
use crate::db::{Error, decode};
use crate::keys::{Key, StoreRow, ThreadRow, UserRow};
use crate::rows::{
    CounterValue, DeletedMessage, EpochKey, Erasures, Format, Head, Idempotency, JobProgress, MessageName, MessageRow,
    Names, Number, Participant, Profile, ReceiptRow, ThreadObject,
};

/// JSON that a user wrote; what does not fit the numbers of this language is shown as its text.
fn opened(json: &RawValue) -> Value {
    serde_json::from_str(json.get()).unwrap_or_else(|_| Value::String(json.get().to_owned()))
}

/// The row as JSON, under its name.
pub(super) fn show(key: Key, value: &[u8], open: bool) -> Result<Value, Error> {
    let mut shown = match key {
        Key::Thread(_, row) => show_thread_row(key, row, value, open)?,
        Key::User(_, row) => show_user_row(key, row, value, open)?,
        Key::Expiry { .. } => match decode::<MessageName>(key, value) {
            Ok(name) => json!({ "message": { "ts": name.0.ts, "seq": name.0.seq } }),
            Err(_) => {
                let names = decode::<Names>(key, value)?.0;
                json!({ "names": names.iter().map(ToString::to_string).collect::<Vec<_>>() })
            }
        },
        Key::Epoch(_) => {
            let epoch: EpochKey = decode(key, value)?;
            let wraps =
                epoch.wraps.iter().map(|wrap| json!({ "provider": wrap.provider.as_str(), "key_id": wrap.key_id }));
            json!({ "created_ts": epoch.created, "wrapped_by": wraps.collect::<Vec<_>>() })
        }
        Key::Store(row) => show_store_row(key, row, value)?,
    };
    shown["key"] = json!(key.to_string());
    Ok(shown)
}

fn show_thread_row(key: Key, row: ThreadRow, value: &[u8], open: bool) -> Result<Value, Error> {
    let shown = match row {
        ThreadRow::Head => {
            let head: Head = decode(key, value)?;
            json!({
                "revision": head.revision, "owner": head.owner.to_string(), "updated_ts": head.updated,
                "last_message_ts": head.last_message, "next_sequence": head.next_seq, "messages": head.live,
                "deleted_ts": head.deleted, "key_generation": head.generation, "oldest_key_generation": head.oldest,
                "seals": head.seals,
            })
        }
        ThreadRow::Participant(_) => {
            let participant: Participant = decode(key, value)?;
            let user = open.then(|| participant.user.as_str().to_owned());
            json!({ "role": "owner", "since_ts": participant.since, "user": user })
        }
        ThreadRow::Idempotency(_) => show_idempotency(&decode(key, value)?),
        ThreadRow::Object => {
            let object: ThreadObject = decode(key, value)?;
            let content = &object.content;
            let written = open.then(|| {
                let metadata = content.metadata.as_deref().map(opened);
                let author = object.author.as_str();
                json!({ "author": author, "title": content.title, "slug": content.slug, "metadata": metadata })
            });
            json!({ "revision": object.revision, "open": written })
        }
        ThreadRow::DataKey(_) => show_data_key(&decode(key, value)?),
        ThreadRow::Message(_) | ThreadRow::Version(..) => show_message(&decode(key, value)?, open),
        ThreadRow::Deleted(_) => {
            let deleted: DeletedMessage = decode(key, value)?;
            let mut shown = show_message(&deleted.message, open);
            shown["deleted_ts"] = json!(deleted.deleted);
            shown
        }
    };
    Ok(shown)
}

/// Which key it is, never the wrapped bytes.
fn show_data_key(key: &WrappedKey) -> Value {
    json!({ "key_id": key.commitment.key_id(), "epoch": key.epoch() })
}

fn show_message(row: &MessageRow, open: bool) -> Value {
    let content = &row.content;
    let written = open.then(|| {
        let metadata = content.metadata.as_deref().map(opened);
        json!({ "author": row.author.as_str(), "body": opened(&content.body), "role": content.role, "metadata": metadata })
    });
    json!({ "revision": row.revision, "updated_ts": row.updated, "open": written })
}

fn show_idempotency(record: &Idempotency) -> Value {
    let message = record.message.map(|id| json!({ "ts": id.ts, "seq": id.seq }));
    json!({
        "request": hex::encode(record.request), "expires_ts": record.expires, "thread": record.thread.to_string(),
        "message": message, "revision": record.revision,
    })
}

fn show_user_row(key: Key, row: UserRow, value: &[u8], open: bool) -> Result<Value, Error> {
    let shown = match row {
        UserRow::DataKey(_) => show_data_key(&decode(key, value)?),
        UserRow::LiveThreads | UserRow::Seals => json!({ "value": decode::<CounterValue>(key, value)?.0 }),
        UserRow::Created(_) | UserRow::Active { .. } | UserRow::Wrote(_) => json!({}),
        UserRow::Idempotency(_) => show_idempotency(&decode(key, value)?),
        UserRow::Receipt(_) => {
            let row: ReceiptRow = decode(key, value)?;
            json!({
                "request": hex::encode(row.request), "expires_ts": row.expires, "thread": row.thread.to_string(),
                "erased_ts": row.erased, "horizon_ts": row.horizon, "key_ids": row.key_ids,
                "checkpoints": row.checkpoints,
            })
        }
        UserRow::Profile => {
            let profile: Profile = decode(key, value)?;
            json!({ "since_ts": profile.since, "user": open.then(|| profile.user.as_str().to_owned()) })
        }
    };
    Ok(shown)
}

fn show_store_row(key: Key, row: StoreRow, value: &[u8]) -> Result<Value, Error> {
    let shown = match row {
        StoreRow::Format => {
            let format: Format = decode(key, value)?;
            json!({
                "format": format.format, "incarnation": format.incarnation, "created_ts": format.created,
                "database_id": hex::encode(format.database_id),
            })
        }
        StoreRow::Counter(_) => json!({ "value": decode::<CounterValue>(key, value)?.0 }),
        StoreRow::HighestTime => json!({ "value": decode::<Number>(key, value)?.0 }),
        // Whoever knows it can tell whose hash a hash is.
        StoreRow::Secret => json!({ "value": "hidden" }),
        StoreRow::Sealing => show_job(&decode(key, value)?),
        StoreRow::Erasures => {
            let erasures: Erasures = decode(key, value)?;
            json!({ "oldest_ts": erasures.oldest, "latest_ts": erasures.latest, "plain": erasures.plain })
        }
    };
    Ok(shown)
}

fn show_job(job: &JobProgress) -> Value {
    json!({
        "epoch": job.epoch, "started_ts": job.started, "finished_ts": job.finished, "threads": job.threads,
        "users": job.users, "values": job.values, "keys": job.keys, "failed": job.failed,
    })
}
