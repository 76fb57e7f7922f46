//! The syntax of values: sizes, durations, lists and so on, from text or from YAML, and back to text.
//!
//! Sizes: `100KB` is 1000 bytes each, `100KiB` 1024, a plain number is bytes. Numbers may hold underscores. Lists from
//! text are comma separated. Durations: see [`duration`].

mod duration;

use std::{
    net::{IpAddr, Ipv6Addr},
    time::Duration,
};

use secrecy::{ExposeSecret, SecretString};
use serde_json::Value as Json;

use crate::crypt::kms::is_url;

pub(crate) use duration::parse_duration;
use duration::show_duration;

/// What stands in place of a secret.
pub(crate) const MASK: &str = "********";

/// What a setting may be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Kind {
    /// Any text, such as a path.
    Text,
    /// Host part of an address: an IP address, or `localhost`.
    Host,
    /// `HOST:PORT`, `:PORT` for all interfaces.
    HostPort,
    /// An http or https URL.
    Url,
    /// True or false.
    Bool,
    /// A whole number between two bounds, both allowed.
    Integer(u64, u64),
    /// A number between two bounds, both allowed.
    Number(f64, f64),
    /// Bytes between two bounds, both allowed.
    Size(u64, u64),
    /// A duration between two bounds, both allowed.
    Duration(Duration, Duration),
    /// One of these words, in upper or lower case.
    Choice(&'static [&'static str]),
    /// A list of texts.
    Texts,
    /// A list of IP addresses.
    Addresses,
    /// A list of secrets without white space.
    Secrets,
    /// One secret without white space.
    Secret,
    /// A schedule.
    Cron,
    /// Any value; for settings without effect.
    Anything,
}

/// A value that has the form its [`Kind`] demands.
#[derive(Clone, Debug)]
pub(crate) enum Value {
    /// Not set, and no default.
    Unset,
    /// Also of choices (in lower case), hosts, addresses and schedules.
    Text(String),
    /// True or false.
    Bool(bool),
    /// A whole number.
    Integer(u64),
    /// Any finite number.
    Number(f64),
    /// Bytes.
    Size(u64),
    /// A duration.
    Duration(Duration),
    /// Also of IP addresses.
    Texts(Vec<String>),
    /// Never shown.
    Secrets(Vec<SecretString>),
    /// Never shown.
    Secret(SecretString),
}

impl Kind {
    /// Reads a value; text is read the same from everywhere. None if it is not allowed.
    pub(crate) fn parse(self, raw: &Json) -> Option<Value> {
        match self {
            Kind::Text => text(raw).map(|text| Value::Text(text.to_owned())),
            Kind::Host => parse_host(text(raw)?).map(|address| Value::Text(address.to_string())),
            Kind::HostPort => {
                parse_host_port(text(raw)?).map(|_| Value::Text(text(raw).unwrap_or_default().to_owned()))
            }
            Kind::Url => text(raw).filter(|text| is_url(text)).map(|text| Value::Text(text.to_owned())),
            Kind::Bool => parse_bool(raw).map(Value::Bool),
            Kind::Integer(low, high) => within(parse_integer(raw)?, low, high).map(Value::Integer),
            Kind::Number(low, high) => within(parse_number(raw)?, low, high).map(Value::Number),
            Kind::Size(low, high) => within(parse_size(raw)?, low, high).map(Value::Size),
            Kind::Duration(low, high) => within(parse_duration(raw)?, low, high).map(Value::Duration),
            Kind::Choice(words) => {
                let word = text(raw)?.to_lowercase();
                words.contains(&word.as_str()).then_some(Value::Text(word))
            }
            Kind::Texts => list(raw).map(Value::Texts),
            Kind::Addresses => {
                let items = list(raw)?;
                items.iter().all(|item| item.parse::<IpAddr>().is_ok()).then_some(Value::Texts(items))
            }
            Kind::Secrets => {
                let items = list(raw)?;
                items.iter().all(|item| is_secret(item)).then(|| secrets(items))
            }
            Kind::Secret => {
                text(raw).filter(|text| is_secret(text)).map(|text| Value::Secret(SecretString::from(text)))
            }
            Kind::Cron => parse_cron(text(raw)?).map(|_| Value::Text(text(raw).unwrap_or_default().to_owned())),
            Kind::Anything => Some(Value::Unset),
        }
    }

