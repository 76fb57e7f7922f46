//! The newest messages of threads that are being read, in memory.
//!
//! Most reads of a chat want the end of a thread, and rows that were just written lie scattered until they are
//! compacted. A tail is good for one revision of the thread's head and for no other, so a reader that finds the head
//! at another revision reads the rows. Appends carry a tail over to the next revision; any other change lets it lapse.

use std::sync::Arc;

use moka::sync::Cache;

use crate::model::{Message, ThreadId};
use crate::rows::Head;
use crate::store::SCAN_BYTES;

/// The most messages that a tail holds.
pub(super) const LONGEST: usize = 100;
/// What a message takes beside its body.
const BYTES_A_MESSAGE: usize = 256;

/// The tails, within a budget of memory.
pub(super) struct Tails(Cache<ThreadId, Arc<Tail>>);

struct Tail {
    revision: u64,
    messages: Vec<Arc<Message>>,
}

impl Tail {
    fn bytes(&self) -> u32 {
        let bytes: usize = self.messages.iter().map(|m| BYTES_A_MESSAGE + m.content.body.get().len()).sum();
        u32::try_from(bytes).unwrap_or(u32::MAX)
    }
}

impl Tails {
    pub(super) fn new(bytes: u64) -> Self {
        Self(Cache::builder().max_capacity(bytes).weigher(|_, tail: &Arc<Tail>| tail.bytes()).build())
    }

    /// The newest `limit` messages of a thread whose head is `head`, oldest first, if they are known.
    pub(super) fn get(&self, thread: ThreadId, head: &Head, limit: usize) -> Option<Vec<Arc<Message>>> {
        let tail = self.0.get(&thread).filter(|tail| tail.revision == head.revision)?;
        let wanted = usize::try_from(head.live).unwrap_or(usize::MAX).min(limit);
        let start = tail.messages.len().checked_sub(wanted)?;
        Some(tail.messages[start..].to_vec())
    }

    /// Wipes the tail of a thread that is no more.
    pub(super) fn forget(&self, thread: ThreadId) {
        self.0.invalidate(&thread);
    }

    /// Keeps what was read while the head was, before and after the read, `head`.
    pub(super) fn keep(&self, thread: ThreadId, head: &Head, messages: &[Arc<Message>]) {
        if messages.len() <= LONGEST {
            self.0.insert(thread, Arc::new(Tail { revision: head.revision, messages: messages.to_vec() }));
        }
    }

    /// Carries a known tail over a commit that appended `messages` and took the head from `before` to `after`.
    pub(super) fn append(
        &self,
        thread: ThreadId,
        before: &Head,
        after: &Head,
        messages: impl Iterator<Item = Arc<Message>>,
    ) {
        let Some(tail) = self.0.get(&thread).filter(|tail| tail.revision == before.revision) else { return };
        let mut messages: Vec<_> = tail.messages.iter().cloned().chain(messages).collect();
        messages.drain(..messages.len().saturating_sub(LONGEST));
        let tail = Tail { revision: after.revision, messages };
        // A page from memory is bounded as one from the rows is.
        if usize::try_from(tail.bytes()).is_ok_and(|bytes| bytes <= SCAN_BYTES) {
            self.0.insert(thread, Arc::new(tail));
        }
    }
}
