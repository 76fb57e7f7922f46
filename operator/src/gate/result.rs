//! What a gate found: small, and fit for the status of a resource.

use std::fmt;

use crate::crd::{GateStatus, Measured, PodCounters, Verdict};

/// The most characters of a text that comes from elsewhere.
const LONGEST: usize = 300;

/// What a gate found so far.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct GateResult {
    /// What follows.
    pub verdict: Verdict,
    /// What was found, for people.
    pub value: String,
    /// What was wanted, for people.
    pub threshold: String,
    /// How many looks, steps, requests, lines or values it rests on.
    pub samples: i64,
    /// Why it is not passed, or what the verdict leaves open; else empty.
    pub why: String,
    /// What a load measured.
    pub load: Option<Measured>,
    /// What pods have counted, if all of them told it.
    pub counters: Option<Vec<PodCounters>>,
    /// The end of a log.
    pub log: Option<String>,
    /// How long it took, in milliseconds; `None` while it runs.
    pub took_millis: Option<i64>,
}

impl GateResult {
    /// `value` and `threshold` are for people; all texts are shortened.
    pub fn new(verdict: Verdict, value: &str, threshold: &str, samples: i64, why: &str) -> Self {
        Self {
            verdict,
            value: shortened(value),
            threshold: shortened(threshold),
            samples,
            why: shortened(why),
            ..Self::default()
        }
    }

    /// Nothing was found.
    pub fn nothing(threshold: &str, why: &str) -> Self {
        Self::new(Verdict::Inconclusive, "nothing", threshold, 0, why)
    }

    /// Whether it has ended: until then it may find something else.
    pub fn has_ended(&self) -> bool {
        self.took_millis.is_some()
    }

    /// As it is told under this name.
    pub fn named(&self, name: &str) -> GateStatus {
        GateStatus {
            name: name.to_owned(),
            verdict: self.verdict,
            value: self.value.clone(),
            threshold: self.threshold.clone(),
            samples: self.samples,
            why: self.why.clone(),
            ..GateStatus::default()
        }
    }
}

impl fmt::Display for Measured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { requests, errors, p50_micros, p99_micros } = self;
        write!(f, "p50 {}, p99 {}, {errors} of {requests} failed", millis(*p50_micros), millis(*p99_micros))
    }
}

/// A time for people.
pub(super) fn millis(micros: i64) -> String {
    format!("{}.{:02} ms", micros / 1000, micros % 1000 / 10)
}

/// A text on one line, without what no status and no log should hold.
pub fn shortened(text: &str) -> String {
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
    fn a_result_is_told_whole() {
        let result = GateResult::new(Verdict::Failed, "found", "wanted", 7, "too\nlate");
        let why = "too late".to_owned();
        let told = GateStatus { value: "found".into(), threshold: "wanted".into(), why, ..GateStatus::default() };
        assert_eq!(
            result.named("Smoke"),
            GateStatus { name: "Smoke".into(), verdict: Verdict::Failed, samples: 7, ..told }
        );
        let load = Measured { requests: 2, errors: 1, p50_micros: 1_234, p99_micros: 56_789 };
        assert_eq!(load.to_string(), "p50 1.23 ms, p99 56.78 ms, 1 of 2 failed");
    }
}
