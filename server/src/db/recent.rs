//! The recent-message cache: the newest messages of threads that are being read.
//!
//! Most reads of a chat want the end of a thread, and rows that were just written lie scattered until they are
//! compacted. An entry is good for the head that one commit left and for no other, so a reader that finds the head of
//! another reads the rows. Appends carry an entry over to their own commit; any other change makes it stale.
//! That of a thread that was deleted or erased is gone, and no read or append that overlapped with that brings it back.

use std::sync::Arc;

use moka::sync::Cache;

use crate::forgetting_cache::{ForgettingCache, Mark};
use crate::model::{Message, ThreadId};
use crate::rows::Head;
use crate::store::SCAN_BYTES;

/// The most messages that an entry holds.
pub(super) const LONGEST: usize = 100;
/// What a message takes beside its body.
const BYTES_A_MESSAGE: usize = 256;

/// The newest messages of threads, within a budget of memory.
pub(super) struct RecentMessages(ForgettingCache<ThreadId, Arc<Recent>>);

struct Recent {
    commit_id: u64,
    messages: Vec<Arc<Message>>,
}

impl Recent {
    fn bytes(&self) -> u32 {
        let bytes: usize = self.messages.iter().map(|m| BYTES_A_MESSAGE + m.content.body.get().len()).sum();
        u32::try_from(bytes).unwrap_or(u32::MAX)
    }
}

impl RecentMessages {
    pub(super) fn new(bytes: u64) -> Self {
        let builder = Cache::builder().max_capacity(bytes).weigher(|_, recent: &Arc<Recent>| recent.bytes());
        Self(ForgettingCache::new(builder))
    }

    /// To be taken before a head is read.
    pub(super) fn mark(&self) -> Mark {
        self.0.mark()
    }

    /// The newest `limit` messages of a thread whose head is `head`, oldest first, if they are known.
    pub(super) fn get(&self, thread: ThreadId, head: &Head, limit: usize) -> Option<Vec<Arc<Message>>> {
        let recent = self.0.get(&thread).filter(|recent| recent.commit_id == head.commit_id)?;
        let wanted = usize::try_from(head.live).unwrap_or(usize::MAX).min(limit);
        let start = recent.messages.len().checked_sub(wanted)?;
        Some(recent.messages[start..].to_vec())
    }

    /// Removes the entry of a thread that is no more.
    pub(super) fn forget(&self, thread: ThreadId) {
        self.0.forget(&thread);
    }

    /// Keeps what was read while the head was, before and after the read, `head`. Rows are visible a moment before the head
    /// that goes with them: a message that this one does not count is left to the next read.
    pub(super) fn keep(&self, mark: Mark, thread: ThreadId, head: &Head, messages: &[Arc<Message>]) {
        let is_of_head = messages.last().is_none_or(|newest| newest.id.seq < head.next_seq);
        if is_of_head && messages.len() <= LONGEST {
            let recent = Recent { commit_id: head.commit_id, messages: messages.to_vec() };
            self.0.keep(mark, thread, Arc::new(recent));
        }
    }

    /// Carries a known entry over a commit that appended `messages` and took the head from `before` to `after`. `mark` is
    /// from before the commit.
    pub(super) fn append(
        &self,
        mark: Mark,
        thread: ThreadId,
        before: &Head,
        after: &Head,
        messages: Vec<Arc<Message>>,
    ) {
        let Some(recent) = self.0.get(&thread).filter(|recent| recent.commit_id == before.commit_id) else { return };
        let mut messages: Vec<_> = recent.messages.iter().cloned().chain(messages).collect();
        messages.drain(..messages.len().saturating_sub(LONGEST));
        let recent = Recent { commit_id: after.commit_id, messages };
        // A page from memory is bounded as one from the rows is.
        if usize::try_from(recent.bytes()).is_ok_and(|bytes| bytes <= SCAN_BYTES) {
            self.0.keep(mark, thread, Arc::new(recent));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::db::messages::assemble;
    use crate::db::tests::{ann, message};
    use crate::keys::Hash16;
    use crate::model::MessageId;
    use crate::rows::MessageRow;

    fn head(revision: u64, next_seq: u64) -> Head {
        let owner = Hash16([0; 16]);
        let (updated, last_message, live) = (next_seq, next_seq, next_seq);
        Head {
            revision,
            commit_id: revision,
            owner,
            updated,
            last_message,
            next_seq,
            live,
            deleted: 0,
            generation: 0,
            oldest: 0,
            seals: 0,
        }
    }

    /// A reader may see the rows of a commit while the head is still the one before it.
    #[test]
    fn a_message_that_its_head_does_not_count_is_not_kept() {
        let messages = [0, 1].map(|seq| {
            let row = MessageRow { revision: 1, updated: seq, author: ann().user, content: message("1").content };
            Arc::new(assemble(ThreadId(1), MessageId { ts: seq, seq }, row))
        });
        let (recent, before, after) = (RecentMessages::new(1 << 20), head(1, 1), head(2, 2));
        let mark = recent.mark();
        recent.keep(mark, ThreadId(1), &before, &messages);
        recent.append(mark, ThreadId(1), &before, &after, vec![messages[1].clone()]);
        assert_eq!(recent.get(ThreadId(1), &after, 10).map(|found| found.len()), None, "it would be there twice");
        recent.keep(mark, ThreadId(1), &before, &messages[..1]);
        recent.append(mark, ThreadId(1), &before, &after, vec![messages[1].clone()]);
        assert_eq!(recent.get(ThreadId(1), &after, 10).map(|found| found.len()), Some(2));
    }
}
