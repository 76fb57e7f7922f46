//! What a setting is: its name, what it may be, where it may come from. Which ones there are is in [`super::settings`].

use super::value::Kind;

/// The prefix of every variable.
pub(crate) const PREFIX: &str = "PROGRESSDB_";

/// One setting.
#[derive(Debug)]
pub(crate) struct Setting {
    /// Its full name: the path in the YAML file.
    pub(crate) key: &'static str,
    /// What it may be.
    pub(crate) kind: Kind,
    /// In the syntax of the file; empty if nothing is set by default.
    pub(crate) default: &'static str,
    /// Names of variables, after the prefix, beside the one that follows from the key and wins.
    pub(crate) aliases: &'static [&'static str],
    /// Variables that other programs use as well, without the prefix; of the lowest precedence.
    pub(crate) shared: &'static [&'static str],
    /// The flag that sets it.
    pub(crate) flag: Option<&'static str>,
    /// Whether it is used.
    pub(crate) effect: Effect,
    /// One line for the operator; for settings without effect, what they were.
    pub(crate) doc: &'static str,
}

/// Whether a setting is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    /// It is used.
    Active,
    /// Accepted because Go 0.2 had it, and has no effect.
    None,
}

impl Setting {
    /// Full names of the variables that set it, the highest precedence first.
    pub(crate) fn variables(&self) -> Vec<String> {
        let derived = self.key.replace('.', "_").to_uppercase();
        std::iter::once(derived.as_str())
            .chain(self.aliases.iter().copied())
            .map(|name| format!("{PREFIX}{name}"))
            .chain(self.shared.iter().map(|&name| name.to_owned()))
            .collect()
    }

    /// Whether its value must never be shown.
    pub(crate) fn is_secret(&self) -> bool {
        matches!(self.kind, Kind::Secrets | Kind::Secret)
    }

    pub(super) const fn new(key: &'static str, kind: Kind, default: &'static str, doc: &'static str) -> Self {
        Self { key, kind, default, aliases: &[], shared: &[], flag: None, effect: Effect::Active, doc }
    }

    pub(super) const fn no_effect(key: &'static str, doc: &'static str) -> Self {
        Self { effect: Effect::None, ..Self::new(key, Kind::Anything, "", doc) }
    }

    pub(super) const fn aliases(self, aliases: &'static [&'static str]) -> Self {
        Self { aliases, ..self }
    }

    pub(super) const fn shared(self, names: &'static [&'static str]) -> Self {
        Self { shared: names, ..self }
    }

    pub(super) const fn flag(self, flag: &'static str) -> Self {
        Self { flag: Some(flag), ..self }
    }
}
