//! The report of an upgrade, for people who want to know what happened and what it rests on: YAML, and beside it the end of
//! the log of what failed. It is made of `status.upgrade`, so that it tells nothing that the status did not.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use serde_json::{Value, json};

use super::{labels, names};
use crate::crd::{
    Backing, Database, GateStatus, Hold, Measured, Outcome, Rehearsal, ReleaseNotes, ReleaseStatus, SnapshotStatus,
    UpgradeStatus, UpgradeStep,
};

/// The entry of the ConfigMap with the report.
pub const REPORT_FILE: &str = "report.yaml";
/// The entry with the end of a log.
pub const LOG_FILE: &str = "log.txt";
/// The most bytes of a report and its log.
const LARGEST: usize = 100 * 1024;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Report<'a> {
    resource: String,
    upgrade: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    outcome: Option<Outcome>,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    waits_for: Option<&'a Hold>,
    from: &'a ReleaseStatus,
    to: &'a ReleaseStatus,
    #[serde(skip_serializing_if = "Option::is_none")]
    notes: Option<&'a ReleaseNotes>,
    timeline: Vec<Entry>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ended_at: Option<Timestamp>,
    downtime: Downtime,
    data: Data<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rehearsal: Option<&'a Rehearsal>,
    #[serde(skip_serializing_if = "Option::is_none")]
    baseline: Option<&'a Measured>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    gates: &'a [GateStatus],
}

/// A step, when it began and how long it took.
#[derive(Serialize)]
struct Entry {
    step: UpgradeStep,
    #[serde(skip_serializing_if = "Option::is_none")]
    at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    took: Option<String>,
}

/// How long clients were without a server.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Downtime {
    #[serde(skip_serializing_if = "Option::is_none")]
    forecast_millis: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    real_millis: Option<i64>,
}

/// What became of the data, and what the way back rested on.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Data<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    backing: Option<Backing>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    snapshots: &'a [SnapshotStatus],
    /// What the stopped store said of itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    at_rest: Option<&'a Database>,
    #[serde(skip_serializing_if = "Option::is_none")]
    claim: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    restored_claim: Option<&'a str>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    start_migrations: &'a [String],
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    finalize_migrations: &'a [String],
    may_have_changed: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    loss_bound: Option<i64>,
}

/// The report of an upgrade of the resource of this name, that ended then.
pub fn report_text(namespace: &str, name: &str, record: &UpgradeStatus, ended: Option<Timestamp>) -> String {
    let report = Report {
        resource: format!("{namespace}/{name}"),
        upgrade: &record.id,
        outcome: record.outcome,
        message: record.message.as_deref(),
        waits_for: record.hold.as_ref(),
        from: &record.from,
        to: &record.to,
        notes: record.notes.as_ref(),
        timeline: timeline(record, ended),
        ended_at: ended,
        downtime: Downtime { forecast_millis: record.forecast_downtime_millis, real_millis: record.downtime_millis },
        data: Data {
            backing: record.backing,
            snapshots: &record.snapshots,
            at_rest: record.database.as_ref(),
            claim: record.claim.as_deref(),
            restored_claim: record.restored_claim.as_deref(),
            start_migrations: &record.start_migrations,
            finalize_migrations: &record.finalize_migrations,
            may_have_changed: record.data_mutation_started,
            loss_bound: record.loss_bound,
        },
        rehearsal: record.rehearsal.as_ref(),
        baseline: record.baseline.as_ref(),
        gates: &record.gates,
    };
    serde_saphyr::to_string(&report).expect("a report is YAML")
}

fn timeline(record: &UpgradeStatus, ended: Option<Timestamp>) -> Vec<Entry> {
    let steps = record.durations(ended);
    steps.map(|(step, took)| Entry { step: step.step, at: step.at, took: took.map(for_people) }).collect()
}

/// A duration in seconds and longer units.
pub fn for_people(duration: SignedDuration) -> String {
    let whole = SignedDuration::from_secs(duration.as_secs());
    format!("{whole:#}")
}

/// The ConfigMap with the report of an upgrade and the end of a log; `metadata` says in which namespace it is and whose. It
/// never changes any more once the upgrade has ended.
pub fn upgrade_report(
    metadata: &Value,
    instance: &str,
    record: &UpgradeStatus,
    ended: Option<Timestamp>,
    log: Option<&str>,
) -> Value {
    let namespace = metadata["namespace"].as_str().unwrap_or_default();
    let text = shortened(report_text(namespace, instance, record, ended));
    let log = log.map(|log| last_bytes(log, LARGEST - text.len())).filter(|log| !log.is_empty());
    let mut labels = labels::of(instance, labels::Component::Job);
    labels.insert(labels::UPGRADE.into(), record.id.clone());
    let entries = [(REPORT_FILE, Some(text.as_str())), (LOG_FILE, log)].into_iter();
    let data: BTreeMap<&str, &str> = entries.filter_map(|(name, text)| Some((name, text?))).collect();
    let mut map = json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "name": names::of_upgrade(instance, &record.id, "report"),
            "namespace": metadata["namespace"],
            "labels": labels,
            "ownerReferences": metadata["ownerReferences"],
        },
        "data": data,
    });
    if record.outcome.is_some() {
        map["immutable"] = json!(true);
    }
    map
}

