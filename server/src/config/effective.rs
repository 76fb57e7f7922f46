//! The values in effect, by key.

use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf, time::Duration};

use secrecy::SecretString;
use serde_json::Value as Json;

use super::{
    Environment, Source,
    settings::Setting,
    value::{Value, parse_host_port},
};
use crate::http::RateLimit;
use crate::telemetry::{Log, LogFormat};

/// The value of every setting with an effect, with its source. A refused value is replaced by the default, so that the
/// rest can still be checked.
#[derive(Debug)]
pub(crate) struct Effective(pub(crate) BTreeMap<&'static str, (Value, Source)>);

/// Reads by key. The table fixes the kind of each setting, so another kind is a mistake in this file, which any test
/// finds.
impl Effective {
    pub(crate) fn get(&self, key: &str) -> &(Value, Source) {
        self.0.get(key).unwrap_or_else(|| unreachable!("{key} is not in the table"))
    }

    pub(crate) fn text(&self, key: &str) -> String {
        match &self.get(key).0 {
            Value::Text(text) => text.clone(),
            _ => unreachable!("{key} is a text"),
        }
    }

    pub(crate) fn optional_text(&self, key: &str) -> Option<String> {
        match &self.get(key).0 {
            Value::Text(text) => Some(text.clone()),
            Value::Unset => None,
            _ => unreachable!("{key} is a text"),
        }
    }

    pub(crate) fn optional_path(&self, key: &str) -> Option<PathBuf> {
        self.optional_text(key).map(PathBuf::from)
    }

    pub(crate) fn optional_secret(&self, key: &str) -> Option<SecretString> {
        match &self.get(key).0 {
            Value::Secret(secret) => Some(secret.clone()),
            Value::Unset => None,
            _ => unreachable!("{key} is a secret"),
        }
    }

    pub(crate) fn flag(&self, key: &str) -> bool {
        match self.get(key).0 {
            Value::Bool(flag) => flag,
            _ => unreachable!("{key} is true or false"),
        }
    }

    pub(crate) fn integer(&self, key: &str) -> u64 {
        match self.get(key).0 {
            Value::Integer(number) => number,
            _ => unreachable!("{key} is a whole number"),
        }
    }

    pub(crate) fn count(&self, key: &str) -> usize {
        usize::try_from(self.integer(key)).unwrap_or(usize::MAX)
    }

    pub(crate) fn number(&self, key: &str) -> f64 {
        match self.get(key).0 {
            Value::Number(number) => number,
            _ => unreachable!("{key} is a number"),
        }
    }

    pub(crate) fn size(&self, key: &str) -> u64 {
        match self.get(key).0 {
            Value::Size(bytes) => bytes,
            _ => unreachable!("{key} is a size"),
        }
    }

    pub(crate) fn bytes(&self, key: &str) -> usize {
        usize::try_from(self.size(key)).unwrap_or(usize::MAX)
    }

    pub(crate) fn duration(&self, key: &str) -> Duration {
        match self.get(key).0 {
            Value::Duration(duration) => duration,
            _ => unreachable!("{key} is a duration"),
        }
    }

    pub(crate) fn texts(&self, key: &str) -> Vec<String> {
        match &self.get(key).0 {
            Value::Texts(items) => items.clone(),
            _ => unreachable!("{key} is a list of texts"),
        }
    }

    pub(crate) fn secrets(&self, key: &str) -> Vec<SecretString> {
        match &self.get(key).0 {
            Value::Secrets(keys) => keys.clone(),
            _ => unreachable!("{key} is a list of secrets"),
        }
    }

    pub(crate) fn host_port(&self, key: &str) -> Option<SocketAddr> {
        match &self.get(key).0 {
            Value::Text(text) => parse_host_port(text).map(SocketAddr::from),
            _ => None,
        }
    }

    pub(crate) fn rate_limit(&self) -> Option<RateLimit> {
        let rps = self.number("server.rate_limit.rps");
        let burst = match self.integer("server.rate_limit.burst") {
            0 => rps.ceil() as u32,
            burst => burst as u32,
        };
        (rps > 0.0).then_some(RateLimit { rps, burst })
    }

    pub(crate) fn log(&self, environment: &Environment) -> Log {
        Log {
            level: self.text("logging.level").parse().expect("every choice is a level"),
            directives: environment.get("RUST_LOG").map(str::to_owned),
            format: if self.text("logging.format") == "json" { LogFormat::Json } else { LogFormat::Text },
        }
    }
}

impl Setting {
    /// The default, as a value.
    pub(crate) fn default_value(&self) -> Value {
        if self.default.is_empty() {
            return self.kind.parse(&Json::Array(Vec::new())).unwrap_or(Value::Unset);
        }
        self.kind.parse(&Json::from(self.default)).expect("defaults are allowed values")
    }
}
