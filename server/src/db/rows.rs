//! The rows themselves, for the administrator: listed by readable name, shown as JSON.
//!
//! What users wrote is left out of a row unless the caller asks to open it.

use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::{Db, Error, decode, decode_key};
use crate::keys::{Key, KeyRange, PartitionKind, StoreRow, ThreadRow, UserRow};
use crate::model::Page;
use crate::rows::{
    CounterValue, DeletedMessage, Format, Head, Idempotency, MessageName, MessageRow, Names, Number, Participant,
    Profile, ThreadObject,
};
use crate::store::Direction;

/// Which rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RowStore {
    /// Those of threads.
    Main,
    /// All others.
    Index,
}

/// Which page of them. A cursor that names no row is an exclusive position if it is a well-formed name.
#[derive(Clone, Debug, Default)]
pub struct RowRequest {
    /// Rows whose names start with this.
    pub prefix: String,
    /// The rows just in front of this one, nearest first.
    pub before: Option<String>,
    /// The rows just behind this one.
    pub after: Option<String>,
    /// The rows on either side of this one, and itself.
    pub anchor: Option<String>,
    /// At most this many on a side.
    pub limit: usize,
}

/// How many rows one request may look at while it searches for a prefix.
const LOOKED_AT: usize = 10_000;

impl RowStore {
    /// Its kinds of partitions, in key order.
    fn kinds(self) -> &'static [PartitionKind] {
        match self {
            Self::Main => &[PartitionKind::Thread],
            Self::Index => &[PartitionKind::Store, PartitionKind::User, PartitionKind::Expiry],
        }
    }
}

impl Db {
    /// A page of row names in key order. A cursor that is no name of a row yields an empty page.
    pub async fn list_rows(&self, store: RowStore, request: RowRequest) -> Result<Page<String>, Error> {
        let parse = |text: &Option<String>| text.as_deref().map(str::parse::<Key>).transpose();
        let cursors = (parse(&request.before), parse(&request.after), parse(&request.anchor));
        let (Ok(before), Ok(after), Ok(anchor)) = cursors else { return Ok(empty()) };
        let walk = |from, direction| self.walk(store, from, direction, &request.prefix, request.limit + 1);
        let (mut front, mut behind, mut middle) = (Vec::new(), Vec::new(), None);
        let initial = before.is_none() && after.is_none() && anchor.is_none();
        if let Some(from) = before.or(anchor) {
            front = walk(Some(from), Direction::Descending).await?;
        } else if initial {
            front = walk(None, Direction::Descending).await?;
        }
        if let Some(from) = after.or(anchor) {
            behind = walk(Some(from), Direction::Ascending).await?;
        }
        if let Some(anchor) = anchor {
            let found = self.0.store.get(&anchor).await.map_err(Error::Store)?;
            middle = found.map(|_| anchor.to_string()).filter(|name| name.starts_with(&request.prefix));
        }
        let (more_front, more_behind) = (front.len() > request.limit, behind.len() > request.limit);
        front.truncate(request.limit);
        behind.truncate(request.limit);
        let has_before = more_front || (front.is_empty() && after.is_some() && !behind.is_empty());
        let has_after = more_behind || (behind.is_empty() && before.is_some() && !front.is_empty());
        if initial {
            front.reverse();
        }
        let items: Vec<String> = front.into_iter().chain(middle).chain(behind).collect();
        let total = self.0.store.estimated_rows().max(items.len() as u64);
        Ok(Page { items, has_before, has_after, total })
    }

    /// A row as JSON; none if there is no such row or the name is none.
    pub async fn get_row(&self, name: &str, open: bool) -> Result<Option<Value>, Error> {
        let Ok(key) = name.parse::<Key>() else { return Ok(None) };
        let value = self.0.store.get(&key).await.map_err(Error::Store)?;
        value.map(|value| show(key, &value, open)).transpose()
    }

    /// Names in one direction from `from`, which is left out, over all partitions of the store.
    async fn walk(
        &self,
        store: RowStore,
        from: Option<Key>,
        direction: Direction,
        prefix: &str,
        limit: usize,
    ) -> Result<Vec<String>, Error> {
        let mut kinds = store.kinds().to_vec();
        if direction == Direction::Descending {
            kinds.reverse();
        }
        let mut found = Vec::new();
        let mut looked_at = 0;
        if let Some(from) = from {
            let own = from.partition().kind();
            let Some(place) = kinds.iter().position(|kind| *kind == own) else { return Ok(found) };
            kinds.drain(..place);
            let (all, at) = (KeyRange::all(from.partition()), KeyRange::only(&from));
            let rest = if direction == Direction::Ascending { all.above(&at) } else { all.below(&at) };
            self.collect(rest, direction, prefix, limit, &mut found, &mut looked_at).await?;
        }
        let mut after = from.map(|key| key.partition());
        for kind in kinds {
            while found.len() < limit && looked_at < LOOKED_AT {
                let next = self.0.store.partitions(kind, after, direction, 1).await.map_err(Error::Store)?;
                let Some(partition) = next.first() else { break };
                after = Some(*partition);
                let all = KeyRange::all(*partition);
                self.collect(all, direction, prefix, limit, &mut found, &mut looked_at).await?;
            }
            after = None;
        }
        Ok(found)
    }

    async fn collect(
        &self,
        mut range: KeyRange,
        direction: Direction,
        prefix: &str,
        limit: usize,
        found: &mut Vec<String>,
        looked_at: &mut usize,
    ) -> Result<(), Error> {
        while found.len() < limit && *looked_at < LOOKED_AT {
            let rows = self.0.store.scan(range.clone(), direction, limit).await.map_err(Error::Store)?;
            let Some(last) = rows.last() else { return Ok(()) };
            let at = KeyRange { start: last.key.clone(), end: [last.key.as_slice(), &[0]].concat() };
            range = if direction == Direction::Ascending { range.above(&at) } else { range.below(&at) };
            *looked_at += rows.len();
            for row in &rows {
                let name = decode_key(&row.key)?.to_string();
                if name.starts_with(prefix) && found.len() < limit {
                    found.push(name);
                }
            }
        }
        Ok(())
    }
}

fn empty() -> Page<String> {
    Page { items: Vec::new(), has_before: false, has_after: false, total: 0 }
}

fn show(key: Key, value: &[u8], open: bool) -> Result<Value, Error> {
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
                "deleted_ts": head.deleted,
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
            let opened = open.then(|| {
                let metadata = content.metadata.as_deref().map(RawValue::get);
                let author = object.author.as_str();
                json!({ "author": author, "title": content.title, "slug": content.slug, "metadata": metadata })
            });
            json!({ "revision": object.revision, "open": opened })
        }
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

fn show_message(row: &MessageRow, open: bool) -> Value {
    let content = &row.content;
    let opened = open.then(|| {
        let metadata = content.metadata.as_deref().map(RawValue::get);
        json!({ "author": row.author.as_str(), "body": content.body.get(), "role": content.role, "metadata": metadata })
    });
    json!({ "revision": row.revision, "updated_ts": row.updated, "open": opened })
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
        UserRow::LiveThreads => json!({ "value": decode::<CounterValue>(key, value)?.0 }),
        UserRow::Created(_) | UserRow::Active { .. } | UserRow::Wrote(_) => json!({}),
        UserRow::Idempotency(_) => show_idempotency(&decode(key, value)?),
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
    };
    Ok(shown)
}
