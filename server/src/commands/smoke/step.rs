//! The steps: what each is called, and what it demands.
//!
//! | Step | Demands |
//! |---|---|
//! | `/healthz` | `{"status":"ok"}` |
//! | `/readyz` | ready; unless nothing is to be written, writes are taken |
//! | sign user | a signature for this user |
//! | create thread | the thread has this title and author |
//! | post message | a key in this thread |
//! | list messages | this message alone, byte for byte; the thread is in the user's list |
//! | read message | the same bytes |
//! | edit message | the new bytes |
//! | delete message | it is gone, from the list too |
//! | delete thread | a receipt, and it is gone, from the list too |
//! | list threads | a list; in place of those from `sign user` on, where nothing is to be written |
//! | `/metrics` | Prometheus text of the server that `/readyz` is of |

/// A step of the test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Healthz,
    Readyz,
    SignUser,
    CreateThread,
    PostMessage,
    ListMessages,
    ReadMessage,
    EditMessage,
    DeleteMessage,
    DeleteThread,
    ListThreads,
    Metrics,
}

impl Step {
    pub(super) const ALL: [Self; 11] = [
        Self::Healthz,
        Self::Readyz,
        Self::SignUser,
        Self::CreateThread,
        Self::PostMessage,
        Self::ListMessages,
        Self::ReadMessage,
        Self::EditMessage,
        Self::DeleteMessage,
        Self::DeleteThread,
        Self::Metrics,
    ];
    /// Those that write nothing.
    pub(super) const READING: [Self; 4] = [Self::Healthz, Self::Readyz, Self::ListThreads, Self::Metrics];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Healthz => "/healthz",
            Self::Readyz => "/readyz",
            Self::SignUser => "sign user",
            Self::CreateThread => "create thread",
            Self::PostMessage => "post message",
            Self::ListMessages => "list messages",
            Self::ReadMessage => "read message",
            Self::EditMessage => "edit message",
            Self::DeleteMessage => "delete message",
            Self::DeleteThread => "delete thread",
            Self::ListThreads => "list threads",
            Self::Metrics => "/metrics",
        }
    }
}
