//! Where values come from, and which one wins: defaults < YAML < `.env` < environment < flags.

use std::{
    collections::BTreeMap,
    fmt, fs, io,
    path::{Path, PathBuf},
};

use secrecy::SecretString;
use serde_json::Value as Json;

use super::{
    Problem, Warning,
    settings::{Effect, PREFIX, SETTINGS, Setting},
    value::ANY_HOST,
};

/// Where a value came from; shown in every message about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// Nowhere: the default.
    Default,
    /// The YAML file, or a key file.
    File(PathBuf),
    /// A variable of the process.
    Variable(String),
    /// A variable of the `.env` file.
    EnvFile(String),
    /// A flag.
    Flag(&'static str),
}

impl fmt::Display for Source {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::Default => write!(out, "the defaults"),
            Source::File(path) => write!(out, "{}", path.display()),
            Source::Variable(name) => write!(out, "{name}"),
            Source::EnvFile(name) => write!(out, "{name} in .env"),
            Source::Flag(name) => write!(out, "{name}"),
        }
    }
}

/// Variables by name. Tests pass their own; only [`Environment::of_process`] reads the real ones.
#[derive(Clone, Debug, Default)]
pub struct Environment(BTreeMap<String, String>);

impl Environment {
    /// The variables of this process. Bytes that are not UTF-8 become replacement characters.
    #[expect(clippy::disallowed_methods, reason = "here, and only here, the environment enters")]
    pub fn of_process() -> Self {
        let lossy = |text: std::ffi::OsString| text.to_string_lossy().into_owned();
        Self(std::env::vars_os().map(|(name, value)| (lossy(name), lossy(value))).collect())
    }

    /// The value of a variable; an empty one counts as not set.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(|value| value.trim()).filter(|value| !value.is_empty())
    }
}

impl Environment {
    /// The variables whose names begin with one of these, for what others name.
    pub(super) fn starting_with(&self, prefixes: &[&str]) -> Vec<(String, SecretString)> {
        let wanted = self.0.keys().filter(|name| prefixes.iter().any(|prefix| name.starts_with(prefix)));
        wanted.filter_map(|name| Some((name.clone(), SecretString::from(self.get(name)?)))).collect()
    }

    fn without_ours(&self) -> Self {
        let of_others = self.0.iter().filter(|(name, _)| !name.starts_with(PREFIX));
        Self(of_others.map(|(name, value)| (name.clone(), value.clone())).collect())
    }

    pub(super) fn insert(&mut self, name: String, value: String) {
        self.0.insert(name, value);
    }
}

impl<const N: usize> From<[(&str, &str); N]> for Environment {
    fn from(pairs: [(&str, &str); N]) -> Self {
        Self(pairs.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
    }
}

/// What the command line sets.
#[derive(Clone, Debug, Default)]
pub struct Flags {
    /// `--config`: the YAML file, which must then exist.
    pub config: Option<PathBuf>,
    /// `--db`: the data directory.
    pub db: Option<PathBuf>,
    /// `--addr`: `HOST:PORT`.
    pub addr: Option<String>,
    /// `--allow-volatile-fs`.
    pub allow_volatile_fs: bool,
}

/// Everything that a configuration can come from.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// The variables.
    pub environment: Environment,
    /// Where `.env` and `config.yaml` are looked for; empty is the working directory.
    pub directory: PathBuf,
    /// The command line.
    pub flags: Flags,
    /// Of our settings, only what the file and the command line say: neither our variables nor `.env`.
    pub only_file: bool,
}

/// The value of highest precedence of each setting that has one, not yet parsed.
#[derive(Debug, Default)]
pub(crate) struct Merged {
    pub(crate) values: BTreeMap<&'static str, (Json, Source)>,
    pub(crate) problems: Vec<Problem>,
    pub(crate) warnings: Vec<Warning>,
}

