//! What expires, epochs, and the rows of the store itself.

use super::{Part, ROWS_A_PAGE, Scan};
use crate::crypt::seal;
use crate::db::Error;
use crate::db::walk::{Partitions, Rows};
use crate::keys::{Counter, ExpiryKind, Key, KeyRange, Partition, PartitionKind, StoreRow, ThreadRow};
use crate::model::MessageId;
use crate::rows::{
    CounterValue, EpochKey, Erasures, Format, Head, JobProgress, MessageName, MigrationProgress, Names, Number,
    Present, Row as _, Secret,
};
use crate::store::Row;

/// What a day's entry must agree with: the row that must be there if the thread is.
type Claim = (Key, Option<MessageId>);

impl Scan {
    /// What expires on one day. Entries about something that is gone are no finding: they go with their day.
    pub(super) async fn check_expiring(&self, day: Partition, part: &mut Part) -> Result<(), Error> {
        let mut rows = Rows::of(KeyRange::all(day), ROWS_A_PAGE);
        while let Some(page) = rows.next_page(&self.store).await? {
            let claims: Vec<Claim> = page.iter().filter_map(|row| check_entry(row, part)).collect();
            self.check_claims(&claims, part).await?;
        }
        Ok(())
    }

    async fn check_claims(&self, claims: &[Claim], part: &mut Part) -> Result<(), Error> {
        let head = |key: &Key| match key {
            Key::Expiry { thread, .. } => Key::Thread(*thread, ThreadRow::Head),
            other => *other,
        };
        let heads = self.store.get_many(claims.iter().map(|(key, _)| head(key)).collect()).await?;
        for ((key, message), head) in claims.iter().zip(heads) {
            let Key::Expiry { thread, .. } = key else { continue };
            let Some(head) = head.and_then(|bytes| Head::decode(&bytes).ok()) else { continue };
            match message {
                None if head.deleted == 0 => {
                    part.find(key, format!("an entry for the deletion of {thread}"), "none: it is not deleted");
                }
                None => {}
                Some(id) => {
                    let deleted = Key::Thread(*thread, ThreadRow::Deleted(*id));
                    if self.store.get(&deleted).await?.is_none() {
                        part.find(deleted, "nothing", "a deleted message: it is filed to expire, and was not purged");
                    }
                }
            }
        }
        Ok(())
    }

    pub(super) async fn check_epochs(&self, part: &mut Part) -> Result<(), Error> {
        let mut epochs = Partitions::all(&[PartitionKind::Epoch]);
        while let Some(page) = epochs.next_page(&self.store).await? {
            for partition in page {
                for row in self.rows_of(partition).await? {
                    let Some(key @ Key::Epoch(_)) = part.read(&row) else { continue };
                    part.counts.epoch_keys += 1;
                    if part.decode::<EpochKey>(key, &row.value).is_some_and(|epoch| epoch.wraps.is_empty()) {
                        part.find(key, "a key that no KMS has wrapped", "one that was wrapped");
                    }
                }
            }
        }
        Ok(())
    }

    /// The rows of the store itself, and the counters against everything that was read before.
    pub(super) async fn check_store(&self, part: &mut Part) -> Result<(), Error> {
        let (mut counters, mut format, mut secret) = ([0; 4], false, false);
        for row in self.rows_of(Partition::Store).await? {
            let Some(key @ Key::Store(kind)) = part.read(&row) else { continue };
            let value = row.value.as_slice();
            match kind {
                StoreRow::Format => format = part.decode::<Format>(key, value).is_some(),
                StoreRow::Counter(counter) => {
                    let counted = part.decode::<CounterValue>(key, value).map_or(0, |row| row.0);
                    counters[index_of(counter)] = counted;
                }
                StoreRow::HighestTime => drop(part.decode::<Number>(key, value)),
                StoreRow::Secret => secret = self.check_secret(key, value, part),
                StoreRow::Sealing => drop(part.decode::<JobProgress>(key, value)),
                StoreRow::Erasures => drop(part.decode::<Erasures>(key, value)),
                StoreRow::Migration(_) => drop(part.decode::<MigrationProgress>(key, value)),
                StoreRow::Import => part.find(key, "an import that has not ended", "none: its last step removes it"),
            }
        }
        for (there, row) in [(format, StoreRow::Format), (secret, StoreRow::Secret)] {
            if !there {
                part.find(Key::Store(row), "nothing that can be read", "a row that every store has");
            }
        }
        if self.exact {
            check_counters(&counters, part);
        }
        Ok(())
    }

    /// The database was opened with it, if it was.
    fn check_secret(&self, key: Key, value: &[u8], part: &mut Part) -> bool {
        let sealed = seal::generation(value);
        if sealed.is_none() {
            return part.decode::<Secret>(key, value).is_some();
        }
        *(if self.db.is_some() { &mut part.counts.opened } else { &mut part.counts.not_opened }) += 1;
        true
    }

    async fn rows_of(&self, partition: Partition) -> Result<Vec<Row>, Error> {
        let (mut all, mut rows) = (Vec::new(), Rows::of(KeyRange::all(partition), ROWS_A_PAGE));
        while let Some(page) = rows.next_page(&self.store).await? {
            all.extend(page);
        }
        Ok(all)
    }
}

/// Decodes an entry; what it claims, if that can be compared.
fn check_entry(row: &Row, part: &mut Part) -> Option<Claim> {
    let key = part.read(row)?;
    part.counts.expiring += 1;
    let Key::Expiry { kind, .. } = key else { return None };
    let names = match kind {
        ExpiryKind::Thread | ExpiryKind::Erasure => {
            return part.decode::<Present>(key, &row.value).map(|_| (key, None));
        }
        ExpiryKind::Message => return part.decode::<MessageName>(key, &row.value).map(|name| (key, Some(name.0))),
        ExpiryKind::ThreadIdempotency => 1,
        ExpiryKind::UserIdempotency | ExpiryKind::Receipt => 2,
    };
    let found = part.decode::<Names>(key, &row.value)?.0.len();
    if found != names {
        part.find(key, format!("{found} names"), format!("{names}"));
    }
    None
}

fn index_of(counter: Counter) -> usize {
    match counter {
        Counter::Threads => 0,
        Counter::Messages => 1,
        Counter::Sequence => 2,
        Counter::Users => 3,
    }
}

/// Messages and writes of threads that are gone are in the counters only: there a recount is the least that they may say.
fn check_counters(counters: &[i64; 4], part: &mut Part) {
    let number = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
    let says = |counter: Counter| counters[index_of(counter)];
    let row = |counter: Counter| Key::Store(StoreRow::Counter(counter));
    let (threads, users) = (number(part.counts.live_threads), number(part.counts.users));
    for (counter, recount, of) in [(Counter::Threads, threads, "live threads"), (Counter::Users, users, "users")] {
        if says(counter) != recount {
            part.find(row(counter), format!("{}", says(counter)), format!("{recount}: so many {of} there are"));
        }
    }
    let created = number(part.created);
    if says(Counter::Messages) < created {
        let expected = format!("{created} at least: so many were created in the threads that are there");
        part.find(row(Counter::Messages), format!("{}", says(Counter::Messages)), expected);
    }
    let writes = says(Counter::Messages).saturating_add(number(part.counts.threads));
    if says(Counter::Sequence) < writes {
        let expected = format!("{writes} at least: each thread and each message was a write");
        part.find(row(Counter::Sequence), format!("{}", says(Counter::Sequence)), expected);
    }
}
