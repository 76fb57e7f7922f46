//! How a load compares with its baseline.

use std::{fmt, str::FromStr};

use super::{GateResult, result::millis};
use crate::crd::{Measured, MetricGate, Verdict};

/// So much longer than the baseline allows a response may always take: on a good disk the slowest of a hundred syncs differ by
/// as much, and nobody feels it.
pub(super) const FLOOR_MICROS: i64 = 5_000;

/// A share, in hundred-thousandths of a percent. As text it is a percentage: `1%`, `0.25%`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Share(u64);

/// Of these one percent is made.
const PERCENT: u64 = 100_000;

impl FromStr for Share {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parse = || {
            let (whole, part) = text.strip_suffix('%').map(|text| text.split_once('.').unwrap_or((text, "0")))?;
            let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
            if !is_number(whole) || !is_number(part) || part.len() > 5 {
                return None;
            }
            let part = format!("{part:0<5}").parse::<u64>().ok()?;
            Some(Self(whole.parse::<u64>().ok()?.checked_mul(PERCENT)?.checked_add(part)?))
        };
        parse().ok_or_else(|| format!("{text:?} is no percentage, such as 1% or 0.25%"))
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let part = format!(".{:05}", self.0 % PERCENT);
        write!(f, "{}{}%", self.0 / PERCENT, part.trim_end_matches('0').trim_end_matches('.'))
    }
}

impl Share {
    /// This share of `whole`, in hundred-thousandths of a percent.
    fn of(self, whole: i64) -> i128 {
        i128::from(whole) * i128::from(self.0)
    }

    /// The share as a fraction of one.
    pub(super) fn as_fraction(self) -> f64 {
        self.0 as f64 / (100 * PERCENT) as f64
    }

    /// Whether `part` is more than this share of `whole`.
    fn is_exceeded(self, part: i64, whole: i64) -> bool {
        Self(100 * PERCENT).of(part) > self.of(whole)
    }

    /// `value` and this share of it.
    fn over(self, value: i64) -> i64 {
        let more = self.of(value) / Self(100 * PERCENT).of(1);
        value.saturating_add(i64::try_from(more).unwrap_or(i64::MAX))
    }
}

/// What a load is held to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct MetricLimits {
    /// The greatest share of requests that may fail.
    pub max_error_rate: Share,
    /// How much longer than on the baseline the slowest of a hundred may take, and the one in the middle.
    pub max_increase: Share,
    /// Fewer requests prove nothing.
    pub minimum_samples: i64,
}

impl MetricLimits {
    /// Those of a policy. The API server lets nobody write a percentage that cannot be read.
    pub fn of(policy: &MetricGate) -> Self {
        Self {
            max_error_rate: policy.max_error_rate.parse().unwrap_or_default(),
            max_increase: policy.max_latency_p99_increase.parse().unwrap_or_default(),
            minimum_samples: policy.minimum_samples.into(),
        }
    }
}

/// Whether a load says how fast a server is: enough requests were made, and most of them worked.
pub fn is_usable(load: &Measured, limits: &MetricLimits) -> bool {
    load.requests >= limits.minimum_samples && mostly_works(load)
}

fn mostly_works(load: &Measured) -> bool {
    load.errors < load.requests - load.errors
}

/// Of loads on one server the one that was disturbed least: the fastest. What else the machine does makes a load slower and
/// never faster.
pub fn best<'a>(loads: impl IntoIterator<Item = &'a Measured>) -> Option<&'a Measured> {
    loads.into_iter().min_by_key(|load| load.p99_micros)
}

/// How a load compares with its baseline. Without one, only errors are judged.
pub fn compare(load: &Measured, baseline: Option<&Measured>, limits: &MetricLimits) -> GateResult {
    match baseline.filter(|baseline| mostly_works(baseline)) {
        Some(baseline) => against(load, baseline, limits),
        None => alone(load, limits),
    }
}

/// With fewer requests than the minimum a load fails only where the missing ones could not mend it: as many have failed, or
/// were too slow, as would be too many of the minimum.
fn against(load: &Measured, baseline: &Measured, limits: &MetricLimits) -> GateResult {
    let whole = load.requests.max(limits.minimum_samples);
    let limit = |micros: i64| limits.max_increase.over(micros).saturating_add(FLOOR_MICROS);
    let (median, slowest) = (limit(baseline.p50_micros), limit(baseline.p99_micros));
    let (verdict, why) = match () {
        () if limits.max_error_rate.is_exceeded(load.errors, whole) => (Verdict::Failed, "too many requests fail"),
        () if is_slow(load, median, slowest, whole) => (Verdict::Failed, "requests take too long"),
        () if load.requests < limits.minimum_samples => (Verdict::Inconclusive, "too few requests were made"),
        () => (Verdict::Passed, ""),
    };
    let MetricLimits { max_error_rate, minimum_samples, .. } = limits;
    let threshold = format!(
        "p50 at most {}, p99 at most {}, at most {max_error_rate} of at least {minimum_samples} failed",
        millis(median),
        millis(slowest)
    );
    judged(load, verdict, &threshold, why)
}

/// Nobody knows how many requests could be made before, so there is no minimum either.
fn alone(load: &Measured, limits: &MetricLimits) -> GateResult {
    let (verdict, why) = match () {
        () if load.requests == 0 => (Verdict::Inconclusive, "no request was made"),
        () if limits.max_error_rate.is_exceeded(load.errors, load.requests) => {
            (Verdict::Failed, "too many requests fail")
        }
        () => (Verdict::Passed, "the old server was not measured, so only errors are judged"),
    };
    judged(load, verdict, &format!("at most {} failed", limits.max_error_rate), why)
}

fn judged(load: &Measured, verdict: Verdict, threshold: &str, why: &str) -> GateResult {
    let value = load.to_string();
    // A failure is told elsewhere without its value.
    let why = if verdict == Verdict::Failed { format!("{why}: {value}") } else { why.to_owned() };
    let result = GateResult::new(verdict, &value, threshold, load.requests, &why);
    GateResult { load: Some(load.clone()), ..result }
}

/// Whether half of the requests took longer than `median`, or more than one of a hundred of `whole` longer than `slowest`, by
/// what is known of `load`. A handful shows neither.
fn is_slow(load: &Measured, median: i64, slowest: i64, whole: i64) -> bool {
    let worked = load.requests - load.errors;
    // Half of those that worked took at least the p50, and the slowest of them at least the p99.
    let slow = match (load.p50_micros > median.min(slowest), load.p99_micros > slowest) {
        (true, _) => worked - worked / 2,
        (false, true) => worked - worked * 99 / 100,
        _ => 0,
    };
    slow * 100 >= whole && slow > 0
}

#[cfg(test)]
mod tests;
