//! The rows of one user.

use super::{Opened, Part, ROWS_A_PAGE, Scan};
use crate::crypt::seal;
use crate::db::Error;
use crate::db::idempotency::{KEPT_NS, creation_entry};
use crate::db::walk::Rows;
use crate::keys::{ExpiryKind, Hash16, Key, KeyRange, Partition, UserRow};
use crate::rows::{CounterValue, Idempotency, Names, Present, Profile, ReceiptRow, Row as _};

/// What the rows of a user told.
#[derive(Default)]
struct Found {
    /// By the counter.
    threads: i64,
    created: i64,
    profile: bool,
    /// By the counter.
    seals: i64,
    sealed: i64,
    entries: Vec<(Key, Vec<u8>, Key)>,
}

impl Scan {
    pub(super) async fn check_user(&self, user: Hash16, part: &mut Part) -> Result<(), Error> {
        let (mut found, mut memo) = (Found::default(), None);
        let mut rows = Rows::of(KeyRange::all(Partition::User(user)), ROWS_A_PAGE);
        while let Some(page) = rows.next_page(&self.store).await? {
            for row in page {
                let Some(Key::User(_, kind)) = part.read(&row) else { continue };
                let key = Key::User(user, kind);
                if let UserRow::DataKey(generation) = kind {
                    self.check_data_key(key, generation, &row.value, part);
                    continue;
                }
                found.sealed += i64::from(seal::generation(&row.value).is_some());
                match self.open(&mut memo, key, row, part).await? {
                    Opened::Value(value) => self.check_user_row(user, kind, Some(&value), &mut found, part),
                    Opened::Closed => self.check_user_row(user, kind, None, &mut found, part),
                    Opened::Erased => {
                        part.find(key, "a sealed value", "one whose data key is there");
                        self.check_user_row(user, kind, None, &mut found, part);
                    }
                }
            }
            self.check_entries(std::mem::take(&mut found.entries), part).await?;
        }
        let Found { threads, created, profile, seals, sealed, .. } = found;
        if threads != created && self.exact {
            part.find(Key::User(user, UserRow::LiveThreads), format!("{threads} live threads"), format!("{created}"));
        }
        if !profile && created > 0 && self.exact {
            part.find(Key::User(user, UserRow::Profile), "nothing", "the id of a user who has threads");
        }
        if sealed > seals && self.exact {
            let expected = format!("{sealed} at least, the sealed rows of the user");
            part.find(Key::User(user, UserRow::Seals), format!("{seals} sealed values"), expected);
        }
        Ok(())
    }

    /// A row with its value, if that was opened.
    fn check_user_row(&self, user: Hash16, kind: UserRow, value: Option<&[u8]>, found: &mut Found, part: &mut Part) {
        let key = Key::User(user, kind);
        match kind {
            UserRow::LiveThreads | UserRow::Seals => {
                let counted = value.and_then(|value| part.decode::<CounterValue>(key, value)).map_or(0, |row| row.0);
                *(if kind == UserRow::Seals { &mut found.seals } else { &mut found.threads }) = counted;
            }
            UserRow::Created(_) | UserRow::Active { .. } | UserRow::Wrote(_) => {
                found.created += i64::from(matches!(kind, UserRow::Created(_)));
                part.lists.add(&[&key.encode()]);
                if let Some(value) = value {
                    part.decode::<Present>(key, value);
                }
            }
            UserRow::Profile => {
                (found.profile, part.counts.users) = (true, part.counts.users + 1);
                let profile = value.and_then(|value| part.decode::<Profile>(key, value));
                if self.db.as_ref().zip(profile).is_some_and(|(db, profile)| db.hash_user(&profile.user) != user) {
                    part.find(key, "the id of another user", "the one whose hash is in the key");
                }
            }
            UserRow::Idempotency(name) => {
                part.counts.answers += 1;
                let Some(answer) = value.and_then(|value| part.decode::<Idempotency>(key, value)) else { return };
                if answer.expires.saturating_sub(KEPT_NS) != answer.thread.0 {
                    part.find(key, "an answer of another time", format!("one of the creation of {}", answer.thread));
                }
                found.entries.push((creation_entry(answer.thread), Names(vec![user, name]).encode(1), key));
            }
            UserRow::Receipt(name) => {
                part.counts.receipts += 1;
                let Some(receipt) = value.and_then(|value| part.decode::<ReceiptRow>(key, value)) else { return };
                let entry = Key::Expiry { due: receipt.erased, thread: receipt.thread, kind: ExpiryKind::Receipt };
                found.entries.push((entry, Names(vec![user, name]).encode(1), key));
            }
            UserRow::DataKey(_) => {}
        }
    }
}
