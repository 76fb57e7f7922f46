//! What is known of a Job that checks something.
//!
//! Another container in its pod, which admission may have added, can keep a Job from ending. Then what its own container
//! found is written on it as an annotation, a [`Conclusion`], and it is suspended.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Pod, Warning, pod::since, warning};
use crate::{
    desired::Check,
    objects::labels::VERDICT,
    observe::{Live, Observed},
};

/// A Job.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Job {
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: String,
    /// Whether somebody deleted it.
    pub is_deleted: bool,
    /// Whether it ended well.
    pub is_complete: bool,
    /// How it failed.
    pub failure: Option<Failure>,
    /// What was written on it.
    pub conclusion: Option<Conclusion>,
    /// Its last pod.
    pub pod: Option<Pod>,
    /// The last warning about it.
    pub warning: Option<Warning>,
}

/// How a Job failed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Failure {
    /// When.
    pub at: Option<Timestamp>,
    /// The message of Kubernetes.
    pub message: String,
}

/// What a check found, as it is written on its Job.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default)]
pub struct Conclusion {
    /// Whether it passed.
    pub passed: bool,
    /// Why it did not.
    pub message: Option<String>,
    /// What the program warned of.
    pub warnings: Vec<String>,
    /// When this was written.
    pub at: Option<Timestamp>,
}

impl Job {
    /// The Job of this check, if it is there.
    pub(super) fn of(seen: &Observed, check: &Check) -> Option<Self> {
        let job = seen.job(&check.job.name)?;
        Some(Self {
            pod: seen.pod_of_job(job).map(|pod| Pod::of(seen, pod, &check.container)),
            warning: warning(seen, job),
            ..Self::from_live(job)
        })
    }

    fn from_live(job: &Live) -> Self {
        let is_true = |kind: &str| job.condition(kind).filter(|(status, ..)| *status == "True");
        let conclusion = job.annotation(VERDICT).and_then(|text| serde_json::from_str(text).ok());
        Self {
            name: job.name().to_owned(),
            uid: job.uid().to_owned(),
            is_deleted: job.is_deleted(),
            is_complete: is_true("Complete").is_some(),
            failure: is_true("Failed").map(|(_, _, message)| Failure {
                at: since(job.at("/status/conditions"), "Failed"),
                message: message.to_owned(),
            }),
            conclusion,
            pod: None,
            warning: None,
        }
    }
}

impl Conclusion {
    /// As it is written.
    pub fn to_text(&self) -> String {
        serde_json::to_string(self).expect("it is JSON")
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_written_on_a_job_is_read_from_it() {
        let conclusion =
            Conclusion { passed: true, message: None, warnings: vec!["a".into()], at: Some(Timestamp::UNIX_EPOCH) };
        let live = |text: &str| Live(json!({ "metadata": { "annotations": { VERDICT: text } } }));
        assert_eq!(Job::from_live(&live(&conclusion.to_text())).conclusion, Some(conclusion));
        // As versions before this one wrote it.
        let older = r#"{"at":"2030-01-01T00:00:00Z","message":"no","passed":false,"warnings":[]}"#;
        let read = Job::from_live(&live(older)).conclusion.unwrap();
        assert_eq!((read.passed, read.message.as_deref(), read.at.is_some()), (false, Some("no"), true));
        assert_eq!(Job::from_live(&live("nothing of ours")).conclusion, None);
    }
}
