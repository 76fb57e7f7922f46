//! How a load compares with its baseline.

use std::{fmt, str::FromStr};

use super::{GateResult, LoadFigures, Verdict, result::millis};

/// So much longer than the baseline allows a response may always take: on a good disk the slowest of a hundred syncs differ by
/// as much, and nobody feels it.
const FLOOR_MICROS: u64 = 5_000;

/// A share, in hundredths of a percent. As text it is a percentage: `1%`, `0.25%`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Share(pub u32);

impl FromStr for Share {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parse = || {
            let (whole, part) = text.strip_suffix('%').map(|text| text.split_once('.').unwrap_or((text, "0")))?;
            let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
            if !is_number(whole) || !is_number(part) || part.len() > 2 {
                return None;
            }
            let hundredths = format!("{part:0<2}").parse::<u32>().ok()?;
            Some(Self(whole.parse::<u32>().ok()?.checked_mul(100)?.checked_add(hundredths)?))
        };
        parse().ok_or_else(|| format!("{text:?} is no percentage, such as 1% or 0.25%"))
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 % 100 {
            0 => write!(f, "{}%", self.0 / 100),
            part => write!(f, "{}.{part:02}%", self.0 / 100),
        }
    }
}

impl Share {
    /// Whether `part` is more than this share of `whole`.
    fn is_exceeded(self, part: u64, whole: u64) -> bool {
        u128::from(part) * 10_000 > u128::from(whole) * u128::from(self.0)
    }

    /// `value` and this share of it.
    fn over(self, value: u64) -> u64 {
        let more = u128::from(value) * u128::from(self.0) / 10_000;
        value.saturating_add(u64::try_from(more).unwrap_or(u64::MAX))
    }
}

/// What a load is held to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct MetricLimits {
    /// The greatest share of requests that may fail.
    pub max_error_rate: Share,
    /// How much longer than on the baseline the slowest of a hundred may take.
    pub max_increase: Share,
    /// Fewer requests prove nothing.
    pub minimum_samples: u64,
}

/// How a load compares with its baseline.
///
/// With fewer requests than the minimum it fails only where the missing ones could not mend it: as many have failed, or were
/// too slow, as would be too many of the minimum.
pub fn compare(load: &LoadFigures, baseline: Option<&LoadFigures>, limits: &MetricLimits) -> GateResult {
    let whole = load.requests.max(limits.minimum_samples);
    let slowest = baseline
        .filter(|baseline| is_usable(baseline, limits))
        .map(|baseline| limits.max_increase.over(baseline.p99_micros).saturating_add(FLOOR_MICROS));
    let errors = limits.max_error_rate.is_exceeded(load.errors, whole);
    let is_slow = slowest.is_some_and(|slowest| is_slow(load, slowest, whole));
    let (verdict, why) = match (errors, is_slow, slowest) {
        (true, ..) => (Verdict::Failed, "too many requests fail"),
        (_, true, _) => (Verdict::Failed, "requests take too long"),
        _ if load.requests < limits.minimum_samples => (Verdict::Inconclusive, "too few requests were made"),
        (.., None) => (Verdict::Inconclusive, "there is no baseline, or one of too few requests that worked"),
        _ => (Verdict::Passed, ""),
    };
    let p99 = slowest.map(|slowest| format!("p99 at most {}, ", millis(slowest))).unwrap_or_default();
    let MetricLimits { max_error_rate, minimum_samples, .. } = limits;
    let threshold = format!("{p99}at most {max_error_rate} of at least {minimum_samples} failed");
    GateResult { load: Some(*load), ..GateResult::new(verdict, load.to_string(), threshold, load.requests, why) }
}

fn is_usable(baseline: &LoadFigures, limits: &MetricLimits) -> bool {
    baseline.requests >= limits.minimum_samples && baseline.errors < baseline.requests.div_ceil(2)
}

