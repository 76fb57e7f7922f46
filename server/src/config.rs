//! The configuration: one checked [`Config`] from defaults, a YAML file, the environment and flags.
//!
//! Later sources win: defaults < YAML < environment (`.env` below the real one) < flags. `settings.rs` is the one table
//! of what exists; loading, checking, `progressdb config` and `docs/configuration.md` all follow from it.
//! Every problem is reported, not only the first, and each names the key, the value, where it came from and what is
//! allowed. The values of secrets never appear in a message or in output.
//!
//! This module alone reads the process environment, and reads nothing of the store.

mod backup;
mod cassandra;
mod check;
mod effective;
mod encryption;
mod env_file;
mod hints;
mod key_files;
mod origins;
mod outgoing;
mod running;
mod setting;
mod settings;
mod show;
mod sources;
mod value;

use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use serde::Serialize;

use crate::crypt::kms;
use crate::http::{self, ApiKeys, RateLimit, listen};
use crate::store::SharedSettings;
use crate::telemetry::{Collector, Log};

pub use self::{
    backup::Backup,
    key_files::{Found, KeyFiles, read_key},
    outgoing::proxies_of,
    running::{Reread, Running},
    show::reference,
    sources::{Environment, Flags, Source, Sources},
};

/// The checked configuration of one server.
#[derive(Clone, Debug)]
pub struct Config {
    /// The data directory.
    pub db_path: PathBuf,
    /// Where the API listens. Port 0 lets the system choose.
    pub listen: SocketAddr,
    /// Where metrics and health are served without a key, if anywhere.
    pub management: Option<SocketAddr>,
    /// No keys are configured, and the address is a loopback one or was given by a flag: `serve` generates keys.
    pub development: bool,
    /// Rehearsal on a copy of the data: no background job runs and no key is made. Set by a flag of `serve`.
    pub rehearsal: bool,
    /// The largest request body.
    pub max_payload_bytes: usize,
    /// Connections beyond this wait until others close; the limit of open files may allow fewer.
    pub max_connections: usize,
    /// Request bodies in memory at one time, all together.
    pub max_body_memory_bytes: usize,
    /// Responses that clients have not received yet, all together.
    pub max_reply_memory_bytes: usize,
    /// Origins that browsers may call from; `*` allows all, none means no CORS.
    pub cors_allowed_origins: Vec<String>,
    /// None is unlimited.
    pub rate_limit: Option<RateLimit>,
    /// Peers that may connect; empty allows all.
    pub ip_whitelist: Vec<IpAddr>,
    /// API keys by role, and signing keys.
    pub keys: ApiKeys,
    /// The key files, which are read again when they change.
    pub key_files: KeyFiles,
    /// How a stop proceeds.
    pub drain: Drain,
    /// How long a client may take.
    pub timeouts: Timeouts,
    /// What the store may use.
    pub storage: Storage,
    /// The engine that is shared with other servers; the store lies in the data directory if `None`.
    pub cassandra: Option<SharedSettings>,
    /// What raises the format of a store.
    pub finalize: Finalize,
    /// When deleted threads and messages are removed for good.
    pub retention: Retention,
    /// Whether values are sealed, and by whose keys.
    pub encryption: Encryption,
    /// Backups that the server makes by itself, and how object stores are reached.
    pub backup: Backup,
    /// The collector that traces are sent to.
    pub collector: Option<Collector>,
}

impl Config {
    /// The part that the API needs.
    pub fn http(&self) -> http::Settings {
        http::Settings {
            keys: self.keys.clone(),
            cors_allowed_origins: self.cors_allowed_origins.clone(),
            ip_whitelist: self.ip_whitelist.clone(),
            rate_limit: self.rate_limit,
            max_body_bytes: self.max_payload_bytes,
            body_timeout: self.timeouts.body,
            max_body_memory_bytes: self.max_body_memory_bytes,
            max_reply_memory_bytes: self.max_reply_memory_bytes,
            rehearsal: self.rehearsal,
        }
    }

    /// The settings of the listener `name`, which serves at most this many connections at one time.
    pub fn listener(&self, name: &'static str, max_connections: usize) -> listen::Settings {
        listen::Settings {
            name,
            max_connections,
            header_timeout: self.timeouts.header,
            idle_timeout: self.timeouts.idle,
            reply_timeout: self.timeouts.reply,
            drain_timeout: self.drain.timeout,
        }
    }
}

