//! The configuration of a running server, read again: what of it is applied, and what needs a restart.

use super::{Config, Error, KeyFiles, Problem, Source, Sources, Warning, effective::Effective, load, show};
use crate::http::ApiKeys;
use crate::telemetry::Log;

/// Settings that are applied without a restart, beside the lists of keys.
const LEVEL: &str = "logging.level";
const KEYS: &str = "server.api_keys.";

/// What is in force, and where it came from.
pub struct Running {
    sources: Sources,
    effective: Effective,
    development: bool,
}

/// What reading the configuration again gave.
#[derive(Debug)]
pub struct Reread {
    /// All keys, and where those of files come from; none if the server runs with keys of its own.
    pub keys: Option<(ApiKeys, KeyFiles)>,
    /// What is logged.
    pub log: Log,
    /// Settings that changed and are in force now.
    pub taken: Vec<&'static str>,
    /// Settings that changed and stay as they were until the next start.
    pub needs_restart: Vec<&'static str>,
    /// Its warnings.
    pub warnings: Vec<Warning>,
}

impl Running {
    pub(super) fn new(sources: Sources, effective: Effective, config: &Config) -> Self {
        Self { sources, effective, development: config.development }
    }

    /// What is in force, by the full name of each setting: `{"value","source"}`, for a backup.
    pub fn to_json(&self) -> serde_json::Value {
        show::to_json(&self.effective)
    }

    /// Reads all sources again; the flags and the environment are those of the start. If anything is wrong with them,
    /// nothing changes.
    pub fn reread(&mut self) -> Result<Reread, Error> {
        let loaded = load(&self.sources);
        let config = loaded.config?;
        if config.development && !self.development {
            let allowed = "at least one key: a restart is needed to run with keys of the server's own";
            let problem = Problem::new("server.api_keys", None, &Source::Default, "none are set any more", allowed);
            return Err(Error(vec![problem]));
        }
        let has_level = loaded.log.directives.is_none();
        let is_live = |key: &str| (key == LEVEL && has_level) || (key.starts_with(KEYS) && !self.development);
        let (taken, needs_restart): (Vec<_>, Vec<_>) =
            self.changed(&loaded.effective).into_iter().partition(|key| is_live(key));
        for key in taken.iter().copied() {
            let value = loaded.effective.get(key).clone();
            self.effective.0.insert(key, value);
        }
        Ok(Reread {
            keys: (!self.development).then_some((config.keys, config.key_files)),
            log: loaded.log,
            taken,
            needs_restart,
            warnings: loaded.warnings,
        })
    }

    /// Settings whose value has changed, whatever its source.
    fn changed(&self, other: &Effective) -> Vec<&'static str> {
        let is_other = |key: &str, (value, _): &(super::value::Value, Source)| other.get(key).0 != *value;
        self.effective.0.iter().filter(|(key, value)| is_other(key, value)).map(|(key, _)| *key).collect()
    }
}
