//! Why an object store was of no use, by what the operator can do about it.

use std::error::Error as _;
use std::io;

use super::super::error::{STOPPED, is_stop};
use super::super::place::Listed;
use super::super::{Failed, Refused};
use super::Location;
use super::location::Scheme;

/// Why nothing was sent, read or removed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The URL names no place.
    #[error("{url} is no place for backups: {why}")]
    Url {
        /// What was given.
        url: String,
        /// What is wrong with it.
        why: String,
    },
    /// The settings for it cannot be used.
    #[error("{place} cannot be reached with these settings: {why}")]
    Settings {
        /// The object store, or the setting.
        place: String,
        /// What is wrong with them.
        why: String,
    },
    /// There is no such backup.
    #[error("{what} does not exist: check --in, and list with `progressdb backup list --in`")]
    Missing {
        /// What was looked for.
        what: String,
    },
    /// It holds backups of several databases.
    #[error("{place} has backups of several databases: give one of these URLs to --in, or another that is listed{}", lines(.newest))]
    Several {
        /// The object store.
        place: String,
        /// The newest of each.
        newest: Vec<Listed>,
    },
    /// The object store knows the caller and refuses, or does not know the caller.
    #[error(
        "{place} refuses {doing}: {reason}; check the credentials, and that they may read, write, list and delete there"
    )]
    Denied {
        /// The object store.
        place: String,
        /// What was tried.
        doing: String,
        /// What it said.
        reason: String,
    },
    /// There are no credentials.
    #[error("no credentials for {place}: set {variables}, or run where the cloud provides them: {reason}")]
    NoCredentials {
        /// The object store.
        place: String,
        /// What they are read from.
        variables: &'static str,
        /// Where they were looked for at last.
        reason: String,
    },
    /// The bucket does not exist.
    #[error("{place} has no such bucket: create it, or check the URL and backup.endpoint")]
    NoBucket {
        /// The object store.
        place: String,
    },
    /// The request was signed at a time that the object store does not accept.
    #[error("{place} refuses the time of this machine: set its clock, for instance with NTP, and try again")]
    ClockSkewed {
        /// The object store.
        place: String,
    },
    /// It failed, again and again, or was not reached.
    #[error(
        "{place} fails at {doing}: {reason}; what was sent is kept, so try again later, or check backup.endpoint and the network"
    )]
    Unavailable {
        /// The object store.
        place: String,
        /// What was tried.
        doing: String,
        /// The last failure.
        reason: String,
    },
    /// Objects are being removed there, and that does not end.
    #[error("a prune of {place} is under way since more than {minutes} minutes: try again when it has ended")]
    Busy {
        /// The object store.
        place: String,
        /// How long was waited.
        minutes: u64,
    },
    /// What is there is not what was written.
    #[error("{backup} is damaged: {what}; use another backup. The next backup sends damaged files again")]
    Damaged {
        /// Which backup.
        backup: String,
        /// Which file, and what is wrong with it.
        what: String,
    },
    /// A backup that this version does not read.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// A disk does not take the backup.
    #[error(transparent)]
    Failed(#[from] Failed),
    /// The system failed.
    #[error("{what}")]
    Io {
        /// What was tried.
        what: String,
        /// Why it failed.
        source: io::Error,
    },
}

impl Error {
    pub(in crate::backup) fn io(what: impl Into<String>, source: io::Error) -> Self {
        Self::Io { what: what.into(), source }
    }

