//! Users: known from their first write on, listed for the administrator.

use super::{Caller, Db, Error, decode};
use crate::keys::{Counter, Hash16, Key, Partition, PartitionKind, StoreRow, UserRow};
use crate::model::UserId;
use crate::rows::{Profile, Row};
use crate::store::{Commit, Direction, SecondaryWrite};

/// A page of users.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserPage {
    /// Sorted within the page; the order across pages is that of their hashes.
    pub users: Vec<UserId>,
    /// The cursor of the next page, if there is one.
    pub next: Option<UserId>,
    /// All of them.
    pub total: u64,
}

impl Db {
    /// Up to `limit` users behind `after`.
    pub async fn list_users(&self, after: Option<&UserId>, limit: usize) -> Result<UserPage, Error> {
        let after = after.map(|user| Partition::User(self.hash_user(user)));
        let page = self.0.store.partitions(PartitionKind::User, after, Direction::Ascending, limit + 1).await;
        let mut partitions = page?;
        let more = partitions.len() > limit;
        partitions.truncate(limit);
        let keys: Vec<Key> = partitions
            .into_iter()
            .filter_map(|partition| match partition {
                Partition::User(user) => Some(Key::User(user, UserRow::Profile)),
                _ => None,
            })
            .collect();
        let profiles = self.0.store.get_many(keys.clone()).await?;
        let mut users = Vec::with_capacity(keys.len());
        for (key, value) in keys.into_iter().zip(profiles) {
            // An index row may stand without its profile where a crash came between the two.
            if let Some(value) = value {
                let value = self.open_value(key, value).await?;
                users.push(decode::<Profile>(key, &value)?.user);
            }
        }
        let next = more.then(|| users.last().cloned()).flatten();
        users.sort();
        let total = self.counter(Key::Store(StoreRow::Counter(Counter::Users))).await?;
        Ok(UserPage { users, next, total })
    }

    /// Makes sure that the user's id can be found by its hash, which is all that other rows hold.
    pub(super) async fn ensure_user(&self, caller: &Caller, user: Hash16) -> Result<(), Error> {
        if self.0.known_users.contains_key(&user) {
            return Ok(());
        }
        let key = Key::User(user, UserRow::Profile);
        if self.row::<Profile>(key).await?.is_none() {
            let profile = Profile { since: self.next_timestamp()?, user: caller.user.clone() };
            let seal = self.seal_for_user(user).await?;
            let (seals, writing) = (seal.count_for_user(user), self.begin_write());
            let counted = SecondaryWrite::Add(Key::Store(StoreRow::Counter(Counter::Users)), 1);
            let profile = seal.value(key, profile.encode(writing.format()));
            let commit = Commit::replace(key, None, profile).with(seals.chain([counted]));
            // A conflict means that another request of the same user was first.
            self.commit(commit).await?;
        }
        self.0.known_users.insert(user, ());
        Ok(())
    }
}
