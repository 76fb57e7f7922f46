//! From merged values to a [`Config`]: reads every value by its kind, then checks what concerns more than one.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
};

use serde_json::Value as Json;

use super::{
    Config, Drain, Environment, Error, Finalize, KeyFiles, Loaded, Problem, Retention, Source, Storage, Timeouts,
    Warning,
    effective::Effective,
    hints,
    key_files::{KeyFile, KeyList},
    origins,
    settings::{Effect, SETTINGS},
    sources::Merged,
    value::{ANY_HOST, MASK, Value, parse_cron, parse_host},
};
use crate::http::ApiKeys;

pub(super) const NOT_ALLOWED: &str = "is not allowed";

pub(crate) struct Checker {
    pub(super) values: Effective,
    pub(super) problems: Vec<Problem>,
    warnings: Vec<Warning>,
}

/// Reads and checks everything, and reports all problems at once.
pub(crate) fn check(merged: Merged, environment: &Environment) -> Loaded {
    let mut checker = Checker::read(merged);
    let key_files = checker.key_files();
    let keys = key_files.keys();
    let listen = checker.listen(&keys);
    let mut encryption = checker.encryption();
    let collector = checker.outgoing(environment, &mut encryption);
    let backup = checker.backup(environment);
    let cassandra = checker.cassandra();
    let values = &checker.values;
    let log = values.log(environment);
    let config = Config {
        db_path: PathBuf::from(values.text("server.db_path")),
        development: keys.is_empty() && checker.may_make_keys(listen),
        rehearsal: false,
        listen,
        management: values.host_port("server.management_address"),
        max_payload_bytes: values.bytes("server.max_payload_size"),
        max_connections: values.count("server.max_connections"),
        max_body_memory_bytes: values.bytes("server.max_body_memory"),
        max_reply_memory_bytes: values.bytes("server.max_reply_memory"),
        cors_allowed_origins: values.texts("server.cors.allowed_origins"),
        rate_limit: values.rate_limit(),
        ip_whitelist: values.texts("server.ip_whitelist").iter().filter_map(|text| text.parse().ok()).collect(),
        keys,
        key_files,
        drain: Drain { hold: values.duration("drain.hold"), timeout: values.duration("drain.timeout") },
        timeouts: Timeouts {
            header: values.duration("server.timeouts.header"),
            body: values.duration("server.timeouts.body"),
            reply: values.duration("server.timeouts.reply"),
            idle: values.duration("server.timeouts.idle"),
        },
        storage: Storage {
            reserve_bytes: values.size("storage.reserve"),
            memory_bytes: values.size("storage.memory"),
            allow_volatile_fs: values.flag("storage.allow_volatile_fs"),
            max_clock_jump: values.duration("storage.max_clock_jump"),
            accept_clock: false,
        },
        cassandra,
        finalize: if values.text("format.finalize") == "manual" { Finalize::Manual } else { Finalize::Auto },
        retention: Retention {
            enabled: values.flag("retention.enabled"),
            cron: parse_cron(&values.text("retention.cron")).expect("read as a schedule before"),
            message_ttl: values.duration("retention.mttl"),
            thread_ttl: values.duration("retention.tttl"),
        },
        encryption,
        backup,
        collector,
    };
    checker.check_keys(&config);
    checker.check_limits(&config);
    checker.check_origins(&config);
    let Checker { values, problems, warnings } = checker;
    let config = if problems.is_empty() { Ok(config) } else { Err(Error(problems)) };
    Loaded { config, warnings, log, effective: values }
}

impl Checker {
    fn read(mut merged: Merged) -> Self {
        let mut checker =
            Checker { values: Effective(BTreeMap::new()), problems: merged.problems, warnings: merged.warnings };
        let mut refused = Vec::new();
        for setting in SETTINGS.iter().filter(|setting| setting.effect == Effect::Active) {
            let default = || (setting.default_value(), Source::Default);
            let value = match merged.values.remove(setting.key) {
                None => default(),
                Some((raw, source)) => match setting.kind.parse(&raw) {
                    Some(value) => {
                        if let Some(mistake) = hints::likely_mistake(setting.kind, &raw, &source) {
                            checker.warn(setting.key, &source, format!("{} from {source} {mistake}", setting.key));
                        }
                        (value, source)
                    }
                    None => {
                        refused.push((setting, raw, source));
                        default()
                    }
                },
            };
            checker.values.0.insert(setting.key, value);
        }
        // Settings of a feature that is off do not stop the server.
        let unused: Vec<_> = ["retention", "encryption"]
            .into_iter()
            .filter(|section| !checker.values.flag(&format!("{section}.enabled")))
            .collect();
        for (setting, raw, source) in refused {
            let shown = if setting.is_secret() { MASK.to_owned() } else { show_raw(&raw) };
            let what = format!("{shown} from {source} {NOT_ALLOWED}");
            let allowed = setting.kind.allowed() + &hints::hint(setting.kind, &raw);
            let problem = Problem::new(setting.key, Some(shown), &source, &what, &allowed);
            let (section, name) = setting.key.split_once('.').expect("every setting has a section");
            if unused.contains(&section) && name != "enabled" {
                checker.warn(setting.key, &source, problem.message);
            } else {
                checker.problems.push(problem);
            }
        }
        checker
    }

    fn key_files(&mut self) -> KeyFiles {
        KeyFiles {
            backend: self.key_list("server.api_keys.backend", "server.api_keys.backend_file"),
            frontend: self.key_list("server.api_keys.frontend", "server.api_keys.frontend_file"),
            admin: self.key_list("server.api_keys.admin", "server.api_keys.admin_file"),
            signing: self.key_list("server.api_keys.signing", "server.api_keys.signing_file"),
        }
    }