/// Collects the values of all sources, the lowest precedence first.
pub(crate) fn merge(sources: &Sources) -> Merged {
    let mut merged = Merged::default();
    let (environment, env_file) = match sources.only_file {
        true => (sources.environment.without_ours(), Environment::default()),
        false => {
            let env_file = merged.read_env_file(&sources.directory.join(".env"), &sources.environment);
            (sources.environment.clone(), env_file)
        }
    };
    let explicit = [format!("{PREFIX}SERVER_CONFIG"), format!("{PREFIX}CONFIG")]
        .iter()
        .find_map(|name| environment.get(name).or_else(|| env_file.get(name)))
        .map(PathBuf::from);
    merged.add_artifact_root(&env_file, Source::EnvFile);
    merged.add_artifact_root(&environment, Source::Variable);
    match sources.flags.config.clone().or(explicit) {
        Some(path) => merged.read_yaml_file(&path, true),
        None => merged.read_yaml_file(&sources.directory.join("config.yaml"), false),
    }
    merged.add_environment(&env_file, Source::EnvFile);
    merged.add_environment(&environment, Source::Variable);
    merged.add_flags(&sources.flags);
    merged
}

impl Merged {
    fn set(&mut self, setting: &'static Setting, value: Json, source: Source) {
        if setting.effect == Effect::None {
            self.warnings.push(Warning {
                key: setting.key.to_owned(),
                message: format!("{} from {source} is accepted and has no effect", setting.key),
                source: source.to_string(),
                no_effect: true,
            });
        }
        self.values.insert(setting.key, (value, source));
    }

    fn set_key(&mut self, key: &str, value: Json, source: Source) {
        if let Some(setting) = SETTINGS.iter().find(|setting| setting.key == key) {
            self.set(setting, value, source);
        }
    }

    /// `--addr` and its variable set two settings, host and port. What does not parse is kept, so that the check
    /// refuses it by name.
    fn set_addr(&mut self, addr: &str, source: Source) {
        let (host, port) = addr.rsplit_once(':').unwrap_or((addr, ""));
        let host = if host.is_empty() { ANY_HOST.to_string() } else { host.to_owned() };
        self.set_key("server.address", host.into(), source.clone());
        if addr.contains(':') {
            self.set_key("server.port", port.into(), source);
        }
    }

    fn add_flags(&mut self, flags: &Flags) {
        if let Some(addr) = &flags.addr {
            self.set_addr(addr, Source::Flag("--addr"));
        }
        if let Some(db) = &flags.db {
            self.set_key("server.db_path", db.to_string_lossy().into(), Source::Flag("--db"));
        }
        if flags.allow_volatile_fs {
            self.set_key("storage.allow_volatile_fs", true.into(), Source::Flag("--allow-volatile-fs"));
        }
    }

    /// Changes a default, so it comes before the file.
    fn add_artifact_root(&mut self, environment: &Environment, source: fn(String) -> Source) {
        let name = format!("{PREFIX}ARTIFACT_ROOT");
        if let Some(root) = environment.get(&name) {
            let path = Path::new(root).join("database");
            self.set_key("server.db_path", path.to_string_lossy().into(), source(name));
        }
    }

    fn add_environment(&mut self, environment: &Environment, source: fn(String) -> Source) {
        let value_of = |name: &str| environment.get(name).filter(|value| !is_service_link(name, value));
        let name = format!("{PREFIX}ADDR");
        if let Some(addr) = value_of(&name) {
            self.set_addr(addr, source(name));
        }
        for setting in SETTINGS {
            let names = setting.variables();
            if let Some((name, value)) = names.iter().find_map(|name| Some((name, value_of(name)?))) {
                self.set(setting, value.into(), source(name.clone()));
            }
        }
        let known: Vec<String> = SETTINGS
            .iter()
            .flat_map(Setting::variables)
            .chain(OTHER_VARIABLES.map(|name| format!("{PREFIX}{name}")))
            .collect();
        for name in environment.0.keys().filter(|name| name.starts_with(PREFIX) && value_of(name).is_some()) {
            if !known.contains(name) {
                let near = nearest(name, known.iter().map(String::as_str));
                self.warn_unknown(name, &source(name.clone()), near, "variable");
            }
        }
    }

