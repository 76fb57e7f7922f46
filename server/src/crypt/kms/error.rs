//! Why a KMS did not do what it was asked to.

use std::time::Duration;

/// By what the caller can do about it. `words` are the provider's own, without secrets.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Not reached, not answered in time, failing or sealed: may pass by itself.
    #[error("the KMS is not available: {words}")]
    Unavailable {
        /// What was seen.
        words: String,
    },
    /// More calls than the KMS, or our own limit, allows: passes by itself.
    #[error("the KMS was asked too often: {words}")]
    Throttled {
        /// What was seen.
        words: String,
        /// When to ask again, if the KMS says so.
        retry_after: Option<Duration>,
    },
    /// The identity is refused, expired or lacks the permission.
    #[error("the KMS denies access: {words}")]
    Denied {
        /// What was seen.
        words: String,
    },
    /// The key is unknown, disabled, deleted or about to be, or its version is no longer allowed.
    #[error("the KMS key cannot be used: {words}")]
    KeyUnusable {
        /// What was seen.
        words: String,
    },
    /// Not what this key wrapped in this context: another context, cut short or altered.
    #[error("the wrapped key does not open: {words}")]
    Invalid {
        /// What was seen.
        words: String,
    },
    /// Another key would open it; names of keys, never keys.
    #[error(
        "the key was wrapped by {wanted}, but {have} is configured: bring the former back, or restore what matches"
    )]
    WrongKey {
        /// What it was wrapped by.
        wanted: String,
        /// What is there.
        have: String,
    },
    /// A file or another setting of ours is not usable.
    #[error("{0}")]
    Settings(String),
}

impl Error {
    pub(crate) fn unavailable(words: impl Into<String>) -> Self {
        Self::Unavailable { words: words.into() }
    }

    pub(crate) fn throttled(words: impl Into<String>, retry_after: Option<Duration>) -> Self {
        Self::Throttled { words: words.into(), retry_after }
    }

    pub(crate) fn denied(words: impl Into<String>) -> Self {
        Self::Denied { words: words.into() }
    }

    pub(crate) fn key_unusable(words: impl Into<String>) -> Self {
        Self::KeyUnusable { words: words.into() }
    }

    pub(crate) fn invalid(words: impl Into<String>) -> Self {
        Self::Invalid { words: words.into() }
    }

    /// The same, with the request that it is about before the words.
    pub(crate) fn with_request(mut self, asked: &str) -> Self {
        match &mut self {
            Self::Unavailable { words }
            | Self::Throttled { words, .. }
            | Self::Denied { words }
            | Self::KeyUnusable { words }
            | Self::Invalid { words } => *words = format!("{asked}: {words}"),
            Self::WrongKey { .. } | Self::Settings(_) => {}
        }
        self
    }

    /// All that [`Error::code`] says.
    pub(crate) const CODES: [&str; 7] =
        ["unavailable", "throttled", "denied", "key_unusable", "invalid", "wrong_key", "settings"];

    /// One word for machines.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Unavailable { .. } => "unavailable",
            Self::Throttled { .. } => "throttled",
            Self::Denied { .. } => "denied",
            Self::KeyUnusable { .. } => "key_unusable",
            Self::Invalid { .. } => "invalid",
            Self::WrongKey { .. } => "wrong_key",
            Self::Settings(_) => "settings",
        }
    }

    /// Whether the same call may succeed later without anybody doing anything.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Unavailable { .. } | Self::Throttled { .. })
    }
}