/// The steps of a stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drain {
    /// Not ready, but still serving, for this long.
    pub hold: Duration,
    /// Then requests in flight have this long to finish.
    pub timeout: Duration,
}

/// How long a client may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// From the first byte of a request to the end of its headers.
    pub header: Duration,
    /// For the whole body.
    pub body: Duration,
    /// For the whole response.
    pub reply: Duration,
    /// Between two requests of a connection.
    pub idle: Duration,
}

/// What the store may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Storage {
    /// Writes are refused when less disk than this is free.
    pub reserve_bytes: u64,
    /// Block cache and memtables together.
    pub memory_bytes: u64,
    /// Accept file systems that lose data with the machine or do not keep what was synced.
    pub allow_volatile_fs: bool,
    /// How far the clock may step ahead before somebody has to confirm it.
    pub max_clock_jump: Duration,
    /// Trust the clock at the start, whatever it shows; set by the command line only.
    pub accept_clock: bool,
}

/// What raises the format of a store that an older version made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finalize {
    /// The first start of a version that writes a newer one.
    Auto,
    /// `progressdb migrate --finalize`.
    Manual,
}

/// When deleted threads and messages are removed for good.
#[derive(Clone, Debug)]
pub struct Retention {
    /// Off: nothing is ever removed.
    pub enabled: bool,
    /// When it runs, in UTC.
    pub cron: croner::Cron,
    /// How long a deleted message is kept.
    pub message_ttl: Duration,
    /// How long a deleted thread is kept.
    pub thread_ttl: Duration,
}

/// Whether values are sealed, and by whose keys.
#[derive(Clone, Debug)]
pub struct Encryption {
    /// What is written is sealed; only with a KMS.
    pub enabled: bool,
    /// The KMS, if its settings are complete.
    pub kms: Option<kms::Settings>,
    /// What is missing, if they are not.
    pub missing: Vec<Problem>,
    /// The age at which an epoch key is followed by a new one.
    pub epoch_age: Duration,
    /// Data keys kept in memory.
    pub key_cache: usize,
    /// Keys a second that are wrapped anew in the background.
    pub rewrap_rate: u32,
    /// How long logs and backups may still hold a key that was erased.
    pub erasure_horizon: Duration,
    /// How often the KMS is probed while it works.
    pub probe_interval: Duration,
    /// How often while it does not.
    pub probe_interval_failing: Duration,
}

/// One reason why a configuration is refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// The full name of the setting.
    pub key: String,
    /// What was given, masked if the setting is secret; nothing if it is missing.
    pub value: Option<String>,
    /// What is allowed instead.
    pub allowed: String,
    /// The file, variable or flag that it came from.
    pub source: String,
    /// All of this in one line.
    pub message: String,
}

impl Problem {
    fn new(key: &str, value: Option<String>, source: &Source, what: &str, allowed: &str) -> Self {
        Self {
            key: key.to_owned(),
            message: format!("{key}: {what}: want {allowed}"),
            value,
            allowed: allowed.to_owned(),
            source: source.to_string(),
        }
    }
}

/// A problem that does not stop the server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Warning {
    /// The full name of the setting or variable.
    pub key: String,
    /// The file, variable or flag that it came from.
    pub source: String,
    /// The text, naming the key.
    pub message: String,
    /// A setting of an earlier release that has no effect: logged as information.
    #[serde(skip)]
    pub no_effect: bool,
}

/// Logs the warnings. Settings without effect share one line, because a file of Go 0.2 has dozens.
pub fn log_warnings(warnings: &[Warning]) {
    let (odd, no_effect) = sort_warnings(warnings);
    for warning in odd {
        tracing::warn!(event = "config.warning", key = warning.key, source = warning.source, "{}", warning.message);
    }
    if let Some(keys) = no_effect {
        tracing::info!(event = "config.no_effect", keys, "settings that are accepted and have no effect");
    }
}

/// The other warnings, and the names of the settings without effect, if there are any.
pub fn sort_warnings(warnings: &[Warning]) -> (Vec<&Warning>, Option<String>) {
    let (no_effect, odd): (Vec<_>, Vec<_>) = warnings.iter().partition(|warning| warning.no_effect);
    let keys: Vec<_> = no_effect.iter().map(|warning| warning.key.as_str()).collect();
    (odd, (!keys.is_empty()).then(|| keys.join(", ")))
}

/// Every reason why a configuration is refused; never empty.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{}", .0.iter().map(|problem| problem.message.as_str()).collect::<Vec<_>>().join("\n"))]
pub struct Error(pub Vec<Problem>);

