//! `progressdb kms check`: whether the configured KMS does what a server needs of it, without touching a store.

use std::fs;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use super::with_causes;
use crate::clock::monotonic;
use crate::crypt::kms::{self, Kms, ProviderKind};
use crate::db::{EpochError, WrappedKeys};
use crate::http::parse_wrapped_keys;
use crate::serve::StartupError;
use crate::serve::offline::runtime;

/// A KMS that works.
#[derive(Debug)]
pub(super) struct Checked {
    /// Which provider.
    pub(super) provider: ProviderKind,
    /// The key that it wraps by.
    pub key_id: String,
    /// Epoch keys that it opened, if there were some to try.
    pub opened: Option<usize>,
    /// How long all of it took.
    pub took: Duration,
}

/// Why a KMS is not the right one, or does not work.
#[derive(Debug, thiserror::Error)]
pub(super) enum CheckError {
    /// It does not wrap and unwrap.
    #[error("the KMS provider {provider}")]
    Kms {
        /// Which provider.
        provider: ProviderKind,
        /// What it said.
        source: kms::Error,
    },
    /// It works, but keys that it should open stay closed.
    #[error(
        "the KMS provider {provider} works, but does not open {} of {total} epoch keys: a server could not start with it",
        failed.len()
    )]
    Unopened {
        /// Which provider.
        provider: ProviderKind,
        /// How many were tried.
        total: usize,
        /// Which did not open, and why; not empty.
        failed: Vec<(u32, EpochError)>,
    },
    /// Threads could not be started.
    #[error(transparent)]
    Runtime(#[from] StartupError),
}

/// Has the KMS wrap and unwrap a random key, and open the wrapped keys of a store if there are some.
pub(super) fn check_kms(settings: kms::Settings, wrapped: Option<&WrappedKeys>) -> Result<Checked, CheckError> {
    let (provider, start) = (settings.kind(), monotonic());
    let failed = |source| CheckError::Kms { provider, source };
    let kms = Kms::new(settings).map_err(failed)?;
    runtime()?.block_on(async {
        let key_id = kms.check().await.map_err(failed)?;
        if let Some(wrapped) = wrapped {
            let (total, failed) = (wrapped.epochs.len(), wrapped.open_with(&kms).await);
            if !failed.is_empty() {
                return Err(CheckError::Unopened { provider, total, failed });
            }
        }
        Ok(Checked { provider, key_id, opened: wrapped.map(|keys| keys.epochs.len()), took: start.elapsed() })
    })
}

/// Reads a file that holds what `GET /admin/encryption/wrapped-keys` answered.
pub(super) fn read_wrapped_keys(path: &Path) -> Result<WrappedKeys, kms::Error> {
    let unusable = |why: String| {
        let from = "want the answer of GET /admin/encryption/wrapped-keys";
        kms::Error::Settings(format!("the file of wrapped keys {}: {why}: {from}", path.display()))
    };
    let json = fs::read(path).map_err(|error| unusable(format!("cannot be read ({error})")))?;
    parse_wrapped_keys(&json).map_err(unusable)
}

impl Checked {
    /// For machines.
    pub(super) fn to_report(&self) -> Value {
        let Self { provider, key_id, opened, took } = self;
        let mut report = json!({ "ok": true, "provider": provider.as_str(), "key_id": key_id });
        report["milliseconds"] = json!(took.as_millis() as u64);
        if let Some(opened) = opened {
            report["opened"] = json!(opened);
        }
        report
    }

    /// For people.
    pub(super) fn to_text(&self) -> String {
        let Self { provider, key_id, opened, took } = self;
        let opened = opened.map(|opened| format!(", and opened {opened} epoch keys")).unwrap_or_default();
        let took = took.as_millis();
        format!("the KMS provider {provider} wrapped and unwrapped a key with {key_id}{opened} in {took} ms")
    }
}

impl CheckError {
    /// For machines.
    pub(super) fn to_report(&self) -> Value {
        let (provider, code) = match self {
            Self::Kms { provider, source } => (Some(*provider), source.code()),
            Self::Unopened { provider, failed, .. } => {
                (Some(*provider), failed.first().map_or("invalid", |(_, error)| code(error)))
            }
            Self::Runtime(_) => (None, "settings"),
        };
        let message = match self {
            Self::Kms { source, .. } => source.to_string(),
            Self::Unopened { failed: keys, .. } => {
                let first = keys.first().map(|(epoch, error)| format!("; epoch {epoch}: {}", message_of(error)));
                format!("{self}{}", first.unwrap_or_default())
            }
            Self::Runtime(_) => with_causes(self),
        };
        let mut report = report_of_failure(provider, code, &message);
        if let Self::Unopened { failed, .. } = self {
            let failed = failed.iter();
            let failed =
                failed.map(|(epoch, error)| json!({ "epoch": epoch.to_string(), "message": message_of(error) }));
            report["failed"] = failed.collect();
        }
        report
    }

    /// Each key that did not open, for people.
    pub(super) fn to_lines(&self) -> Vec<String> {
        let Self::Unopened { failed, .. } = self else { return Vec::new() };
        failed.iter().map(|(epoch, error)| format!("epoch {epoch}: {}", message_of(error))).collect()
    }
}

/// What is reported if the settings did not even name a KMS, too.
pub(super) fn report_of_failure(provider: Option<ProviderKind>, code: &str, message: &str) -> Value {
    let provider = provider.map(ProviderKind::as_str);
    json!({ "ok": false, "provider": provider, "error": { "code": code, "message": message } })
}

fn code(error: &EpochError) -> &'static str {
    match error {
        EpochError::Kms { error, .. } => error.code(),
        EpochError::OtherProvider { .. } => "wrong_key",
        EpochError::NotCommitted { .. } | EpochError::Store(_) => "invalid",
    }
}

fn message_of(error: &EpochError) -> String {
    match error {
        EpochError::Kms { error, .. } => error.to_string(),
        other => with_causes(other),
    }
}