    /// The exit code of the process.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Url { .. } | Self::Several { .. } => 2,
            Self::Missing { .. } => 5,
            Self::Damaged { .. } => 7,
            Self::Busy { .. } => 75,
            Self::Settings { .. } => 78,
            Self::Refused(refused) => refused.exit_code(),
            Self::Failed(failed) => failed.exit_code(),
            Self::Io { source, .. } if is_stop(source) => STOPPED,
            _ => 1,
        }
    }

    /// As metrics name it.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Denied { .. } | Self::NoCredentials { .. } => "denied",
            Self::NoBucket { .. } | Self::Missing { .. } => "missing",
            Self::ClockSkewed { .. } => "clock",
            Self::Unavailable { .. } | Self::Busy { .. } => "unavailable",
            Self::Damaged { .. } => "damaged",
            Self::Url { .. } | Self::Several { .. } | Self::Settings { .. } => "settings",
            Self::Refused(_) | Self::Failed(_) | Self::Io { .. } => "io",
        }
    }

    /// What a failure of the library means. `doing` follows "fails at".
    pub(super) fn of(location: &Location, doing: &str, error: &object_store::Error) -> Self {
        let (place, doing) = (location.place().to_string(), doing.to_owned());
        if location.scheme() == Scheme::File {
            return Self::io(format!("{place} fails at {doing}"), io_error(error));
        }
        let (text, reason) = (all_causes(error), last_cause(error));
        let says = |words: &[&str]| words.iter().any(|word| text.contains(word));
        match error {
            _ if says(&["RequestTimeTooSkewed"]) => Self::ClockSkewed { place },
            _ if says(&["NoSuchBucket", "ContainerNotFound", "bucket does not exist"]) => Self::NoBucket { place },
            // The metadata services of clouds, which are asked when nothing else gave credentials.
            _ if says(&["169.254.", "metadata.google.internal"]) => {
                Self::NoCredentials { place, variables: variables(location.scheme()), reason }
            }
            object_store::Error::PermissionDenied { .. } | object_store::Error::Unauthenticated { .. } => {
                Self::Denied { place, doing, reason }
            }
            _ if says(&["InvalidAccessKeyId", "SignatureDoesNotMatch", "AuthenticationFailed", "InvalidToken"]) => {
                Self::Denied { place, doing, reason }
            }
            _ if says(&["without LOCATION", "AuthorizationHeaderMalformed", "PermanentRedirect"]) => {
                let why = format!("{reason}; backup.region must name the region of the bucket");
                Self::Settings { place, why }
            }
            object_store::Error::NotFound { path, .. } => Self::Missing { what: format!("{place}: {path}") },
            _ => Self::Unavailable { place, doing, reason },
        }
    }
}

/// Whether what was to be removed is gone already; of several objects that are removed at once, some stores call it another
/// error.
pub(super) fn is_gone(error: &object_store::Error) -> bool {
    matches!(error, object_store::Error::NotFound { .. }) || all_causes(error).contains("NoSuchKey")
}

/// A line for each.
fn lines(backups: &[Listed]) -> String {
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    let line = |backup: &Listed| {
        format!("\n{} database_id={} created={}", backup.at, text(&backup.database_id), text(&backup.created))
    };
    backups.iter().map(line).collect()
}

fn variables(scheme: Scheme) -> &'static str {
    match scheme {
        Scheme::Azure => "AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY",
        Scheme::Gcs => "GOOGLE_APPLICATION_CREDENTIALS",
        Scheme::S3 | Scheme::File => "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
    }
}

fn all_causes(error: &object_store::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

/// What failed first, as short as it is said: `AccessDenied: Access Denied`, `Connection refused (os error 111)`.
pub(super) fn last_cause(error: &(dyn std::error::Error + 'static)) -> String {
    let mut last = error;
    while let Some(cause) = last.source() {
        last = cause;
    }
    let text = last.to_string();
    let text = match (between(&text, "<Code>", "</Code>"), between(&text, "<Message>", "</Message>")) {
        (Some(code), Some(message)) => format!("{code}: {message}"),
        _ => text.trim_start_matches("Server returned non-2xx status code: ").to_owned(),
    };
    let line: String = text.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(300).collect();
    line.trim_end_matches([':', ' ', '.']).to_owned()
}

fn between<'a>(text: &'a str, before: &str, after: &str) -> Option<&'a str> {
    let rest = &text[text.find(before)? + before.len()..];
    Some(rest[..rest.find(after)?].trim())
}

/// The failure of the system below a failure of the library, with its kind.
fn io_error(error: &object_store::Error) -> io::Error {
    let mut cause = error.source();
    while let Some(inner) = cause {
        if let Some(error) = inner.downcast_ref::<io::Error>() {
            return match error.raw_os_error() {
                Some(number) => io::Error::from_raw_os_error(number),
                None => io::Error::new(error.kind(), error.to_string()),
            };
        }
        cause = inner.source();
    }
    io::Error::other(error.to_string())
}
