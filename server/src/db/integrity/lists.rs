//! The lists of users against the heads of threads.
//!
//! While everything is read, the rows that the lists should have and those that they have are each added up to one number.
//! If the two are equal, so are the rows. Only if they are not, each row is looked up, to name those that differ.

use super::{Part, ROWS_A_PAGE, Scan};
use crate::db::Error;
use crate::db::walk::{Partitions, Rows};
use crate::keys::{Hash16, Key, KeyRange, Partition, PartitionKind, ThreadRow, UserRow};
use crate::model::ThreadId;
use crate::rows::{Head, Row as _};

/// The rows of its owner's lists that a thread has.
pub(in crate::db) fn rows_of(thread: ThreadId, head: &Head) -> Vec<Key> {
    let row = |row| Key::User(head.owner, row);
    let mut rows = vec![row(UserRow::Wrote(thread))];
    if head.deleted == 0 {
        rows.push(row(UserRow::Created(thread)));
        rows.push(row(UserRow::Active { updated: head.updated, thread }));
    }
    rows
}

impl Scan {
    /// Names every row that is missing from a list, or in one too many.
    pub(super) async fn check_lists(&self, part: &mut Part) -> Result<(), Error> {
        let mut threads = Partitions::all(&[PartitionKind::Thread]);
        while let Some(page) = threads.next_page(&self.store).await? {
            for partition in page {
                let Partition::Thread(thread) = partition else { continue };
                let Some(head) = self.readable_head(thread).await? else { continue };
                let rows = rows_of(thread, &head);
                let there = self.store.get_many(rows.clone()).await?;
                for (row, _) in rows.into_iter().zip(there).filter(|(_, value)| value.is_none()) {
                    part.find(row, "nothing", format!("this row, by the head of {thread}"));
                }
            }
        }
        if !self.exact {
            return Ok(());
        }
        let mut users = Partitions::all(&[PartitionKind::User]);
        while let Some(page) = users.next_page(&self.store).await? {
            for partition in page {
                let Partition::User(user) = partition else { continue };
                self.check_lists_of(user, part).await?;
            }
        }
        Ok(())
    }

    async fn check_lists_of(&self, user: Hash16, part: &mut Part) -> Result<(), Error> {
        let mut rows = Rows::of(KeyRange::all(Partition::User(user)), ROWS_A_PAGE);
        while let Some(page) = rows.next_page(&self.store).await? {
            for key in page.iter().filter_map(|row| Key::decode(&row.key)) {
                let Key::User(_, UserRow::Created(thread) | UserRow::Active { thread, .. } | UserRow::Wrote(thread)) =
                    key
                else {
                    continue;
                };
                match self.readable_head(thread).await? {
                    Some(head) if rows_of(thread, &head).contains(&key) => {}
                    Some(_) => part.find(key, "this row", format!("none that disagrees with the head of {thread}")),
                    None => part.find(key, "this row", format!("none: there is no thread {thread}")),
                }
            }
        }
        Ok(())
    }

    /// None if there is no head, or one that cannot be read, which was found already.
    async fn readable_head(&self, thread: ThreadId) -> Result<Option<Head>, Error> {
        let bytes = self.store.get(&Key::Thread(thread, ThreadRow::Head)).await?;
        Ok(bytes.and_then(|bytes| Head::decode(&bytes).ok()))
    }
}
