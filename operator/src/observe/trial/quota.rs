//! Whether a pod that a quota refuses would fit in place of the one that runs.
//!
//! In a dry run the quota counts both pods. Its message has every number that this needs:
//!
//! ```text
//! exceeded quota: NAME, requested: requests.memory=2Gi, used: requests.memory=2Gi, limited: requests.memory=3Gi
//! ```

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::nodes::requests;
use crate::drift;

/// Whether `message` is that of a quota in which `pod` fits once `running` has stopped. With another priority class the quota
/// may not count the running pod, so then the pod does not fit.
pub(super) fn fits_instead(message: &str, pod: &Value, running: &Value) -> bool {
    let Some(quota) = Exceeded::parse(message) else { return false };
    let class = |pod: &Value| pod.pointer("/spec/priorityClassName").and_then(Value::as_str).map(str::to_owned);
    let is_other_class = running.is_null() || class(pod).is_some_and(|class_| class(running) != Some(class_));
    if is_other_class {
        return false;
    }
    quota.requested.iter().all(|(name, requested)| {
        let of = |numbers: &BTreeMap<String, f64>| numbers.get(name).copied();
        let (Some(used), Some(limit)) = (of(&quota.used), of(&quota.limited)) else { return false };
        requested + used - share(running, name) <= limit * (1.0 + 1e-9)
    })
}

/// What a quota counts for a pod under this name.
fn share(pod: &Value, name: &str) -> f64 {
    if name == "pods" || name == "count/pods" {
        return 1.0;
    }
    let (part, resource) = match name.split_once('.') {
        Some(("limits", resource)) => ("limits", resource),
        Some(("requests", resource)) => ("requests", resource),
        _ => ("requests", name),
    };
    requests(pod, part).get(resource).copied().unwrap_or(0.0)
}

/// The numbers in the message.
#[derive(Debug, Default)]
struct Exceeded {
    requested: BTreeMap<String, f64>,
    used: BTreeMap<String, f64>,
    limited: BTreeMap<String, f64>,
}

impl Exceeded {
    fn parse(message: &str) -> Option<Self> {
        let (_, rest) = message.split_once("exceeded quota: ")?;
        let (_, rest) = rest.split_once(", requested: ")?;
        let (requested, rest) = rest.split_once(", used: ")?;
        let (used, limited) = rest.split_once(", limited: ")?;
        Some(Self { requested: numbers(requested)?, used: numbers(used)?, limited: numbers(limited)? })
    }
}

fn numbers(list: &str) -> Option<BTreeMap<String, f64>> {
    list.trim()
        .split(',')
        .map(|pair| {
            let (name, amount) = pair.trim().split_once('=')?;
            Some((name.to_owned(), drift::quantity(&json!(amount))?))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(memory: &str) -> Value {
        json!({ "spec": { "containers": [{ "name": "server", "resources": { "requests": { "memory": memory } } }] } })
    }

    fn exceeded(requested: &str, used: &str, limited: &str) -> String {
        format!("pods \"db\" is forbidden: exceeded quota: q, requested: {requested}, used: {used}, limited: {limited}")
    }

    #[test]
    fn a_quota_counts_one_of_two_pods() {
        let fits = |requested: &str, limit: &str| {
            let message = exceeded(
                &format!("pods=1,requests.memory={requested}"),
                "pods=1,requests.memory=1Gi",
                &format!("pods=1,requests.memory={limit}"),
            );
            fits_instead(&message, &pod(requested), &pod("1Gi"))
        };
        assert!(fits("1Gi", "1Gi"));
        assert!(fits("2Gi", "2048Mi"));
        assert!(!fits("3Gi", "2Gi"));
    }

    #[test]
    fn another_message_lets_no_pod_in() {
        let forbidden = "pods \"db\" is forbidden: no PriorityClass with name high was found";
        assert!(!fits_instead(forbidden, &pod("1Gi"), &pod("1Gi")));
        assert!(!fits_instead("exceeded quota: q, requested: pods=x", &pod("1Gi"), &pod("1Gi")));
    }

    #[test]
    fn a_quota_of_another_priority_class_may_not_count_what_runs() {
        let message = exceeded("pods=1", "pods=1", "pods=1");
        let mut high = pod("1Gi");
        high["spec"]["priorityClassName"] = json!("high");
        assert!(!fits_instead(&message, &high, &pod("1Gi")));
        assert!(fits_instead(&message, &pod("1Gi"), &pod("1Gi")));
        assert!(!fits_instead(&message, &pod("1Gi"), &Value::Null));
    }
}
