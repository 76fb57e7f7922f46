//! The rows of one thread against its head.

use std::collections::{BTreeMap, BTreeSet};

use super::lists::rows_of;
use super::{Memo, Opened, Part, ROWS_A_PAGE, Scan};
use crate::crypt::keyring::WrappedKey;
use crate::crypt::seal;
use crate::db::digest::{Hasher, ThreadValue, digest_of_nothing};
use crate::db::idempotency::KEPT_NS;
use crate::db::walk::Rows;
use crate::db::{Digest, Error};
use crate::keys::{ExpiryKind, Hash16, Key, KeyRange, Partition, ThreadRow};
use crate::model::{MessageId, ThreadId};
use crate::rows::{Head, Idempotency, MessageName, Names, Participant, Row};
use crate::store;

/// A message, and what is known of its earlier versions.
#[derive(Clone, Copy)]
struct Seen {
    id: MessageId,
    /// 0 if the row was not opened.
    revision: u64,
    versions: u64,
}

/// What the rows of a thread told so far.
struct Walk {
    thread: ThreadId,
    head: Option<Head>,
    owner: bool,
    object: bool,
    live: Vec<Seen>,
    deleted: Vec<Seen>,
    /// Versions of messages that are not live: how many, by message.
    versions: BTreeMap<MessageId, u64>,
    /// The data keys that are there, and those that rows were sealed with.
    keys: BTreeSet<u32>,
    used: BTreeMap<u32, Key>,
    /// Rows whose key is gone.
    erased: u64,
    /// None if a row could not be read or opened.
    hasher: Option<Hasher>,
    digest: Digest,
    /// Entries that must be among what expires.
    entries: Vec<(Key, Vec<u8>, Key)>,
}

impl Scan {
    pub(super) async fn check_thread(&self, thread: ThreadId, part: &mut Part) -> Result<(), Error> {
        let mut walk = Walk {
            thread,
            head: None,
            owner: false,
            object: false,
            live: Vec::new(),
            deleted: Vec::new(),
            versions: BTreeMap::new(),
            keys: BTreeSet::new(),
            used: BTreeMap::new(),
            erased: 0,
            hasher: Some(Hasher::default()),
            digest: Digest::default(),
            entries: Vec::new(),
        };
        let (mut memo, mut rows) = (None, Rows::of(KeyRange::all(Partition::Thread(thread)), ROWS_A_PAGE));
        while let Some(page) = rows.next_page(&self.store).await? {
            for row in page {
                match part.read(&row) {
                    Some(Key::Thread(_, kind)) => self.check_row(&mut walk, &mut memo, kind, row, part).await?,
                    _ => walk.hasher = None,
                }
            }
            self.check_entries(std::mem::take(&mut walk.entries), part).await?;
        }
        let head = walk.finish(self.highest, part);
        if let Some(head) = head.filter(|head| head.deleted != 0) {
            let entry = Key::Expiry { due: head.deleted, thread, kind: ExpiryKind::Thread };
            if self.store.get(&entry).await?.is_none() {
                part.find(entry, "nothing", format!("an entry for the deletion of {thread}"));
            }
        }
        Ok(())
    }

    async fn check_row(
        &self,
        walk: &mut Walk,
        memo: &mut Memo,
        kind: ThreadRow,
        row: store::Row,
        part: &mut Part,
    ) -> Result<(), Error> {
        let key = Key::Thread(walk.thread, kind);
        if let ThreadRow::DataKey(generation) = kind {
            self.check_data_key(key, generation, &row.value, part);
            walk.keys.insert(generation);
            return Ok(());
        }
        part.counts.reserved += u64::from(key.is_reserved());
        if let Some(generation) = seal::generation(&row.value) {
            walk.used.entry(generation).or_insert(key);
        }
        let value = match self.open(memo, key, row, part).await? {
            Opened::Value(value) => Some(value),
            Opened::Closed => None,
            Opened::Erased => {
                walk.erased += 1;
                None
            }
        };
        walk.take(key, kind, value.as_deref(), part);
        if let (ThreadRow::Participant(name), Some(value), Some(db)) = (kind, value, &self.db)
            && let Ok(participant) = Participant::decode(&value)
            && db.hash_user(&participant.user) != name
        {
            part.find(key, "the id of another user", "the one whose hash is in the key");
        }
        Ok(())
    }

    /// Also for a user's data key.
    pub(super) fn check_data_key(&self, place: Key, generation: u32, value: &[u8], part: &mut Part) {
        part.counts.data_keys += 1;
        let Some(wrapped) = part.decode::<WrappedKey>(place, value) else { return };
        match wrapped.epoch() {
            Some(epoch) if !self.epochs.contains(&epoch) => {
                part.find(place, format!("a key that was wrapped in epoch {epoch}"), "one of an epoch that is there");
            }
            _ => {
                let Some(crypt) = self.db.as_ref().and_then(|db| db.crypt()) else { return };
                if crypt.keyring.open_data_key(place, generation, &wrapped).is_err() {
                    part.find(place, "a wrapped key that does not open", "one that was wrapped for this row");
                }
            }
        }
    }

