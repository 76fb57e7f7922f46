//! Rows as JSON, for administrators.

use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::db::{AdminRow, MessageFields};

/// The row called `name` as JSON. What was not opened is `null`; the store's secret is never shown.
pub(super) fn show(name: &str, row: &AdminRow) -> Value {
    let mut shown = match row {
        AdminRow::Head(head) => json!({
            "revision": head.revision, "owner": head.owner.to_string(), "updated_ts": head.updated,
            "last_message_ts": head.last_message, "next_sequence": head.next_seq, "messages": head.live,
            "deleted_ts": head.deleted, "key_generation": head.generation, "oldest_key_generation": head.oldest,
            "seals": head.seals,
        }),
        AdminRow::Owner { since, user } => {
            json!({ "role": "owner", "since_ts": since, "user": user.as_ref().map(|user| user.as_str()) })
        }
        AdminRow::Thread { revision, open } => {
            let written = open.as_ref().map(|(author, content)| {
                let metadata = content.metadata.as_deref().map(opened);
                json!({
                    "author": author.as_str(), "title": content.title, "slug": content.slug, "metadata": metadata,
                })
            });
            json!({ "revision": revision, "open": written })
        }
        AdminRow::Message(message) => show_message(message),
        AdminRow::DeletedMessage { deleted, message } => {
            let mut shown = show_message(message);
            shown["deleted_ts"] = json!(deleted);
            shown
        }
        AdminRow::DataKey { key_id, epoch } => json!({ "key_id": key_id, "epoch": epoch }),
        AdminRow::Idempotency(record) => json!({
            "request": hex::encode(record.request), "expires_ts": record.expires, "thread": record.thread.to_string(),
            "message": record.message.map(|id| json!({ "ts": id.ts, "seq": id.seq })), "revision": record.revision,
        }),
        AdminRow::Receipt(receipt) => json!({
            "request": hex::encode(receipt.request), "expires_ts": receipt.expires,
            "thread": receipt.thread.to_string(), "erased_ts": receipt.erased, "horizon_ts": receipt.horizon,
            "key_ids": receipt.key_ids, "checkpoints": receipt.checkpoints,
        }),
        AdminRow::Profile { since, user } => {
            json!({ "since_ts": since, "user": user.as_ref().map(|user| user.as_str()) })
        }
        AdminRow::Present => json!({}),
        AdminRow::Opaque { bytes } => json!({ "opaque_bytes": bytes }),
        AdminRow::Counter(value) => json!({ "value": value }),
        AdminRow::Number(value) => json!({ "value": value }),
        AdminRow::ExpiringMessage(id) => json!({ "message": { "ts": id.ts, "seq": id.seq } }),
        AdminRow::ExpiringNames(names) => {
            json!({ "names": names.iter().map(ToString::to_string).collect::<Vec<_>>() })
        }
        AdminRow::Epoch { created, wrapped_by } => {
            let wraps = wrapped_by.iter();
            let wraps = wraps.map(|(provider, key_id)| json!({ "provider": provider.as_str(), "key_id": key_id }));
            json!({ "created_ts": created, "wrapped_by": wraps.collect::<Vec<_>>() })
        }
        AdminRow::Format(format) => json!({
            "format": format.format, "incarnation": format.incarnation.to_string(), "created_ts": format.created,
            "database_id": hex::encode(format.database_id),
        }),
        AdminRow::Secret => json!({ "value": "hidden" }),
        AdminRow::Sealing(job) => json!({
            "epoch": job.epoch, "started_ts": job.started, "finished_ts": job.finished, "threads": job.threads,
            "users": job.users, "values": job.values, "keys": job.keys, "failed": job.failed,
        }),
        AdminRow::Erasures(erasures) => {
            json!({ "oldest_ts": erasures.oldest, "latest_ts": erasures.latest, "plain": erasures.plain })
        }
        AdminRow::Migration(run) => json!({
            "to": run.to, "finalizes": run.finalizes, "begun_by": run.version, "started_ts": run.started,
            "finished_ts": run.finished, "rows": run.rows, "changed": run.changed,
        }),
    };
    shown["key"] = json!(name);
    shown
}

fn show_message(message: &MessageFields) -> Value {
    let written = message.open.as_ref().map(|(author, content)| {
        let metadata = content.metadata.as_deref().map(opened);
        json!({
            "author": author.as_str(), "body": opened(&content.body), "role": content.role, "metadata": metadata,
        })
    });
    json!({ "revision": message.revision, "updated_ts": message.updated, "open": written })
}

/// JSON that a user wrote; a number that does not fit in 64 bits is shown as its text.
fn opened(json: &RawValue) -> Value {
    serde_json::from_str(json.get()).unwrap_or_else(|_| Value::String(json.get().to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{MessageContent, UserId};

    fn raw(text: &str) -> Box<RawValue> {
        RawValue::from_string(text.to_owned()).expect("valid JSON")
    }

    #[test]
    fn a_message_is_shown_with_what_was_opened() {
        let content =
            MessageContent { body: raw("1e400"), role: None, reply_to: None, metadata: Some(raw("{\"a\":1}")) };
        let author = UserId::parse("ann").expect("a user id");
        let message = MessageFields { revision: 2, updated: 7, open: Some((author, content)) };
        let closed = MessageFields { open: None, ..message.clone() };
        assert_eq!(
            show("n", &AdminRow::DeletedMessage { deleted: 9, message }).to_string(),
            r#"{"deleted_ts":9,"key":"n","open":{"author":"ann","body":"1e400","metadata":{"a":1},"role":null},"revision":2,"updated_ts":7}"#
        );
        assert_eq!(
            show("n", &AdminRow::Message(closed)).to_string(),
            r#"{"key":"n","open":null,"revision":2,"updated_ts":7}"#
        );
    }

    #[test]
    fn the_secret_is_hidden() {
        assert_eq!(show("s:secret", &AdminRow::Secret).to_string(), r#"{"key":"s:secret","value":"hidden"}"#);
    }
}