    /// What is allowed, to follow the word "want".
    pub(crate) fn allowed(self) -> String {
        match self {
            Kind::Text => "text, not empty".to_owned(),
            Kind::Host => "an IP address or localhost".to_owned(),
            Kind::HostPort => "HOST:PORT with an IP address or localhost, or :PORT for all interfaces".to_owned(),
            Kind::Url => "an http or https URL".to_owned(),
            Kind::Bool => "true or false".to_owned(),
            Kind::Integer(low, high) => format!("{low}-{high}"),
            Kind::Number(low, high) => format!("a number from {low} to {high}"),
            Kind::Size(low, high) => format!("a size from {} to {}", show_size(low), show_size(high)),
            Kind::Duration(low, high) => {
                format!("a duration from {} to {}", show_duration(low), show_duration(high))
            }
            Kind::Choice(words) => format!("one of {}", words.join(", ")),
            Kind::Texts => "a list of texts".to_owned(),
            Kind::Addresses => "a list of IP addresses".to_owned(),
            Kind::Secrets => "a list of keys, each non-empty printable ASCII without white space".to_owned(),
            Kind::Secret => "printable ASCII without white space".to_owned(),
            Kind::Cron => "a cron expression of 5 to 7 fields, or an alias such as @daily".to_owned(),
            Kind::Anything => "anything".to_owned(),
        }
    }
}

impl Value {
    /// The value as YAML, on one line. Secrets are masked, each one for itself, so that their number shows.
    pub(crate) fn to_yaml(&self) -> String {
        let quote = |text: &str| Json::from(text).to_string();
        match self {
            Value::Unset => "null".to_owned(),
            Value::Text(text) => quote(text),
            Value::Bool(flag) => flag.to_string(),
            Value::Integer(number) => number.to_string(),
            Value::Number(number) => number.to_string(),
            Value::Size(bytes) => show_size(*bytes),
            Value::Duration(duration) => show_duration(*duration),
            Value::Texts(items) => format!("[{}]", items.iter().map(|item| quote(item)).collect::<Vec<_>>().join(", ")),
            Value::Secrets(keys) => format!("[{}]", vec![quote(MASK); keys.len()].join(", ")),
            Value::Secret(_) => quote(MASK),
        }
    }
}

impl Value {
    /// The value as JSON, secrets masked like in [`Value::to_yaml`]; sizes and durations are texts with their units.
    pub(crate) fn to_json(&self) -> Json {
        match self {
            Value::Unset => Json::Null,
            Value::Text(text) => Json::from(text.as_str()),
            Value::Bool(flag) => Json::from(*flag),
            Value::Integer(number) => Json::from(*number),
            Value::Number(number) => Json::from(*number),
            Value::Size(_) | Value::Duration(_) => Json::from(self.to_yaml()),
            Value::Texts(items) => Json::from(items.clone()),
            Value::Secrets(keys) => Json::from(vec![MASK; keys.len()]),
            Value::Secret(_) => Json::from(MASK),
        }
    }
}

/// One key: what may stand in a header without quoting.
pub(crate) fn is_secret(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic())
}

/// All interfaces: IPv6, and IPv4 with it.
pub(crate) const ANY_HOST: IpAddr = IpAddr::V6(Ipv6Addr::UNSPECIFIED);

/// An IP address, also in brackets, or `localhost`.
pub(crate) fn parse_host(text: &str) -> Option<IpAddr> {
    if text == "localhost" {
        return Some(IpAddr::from([127, 0, 0, 1]));
    }
    text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text).parse().ok()
}

/// `HOST:PORT`; IPv6 in brackets, no host for all interfaces.
pub(crate) fn parse_host_port(text: &str) -> Option<(IpAddr, u16)> {
    let (host, port) = text.rsplit_once(':')?;
    let host = match host {
        "" => ANY_HOST,
        _ if host.contains(':') && !host.starts_with('[') => return None,
        _ => parse_host(host)?,
    };
    Some((host, port.parse().ok()?))
}

/// Five to seven fields or an alias.
pub(crate) fn parse_cron(text: &str) -> Option<croner::Cron> {
    croner::parser::CronParser::builder()
        .seconds(croner::parser::Seconds::Optional)
        .year(croner::parser::Year::Optional)
        .build()
        .parse(text)
        .ok()
}

