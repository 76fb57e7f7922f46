//! Why a call to a KMS failed.

use std::time::Duration;

/// By what the caller can do about it. `message` is the provider's own, without secrets.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Not reached, no response in time, failing or sealed: may pass by itself.
    #[error("the KMS is not available: {message}")]
    Unavailable {
        /// What happened, for people.
        message: String,
    },
    /// More calls than the KMS, or our own limit, allows: may pass by itself.
    #[error("the KMS was asked too often: {message}")]
    Throttled {
        /// What happened, for people.
        message: String,
        /// When to call again, if the KMS says so.
        retry_after: Option<Duration>,
    },
    /// The identity is refused, expired or lacks the permission.
    #[error("the KMS denies access: {message}")]
    Denied {
        /// What happened, for people.
        message: String,
    },
    /// The key is unknown, disabled, deleted or about to be, or its version is no longer allowed.
    #[error("the KMS key cannot be used: {message}")]
    KeyUnusable {
        /// What happened, for people.
        message: String,
    },
    /// Not wrapped by this key in this context: another context, cut short or altered.
    #[error("the wrapped key does not open: {message}")]
    Invalid {
        /// What happened, for people.
        message: String,
    },
    /// Another key would open it. These are names of keys, never keys.
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
    pub(crate) fn unavailable(message: impl Into<String>) -> Self {
        Self::Unavailable { message: message.into() }
    }

    pub(crate) fn throttled(message: impl Into<String>, retry_after: Option<Duration>) -> Self {
        Self::Throttled { message: message.into(), retry_after }
    }

    pub(crate) fn denied(message: impl Into<String>) -> Self {
        Self::Denied { message: message.into() }
    }

    pub(crate) fn key_unusable(message: impl Into<String>) -> Self {
        Self::KeyUnusable { message: message.into() }
    }

    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::Invalid { message: message.into() }
    }

    /// The same, with the request that it is about before the message.
    pub(crate) fn with_request(mut self, asked: &str) -> Self {
        match &mut self {
            Self::Unavailable { message }
            | Self::Throttled { message, .. }
            | Self::Denied { message }
            | Self::KeyUnusable { message }
            | Self::Invalid { message } => *message = format!("{asked}: {message}"),
            Self::WrongKey { .. } | Self::Settings(_) => {}
        }
        self
    }

    /// Every value of [`Error::code`].
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

    /// Whether the same call may succeed later by itself.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Unavailable { .. } | Self::Throttled { .. })
    }
}
