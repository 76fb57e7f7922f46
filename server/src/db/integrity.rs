//! Whether a store is whole: every row decodes and opens, counters equal a recount, and indexes agree with threads.
//!
//! One walk over every partition, in pages of partitions that are checked in parallel:
//!
//! ```text
//! thread   rows of a thread against its head: counts, sequence, times, keys, versions; its digest
//! user     rows of a user: counters, profile, answers
//! store    what expires, epochs, counters of the whole store
//! lists    the lists of users against the heads of threads, in both directions
//! ```
//!
//! A finding names the row, what was found, and what is expected. What is damaged is counted and named, never skipped over
//! in silence, and never repaired. Rows that only a newer version writes are opaque. What cannot be told from the rows: a
//! message that is gone together with the entry by which retention would have found it, and a thread of which no row is
//! left.

mod lists;
mod store;
mod thread;
mod user;

use std::collections::BTreeSet;
use std::sync::Arc;

use serde::Serialize;
use tokio::task::JoinHandle;

pub(super) use self::lists::rows_of;
use super::digest::{DIGEST_VERSION, Root};
use super::epochs::list_epochs;
use super::sum::Sum;
use super::walk::Partitions;
use super::{Db, Error, decode};
use crate::crypt::keyring::NumberedKey;
use crate::crypt::seal;
use crate::keys::{Key, Partition, PartitionKind, StoreRow};
use crate::model::ThreadId;
use crate::rows::{self, Number, Row as _};
use crate::store::{Row, Store};

/// The most findings that a report names.
const MOST_NAMED: usize = 1_000;
/// Partitions that one task checks at a time.
const PARTITIONS_A_TASK: usize = 8;
const ROWS_A_PAGE: usize = 10_000;

/// What a scan found.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Integrity {
    /// Nothing is wrong.
    pub ok: bool,
    /// How much there is.
    pub counts: Counts,
    /// The digest that `verify --digest` prints; none if a row could not be read or opened.
    pub digest: Option<RootDigest>,
    /// How many things are wrong.
    pub wrong: u64,
    /// Which they are; the first thousand.
    pub findings: Vec<Finding>,
}

/// The digest of all threads.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RootDigest {
    /// [`DIGEST_VERSION`].
    pub version: u32,
    /// 64 hexadecimal digits.
    pub root: String,
}

/// Something that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The row, in its readable form.
    pub row: String,
    /// What is there.
    pub found: String,
    /// What should be.
    pub expected: String,
}

