//! Every metric of the operator: name, kind and help text. `docs/kubernetes.md` names them all, alarms and the dashboard name
//! no others.

use metrics::{Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge};

/// What a metric is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It grows.
    Counter,
    /// It goes up and down.
    Gauge,
    /// A distribution of times in seconds.
    Histogram,
}

pub(super) const RECONCILES: &str = "progressdb_operator_reconciles_total";
pub(super) const RECONCILE_SECONDS: &str = "progressdb_operator_reconcile_duration_seconds";
pub(super) const WRITES: &str = "progressdb_operator_writes_total";
pub(super) const UPGRADES: &str = "progressdb_operator_upgrades_total";
pub(super) const UNDER_WAY: &str = "progressdb_operator_upgrades_under_way";
pub(super) const DOWNTIME: &str = "progressdb_operator_upgrade_downtime_seconds";
pub(super) const NOTIFICATIONS: &str = "progressdb_operator_notifications_total";

/// Every metric.
pub const CATALOGUE: [(&str, Kind, &str); 7] = [
    (RECONCILES, Kind::Counter, "Passes over a resource, by outcome"),
    (RECONCILE_SECONDS, Kind::Histogram, "Time of one pass"),
    (WRITES, Kind::Counter, "Writes to the API server, by what they do"),
    (UPGRADES, Kind::Counter, "Upgrades that ended, by outcome"),
    (UNDER_WAY, Kind::Gauge, "Upgrades under way, by whether they go on, are held or are stuck"),
    (DOWNTIME, Kind::Histogram, "How long an upgrade that ended kept clients without a server"),
    (NOTIFICATIONS, Kind::Counter, "News of upgrades that were posted, by outcome"),
];

/// Describes all of them, and has those stand at 0 of which an alarm has to see the first event.
pub(super) fn describe() {
    for (name, kind, help) in CATALOGUE {
        match kind {
            Kind::Counter => describe_counter!(name, help),
            Kind::Gauge => describe_gauge!(name, help),
            Kind::Histogram => describe_histogram!(name, Unit::Seconds, help),
        }
    }
    for outcome in ["Succeeded", "RolledBack", "Aborted"] {
        counter!(UPGRADES, "outcome" => outcome).increment(0);
    }
    for outcome in ["sent", "failed"] {
        counter!(NOTIFICATIONS, "outcome" => outcome).increment(0);
    }
    for state in ["working", "held", "stuck"] {
        gauge!(UNDER_WAY, "state" => state).set(0.0);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::golden;

    /// The names of metrics in a text.
    fn named(text: &str) -> BTreeSet<String> {
        let is_part = |char: char| char.is_ascii_lowercase() || char.is_ascii_digit() || char == '_';
        let words = text.split(|char| !is_part(char)).filter(|word| word.starts_with("progressdb_"));
        words.map(str::to_owned).collect()
    }

    fn of_the_operator() -> BTreeSet<String> {
        CATALOGUE.map(|(name, ..)| name.to_owned()).into()
    }

    #[test]
    fn the_page_names_each_metric_of_the_operator_and_no_other() {
        let page = golden::read("docs/kubernetes.md");
        let rows: String = page.lines().filter(|line| line.starts_with("| `progressdb_operator_")).collect();
        assert_eq!(named(&rows), of_the_operator());
    }

    #[test]
    fn alarms_and_the_dashboard_name_only_metrics_that_there_are() {
        let mut known = of_the_operator();
        known.extend(named(&golden::read("docs/metrics.md")));
        let histograms: Vec<String> = known.iter().filter(|name| name.ends_with("_seconds")).cloned().collect();
        known.extend(histograms.into_iter().map(|name| format!("{name}_bucket")));
        let chart = "charts/progressdb-operator";
        let dashboard = golden::read(&format!("{chart}/files/dashboard.json"));
        let read: serde_json::Value = serde_json::from_str(&dashboard).unwrap();
        assert!(read["panels"].as_array().unwrap().len() > 10 && read["uid"] == "progressdb");
        let files = [dashboard, golden::read(&format!("{chart}/templates/prometheusrule.yaml"))];
        for text in files.into_iter().chain([golden::read("operator/src/objects/monitoring.rs")]) {
            let names = named(&text);
            assert!(names.len() >= 2, "{names:?}");
            assert_eq!(names.difference(&known).collect::<Vec<_>>(), Vec::<&String>::new());
        }
    }

    #[test]
    fn what_an_alarm_counts_stands_at_nothing_from_the_start() {
        let recorder = crate::metrics::Metrics::default();
        metrics::with_local_recorder(&recorder, describe);
        let text = recorder.render();
        for line in [
            "progressdb_operator_upgrades_total{outcome=\"RolledBack\"} 0",
            "progressdb_operator_notifications_total{outcome=\"failed\"} 0",
            "progressdb_operator_upgrades_under_way{state=\"stuck\"} 0",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}: {text}");
        }
    }
}
