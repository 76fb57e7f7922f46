//! What a Job found out. Only its end is evidence: a Job that runs, or has gone, says nothing.

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use super::pods;
use crate::observe::{Live, Observed};

/// What is known of a check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Check {
    /// There is no Job.
    Absent,
    /// It has not ended; what keeps it from starting, if something does.
    Running(Option<(&'static str, String)>),
    /// It ended well.
    Passed,
    /// It ended badly.
    Failed {
        /// The words of the program.
        message: String,
        /// When to try again.
        retry_at: Timestamp,
    },
}

impl Check {
    /// What the Job of this name found.
    /// Its pod is judged by the container of the check: others may have been put into it.
    pub(super) fn of(
        seen: &Observed,
        name: &str,
        container: &str,
        retry_after: SignedDuration,
        now: Timestamp,
    ) -> Self {
        let Some(job) = seen.job(name).filter(|job| !job.is_deleted()) else { return Self::Absent };
        let pod = seen.pod_of_job(job);
        let ended = |kind: &str| job.condition(kind).is_some_and(|(status, ..)| status == "True");
        if ended("Complete") {
            return Self::Passed;
        }
        if ended("Failed") {
            let message = pod
                .and_then(|pod| words(pod, container))
                .or_else(|| job.condition("Failed").map(|(_, _, message)| message.to_owned()));
            let retry_at = ended_at(job).unwrap_or(now) + retry_after;
            return Self::Failed { message: message.unwrap_or_default(), retry_at };
        }
        Self::Running(pod.and_then(|pod| pods::obstacle(pod, container)))
    }
}

fn ended_at(job: &Live) -> Option<Timestamp> {
    let conditions = job.at("/status/conditions").as_array()?;
    conditions.iter().find(|condition| condition["type"] == "Failed")?["lastTransitionTime"].as_str()?.parse().ok()
}

/// What the program said last: the errors of its JSON line if there is one, else its last line.
fn words(pod: &Live, container: &str) -> Option<String> {
    let ended = &pod.container(container)["state"]["terminated"];
    if let Some(out_of_memory) = pods::out_of_memory(ended) {
        return Some(out_of_memory);
    }
    let text = ended["message"].as_str()?;
    let lines = || text.lines().rev().map(str::trim).filter(|line| !line.is_empty());
    let from_json = lines().find_map(|line| serde_json::from_str::<Value>(line).ok().and_then(|said| messages(&said)));
    from_json.or_else(|| lines().next().map(str::to_owned))
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
    use serde_json::json;

    use super::*;

    fn said(message: &str) -> Option<String> {
        let said =
            |name: &str, message: &str| json!({ "name": name, "state": { "terminated": { "message": message } } });
        let statuses = [said("a-sidecar", "not of interest"), said("config-check", message)];
        words(&Live(json!({ "status": { "containerStatuses": statuses } })), "config-check")
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
}
