//! What a Job found out. Only its end is evidence: a Job that runs, or has gone, says nothing.
//!
//! A pod is judged by the container of the check: others may have been put into it. One that runs on when the check has
//! ended keeps the Job from ending: then what was found is written on the Job, which is suspended, and so loses its pod.

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::{hitch::Hitch, pods};
use crate::{
    objects::labels::VERDICT,
    observe::{Live, Observed},
};

/// What is known of a check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Check {
    /// There is no Job.
    Absent,
    /// It has not ended; what keeps it from starting, if something does.
    Running(Option<Hitch>),
    /// The check has ended and another container in its pod has not; what was found, to be written on the Job.
    HeldOpen(String),
    /// It ended well.
    Passed {
        /// What the program warned of; `None` if its words are gone.
        warnings: Option<Vec<String>>,
    },
    /// It ended badly.
    Failed {
        /// The words of the program.
        message: String,
        /// When to try again.
        retry_at: Timestamp,
    },
}

impl Check {
    /// What the Job of this name found, by the container of that name.
    pub(super) fn of(
        seen: &Observed,
        name: &str,
        container: &str,
        retry_after: SignedDuration,
        now: Timestamp,
    ) -> Self {
        let Some(job) = seen.job(name).filter(|job| !job.is_deleted()) else { return Self::Absent };
        let pod = seen.pod_of_job(job);
        let said = pod.map(|pod| &pod.container(container)["state"]["terminated"]);
        let ended = |kind: &str| job.condition(kind).is_some_and(|(status, ..)| status == "True");
        if let Some(verdict) = job.annotation(VERDICT).and_then(|text| serde_json::from_str::<Value>(text).ok()) {
            return Self::from_verdict(&verdict, retry_after, now);
        }
        if ended("Complete") {
            return Self::Passed { warnings: said.and_then(warnings) };
        }
        if ended("Failed") {
            let message =
                said.and_then(words).or_else(|| job.condition("Failed").map(|(_, _, message)| message.to_owned()));
            let retry_at = ended_at(job).unwrap_or(now) + retry_after;
            return Self::Failed { message: message.unwrap_or_default(), retry_at };
        }
        match pod {
            Some(pod) => verdict(pod, container, now)
                .map_or_else(|| Self::Running(Hitch::of_pod(seen, pod, container, now)), Self::HeldOpen),
            None => Self::Running(Hitch::of("Job", seen, job, now)),
        }
    }

    /// What was written on a Job.
    fn from_verdict(verdict: &Value, retry_after: SignedDuration, now: Timestamp) -> Self {
        if verdict["passed"] == true {
            let warnings = verdict["warnings"].as_array().into_iter().flatten();
            return Self::Passed {
                warnings: Some(warnings.filter_map(|text| text.as_str().map(str::to_owned)).collect()),
            };
        }
        let at = verdict["at"].as_str().and_then(|at| at.parse().ok()).unwrap_or(now);
        let message = verdict["message"].as_str().unwrap_or_default().to_owned();
        Self::Failed { message, retry_at: at + retry_after }
    }
}

/// What the check found, if it has ended and another container runs on.
fn verdict(pod: &Live, container: &str, now: Timestamp) -> Option<String> {
    let ended = &pod.container(container)["state"]["terminated"];
    let code = ended["exitCode"].as_i64()?;
    let others = pod.at("/status/containerStatuses").as_array()?;
    let runs_on = |other: &Value| other["name"] != container && other["state"]["terminated"].is_null();
    let verdict = json!({
        "passed": code == 0,
        "message": words(ended),
        "warnings": warnings(ended).unwrap_or_default(),
        "at": now.to_string(),
    });
    others.iter().any(runs_on).then(|| verdict.to_string())
}

fn ended_at(job: &Live) -> Option<Timestamp> {
    let conditions = job.at("/status/conditions").as_array()?;
    conditions.iter().find(|condition| condition["type"] == "Failed")?["lastTransitionTime"].as_str()?.parse().ok()
}

/// What the program said last: the errors of its JSON line if there is one, else its last line.
fn words(ended: &Value) -> Option<String> {
    if let Some(out_of_memory) = pods::out_of_memory(ended) {
        return Some(out_of_memory);
    }
    let text = ended["message"].as_str()?;
    let lines = || text.lines().rev().map(str::trim).filter(|line| !line.is_empty());
    let from_json = report(ended).and_then(|said| messages(&said));
    from_json.or_else(|| lines().next().map(str::to_owned))
}

/// What the program warned of.
fn warnings(ended: &Value) -> Option<Vec<String>> {
    let said = report(ended)?;
    let warnings = said.get("warnings")?.as_array()?.iter();
    Some(warnings.filter_map(|warning| warning["message"].as_str().map(str::to_owned)).collect())
}

/// The last JSON line.
fn report(ended: &Value) -> Option<Value> {
    let mut lines = ended["message"].as_str()?.lines().rev().map(str::trim);
    lines.find_map(|line| serde_json::from_str::<Value>(line).ok().filter(Value::is_object))
}

fn messages(said: &Value) -> Option<String> {
    if let Some(message) = said.pointer("/error/message").and_then(Value::as_str) {
        return Some(message.to_owned());
    }
    let errors = said.get("errors")?.as_array()?.iter().filter_map(|error| error["message"].as_str());
    let errors: Vec<&str> = errors.collect();
    (!errors.is_empty()).then(|| errors.join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(message: &str) -> Option<String> {
        words(&json!({ "message": message }))
    }

    #[test]
    fn the_words_are_those_of_the_program() {
        let config = r#"{"errors":[{"message":"server.port: too large"},{"message":"b"}],"valid":false,"warnings":[]}"#;
        assert_eq!(said(config), Some("server.port: too large; b".into()));
        let kms = "{\"error\":{\"code\":\"denied\",\"message\":\"permission denied\"},\"ok\":false}\nerror: permission denied\n";
        assert_eq!(said(kms), Some("permission denied".into()));
        assert_eq!(said("warning: a\nerror: no such command\n"), Some("error: no such command".into()));
        assert_eq!(said("\n"), None);
    }

    #[test]
    fn warnings_of_a_program_that_is_content_are_heard() {
        let report = r#"{"valid":true,"errors":[],"warnings":[{"message":"a is unknown: did you mean b?"}]}"#;
        assert_eq!(warnings(&json!({ "message": report })), Some(vec!["a is unknown: did you mean b?".into()]));
        assert_eq!(warnings(&json!({})), None);
    }

    #[test]
    fn a_container_that_runs_on_does_not_hide_what_the_check_found() {
        let ended = json!({ "terminated": { "exitCode": 1, "message": "error: no" } });
        let pod = |other: Value| {
            let statuses = json!([{ "name": "a-proxy", "state": other }, { "name": "config-check", "state": ended }]);
            Live(json!({ "status": { "containerStatuses": statuses } }))
        };
        let found = |other: Value| verdict(&pod(other), "config-check", Timestamp::UNIX_EPOCH);
        assert_eq!(found(json!({ "terminated": { "exitCode": 0 } })), None, "the Job will say so itself");
        let text = found(json!({ "running": {} })).unwrap();
        let found =
            Check::from_verdict(&serde_json::from_str(&text).unwrap(), SignedDuration::from_secs(60), Timestamp::MAX);
        let retry_at = Timestamp::from_second(60).unwrap();
        assert_eq!(found, Check::Failed { message: "error: no".into(), retry_at });
    }
}
