//! The configuration for people: the effective one as YAML, and the reference page.

use super::{
    effective::Effective,
    settings::{Effect, SETTINGS, Setting},
};

/// YAML with the source of each value as a comment. Secrets are masked, so it does not load again where there are any.
pub(crate) fn to_yaml(effective: &Effective) -> String {
    let mut yaml = String::new();
    let mut open: Vec<&str> = Vec::new();
    for setting in SETTINGS.iter().filter(|setting| setting.effect == Effect::Active) {
        let mut sections: Vec<&str> = setting.key.split('.').collect();
        let name = sections.pop().unwrap_or_default();
        let shared = open.iter().zip(&sections).take_while(|(left, right)| left == right).count();
        for (depth, section) in sections.iter().enumerate().skip(shared) {
            yaml.push_str(&format!("{}{section}:\n", "  ".repeat(depth)));
        }
        let (value, source) = effective.get(setting.key);
        yaml.push_str(&format!("{}{name}: {}  # {source}\n", "  ".repeat(sections.len()), value.to_yaml()));
        open = sections;
    }
    yaml
}

/// Each setting by its full name: its value and where it came from.
pub(crate) fn to_json(effective: &Effective) -> serde_json::Value {
    let shown = SETTINGS.iter().filter(|setting| setting.effect == Effect::Active).map(|setting| {
        let (value, source) = effective.get(setting.key);
        let shown = serde_json::json!({ "value": value.to_json(), "source": source.to_string() });
        (setting.key.to_owned(), shown)
    });
    shown.collect::<serde_json::Map<_, _>>().into()
}

/// The text of `docs/configuration.md`.
pub fn reference() -> String {
    let mut page = HEADER.to_owned();
    page.push_str("\n## Settings\n\n| Setting | Default | Allowed | Variables after `PROGRESSDB_`, flag | |\n|---|---|---|---|---|\n");
    for setting in SETTINGS.iter().filter(|setting| setting.effect == Effect::Active) {
        page.push_str(&row(setting));
    }
    page.push_str("\n## Settings without effect\n\nSettings of Go 0.2 that are accepted, so that its files load, and do nothing here.\n\n");
    page.push_str("| Setting | Variables after `PROGRESSDB_` | What it was about |\n|---|---|---|\n");
    for setting in SETTINGS.iter().filter(|setting| setting.effect == Effect::None) {
        page.push_str(&format!("| `{}` | {} | {} |\n", setting.key, names(setting), setting.doc));
    }
    page
}

fn row(setting: &Setting) -> String {
    let default = if setting.default.is_empty() { "–".to_owned() } else { format!("`{}`", setting.default) };
    let flag = setting.flag.map(|flag| format!(", `{flag}`")).unwrap_or_default();
    format!(
        "| `{}` | {default} | {} | {}{flag} | {} |\n",
        setting.key,
        setting.kind.allowed(),
        names(setting),
        setting.doc
    )
}

fn names(setting: &Setting) -> String {
    let names = setting.variables();
    let short = |name: &String| format!("`{}`", name.trim_start_matches(super::settings::PREFIX));
    names.iter().filter(|name| !setting.shared.contains(&name.as_str())).map(short).collect::<Vec<_>>().join(", ")
}

const HEADER: &str = include_str!("header.md");
