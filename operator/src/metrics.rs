//! Counters, gauges and histograms in Prometheus' text format: a recorder for the macros of the crate `metrics`.
//!
//! The operator has a few metrics with a handful of labels, so this keeps plain numbers. An exporter for any program would
//! take some hundred KiB more, for sketches of distributions and the C library's mathematics.

use std::{
    collections::BTreeMap,
    fmt::Write,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use metrics::{Counter, Gauge, Histogram, HistogramFn, Key, KeyName, Metadata, Recorder, SharedString, Unit};

/// The upper bounds of every histogram, in seconds: from a reconcile that had nothing to do to one that waited for a slow
/// API server, and on to an upgrade that kept clients waiting for long.
const BOUNDS: [f64; 15] =
    [0.000_1, 0.000_5, 0.001, 0.005, 0.025, 0.1, 0.5, 1.0, 5.0, 10.0, 20.0, 30.0, 60.0, 300.0, 900.0];

/// The metrics. A clone shares them.
#[derive(Clone, Debug, Default)]
pub struct Metrics(Arc<Mutex<Families>>);

#[derive(Debug, Default)]
struct Families {
    descriptions: BTreeMap<String, SharedString>,
    counters: BTreeMap<Key, Arc<AtomicU64>>,
    /// The bits of their values.
    gauges: BTreeMap<Key, Arc<AtomicU64>>,
    histograms: BTreeMap<Key, Arc<Durations>>,
}

impl Metrics {
    /// All metrics in Prometheus' text format.
    pub fn render(&self) -> String {
        let families = self.lock();
        let mut text = String::new();
        let mut family = "";
        for (key, counter) in &families.counters {
            if family != key.name() {
                family = key.name();
                families.open(&mut text, family, "counter");
            }
            line(&mut text, family, &labels(key, None), counter.load(Ordering::Relaxed) as f64);
        }
        for (key, gauge) in &families.gauges {
            if family != key.name() {
                family = key.name();
                families.open(&mut text, family, "gauge");
            }
            line(&mut text, family, &labels(key, None), f64::from_bits(gauge.load(Ordering::Relaxed)));
        }
        for (key, durations) in &families.histograms {
            if family != key.name() {
                family = key.name();
                families.open(&mut text, family, "histogram");
            }
            durations.render(&mut text, key);
        }
        text
    }

    fn describe(&self, name: &KeyName, description: SharedString) {
        self.lock().descriptions.insert(name.as_str().to_owned(), description);
    }

    fn lock(&self) -> MutexGuard<'_, Families> {
        // A panic while a metric is registered loses at most that metric.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Families {
    fn open(&self, text: &mut String, name: &str, kind: &str) {
        if let Some(description) = self.descriptions.get(name) {
            text.push_str(&format!("# HELP {name} {description}\n"));
        }
        text.push_str(&format!("# TYPE {name} {kind}\n"));
    }
}

fn line(text: &mut String, name: &str, labels: &str, value: f64) {
    writeln!(text, "{name}{labels} {value}").expect("a string takes any text");
}

fn labels(key: &Key, bound: Option<&str>) -> String {
    let own = key.labels().map(|label| format!("{}=\"{}\"", label.key(), label.value()));
    let all: Vec<String> = own.chain(bound.map(|bound| format!("le=\"{bound}\""))).collect();
    if all.is_empty() { String::new() } else { format!("{{{}}}", all.join(",")) }
}

/// A histogram.
#[derive(Debug, Default)]
struct Durations(Mutex<Buckets>);

#[derive(Debug, Default)]
struct Buckets {
    /// How many values each bucket has that those before it have not; the last one has no bound.
    counts: [u64; BOUNDS.len() + 1],
    sum: f64,
}

impl Durations {
    fn lock(&self) -> MutexGuard<'_, Buckets> {
        self.0.lock().expect("nobody panics while holding it")
    }

    fn render(&self, text: &mut String, key: &Key) {
        let buckets = self.lock();
        let name = key.name();
        let bounds = BOUNDS.iter().map(f64::to_string).chain(["+Inf".to_owned()]);
        let mut sum = 0;
        for (bound, count) in bounds.zip(buckets.counts) {
            sum += count;
            line(text, &format!("{name}_bucket"), &labels(key, Some(&bound)), sum as f64);
        }
        line(text, &format!("{name}_sum"), &labels(key, None), buckets.sum);
        line(text, &format!("{name}_count"), &labels(key, None), sum as f64);
    }
}

