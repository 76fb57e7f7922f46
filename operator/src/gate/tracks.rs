//! How the canaries of a fleet compare with its stable pods over one window: by what each pod has counted at its beginning
//! and at its end, of the requests that users made.
//!
//! A pod counts that was there at both ends as the same process. Others are left out, so what was counted before a restart
//! or by a pod that is gone is never taken for something else; a canary that was restarted has failed. What differs by less
//! than chance may make of so many requests is no difference.

use std::collections::BTreeMap;

use super::{
    GateResult, MetricLimits,
    compare::{FLOOR_MICROS, Share},
};
use crate::crd::{PodCounters, Verdict};

/// A difference counts from so many standard deviations on: a good release is looked at again and again.
const SIGNIFICANT: f64 = 4.0;
/// The share of requests that the slowest of a hundred are.
const SLOWEST: f64 = 0.01;

/// What one track counted within the window.
#[derive(Clone, Debug, Default, PartialEq)]
struct Track {
    requests: i64,
    errors: i64,
    /// By their upper edge in microseconds: the requests that took no longer.
    within: BTreeMap<i64, i64>,
    /// Pods that counted.
    pods: usize,
}

/// Compares the window from `before` to `after`.
pub fn compare_tracks(before: &[PodCounters], after: &[PodCounters], limits: &MetricLimits) -> GateResult {
    if let Some(pod) = restarted_canary(before, after) {
        let why = format!("the canary {} was restarted", pod.pod);
        return GateResult::new(Verdict::Failed, "a restart", "no restart", 0, &why);
    }
    let (stable, canary) = (Track::of(false, before, after), Track::of(true, before, after));
    let edge = stable.slow_edge(&canary);
    let slow = edge.map(|edge| (stable.slower_than(edge), canary.slower_than(edge)));
    let (verdict, why) = judge(&stable, &canary, slow, limits);
    let told = |track: &Track, slow: Option<i64>| {
        let Track { requests, errors, .. } = track;
        let slow = slow.map(|slow| format!(", {slow} slow")).unwrap_or_default();
        format!("{errors} failed{slow} of {requests}")
    };
    let value = format!(
        "canary {}; stable {}",
        told(&canary, slow.map(|(_, slow)| slow)),
        told(&stable, slow.map(|(slow, _)| slow))
    );
    let MetricLimits { max_error_rate, minimum_samples, .. } = limits;
    let edge = edge.map_or_else(|| "no edge".to_owned(), |edge| format!("{} ms", edge as f64 / 1_000.0));
    let threshold = format!(
        "{max_error_rate} more failed than of stable, {:.2}% slower than {edge}, of at least {minimum_samples}",
        100.0 * slow_share(limits)
    );
    // A failure is told elsewhere without its value.
    let why = if verdict == Verdict::Failed { format!("{why}: {value}") } else { why.to_owned() };
    GateResult::new(verdict, &value, &threshold, canary.requests, &why)
}

/// Whether both tracks have as many requests as a verdict needs.
pub fn has_enough(before: &[PodCounters], after: &[PodCounters], limits: &MetricLimits) -> bool {
    [false, true].into_iter().all(|of| Track::of(of, before, after).requests >= limits.minimum_samples)
}

/// As in a load with too few requests, the canary fails only where the missing ones could not mend it.
fn judge(stable: &Track, canary: &Track, slow: Option<(i64, i64)>, limits: &MetricLimits) -> (Verdict, &'static str) {
    let whole = canary.requests.max(limits.minimum_samples);
    let allowed = share(limits.max_error_rate);
    let failing = if stable.requests > 0 { stable.errors as f64 / stable.requests as f64 } else { 0.0 };
    let measure = stable.requests.max(limits.minimum_samples);
    let exceeds = |part: i64, share: f64| is_exceeded((part, whole), share, Some(measure));
    // What is slow is told by the stable pods alone, and a few requests do not tell it.
    let slow_of = slow.filter(|_| stable.requests >= limits.minimum_samples);
    match () {
        () if exceeds(canary.errors, failing + allowed) => (Verdict::Failed, "too many requests fail"),
        () if slow_of.is_some_and(|(_, slow)| exceeds(slow, slow_share(limits))) => {
            (Verdict::Failed, "too many requests take longer than the slowest of the stable pods")
        }
        () if canary.requests < limits.minimum_samples => {
            (Verdict::Inconclusive, "too few requests reach the canaries")
        }
        () if stable.requests < limits.minimum_samples => {
            (Verdict::Inconclusive, "too few requests reach the stable pods")
        }
        () if is_exceeded((stable.errors, stable.requests), allowed, None) => {
            (Verdict::Inconclusive, "the stable pods fail too many requests to be a measure")
        }
        () if slow.is_none() => (Verdict::Inconclusive, "the stable pods are too slow to be a measure"),
        () => (Verdict::Passed, ""),
    }
}