/// Whether more than one of a hundred of `whole` took longer than `slowest`, by what is known of `load`.
fn is_slow(load: &LoadFigures, slowest: u64, whole: u64) -> bool {
    let worked = load.requests - load.errors.min(load.requests);
    // Half of those that worked took at least the p50, and the slowest of them at least the p99.
    let slow = match (load.p50_micros > slowest, load.p99_micros > slowest) {
        (true, _) => worked - worked / 2,
        (false, true) => worked - worked * 99 / 100,
        _ => 0,
    };
    slow * 100 >= whole && slow > 0
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: MetricLimits =
        MetricLimits { max_error_rate: Share(100), max_increase: Share(5_000), minimum_samples: 1_000 };
    const BASELINE: LoadFigures = figures(1_000, 0, 2_000, 10_000);

    const fn figures(requests: u64, errors: u64, p50_micros: u64, p99_micros: u64) -> LoadFigures {
        LoadFigures { requests, errors, p50_micros, p99_micros }
    }

    fn verdict(load: LoadFigures, baseline: Option<LoadFigures>) -> (Verdict, String) {
        let result = compare(&load, baseline.as_ref(), &LIMITS);
        assert_eq!((result.load, result.samples), (Some(load), load.requests));
        (result.verdict, result.why)
    }

    #[track_caller]
    fn check(load: LoadFigures, baseline: Option<LoadFigures>, wanted: Verdict, word: &str) {
        let (verdict, why) = verdict(load, baseline);
        assert!(verdict == wanted && why.contains(word), "{load} against {baseline:?}: {verdict:?}, {why}");
    }

    #[test]
    fn a_load_may_be_slower_by_the_limit_and_no_more() {
        // 10 ms, half as much again, and 5 ms.
        check(figures(1_000, 0, 2_000, 20_000), Some(BASELINE), Verdict::Passed, "");
        check(figures(1_000, 0, 2_000, 20_001), Some(BASELINE), Verdict::Failed, "too long");
        let fast = figures(1_000, 0, 100, 200);
        check(figures(1_000, 0, 100, 5_300), Some(fast), Verdict::Passed, "");
        check(figures(1_000, 0, 100, 5_301), Some(fast), Verdict::Failed, "too long");
    }

    #[test]
    fn a_load_may_have_errors_up_to_the_limit_and_no_more() {
        check(figures(1_000, 10, 2_000, 10_000), Some(BASELINE), Verdict::Passed, "");
        check(figures(1_000, 11, 2_000, 10_000), Some(BASELINE), Verdict::Failed, "fail");
        check(figures(2_000, 20, 2_000, 10_000), Some(BASELINE), Verdict::Passed, "");
        check(figures(1_000, 1_000, 0, 0), Some(BASELINE), Verdict::Failed, "fail");
        check(figures(1_000, 11, 2_000, 10_000), None, Verdict::Failed, "fail");
    }

    #[test]
    fn few_requests_prove_nothing_unless_the_missing_ones_could_not_mend_it() {
        check(figures(999, 0, 2_000, 10_000), Some(BASELINE), Verdict::Inconclusive, "too few");
        check(figures(20, 10, 2_000, 10_000), Some(BASELINE), Verdict::Inconclusive, "too few");
        check(figures(20, 11, 2_000, 10_000), Some(BASELINE), Verdict::Failed, "fail");
        check(figures(999, 0, 2_000, 90_000), Some(BASELINE), Verdict::Failed, "too long");
        check(figures(500, 0, 2_000, 90_000), Some(BASELINE), Verdict::Inconclusive, "too few");
        check(figures(18, 0, 90_000, 90_000), Some(BASELINE), Verdict::Inconclusive, "too few");
        check(figures(20, 0, 90_000, 90_000), Some(BASELINE), Verdict::Failed, "too long");
        check(figures(0, 0, 0, 0), Some(BASELINE), Verdict::Inconclusive, "too few");
    }

    #[test]
    fn nothing_is_slow_without_a_baseline_that_is_one() {
        let slow = figures(1_000, 0, 900_000, 900_000);
        for baseline in [None, Some(figures(999, 0, 1, 1)), Some(figures(1_000, 500, 1, 1)), Some(figures(0, 0, 0, 0))]
        {
            check(slow, baseline, Verdict::Inconclusive, "no baseline");
        }
    }

    #[test]
    fn what_was_found_is_told_beside_what_was_wanted() {
        let result = compare(&figures(1_000, 11, 2_345, 10_000), Some(&BASELINE), &LIMITS);
        assert_eq!(result.value, "p50 2.34 ms, p99 10.00 ms, 11 of 1000 failed");
        assert_eq!(result.threshold, "p99 at most 20.00 ms, at most 1% of at least 1000 failed");
    }

    #[test]
    fn a_share_is_a_percentage() {
        for (text, share) in [("1%", 100), ("50%", 5_000), ("0.25%", 25), ("0.5%", 50), ("150%", 15_000)] {
            assert_eq!(text.parse(), Ok(Share(share)), "{text}");
        }
        assert_eq!((Share(50).to_string(), Share(5_000).to_string()), ("0.50%".to_owned(), "50%".to_owned()));
        for text in ["", "1", "%", "-1%", "1.%", ".5%", "0.255%", "1 %", "99999999999%", "+1%"] {
            assert!(text.parse::<Share>().is_err(), "{text}");
        }
    }
}
