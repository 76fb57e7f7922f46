//! The format in which rows are written: that of the store, which may change while servers of a shared store run.
//!
//! Whoever encodes rows of a commit holds a [`Writing`] from before the first of them until the commit is answered. So once
//! another format is followed, it is known when nothing in the former one is on its way to the store any more.

use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Mutex as AsyncMutex, oneshot, watch};

/// The format of this process, and what is on its way in others.
pub(super) struct WrittenFormat {
    current: Mutex<Current>,
    /// Of each format before that may still be written, what tells its end.
    former: AsyncMutex<Vec<oneshot::Receiver<Infallible>>>,
    /// The format of the store, if this version cannot go on with it.
    unreadable: watch::Sender<Option<u32>>,
}

struct Current {
    turn: Arc<Turn>,
    over: oneshot::Receiver<Infallible>,
}

/// The time of one format.
struct Turn {
    format: u32,
    /// Dropped with the last [`Writing`] of this time.
    _open: oneshot::Sender<Infallible>,
}

/// A write in the making, in one format.
#[must_use = "kept until the commit is answered"]
pub(super) struct Writing(Arc<Turn>);

impl Writing {
    /// The format in which its rows are encoded.
    pub(super) fn format(&self) -> u32 {
        self.0.format
    }
}

impl Current {
    fn of(format: u32) -> Self {
        let (open, over) = oneshot::channel();
        Self { turn: Arc::new(Turn { format, _open: open }), over }
    }
}

impl WrittenFormat {
    pub(super) fn new(format: u32) -> Self {
        let (current, former) = (Mutex::new(Current::of(format)), AsyncMutex::default());
        Self { current, former, unreadable: watch::Sender::new(None) }
    }

    fn current(&self) -> MutexGuard<'_, Current> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The format in which a write that begins now is written.
    pub(super) fn number(&self) -> u32 {
        self.current().turn.format
    }

    /// Begins a write.
    pub(super) fn begin_write(&self) -> Writing {
        Writing(self.current().turn.clone())
    }

    /// Writes in that format from now on, and waits until no write in another one is on its way.
    pub(super) async fn follow(&self, format: u32) {
        let mut former = self.former.lock().await;
        {
            let mut current = self.current();
            if current.turn.format != format {
                former.push(std::mem::replace(&mut *current, Current::of(format)).over);
            }
        }
        // Who stops waiting leaves the rest to who comes next.
        while let Some(over) = former.last_mut() {
            let _ = over.await;
            former.pop();
        }
    }

    /// The store is of a format that this version cannot go on with.
    pub(super) fn refuse(&self, format: u32) {
        self.unreadable.send_replace(Some(format));
    }

    /// Waits until there is such a format.
    pub(super) async fn unreadable(&self) -> u32 {
        let mut unreadable = self.unreadable.subscribe();
        let found = unreadable.wait_for(Option::is_some).await.ok().and_then(|found| *found);
        match found {
            Some(format) => format,
            None => std::future::pending().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn a_format_is_followed_when_no_write_in_the_one_before_is_on_its_way() {
        let written = WrittenFormat::new(1);
        let (first, second) = (written.begin_write(), written.begin_write());
        assert_eq!(written.follow(2).now_or_never(), None, "two writes are on their way");
        let new = written.begin_write();
        assert_eq!((first.format(), new.format(), written.number()), (1, 2, 2), "new ones do not wait");
        drop(first);
        assert_eq!(written.follow(2).now_or_never(), None, "who waits anew waits for the same");
        drop(second);
        assert_eq!(written.follow(2).now_or_never(), Some(()), "those in the new format are not waited for");
        drop(new);
    }
}