/// Whether `part` of `whole` is more than this share, by more than chance explains; the share may itself be one that was found
/// among so many others.
fn is_exceeded((part, whole): (i64, i64), share: f64, found_among: Option<i64>) -> bool {
    let share = share.clamp(0.0, 1.0);
    let (part, whole) = (part as f64, whole as f64);
    let doubt = 1.0 + found_among.map_or(0.0, |among| whole / among.max(1) as f64);
    part > whole * share + SIGNIFICANT * (whole * share * (1.0 - share) * doubt).sqrt()
}

fn share(share: Share) -> f64 {
    share.as_fraction()
}

/// The greatest share of requests that may take longer than the slowest of a hundred on the stable pods.
fn slow_share(limits: &MetricLimits) -> f64 {
    SLOWEST * (1.0 + share(limits.max_increase))
}

/// The same pod at the end of the window, if it is the same process and has counted on.
fn later<'a>(before: &PodCounters, after: &'a [PodCounters]) -> Option<&'a PodCounters> {
    after.iter().find(|pod| pod.uid == before.uid && pod.canary == before.canary).filter(|pod| !is_anew(before, pod))
}

/// Whether a pod counts anew.
fn is_anew(before: &PodCounters, after: &PodCounters) -> bool {
    let falls = |(edge, count): (&String, &i64)| after.buckets.get(edge).is_some_and(|now| now < count);
    before.started_at != after.started_at
        || after.requests < before.requests
        || after.errors < before.errors
        || before.buckets.iter().any(falls)
}

fn restarted_canary<'a>(before: &'a [PodCounters], after: &[PodCounters]) -> Option<&'a PodCounters> {
    let canaries = before.iter().filter(|pod| pod.canary);
    let restarted = |pod: &&PodCounters| after.iter().any(|now| now.uid == pod.uid && is_anew(pod, now));
    canaries.into_iter().find(restarted)
}

impl Track {
    fn of(canary: bool, before: &[PodCounters], after: &[PodCounters]) -> Self {
        let mut track = Self::default();
        let ours = before.iter().filter(|pod| pod.canary == canary);
        for (from, to) in ours.filter_map(|from| Some((from, later(from, after)?))) {
            let grown = |edge: &str, to: i64| to - from.buckets.get(edge).copied().unwrap_or(0);
            let within: BTreeMap<i64, i64> =
                to.buckets.iter().filter_map(|(edge, count)| Some((micros(edge)?, grown(edge, *count)))).collect();
            // Of edges that one of the pods does not have it is not known how many took no longer.
            if track.pods > 0 {
                track.within.retain(|edge, _| within.contains_key(edge));
            }
            for (edge, count) in within {
                if track.pods == 0 || track.within.contains_key(&edge) {
                    *track.within.entry(edge).or_default() += count;
                }
            }
            track.requests += to.requests - from.requests;
            track.errors += to.errors - from.errors;
            track.pods += 1;
        }
        track
    }

    /// The edge of the bucket with the slowest of a hundred requests, among those that both tracks have; what nobody feels is
    /// not slow.
    fn slow_edge(&self, other: &Self) -> Option<i64> {
        let fast = (self.requests as f64 * (1.0 - SLOWEST)).ceil() as i64;
        let common = self.within.iter().filter(|(edge, _)| other.within.contains_key(edge) || other.pods == 0);
        let mut slow = common.filter(|(edge, count)| **count >= fast && **edge >= FLOOR_MICROS);
        slow.next().map(|(edge, _)| *edge)
    }

    fn slower_than(&self, edge: i64) -> i64 {
        self.within.get(&edge).map_or(0, |within| (self.requests - within).max(0))
    }
}

/// The edge of a bucket, as Prometheus writes it, in microseconds; none for the last one, which has no edge.
fn micros(edge: &str) -> Option<i64> {
    let seconds = edge.parse::<f64>().ok().filter(|seconds| seconds.is_finite() && *seconds >= 0.0)?;
    Some((seconds * 1_000_000.0).round() as i64)
}

#[cfg(test)]
mod tests;