    /// Each of these must be among what expires, or retention would never find what it is about.
    pub(super) async fn check_entries(&self, wanted: Vec<(Key, Vec<u8>, Key)>, part: &mut Part) -> Result<(), Error> {
        let there = self.store.get_many(wanted.iter().map(|(entry, ..)| *entry).collect()).await?;
        for ((entry, value, about), there) in wanted.into_iter().zip(there) {
            // The first byte is the format in which it was written.
            let is_it = there.as_ref().is_some_and(|there| there.get(1..) == value.get(1..));
            if !is_it {
                let found = if there.is_some() { "an entry for something else" } else { "nothing" };
                part.find(entry, found, format!("an entry for {about}"));
            }
        }
        Ok(())
    }
}

impl Walk {
    /// Takes a row with its value, if that was opened.
    fn take(&mut self, key: Key, kind: ThreadRow, value: Option<&[u8]>, part: &mut Part) {
        match kind {
            ThreadRow::Idempotency(name) => self.take_answer(key, name, value, part),
            _ => {
                let decoded = value.and_then(|value| self.decode(key, value, part));
                self.take_value(key, kind, decoded.as_ref(), part);
                let hashed = self.hasher.as_mut().zip(decoded.as_ref());
                match hashed {
                    Some((hasher, value)) => hasher.add(key, value, &mut self.digest),
                    None => self.hasher = None,
                }
            }
        }
    }

    fn decode(&self, key: Key, value: &[u8], part: &mut Part) -> Option<ThreadValue> {
        let decoded = ThreadValue::decode(key, value).ok();
        if decoded.is_none() {
            part.find(key, format!("{} bytes that cannot be read", value.len()), "a value of its kind");
        }
        decoded
    }

    fn take_value(&mut self, key: Key, kind: ThreadRow, value: Option<&ThreadValue>, part: &mut Part) {
        let revision = match value {
            Some(ThreadValue::Message(message)) => message.revision,
            Some(ThreadValue::Deleted(deleted)) => deleted.message.revision,
            _ => 0,
        };
        match kind {
            ThreadRow::Head => {
                if let Some(ThreadValue::Head(head)) = value {
                    self.head = Some(*head);
                }
            }
            ThreadRow::Participant(user) => {
                part.counts.participants += 1;
                self.owner |= self.head.is_some_and(|head| head.owner == user);
            }
            ThreadRow::Object => self.object = true,
            ThreadRow::Message(id) => {
                part.counts.messages += 1;
                self.live.push(Seen { id, revision, versions: 0 });
            }
            ThreadRow::Version(id, _) => {
                part.counts.versions += 1;
                match self.live.binary_search_by_key(&id, |seen| seen.id) {
                    Ok(at) => self.live[at].versions += 1,
                    Err(_) => *self.versions.entry(id).or_default() += 1,
                }
            }
            ThreadRow::Deleted(id) => {
                part.counts.deleted += 1;
                let versions = self.versions.remove(&id).unwrap_or(0);
                self.deleted.push(Seen { id, revision, versions });
                if let Some(ThreadValue::Deleted(deleted)) = value {
                    let entry = Key::Expiry { due: deleted.deleted, thread: self.thread, kind: ExpiryKind::Message };
                    self.entries.push((entry, MessageName(id).encode(1), key));
                }
            }
            _ => {}
        }
    }

    fn take_answer(&mut self, key: Key, name: Hash16, value: Option<&[u8]>, part: &mut Part) {
        part.counts.answers += 1;
        let Some(answer) = value.and_then(|value| part.decode::<Idempotency>(key, value)) else { return };
        let due = answer.expires.saturating_sub(KEPT_NS);
        let entry = Key::Expiry { due, thread: self.thread, kind: ExpiryKind::ThreadIdempotency };
        self.entries.push((entry, Names(vec![name]).encode(1), key));
        let next = self.head.map_or(u64::MAX, |head| head.next_seq);
        if answer.thread != self.thread {
            part.find(key, format!("an answer about {}", answer.thread), format!("one about {}", self.thread));
        } else if answer.message.is_some_and(|message| message.seq >= next) {
            part.find(key, "an answer about a message that never was", format!("one below {next}"));
        }
    }

    /// Compares the rows with the head; gives the head.
    fn finish(self, highest: u64, part: &mut Part) -> Option<Head> {
        part.counts.threads += 1;
        let row = Key::Thread(self.thread, ThreadRow::Head);
        // Nobody can say any more what an erased thread held: its digest is that of nothing.
        let digest = match self.erased {
            0 => self.hasher.as_ref().map(Hasher::current),
            _ => Some(digest_of_nothing()),
        };
        if self.erased > 0 || !self.hasher.as_ref().is_some_and(|hasher| hasher.is_of_probe) {
            part.digests.push((self.thread, digest));
        }
        let Some(head) = self.head else {
            if self.hasher.is_some() || self.live.len() + self.deleted.len() > 0 || self.object {
                part.find(row, "no head that can be read", "one: the thread has other rows");
            }
            return None;
        };
        part.created += head.next_seq;
        part.counts.live_threads += u64::from(head.deleted == 0);
        rows_of(self.thread, &head).into_iter().for_each(|key| part.listed.add(&[&key.encode()]));
        self.check_keys(&head, part);
        self.check_counts(&head, part);
        self.check_times(&head, highest, part);
        self.check_messages(&head, part);
        Some(head)
    }