    fn read_yaml_file(&mut self, path: &Path, must_exist: bool) {
        let text = match fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound && !must_exist => return,
            Err(error) => return self.refuse_file(path, &format!("cannot be read ({error})"), "a readable YAML file"),
        };
        // The parser's own messages may quote the file, and with it a key.
        match serde_saphyr::from_str::<Json>(&text) {
            Ok(Json::Null) => {}
            Ok(Json::Object(sections)) => self.add_section("", sections, path),
            Ok(_) => self.refuse_file(path, "is not a mapping", "YAML with a mapping of sections at the top"),
            Err(_) if text.trim().is_empty() => {}
            Err(error) => {
                let place = error.location().map(|at| format!(" at line {}, column {}", at.line(), at.column()));
                let line = error.location().and_then(|at| text.lines().nth((at.line() as usize).saturating_sub(1)));
                let what = match error.without_snippet() {
                    serde_saphyr::Error::DuplicateMappingKey { .. } => "repeats a key",
                    _ => "is not valid YAML",
                };
                let tabs = line.is_some_and(|line| line.trim_start_matches(' ').starts_with('\t'));
                let allowed = if tabs { "valid YAML, indented by spaces and not by tabs" } else { "valid YAML" };
                self.refuse_file(path, &format!("{what}{}", place.unwrap_or_default()), allowed);
            }
        }
    }

    fn add_section(&mut self, prefix: &str, section: serde_json::Map<String, Json>, path: &Path) {
        let source = Source::File(path.to_owned());
        // Sorted, so that messages come in the same order every time.
        for (name, value) in section.into_iter().collect::<BTreeMap<_, _>>() {
            let key = if prefix.is_empty() { name } else { format!("{prefix}.{name}") };
            let is_section = SETTINGS.iter().any(|setting| is_below(setting.key, &key));
            match (SETTINGS.iter().find(|setting| setting.key == key), value) {
                // `key:` with nothing behind it sets nothing.
                (Some(_), Json::Null) => {}
                (Some(setting), value) => self.set(setting, value, source.clone()),
                (None, Json::Null) if is_section => {}
                (None, Json::Object(inner)) if is_section || !inner.is_empty() => self.add_section(&key, inner, path),
                (None, _) if is_section => {
                    let what = format!("the value in {source} is not allowed");
                    self.problems.push(Problem::new(&key, None, &source, &what, "a section of settings"));
                }
                (None, _) => {
                    let near = nearest(&key, SETTINGS.iter().map(|setting| setting.key));
                    self.warn_unknown(&key, &source, near, "key");
                }
            }
        }
    }

    fn warn_unknown(&mut self, key: &str, source: &Source, near: Option<&str>, what: &str) {
        let place = if what == "key" { format!(" in {source}") } else { String::new() };
        let hint = near.map(|near| format!("; did you mean {near}?")).unwrap_or_default();
        self.warnings.push(Warning {
            key: key.to_owned(),
            source: source.to_string(),
            // Escaped, so that invisible characters show.
            message: format!("unknown {what} {}{place} is ignored{hint}", key.escape_debug()),
            no_effect: false,
        });
    }

    pub(super) fn refuse_file(&mut self, path: &Path, what: &str, allowed: &str) {
        let (shown, source) = (path.display().to_string(), Source::File(path.to_owned()));
        let what = format!("{shown} {what}");
        self.problems.push(Problem::new("config", Some(shown), &source, &what, allowed));
    }
}

/// Variables that are no setting of their own.
const OTHER_VARIABLES: [&str; 4] = ["SERVER_CONFIG", "CONFIG", "ADDR", "ARTIFACT_ROOT"];

/// Kubernetes sets such variables for a Service that is called `progressdb` or `progressdb-server`; they look like ours.
fn is_service_link(name: &str, value: &str) -> bool {
    let about_a_port = name.contains("_PORT_") && ["_TCP", "_UDP"].iter().any(|protocol| name.contains(protocol));
    about_a_port
        || name.contains("_SERVICE_HOST")
        || name.contains("_SERVICE_PORT")
        || (name.ends_with("_PORT") && (value.starts_with("tcp://") || value.starts_with("udp://")))
}

fn is_below(key: &str, section: &str) -> bool {
    key.strip_prefix(section).is_some_and(|rest| rest.starts_with('.'))
}

/// The known name that was most likely meant: near in spelling, or else with the same last two parts.
fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str> + Clone) -> Option<&'a str> {
    let close = known.clone().map(|candidate| (strsim::levenshtein(name, candidate), candidate)).min();
    let ending = name.rmatch_indices('.').nth(1).map(|(at, _)| &name[at..]);
    let same_ending = ending.and_then(|ending| known.clone().find(|candidate| candidate.ends_with(ending)));
    same_ending.or_else(|| close.filter(|(distance, _)| *distance <= name.len() / 4).map(|(_, candidate)| candidate))
}
