//! What a gate found: small, and fit for the status of a resource.

use serde::{Deserialize, Serialize};

use crate::crd::Verdict;

/// The most characters of a text that comes from elsewhere.
const LONGEST: usize = 300;

/// What a gate found so far.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GateResult {
    /// What follows.
    pub verdict: Verdict,
    /// What was found, for people.
    pub value: String,
    /// What was wanted, for people.
    pub threshold: String,
    /// How many looks, steps, requests, lines or values it rests on.
    pub samples: u64,
    /// Why it is not passed; empty if it is.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub why: String,
    /// What a load measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub load: Option<LoadFigures>,
    /// The end of a log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log: Option<String>,
}

/// What a load measured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LoadFigures {
    /// How many requests were made.
    pub requests: u64,
    /// How many of them failed.
    pub errors: u64,
    /// Half of those that worked took no longer, in microseconds.
    pub p50_micros: u64,
    /// 99 of 100 took no longer.
    pub p99_micros: u64,
}

impl GateResult {
    /// `value` and `threshold` are for people; `why` is shortened.
    pub(super) fn new(verdict: Verdict, value: String, threshold: String, samples: u64, why: &str) -> Self {
        Self {
            verdict,
            value: shortened(&value),
            threshold: shortened(&threshold),
            samples,
            why: shortened(why),
            load: None,
            log: None,
        }
    }

    /// Nothing was found.
    pub(super) fn nothing(threshold: String, why: &str) -> Self {
        Self::new(Verdict::Inconclusive, "nothing".to_owned(), threshold, 0, why)
    }
}

impl std::fmt::Display for LoadFigures {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { requests, errors, p50_micros, p99_micros } = self;
        write!(f, "p50 {}, p99 {}, {errors} of {requests} failed", millis(*p50_micros), millis(*p99_micros))
    }
}

/// A time for people.
pub(super) fn millis(micros: u64) -> String {
    format!("{}.{:02} ms", micros / 1000, micros % 1000 / 10)
}

/// A text on one line, without what no status and no log should hold.
pub(super) fn shortened(text: &str) -> String {
    let mut words = String::new();
    for word in text.split_whitespace() {
        if !words.is_empty() {
            words.push(' ');
        }
        words.extend(word.chars().filter(|char| !char.is_control()).take(LONGEST + 1));
        if words.len() > LONGEST {
            break;
        }
    }
    match words.char_indices().nth(LONGEST) {
        None => words,
        Some((end, _)) => format!("{}…", &words[..end]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_of_any_size_becomes_a_short_line() {
        assert_eq!(shortened(" <html>\n bad\tgate\u{7}way "), "<html> bad gateway");
        assert_eq!(shortened(&"é".repeat(10_000)).chars().count(), LONGEST + 1);
        assert!(shortened(&"many words ".repeat(10_000)).ends_with('…'));
    }

    #[test]
    fn a_result_survives_the_status() {
        let load = LoadFigures { requests: 2, errors: 1, p50_micros: 3, p99_micros: 4 };
        let result = GateResult { load: Some(load), ..GateResult::nothing("all".into(), "no answer") };
        let text = serde_json::to_string(&result).unwrap();
        assert!(text.contains(r#""p99Micros":4"#), "{text}");
        assert_eq!(serde_json::from_str::<GateResult>(&text).unwrap(), result);
        assert_eq!(load.to_string(), "p50 0.00 ms, p99 0.00 ms, 1 of 2 failed");
    }
}
