//! `progressdb kms check`: checks that the configured KMS does what a server needs, without touching a store.

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
use crate::serve::runtime;

/// The result of a check that passed.
#[derive(Debug)]
pub(super) struct Checked {
    /// Which provider.
    pub(super) provider: ProviderKind,
    /// The key that wrapped.
    pub key_id: String,
    /// How many epoch keys it opened; none if no file was given.
    pub opened: Option<usize>,
    /// How long the check took.
    pub took: Duration,
}

/// Why a check failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum CheckError {
    /// It does not wrap and unwrap.
    #[error("the KMS provider {provider}")]
    Kms {
        /// Which provider.
        provider: ProviderKind,
        /// Its error.
        source: kms::Error,
    },
    /// It works, but does not open the store's keys.
    #[error(
        "the KMS provider {provider} works, but does not open {} of {total} epoch keys: a server could not start with it",
        failed.len()
    )]
    Unopened {
        /// Which provider.
        provider: ProviderKind,
        /// How many were tried.
        total: usize,
        /// Which did not open; not empty.
        failed: Vec<Unopened>,
    },
    /// Threads could not be started.
    #[error(transparent)]
    Runtime(#[from] StartupError),
}

/// An epoch key that the KMS does not open.
#[derive(Debug, thiserror::Error)]
#[error("epoch {epoch}: {message}")]
pub(super) struct Unopened {
    epoch: u32,
    code: &'static str,
    message: String,
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
                let failed = failed.iter().map(|(epoch, error)| Unopened::new(*epoch, error)).collect();
                return Err(CheckError::Unopened { provider, total, failed });
            }
        }
        Ok(Checked { provider, key_id, opened: wrapped.map(|keys| keys.epochs.len()), took: start.elapsed() })
    })
}

/// Reads a file that holds the response of `GET /admin/encryption/wrapped-keys`.
pub(super) fn read_wrapped_keys(path: &Path) -> Result<WrappedKeys, kms::Error> {
    let unusable = |why: String| {
        let from = "want the response of GET /admin/encryption/wrapped-keys";
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
        match self {
            Self::Kms { provider, source } => report_of_failure(Some(*provider), source.code(), &source.to_string()),
            Self::Runtime(_) => report_of_failure(None, "settings", &with_causes(self)),
            Self::Unopened { provider, failed, .. } => {
                let first = failed.first().map(|first| format!("; {first}")).unwrap_or_default();
                let code = failed.first().map_or("invalid", |first| first.code);
                let mut report = report_of_failure(Some(*provider), code, &format!("{self}{first}"));
                report["failed"] = failed.iter().map(Unopened::to_report).collect();
                report
            }
        }
    }

    /// Each key that did not open.
    pub(super) fn unopened(&self) -> &[Unopened] {
        match self {
            Self::Unopened { failed, .. } => failed,
            Self::Kms { .. } | Self::Runtime(_) => &[],
        }
    }
}

impl Unopened {
    fn new(epoch: u32, error: &EpochError) -> Self {
        let (code, message) = match error {
            EpochError::Kms { error, .. } => (error.code(), error.to_string()),
            EpochError::OtherProvider { .. } => ("wrong_key", with_causes(error)),
            EpochError::NotCommitted { .. } | EpochError::Store(_) => ("invalid", with_causes(error)),
        };
        Self { epoch, code, message }
    }

    fn to_report(&self) -> Value {
        json!({ "epoch": self.epoch.to_string(), "message": self.message })
    }
}

/// The report of a check that failed, also for settings that do not name a KMS.
pub(super) fn report_of_failure(provider: Option<ProviderKind>, code: &str, message: &str) -> Value {
    let provider = provider.map(ProviderKind::as_str);
    json!({ "ok": false, "provider": provider, "error": { "code": code, "message": message } })
}
