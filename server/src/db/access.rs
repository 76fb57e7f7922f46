//! Who may see what.
//!
//! A thread that does not exist and one that the caller has nothing to do with are the same error; a deleted one is
//! only known as such to those who could see it.

use super::{Caller, Db, Error, decode};
use crate::keys::{Hash16, Key, ThreadRow};
use crate::model::ThreadId;
use crate::rows::Head;

/// A thread's head as it was read, and as bytes for the commit that expects it.
#[derive(Clone, Debug)]
pub(super) struct ReadHead {
    pub(super) head: Head,
    pub(super) bytes: Vec<u8>,
}

impl Db {
    pub(super) async fn head(&self, thread: ThreadId) -> Result<Option<ReadHead>, Error> {
        let key = Key::Thread(thread, ThreadRow::Head);
        let value = self.0.store.get(&key).await?;
        value.map(|bytes| Ok(ReadHead { head: decode(key, &bytes)?, bytes })).transpose()
    }

    /// The heads of these threads, in their order.
    pub(super) async fn heads(&self, threads: &[ThreadId]) -> Result<Vec<Option<Head>>, Error> {
        let key = |thread: &ThreadId| Key::Thread(*thread, ThreadRow::Head);
        let values = self.0.store.get_many(threads.iter().map(key).collect()).await?;
        let heads = threads.iter().zip(values);
        heads.map(|(thread, value)| value.map(|value| decode(key(thread), &value)).transpose()).collect()
    }

    /// The head of a live thread that the caller may read.
    pub(super) async fn readable_head(&self, caller: &Caller, thread: ThreadId) -> Result<Head, Error> {
        let head = self.head(thread).await?.ok_or(Error::AccessDenied)?.head;
        check_access(&head, self.hash_user(&caller.user))?;
        check_alive(&head)?;
        Ok(head)
    }
}

/// The user is of this thread.
pub(super) fn check_access(head: &Head, user: Hash16) -> Result<(), Error> {
    if head.owner == user { Ok(()) } else { Err(Error::AccessDenied) }
}

/// The thread was not deleted.
pub(super) fn check_alive(head: &Head) -> Result<(), Error> {
    if head.deleted == 0 { Ok(()) } else { Err(Error::ThreadNotFound) }
}