    fn check_keys(&self, head: &Head, part: &mut Part) {
        let row = Key::Thread(self.thread, ThreadRow::Head);
        let shredded = head.generation != 0 && self.keys.is_empty();
        if shredded && head.deleted == 0 {
            part.find(row, "a sealed thread without a data key", "its keys: it is not deleted");
        } else if shredded {
            part.counts.erased_threads += 1;
        } else if head.generation != 0 && !self.keys.contains(&head.generation) {
            let newest = Key::Thread(self.thread, ThreadRow::DataKey(head.generation));
            part.find(newest, "nothing", "the newest data key, by the head");
        }
        for (generation, key) in self.used.iter().filter(|_| !shredded) {
            if !self.keys.contains(generation) {
                part.find(key, format!("a value sealed with data key {generation}"), "one whose key is there");
            } else if *generation > head.generation || *generation < head.oldest {
                let expected = format!("one of {} to {}, by the head", head.oldest, head.generation);
                part.find(key, format!("a value sealed with data key {generation}"), expected);
            }
        }
    }

    fn check_counts(&self, head: &Head, part: &mut Part) {
        let row = Key::Thread(self.thread, ThreadRow::Head);
        let live = self.live.len() as u64;
        if head.live != live {
            part.find(row, format!("{} live messages", head.live), format!("{live}: so many rows there are"));
        }
        if !self.object {
            part.find(Key::Thread(self.thread, ThreadRow::Object), "nothing", "the thread's title and author");
        }
        if !self.owner {
            let owner = Key::Thread(self.thread, ThreadRow::Participant(head.owner));
            part.find(owner, "nothing", "the owner as a participant");
        }
    }

    fn check_times(&self, head: &Head, highest: u64, part: &mut Part) {
        let row = Key::Thread(self.thread, ThreadRow::Head);
        let mut wrong = |found: String, expected: String| part.find(row, found, expected);
        for (name, time) in [("updated", head.updated), ("deleted", head.deleted)] {
            if time > highest {
                wrong(format!("{name} at {time}"), format!("{highest} at most, the highest time ever used"));
            }
        }
        if head.updated < self.thread.0 || head.updated < head.last_message {
            wrong(format!("updated at {}", head.updated), "no time before its creation or its newest message".into());
        }
        let messages = self.live.iter().chain(&self.deleted).map(|seen| seen.id);
        match messages.max_by_key(|id| id.ts) {
            Some(newest) if newest.ts > head.last_message => {
                wrong(format!("the newest message at {}", head.last_message), format!("{}", newest.ts));
            }
            Some(newest) if newest.seq + 1 == head.next_seq && newest.ts != head.last_message => {
                wrong(format!("the newest message at {}", head.last_message), format!("{}", newest.ts));
            }
            _ => {}
        }
    }

    /// Sequence and time grow together, below the next one; each revision but the newest is kept as a version.
    fn check_messages(&self, head: &Head, part: &mut Part) {
        let live = self.live.iter().map(|seen| (seen, ThreadRow::Message(seen.id)));
        let deleted = self.deleted.iter().map(|seen| (seen, ThreadRow::Deleted(seen.id)));
        let mut all: Vec<_> = live.chain(deleted).collect();
        all.sort_by_key(|(seen, _)| seen.id);
        let mut before: Option<MessageId> = None;
        for (seen, kind) in all {
            let key = Key::Thread(self.thread, kind);
            if let Some(before) = before.filter(|before| before.seq >= seen.id.seq || before.ts >= seen.id.ts) {
                part.find(key, format!("sequence {} behind {}", seen.id.seq, before.seq), "each one once, and growing");
            }
            if seen.id.seq >= head.next_seq {
                part.find(key, format!("sequence {}", seen.id.seq), format!("below {}, the next", head.next_seq));
            }
            if seen.id.ts <= self.thread.0 {
                part.find(key, "a message from before its thread", "a later one");
            }
            if seen.revision != 0 && seen.versions + 1 != seen.revision {
                let expected = format!("{}, by its revision", seen.revision - 1);
                part.find(key, format!("{} earlier versions", seen.versions), expected);
            }
            before = Some(seen.id);
        }
        for id in self.versions.keys() {
            let key = Key::Thread(self.thread, ThreadRow::Message(*id));
            part.find(key, "nothing", "a message, or a deleted one: versions of it are there");
        }
    }
}
