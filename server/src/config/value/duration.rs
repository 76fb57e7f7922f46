//! Durations: `5ms`, `250µs`, `1h30m`, `1.5h`; a plain number is seconds.
//!
//! What the units are called is left to jiff, so it is as in the operator's resource. The number in front of a unit is
//! read here, because jiff takes less than Go's syntax, which earlier releases took: no `_` between digits, a fraction
//! of nine digits and only in the last unit, and units from the largest to the smallest only.

use std::time::Duration;

use jiff::SignedDuration;
use serde_json::Value as Json;

use super::{decimal, text};

/// None if it is no duration, negative or too long.
pub(crate) fn parse_duration(raw: &Json) -> Option<Duration> {
    if let Json::Number(number) = raw {
        return seconds(number.as_f64()?);
    }
    let mut rest = text(raw)?;
    if let Some(number) = decimal(rest) {
        return seconds(number);
    }
    let mut total = Duration::ZERO;
    while !rest.is_empty() {
        let (number, tail) = rest.split_at(rest.find(|c: char| c.is_alphabetic())?);
        let (name, tail) = tail.split_at(tail.find(|c: char| !c.is_alphabetic()).unwrap_or(tail.len()));
        total = total.checked_add(seconds(decimal(number)? * unit(name)?.as_secs_f64())?)?;
        rest = tail;
    }
    Some(total)
}

/// One of a unit: `s`, `min`, `hours`. None for days and longer ones, which are not always as long.
fn unit(name: &str) -> Option<SignedDuration> {
    // The Greek letter looks like the micro sign.
    format!("1{}", name.replace('\u{3bc}', "\u{b5}")).parse().ok()
}

fn seconds(number: f64) -> Option<Duration> {
    Duration::try_from_secs_f64(number).ok()
}

/// The largest unit that shows the duration exactly.
pub(crate) fn show_duration(duration: Duration) -> String {
    let nanos = duration.as_nanos();
    let units =
        [("h", 3_600_000_000_000), ("m", 60_000_000_000), ("s", 1_000_000_000), ("ms", 1_000_000), ("µs", 1000)];
    match units.iter().find(|(_, size)| nanos != 0 && nanos.is_multiple_of(*size)) {
        Some((unit, size)) => format!("{}{unit}", nanos / size),
        None if nanos == 0 => "0s".to_owned(),
        None => format!("{nanos}ns"),
    }
}