/// The largest unit that shows the size exactly.
pub(crate) fn show_size(bytes: u64) -> String {
    let units = [("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("KB", 1000)];
    match units.iter().find(|(_, size)| bytes != 0 && bytes.is_multiple_of(*size)) {
        Some((unit, size)) => format!("{}{unit}", bytes / size),
        None => bytes.to_string(),
    }
}

fn text(raw: &Json) -> Option<&str> {
    raw.as_str().map(str::trim).filter(|text| !text.is_empty())
}

fn within<T: PartialOrd>(value: T, low: T, high: T) -> Option<T> {
    (low <= value && value <= high).then_some(value)
}

fn list(raw: &Json) -> Option<Vec<String>> {
    match raw {
        Json::String(text) => {
            Some(text.split(',').map(str::trim).filter(|item| !item.is_empty()).map(str::to_owned).collect())
        }
        Json::Array(items) => items.iter().map(|item| text(item).map(str::to_owned)).collect(),
        _ => None,
    }
}

fn secrets(items: Vec<String>) -> Value {
    Value::Secrets(items.into_iter().map(SecretString::from).collect())
}

fn parse_bool(raw: &Json) -> Option<bool> {
    match raw {
        Json::Bool(flag) => Some(*flag),
        Json::Number(number) => match number.as_u64()? {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        },
        _ => match text(raw)?.to_lowercase().as_str() {
            "1" | "true" | "yes" | "on" => Some(true),
            "0" | "false" | "no" | "off" => Some(false),
            _ => None,
        },
    }
}

fn parse_integer(raw: &Json) -> Option<u64> {
    match raw {
        Json::Number(number) => number.as_u64(),
        _ => without_underscores(text(raw)?)?.parse().ok(),
    }
}

fn parse_number(raw: &Json) -> Option<f64> {
    match raw {
        Json::Number(number) => number.as_f64(),
        _ => decimal(text(raw)?),
    }
}

/// Bytes, as a number or a text with a unit.
pub(crate) fn parse_size(raw: &Json) -> Option<u64> {
    if raw.is_number() {
        return raw.as_u64();
    }
    let text = text(raw)?;
    let (number, unit) = text.split_at(text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len()));
    let unit = unit.to_lowercase();
    let scale: u64 = match unit.strip_suffix('b').unwrap_or(&unit) {
        "" => 1,
        "k" => 1000,
        "m" => 1000 * 1000,
        "g" => 1000 * 1000 * 1000,
        "t" => 1000 * 1000 * 1000 * 1000,
        "ki" => 1 << 10,
        "mi" => 1 << 20,
        "gi" => 1 << 30,
        "ti" => 1 << 40,
        _ => return None,
    };
    let number = number.trim_end();
    match without_underscores(number)?.parse::<u64>() {
        Ok(whole) => whole.checked_mul(scale),
        // Rounding up to the next byte cannot matter; bounds far below 2^53 follow.
        Err(_) => Some((decimal(number)? * scale as f64).ceil() as u64),
    }
}

/// A decimal number, not negative, with underscores between digits; no exponent, no `inf`, no `nan`.
fn decimal(text: &str) -> Option<f64> {
    let plain = without_underscores(text)?;
    plain.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.').then(|| plain.parse().ok()).flatten()
}

fn without_underscores(text: &str) -> Option<String> {
    let misplaced = text.starts_with('_') || text.ends_with('_') || text.contains("__");
    (!misplaced).then(|| text.replace('_', ""))
}

impl PartialEq for Value {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Value::Unset, Value::Unset) => true,
            (Value::Text(a), Value::Text(b)) => a == b,
            (Value::Bool(a), Value::Bool(b)) => a == b,
            (Value::Integer(a), Value::Integer(b)) | (Value::Size(a), Value::Size(b)) => a == b,
            (Value::Number(a), Value::Number(b)) => a == b,
            (Value::Duration(a), Value::Duration(b)) => a == b,
            (Value::Texts(a), Value::Texts(b)) => a == b,
            (Value::Secrets(a), Value::Secrets(b)) => {
                a.iter().map(|key| key.expose_secret()).eq(b.iter().map(|key| key.expose_secret()))
            }
            (Value::Secret(a), Value::Secret(b)) => a.expose_secret() == b.expose_secret(),
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests;