/// A status that is larger than the API server takes cannot be, so this cuts nothing but what nobody foresaw.
fn shortened(mut text: String) -> String {
    if text.len() > LARGEST {
        text.truncate(text.floor_char_boundary(LARGEST));
    }
    text
}

/// The end of a text, from the beginning of a line, of at most so many bytes.
fn last_bytes(text: &str, most: usize) -> &str {
    match text.len().checked_sub(most) {
        None | Some(0) => text,
        Some(surplus) => {
            let rest = &text[text.ceil_char_boundary(surplus)..];
            rest.find('\n').map_or("", |end| &rest[end + 1..])
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crd::{StepStatus, Verdict};

    fn record() -> UpgradeStatus {
        let at = |second: i64| Some(Timestamp::from_second(second).unwrap());
        let step = |step: UpgradeStep, second: i64| StepStatus { step, at: at(second) };
        UpgradeStatus {
            id: "0123abcd".into(),
            from: ReleaseStatus {
                image: "a:1".into(),
                image_id: Some("a@sha256:1".into()),
                ..ReleaseStatus::default()
            },
            to: ReleaseStatus { image: "a:2".into(), ..ReleaseStatus::default() },
            step: UpgradeStep::RollbackGate,
            steps: vec![
                step(UpgradeStep::Preflight, 0),
                step(UpgradeStep::Drain, 65),
                step(UpgradeStep::RollbackStop, 70),
            ],
            outcome: Some(Outcome::RolledBack),
            message: Some("the gate Smoke failed".into()),
            gates: vec![GateStatus { name: "Smoke".into(), verdict: Verdict::Failed, ..GateStatus::default() }],
            forecast_downtime_millis: Some(6_000),
            downtime_millis: Some(5_000),
            database: Some(Database { id: "db".into(), sequence: 7, format: 1 }),
            ..UpgradeStatus::default()
        }
    }

    #[test]
    fn a_report_tells_what_happened_when_and_what_it_rests_on() {
        let ended = Some(Timestamp::from_second(80).unwrap());
        let text = report_text("ns", "db", &record(), ended);
        let read: Value = serde_saphyr::from_str(&text).unwrap();
        let times: Vec<_> = read["timeline"].as_array().unwrap().iter().map(|entry| entry["took"].clone()).collect();
        assert_eq!(times, [json!("1m 5s"), json!("5s"), json!("10s")]);
        assert_eq!((&read["outcome"], &read["message"]), (&json!("RolledBack"), &json!("the gate Smoke failed")));
        assert_eq!(read["downtime"], json!({ "forecastMillis": 6000, "realMillis": 5000 }));
        assert_eq!(read["data"]["atRest"]["sequence"], 7);
        assert_eq!(read["gates"][0]["verdict"], "Failed");
        assert_eq!(read["from"]["imageId"], "a@sha256:1");
        assert!(text.starts_with("resource: ns/db\nupgrade: "), "what matters comes first: {text}");
    }

    #[test]
    fn a_report_with_any_log_is_small_and_has_its_end() {
        let metadata = json!({ "namespace": "ns", "ownerReferences": [{ "uid": "1" }] });
        let log: String = (0..40_000).map(|number| format!("line é {number}\n")).collect();
        let map = upgrade_report(&metadata, "db", &record(), None, Some(&log));
        let data = map["data"].as_object().unwrap();
        let size: usize = data.values().map(|text| text.as_str().unwrap().len()).sum();
        assert!((LARGEST - 100..=LARGEST).contains(&size), "{size}");
        let kept = data[LOG_FILE].as_str().unwrap();
        assert!(kept.starts_with("line é ") && kept.ends_with("line é 39999\n"));
        assert_eq!((&map["metadata"]["name"], &map["immutable"]), (&json!("db-0123abcd-report"), &json!(true)));
        let open = UpgradeStatus { outcome: None, ..record() };
        let map = upgrade_report(&metadata, "db", &open, None, None);
        assert!(map["immutable"].is_null() && map["data"][LOG_FILE].is_null());
    }
}