    fn key_list(&mut self, inline: &'static str, file: &'static str) -> KeyList {
        let inline = self.values.secrets(inline);
        let (Value::Text(path), source) = self.values.get(file).clone() else { return KeyList { inline, file: None } };
        match KeyFile::read(PathBuf::from(&path)) {
            Ok(keys) => {
                if keys.has_quotes() {
                    let message =
                        format!("a key in {path} has quotes that are part of it: leave them out if they are not meant");
                    self.warn(file, &source, message);
                }
                KeyList { inline, file: Some(keys) }
            }
            Err(reason) => {
                let what = format!("{path} from {source} {reason}");
                self.problems.push(Problem::new(
                    file,
                    Some(path),
                    &source,
                    &what,
                    "a readable file with one key a line",
                ));
                KeyList { inline, file: None }
            }
        }
    }

    /// Without API keys only this machine may connect, unless configured otherwise, which [`Checker::check_keys`]
    /// checks.
    fn listen(&mut self, keys: &ApiKeys) -> SocketAddr {
        let host = match self.values.get("server.address") {
            (Value::Text(text), _) => parse_host(text).expect("read as a host before"),
            _ if keys.has_api_keys() => ANY_HOST,
            _ => IpAddr::from([127, 0, 0, 1]),
        };
        let (address, _) = self.values.0.get_mut("server.address").expect("in the table");
        *address = Value::Text(host.to_string());
        SocketAddr::new(host, self.values.integer("server.port") as u16)
    }

    /// Keys may be generated on a loopback address, or on one that was given by flag. An address from a file or the
    /// environment may be a container's, where nobody reads what is printed at the start.
    fn may_make_keys(&self, listen: SocketAddr) -> bool {
        // A server without a directory has nowhere to keep them, and others would not know them.
        self.values.texts("storage.cassandra.contact_points").is_empty()
            && (listen.ip().is_loopback() || matches!(self.values.get("server.address").1, Source::Flag(_)))
    }

    fn check_keys(&mut self, config: &Config) {
        // Keys that were refused are reported already.
        if self.problems.iter().any(|problem| problem.key.starts_with("server.api_keys")) {
            return;
        }
        let keys = &config.keys;
        let any = "at least one key in server.api_keys.backend, frontend or admin, or in their _file settings";
        if !keys.has_api_keys() && !self.may_make_keys(config.listen) {
            let (source, what, allowed) = match &config.cassandra {
                Some(_) => {
                    let source = self.values.get("storage.cassandra.contact_points").1.clone();
                    let what = "none are set, and servers that share a store make none".to_owned();
                    (source, what, any.to_owned())
                }
                None => {
                    let source = self.values.get("server.address").1.clone();
                    let what = format!("none are set, but the address is {} from {source}", config.listen.ip());
                    (source, what, format!("{any}, or 127.0.0.1 to try the server without, or the address as --addr"))
                }
            };
            self.problems.push(Problem::new("server.api_keys", None, &source, &what, &allowed));
        } else if !keys.has_api_keys() && !keys.signing.is_empty() {
            let source = self.values.get("server.api_keys.signing").1.clone();
            self.problems.push(Problem::new("server.api_keys", None, &source, "only signing keys are set", any));
        }
        let signing = "server.api_keys.signing";
        if keys.signing.is_empty() && !keys.frontend.is_empty() {
            let allowed = "at least one key, here or in server.api_keys.signing_file, because frontend keys are set";
            self.problems.push(Problem::new(signing, None, &Source::Default, "not set", allowed));
        } else if keys.signing.is_empty() && keys.has_api_keys() {
            let message = format!("{signing} is not set: /backend/v1/sign will not work");
            self.warn(signing, &Source::Default, message);
        }
    }

    fn check_limits(&mut self, config: &Config) {
        if config.max_body_memory_bytes < config.max_payload_bytes {
            self.refuse("server.max_body_memory", NOT_ALLOWED, "at least server.max_payload_size");
        }
        if config.management.is_some_and(|management| management == config.listen && management.port() != 0) {
            self.refuse("server.management_address", NOT_ALLOWED, "an address other than that of the API");
        }
    }

    /// Refuses origins that no browser sends: such a rule would look as if it worked.
    fn check_origins(&mut self, config: &Config) {
        let key = "server.cors.allowed_origins";
        let source = self.values.get(key).1.clone();
        for origin in &config.cors_allowed_origins {
            if let Some(correct) = origins::correct(origin) {
                let shown = show_raw(&Json::from(origin.as_str()));
                let what = format!("{shown} from {source} can never match");
                self.problems.push(Problem::new(key, Some(shown), &source, &what, &correct));
            }
        }
    }

    /// Refuses a value that is allowed by itself, but not with the other settings. Not for secrets.
    pub(super) fn refuse(&mut self, key: &'static str, why: &str, allowed: &str) {
        let (value, source) = self.values.get(key);
        let shown = value.to_yaml();
        let what = format!("{shown} from {source} {why}");
        self.problems.push(Problem::new(key, Some(shown), source, &what, allowed));
    }

    pub(super) fn warn(&mut self, key: &str, source: &Source, message: String) {
        self.warnings.push(Warning { key: key.to_owned(), source: source.to_string(), message, no_effect: false });
    }
}

/// What was given, short enough for one line.
fn show_raw(raw: &Json) -> String {
    let text = match raw {
        Json::String(text) => text.clone(),
        other => other.to_string(),
    };
    match text.char_indices().nth(80) {
        Some((end, _)) => format!("{:?}...", &text[..end]),
        None if text.is_empty() || text.chars().any(char::is_control) => format!("{text:?}"),
        None => text,
    }
}
