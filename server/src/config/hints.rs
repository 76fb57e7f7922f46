//! How to correct a value that is refused, and which allowed values are likely mistakes.

use serde_json::Value as Json;

use super::{Source, value::Kind};

/// How to correct a refused value, to follow what is allowed; empty if there is nothing to add.
pub(crate) fn hint(kind: Kind, raw: &Json) -> String {
    let said = match (kind, raw) {
        (Kind::HostPort, Json::Number(_)) => Some("write it in quotes and with a colon, as in \":9090\""),
        (Kind::Text | Kind::Texts | Kind::Secret | Kind::Secrets | Kind::Cron, raw) => unquoted(raw),
        (Kind::Size(..), raw) if is_plain_number(raw) => Some("a number without a unit is bytes"),
        (Kind::Duration(..), raw) if is_plain_number(raw) => Some("a number without a unit is seconds"),
        (Kind::Duration(..), Json::String(text)) if has_days(text) => Some("write days in hours, a day is 24h"),
        (_, Json::String(text)) if is_quoted(text.trim()) => Some("leave out the quotes, which are part of it here"),
        (_, Json::String(text)) if has_comment(text) => Some("leave out the comment, which is part of it here"),
        (_, Json::String(text)) if has_reference(text) => Some("variables are not replaced here"),
        _ => None,
    };
    said.map(|said| format!("; {said}")).unwrap_or_default()
}

/// Why an allowed value is likely a mistake. Never quotes it.
pub(crate) fn likely_mistake(kind: Kind, raw: &Json, source: &Source) -> Option<String> {
    let items: Vec<&str> = match (kind, raw) {
        (Kind::Texts | Kind::Secrets, Json::String(text)) => text.split(',').map(str::trim).collect(),
        (Kind::Texts | Kind::Secrets, Json::Array(items)) => items.iter().filter_map(Json::as_str).collect(),
        (Kind::Text | Kind::Secret | Kind::Url, Json::String(text)) => vec![text.trim()],
        _ => return None,
    };
    let any = |odd: fn(&str) -> bool| items.iter().any(|item| odd(item));
    let is_path = !matches!(kind, Kind::Secret | Kind::Secrets);
    let from_variable = matches!(source, Source::Variable(_));
    if any(is_quoted) || (from_variable && any(|item| item.starts_with("[\"") || item.starts_with("['"))) {
        let who = if from_variable { " (docker --env-file keeps them)" } else { "" };
        return Some(format!("has quotes that are part of the value{who}: leave them out if they are not meant"));
    }
    if let Some(invisible) = items.iter().flat_map(|item| item.chars()).find(|c| is_invisible(*c)) {
        return Some(format!(
            "has an invisible character, U+{:04X}: leave it out if it is not meant",
            u32::from(invisible)
        ));
    }
    if from_variable && any(has_comment) {
        return Some("has a # that is part of the value: only a .env file has comments behind values".to_owned());
    }
    if any(has_reference) {
        return Some("has a ${...} that is taken as it is: variables are not replaced here".to_owned());
    }
    if is_path && any(|item| item == "~" || item.starts_with("~/")) {
        return Some("begins with ~, which is a directory of that name here: write the whole path".to_owned());
    }
    None
}

/// Text that YAML read as another type.
fn unquoted(raw: &Json) -> Option<&'static str> {
    match raw {
        Json::Number(_) => Some("quote it, because without quotes it is a number"),
        Json::Bool(_) => Some("quote it, because without quotes it is true or false"),
        Json::Array(items) => items.iter().find_map(|item| match item {
            Json::Null => Some("one of them is empty: take it out, or quote it"),
            Json::Array(_) => None,
            item => unquoted(item),
        }),
        _ => None,
    }
}

/// In quotes, or with one on one side only.
pub(crate) fn is_quoted(text: &str) -> bool {
    text.starts_with(['"', '\'']) || text.ends_with(['"', '\''])
}

pub(crate) fn is_invisible(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{a0}' | '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202f}')
        || matches!(c, '\u{2060}'..='\u{206f}' | '\u{3000}' | '\u{feff}')
}

fn has_comment(text: &str) -> bool {
    text.contains(" #") || text.contains("\t#")
}

fn has_reference(text: &str) -> bool {
    text.contains("${") || text.contains("$(")
}

fn has_days(text: &str) -> bool {
    let text = text.trim_start().trim_start_matches(|c: char| c.is_ascii_digit() || c == '.').trim_start();
    ["d", "w"].iter().any(|unit| text.to_lowercase().starts_with(unit))
}

fn is_plain_number(raw: &Json) -> bool {
    match raw {
        Json::Number(_) => true,
        Json::String(text) => !text.trim().is_empty() && text.trim().bytes().all(|byte| byte.is_ascii_digit()),
        _ => false,
    }
}
