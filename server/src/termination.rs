//! The termination message of a container: how a command reports to whoever made its pod.
//!
//! Kubernetes puts a file of this name into every container and shows its last 4 096 bytes in the pod's status. Elsewhere
//! there is no such file, and none is made.

use std::{fs::OpenOptions, io::Write as _, path::Path};

use serde_json::Value;

/// Where Kubernetes puts the file, unless a pod says otherwise.
pub const FILE: &str = "/dev/termination-log";
/// The most that Kubernetes shows of it.
const LONGEST: usize = 4_096;

/// Writes a report of [`crate::config::Loaded::to_report`] there, as one line of JSON. A failure is ignored, because
/// the report is printed as well.
pub fn leave(file: &Path, report: &Value) {
    if let Ok(mut file) = OpenOptions::new().write(true).truncate(true).open(file) {
        // See above: a failure is ignored.
        let _ = file.write_all(shortened(report.clone()).as_bytes());
    }
}

/// Drops the last warnings and then errors until the report fits, so that it stays JSON; `more` counts them.
fn shortened(mut report: Value) -> String {
    let mut more = 0;
    loop {
        let text = report.to_string();
        let longest = ["warnings", "errors"]
            .into_iter()
            .find(|list| report[*list].as_array().is_some_and(|list| !list.is_empty()));
        let Some(list) = longest.filter(|_| text.len() > LONGEST) else { return text };
        more += 1;
        if let Some(items) = report[list].as_array_mut() {
            items.pop();
        }
        report["more"] = more.into();
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_report_is_left_where_a_pod_has_a_file_for_it_and_nowhere_else() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("termination-log");
        leave(&file, &json!({ "valid": true }));
        assert!(!file.exists());
        std::fs::write(&file, "what was there before, and longer than the report").unwrap();
        leave(&file, &json!({ "valid": true }));
        assert_eq!(std::fs::read_to_string(&file).unwrap(), r#"{"valid":true}"#);
    }

    #[test]
    fn a_long_report_is_shortened_and_stays_json() {
        let warnings: Vec<Value> =
            (0..200).map(|number| json!({ "message": format!("warning {number:030}") })).collect();
        let text = shortened(json!({ "valid": true, "errors": [], "warnings": warnings }));
        assert!(text.len() <= LONGEST, "{}", text.len());
        let kept: Value = serde_json::from_str(&text).unwrap();
        let count = kept["warnings"].as_array().unwrap().len();
        assert_eq!(kept["more"], json!(200 - count));
        assert!(count > 10, "{count}");
    }
}