macro_rules! counts {
    ($($(#[$doc:meta])+ $name:ident),+ $(,)?) => {
        /// How much a store holds.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
        pub struct Counts { $($(#[$doc])+ pub $name: u64,)+ }

        impl Counts {
            fn add(&mut self, other: &Self) {
                $(self.$name += other.$name;)+
            }
        }
    };
}

counts! {
    /// Threads, deleted ones included.
    threads,
    /// Threads that are not deleted.
    live_threads,
    /// Threads whose keys were destroyed, and whose rows are still to go.
    erased_threads,
    /// Live messages.
    messages,
    /// Earlier versions of messages.
    versions,
    /// Deleted messages that are kept.
    deleted,
    /// Participants of all threads.
    participants,
    /// Users.
    users,
    /// Answers that are kept for repeated requests.
    answers,
    /// Receipts of erasures.
    receipts,
    /// Wrapped data keys.
    data_keys,
    /// Epoch keys.
    epoch_keys,
    /// Entries of what expires.
    expiring,
    /// Rows that a newer version wrote.
    reserved,
    /// Sealed rows that were opened.
    opened,
    /// Sealed rows that were not opened, because no KMS is configured.
    not_opened,
    /// Rows that were read.
    rows,
    /// Bytes of keys and values that were read.
    bytes,
}

/// Checks the whole store and changes nothing. Without `db` sealed rows are counted and not opened.
pub async fn check_integrity(store: &Store, db: Option<&Db>) -> Result<Integrity, Error> {
    let epochs = list_epochs(store).await.map(|epochs| epochs.into_iter().map(|(epoch, ..)| epoch).collect());
    let scan = Scan {
        store: store.clone(),
        db: db.cloned(),
        // What does not decode is found by the walk.
        epochs: Arc::new(epochs.unwrap_or_default()),
        highest: highest_time(store).await?,
        exact: !store.is_shared(),
    };
    let (mut part, mut root) = (Part::default(), Some(Root::default()));
    for kind in [&[PartitionKind::Thread], &[PartitionKind::User], &[PartitionKind::Expiry]] {
        let mut partitions = Partitions::all(kind);
        while let Some(page) = partitions.next_page(store).await? {
            for checked in scan.check_page(page) {
                let checked = checked.await.map_err(|_| Error::Stopped)??;
                for (thread, digest) in &checked.digests {
                    root = root.zip(digest.as_deref()).map(|(root, digest)| root.with(*thread, digest));
                }
                part.add(checked);
            }
        }
    }
    scan.check_epochs(&mut part).await?;
    scan.check_store(&mut part).await?;
    if part.listed != part.lists {
        scan.check_lists(&mut part).await?;
    }
    let Part { counts, findings, wrong, .. } = part;
    let digest = root.map(|root| RootDigest { version: DIGEST_VERSION, root: root.finish() });
    Ok(Integrity { ok: wrong == 0, counts, digest, wrong, findings })
}

/// No time in the store is above it. Nothing is compared with it if it cannot be read, which is a finding of its own.
async fn highest_time(store: &Store) -> Result<u64, Error> {
    let row = store.get(&Key::Store(StoreRow::HighestTime)).await?;
    Ok(row.and_then(|bytes| Number::decode(&bytes).ok()).map_or(u64::MAX, |number| number.0))
}

/// What every check needs; clones are cheap.
#[derive(Clone)]
struct Scan {
    store: Store,
    db: Option<Db>,
    epochs: Arc<BTreeSet<u32>>,
    highest: u64,
    /// Counters and lists change with the commits that they are about. Where they do not, a server that died may have left
    /// counters that are wrong and rows that no head agrees with: they are put right where they are read.
    exact: bool,
}

/// What some partitions hold.
#[derive(Default)]
struct Part {
    counts: Counts,
    findings: Vec<Finding>,
    wrong: u64,
    /// The digest of each thread; none if a row of it could not be read.
    digests: Vec<(ThreadId, Option<Vec<u8>>)>,
    /// Messages ever created in the threads that are there.
    created: u64,
    /// The rows that the lists of users should have, by the heads of threads.
    listed: Sum,
    /// Those that they have.
    lists: Sum,
}

impl Part {
    fn add(&mut self, other: Self) {
        self.counts.add(&other.counts);
        self.wrong += other.wrong;
        let room = MOST_NAMED.saturating_sub(self.findings.len());
        self.findings.extend(other.findings.into_iter().take(room));
        self.created += other.created;
        self.listed = self.listed.plus(other.listed);
        self.lists = self.lists.plus(other.lists);
    }

    fn find(&mut self, row: impl ToString, found: impl Into<String>, expected: impl Into<String>) {
        self.wrong += 1;
        if self.findings.len() < MOST_NAMED {
            self.findings.push(Finding { row: row.to_string(), found: found.into(), expected: expected.into() });
        }
    }

    /// Counts a row, and gives its key; none if it has none of the catalogue.
    fn read(&mut self, row: &Row) -> Option<Key> {
        self.counts.rows += 1;
        self.counts.bytes += (row.key.len() + row.value.len()) as u64;
        let key = Key::decode(&row.key);
        if key.is_none() {
            self.find(hex::encode(&row.key), "a key of no kind", "a key of the catalogue");
        }
        key
    }

    /// The value; a finding if it does not decode.
    fn decode<R: rows::Row>(&mut self, key: Key, value: &[u8]) -> Option<R> {
        let decoded = decode(key, value).ok();
        if decoded.is_none() {
            self.find(key, format!("{} bytes that cannot be read", value.len()), "a value of its kind");
        }
        decoded
    }
}

/// What became of a value that may be sealed.
enum Opened {
    /// As it was before it was sealed.
    Value(Vec<u8>),
    /// It is sealed, and nobody asked to open it, or it does not open: that is in the findings.
    Closed,
    /// Its key is gone.
    Erased,
}

/// The key that opened the row before: rows of one partition have the same.
type Memo = Option<(Key, NumberedKey)>;

impl Scan {
    /// Checks partitions in parallel; the parts come in their order.
    fn check_page(&self, page: Vec<Partition>) -> Vec<JoinHandle<Result<Part, Error>>> {
        let tasks = page.chunks(PARTITIONS_A_TASK).map(|partitions| {
            let (scan, partitions) = (self.clone(), partitions.to_vec());
            tokio::spawn(async move {
                let mut part = Part::default();
                for partition in partitions {
                    match partition {
                        Partition::Thread(thread) => scan.check_thread(thread, &mut part).await?,
                        Partition::User(user) => scan.check_user(user, &mut part).await?,
                        other => scan.check_expiring(other, &mut part).await?,
                    }
                }
                Ok(part)
            })
        });
        tasks.collect()
    }

    async fn open(&self, memo: &mut Memo, key: Key, row: Row, part: &mut Part) -> Result<Opened, Error> {
        let sealed = seal::generation(&row.value).is_some();
        let Some(db) = &self.db else {
            part.counts.not_opened += u64::from(sealed);
            return Ok(if sealed { Opened::Closed } else { Opened::Value(row.value) });
        };
        match db.open_with(memo, key, &row.key, row.value).await {
            Ok(value) => {
                part.counts.opened += u64::from(sealed);
                Ok(Opened::Value(value))
            }
            Err(Error::Erased) => Ok(Opened::Erased),
            Err(Error::Corrupt { .. }) => {
                match sealed {
                    true => part.find(key, "a sealed value that does not open", "one that was sealed for this row"),
                    false => part.find(key, "a plain value", "a sealed one: all private rows are sealed"),
                }
                Ok(Opened::Closed)
            }
            Err(error) => Err(error),
        }
    }
}