/// What loading gave: the configuration or why it is refused, and the warnings.
#[derive(Debug)]
pub struct Loaded {
    /// The configuration, if nothing is wrong with it.
    pub config: Result<Config, Error>,
    /// Also present when the configuration is refused.
    pub warnings: Vec<Warning>,
    /// How to log, known even when the rest is refused.
    pub log: Log,
    effective: effective::Effective,
}

impl Loaded {
    /// The configuration, and the handle by which a running server reads the same `sources` again.
    pub fn into_running(self, sources: Sources) -> Result<(Config, Running), Error> {
        let config = self.config?;
        let running = Running::new(sources, self.effective, &config);
        Ok((config, running))
    }

    /// The effective configuration as YAML: every setting with an effect, its source as a comment, secrets masked.
    pub fn to_yaml(&self) -> String {
        show::to_yaml(&self.effective)
    }

    /// The same by the full name of each setting: `{"value","source"}`, for a backup.
    pub fn to_json(&self) -> serde_json::Value {
        show::to_json(&self.effective)
    }

    /// The files that the configuration was read from, and those that it names.
    pub fn named_files(&self) -> Vec<PathBuf> {
        let mut files = vec![PathBuf::from(".env")];
        for (key, (value, source)) in &self.effective.0 {
            if let Source::File(path) = source {
                files.push(path.clone());
            }
            match value {
                value::Value::Text(path) if key.ends_with("_file") => files.push(path.into()),
                value::Value::Texts(paths) if key.ends_with("_files") => files.extend(paths.iter().map(PathBuf::from)),
                _ => {}
            }
        }
        files
    }

    /// `{"valid","errors","warnings"}`, what `progressdb config check --json` prints.
    pub fn to_report(&self) -> serde_json::Value {
        let errors = self.config.as_ref().err().map(|error| error.0.as_slice()).unwrap_or_default();
        serde_json::json!({ "valid": self.config.is_ok(), "errors": errors, "warnings": self.warnings })
    }
}

/// Reads, merges and checks all sources. Touches the YAML file, `.env` and key files, nothing else.
pub fn load(sources: &Sources) -> Loaded {
    check::check(sources::merge(sources), &sources.environment)
}

/// Loads the configuration for a check of the KMS. If `--config` names a file that names a KMS, that KMS is checked and
/// the KMS settings of the environment are not applied; a warning names each of them.
pub fn load_for_kms_check(sources: &Sources) -> Loaded {
    let all = load(sources);
    let Some(file) = &sources.flags.config else { return all };
    let mut of_file = load(&Sources { only_file: true, ..sources.clone() });
    let sets_kms = |(key, value): &(&&str, &(value::Value, Source)), from: fn(&Source) -> bool| {
        key.starts_with("encryption.kms.") && !KMS_PACE.contains(key) && from(&value.1)
    };
    if !of_file.effective.0.iter().any(|entry| sets_kms(&entry, |source| matches!(source, Source::File(_)))) {
        return all;
    }
    let of_environment = |source: &Source| matches!(source, Source::Variable(_) | Source::EnvFile(_));
    for (key, (_, source)) in all.effective.0.iter().filter(|entry| sets_kms(entry, of_environment)) {
        let message = format!(
            "{source} is not applied: the KMS that is checked is the one that {} names; leave --config out, or name the file in PROGRESSDB_CONFIG, to check what a server with these variables would use",
            file.display()
        );
        let warning = Warning { key: (*key).to_owned(), source: source.to_string(), message, no_effect: false };
        of_file.warnings.push(warning);
    }
    of_file
}

/// A size as settings have it, such as `100MB`, from the command line.
pub fn parse_size(text: &str) -> Result<u64, String> {
    let want = "want bytes as a number, or with a unit: 64KiB, 100MB, 1GiB";
    value::parse_size(&text.into()).filter(|bytes| *bytes > 0).ok_or_else(|| want.to_owned())
}

/// A duration as settings have it, such as `720h`, from the command line.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let want = "want a duration such as 90m or 720h; a day is 24h";
    value::parse_duration(&text.into()).ok_or_else(|| want.to_owned())
}

/// Settings of how a KMS is called, not of which one it is.
const KMS_PACE: [&str; 5] = [
    "encryption.kms.timeout",
    "encryption.kms.grace",
    "encryption.kms.seal_grace",
    "encryption.kms.probe_interval",
    "encryption.kms.probe_interval_failing",
];

#[cfg(test)]
mod tests;