impl HistogramFn for Durations {
    fn record(&self, value: f64) {
        let mut buckets = self.lock();
        let index = BOUNDS.iter().position(|bound| value <= *bound).unwrap_or(BOUNDS.len());
        buckets.counts[index] += 1;
        buckets.sum += value;
    }
}

impl Recorder for Metrics {
    fn describe_counter(&self, name: KeyName, _: Option<Unit>, description: SharedString) {
        self.describe(&name, description);
    }

    fn describe_gauge(&self, name: KeyName, _: Option<Unit>, description: SharedString) {
        self.describe(&name, description);
    }

    fn describe_histogram(&self, name: KeyName, _: Option<Unit>, description: SharedString) {
        self.describe(&name, description);
    }

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        Counter::from_arc(Arc::clone(self.lock().counters.entry(key.clone()).or_default()))
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::from_arc(Arc::clone(self.lock().gauges.entry(key.clone()).or_default()))
    }

    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::from_arc(Arc::clone(self.lock().histograms.entry(key.clone()).or_default()))
    }
}

#[cfg(test)]
mod tests {
    use metrics::{counter, describe_counter, gauge, histogram};

    use super::*;

    #[test]
    fn what_was_counted_is_in_the_text() {
        let recorder = Metrics::default();
        metrics::with_local_recorder(&recorder, || {
            describe_counter!("writes_total", "Writes, by what they do");
            counter!("writes_total", "what" => "status").increment(2);
            counter!("writes_total", "what" => "apply").increment(1);
            counter!("writes_total", "what" => "status").increment(1);
            gauge!("waiting", "why" => "held").set(2.0);
            gauge!("waiting", "why" => "held").set(1.0);
            for seconds in [0.0001, 0.4, 100.0] {
                histogram!("took_seconds").record(seconds);
            }
        });
        let expected = "\
            # HELP writes_total Writes, by what they do\n\
            # TYPE writes_total counter\n\
            writes_total{what=\"apply\"} 1\n\
            writes_total{what=\"status\"} 3\n\
            # TYPE waiting gauge\n\
            waiting{why=\"held\"} 1\n\
            # TYPE took_seconds histogram\n\
            took_seconds_bucket{le=\"0.0001\"} 1\n\
            took_seconds_bucket{le=\"0.0005\"} 1\n\
            took_seconds_bucket{le=\"0.001\"} 1\n\
            took_seconds_bucket{le=\"0.005\"} 1\n\
            took_seconds_bucket{le=\"0.025\"} 1\n\
            took_seconds_bucket{le=\"0.1\"} 1\n\
            took_seconds_bucket{le=\"0.5\"} 2\n\
            took_seconds_bucket{le=\"1\"} 2\n\
            took_seconds_bucket{le=\"5\"} 2\n\
            took_seconds_bucket{le=\"10\"} 2\n\
            took_seconds_bucket{le=\"20\"} 2\n\
            took_seconds_bucket{le=\"30\"} 2\n\
            took_seconds_bucket{le=\"60\"} 2\n\
            took_seconds_bucket{le=\"300\"} 3\n\
            took_seconds_bucket{le=\"900\"} 3\n\
            took_seconds_bucket{le=\"+Inf\"} 3\n\
            took_seconds_sum 100.4001\n\
            took_seconds_count 3\n";
        assert_eq!(recorder.render(), expected);
    }
}
