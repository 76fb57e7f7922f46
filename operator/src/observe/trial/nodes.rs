//! Which nodes can take a pod: pure, from the node, the pod, the volume and the pods that are there.
//!
//! Labels, taints and amounts are compared here. Rules about other pods (affinity, spreading) are left to the scheduler,
//! which applies them to the pod of a check.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::drift;

/// What a pod needs of a node.
#[derive(Clone, Debug)]
pub(super) struct Demand {
    amounts: BTreeMap<String, f64>,
    priority: i64,
    preempts: bool,
}

/// What other pods use of a node.
#[derive(Clone, Debug, Default)]
pub(super) struct Usage(BTreeMap<String, f64>);

impl Demand {
    pub(super) fn of(pod: &Value) -> Self {
        let mut amounts = requests(pod, "requests");
        amounts.retain(|_, amount| *amount > 0.0);
        amounts.insert("pods".into(), 1.0);
        let preempts = pod.pointer("/spec/preemptionPolicy") != Some(&json!("Never"));
        Self { amounts, priority: priority(pod), preempts }
    }

    /// Whether the node has that much, and what it lacks.
    pub(super) fn fits(&self, node: &Value, usage: &Usage) -> Result<(), String> {
        let has = |name: &str| node.pointer("/status/allocatable")?.get(name).and_then(drift::quantity);
        for (name, needed) in &self.amounts {
            let free = has(name).unwrap_or(0.0) - usage.0.get(name).copied().unwrap_or(0.0);
            if *needed > free * (1.0 + 1e-9) {
                return Err(format!("too little {name}"));
            }
        }
        Ok(())
    }
}

impl Usage {
    /// Adds what pods use that have not ended and that this one would not preempt.
    pub(super) fn add(&mut self, pods: impl Iterator<Item = Value>, demand: &Demand) {
        let stays = |pod: &Value| !demand.preempts || priority(pod) >= demand.priority;
        let ended = |pod: &Value| matches!(pod.pointer("/status/phase"), Some(Value::String(phase)) if phase == "Succeeded" || phase == "Failed");
        for pod in pods.filter(|pod| !ended(pod) && stays(pod)) {
            let mut amounts = requests(&pod, "requests");
            amounts.insert("pods".into(), 1.0);
            for (name, amount) in amounts {
                *self.0.entry(name).or_default() += amount;
            }
        }
    }
}

fn priority(pod: &Value) -> i64 {
    pod.pointer("/spec/priority").and_then(Value::as_i64).unwrap_or(0)
}

/// What a pod requests, or is limited to: the sum over its containers and sidecars (init containers that keep running), or
/// the largest of the other init containers if that is more.
pub(super) fn requests(pod: &Value, part: &str) -> BTreeMap<String, f64> {
    let containers = |kind: &str| pod.pointer(&format!("/spec/{kind}")).and_then(Value::as_array).into_iter().flatten();
    let lasts = |container: &&Value| container["restartPolicy"] == "Always";
    let mut sum = BTreeMap::new();
    for container in containers("containers").chain(containers("initContainers").filter(lasts)) {
        for (name, amount) in of_container(container, part) {
            *sum.entry(name).or_default() += amount;
        }
    }
    for container in containers("initContainers").filter(|container| !lasts(container)) {
        for (name, amount) in of_container(container, part) {
            let known: &mut f64 = sum.entry(name).or_default();
            *known = known.max(amount);
        }
    }
    for (name, amount) in amounts(pod.pointer("/spec/overhead")) {
        *sum.entry(name).or_default() += amount;
    }
    sum
}

/// A limit without a request is the request.
fn of_container(container: &Value, part: &str) -> BTreeMap<String, f64> {
    let mut found = match part {
        "requests" => amounts(container.pointer("/resources/limits")),
        _ => BTreeMap::new(),
    };
    found.extend(amounts(container.pointer(&format!("/resources/{part}"))));
    found
}

fn amounts(quantities: Option<&Value>) -> BTreeMap<String, f64> {
    let quantities = quantities.and_then(Value::as_object).into_iter().flatten();
    quantities.filter_map(|(name, amount)| Some((name.clone(), drift::quantity(amount)?))).collect()
}

/// Whether labels and taints of the node let the pod in, and its volume can be there.
pub(super) fn takes(node: &Value, pod: &Value, volume: &Value) -> Result<(), String> {
    let label =
        |name: &str| node.pointer("/metadata/labels").and_then(|labels| labels.get(name)).and_then(Value::as_str);
    let selector = pod.pointer("/spec/nodeSelector").and_then(Value::as_object).into_iter().flatten();
    if selector.into_iter().any(|(name, value)| label(name) != value.as_str()) {
        return Err("other labels than spec.nodeSelector".into());
    }
    const REQUIRED: &str = "/spec/affinity/nodeAffinity/requiredDuringSchedulingIgnoredDuringExecution";
    if !any_term(node, pod.pointer(REQUIRED)) {
        return Err("other labels than spec.affinity".into());
    }
    if !any_term(node, volume.pointer("/spec/nodeAffinity/required")) {
        return Err("no access to the volume".into());
    }
    let tolerations = list(pod.pointer("/spec/tolerations"));
    let repels =
        |taint: &&Value| taint["effect"] != "PreferNoSchedule" && !tolerations.iter().any(|by| tolerates(by, taint));
    if let Some(taint) = list(node.pointer("/spec/taints")).iter().find(repels) {
        return Err(format!("the taint {}", taint["key"].as_str().unwrap_or_default()));
    }
    let unschedulable = json!({ "key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule" });
    if node.pointer("/spec/unschedulable") == Some(&json!(true)) && repels(&&unschedulable) {
        return Err("the taint node.kubernetes.io/unschedulable".into());
    }
    Ok(())
}

fn list(value: Option<&Value>) -> &[Value] {
    value.and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

fn tolerates(toleration: &Value, taint: &Value) -> bool {
    let text = |value: &Value, name: &str| value[name].as_str().unwrap_or_default().to_owned();
    let effect = text(toleration, "effect");
    let key = text(toleration, "key");
    let by_effect = effect.is_empty() || effect == text(taint, "effect");
    let exists = toleration["operator"] == "Exists";
    let by_key = (key.is_empty() && exists) || key == text(taint, "key");
    by_effect && by_key && (exists || text(toleration, "value") == text(taint, "value"))
}

/// Whether the node satisfies one of the terms; without any it does.
fn any_term(node: &Value, selector: Option<&Value>) -> bool {
    let Some(terms) = selector.and_then(|selector| selector["nodeSelectorTerms"].as_array()) else { return true };
    terms.iter().any(|term| {
        let labels = node.pointer("/metadata/labels").cloned().unwrap_or_default();
        let fields = json!({ "metadata.name": node.pointer("/metadata/name") });
        let (by_label, by_field) = (list(term.get("matchExpressions")), list(term.get("matchFields")));
        let is_empty = by_label.is_empty() && by_field.is_empty();
        let agree = |found: &Value, wanted: &[Value]| wanted.iter().all(|expression| agrees(found, expression));
        !is_empty && agree(&labels, by_label) && agree(&fields, by_field)
    })
}

fn agrees(found: &Value, expression: &Value) -> bool {
    let value = expression["key"].as_str().and_then(|key| found.get(key)).and_then(Value::as_str);
    let values = list(expression.get("values"));
    let is_in = value.is_some_and(|value| values.iter().any(|wanted| wanted == value));
    let number = |text: Option<&str>| text.and_then(|text| text.parse::<i64>().ok());
    let pair = number(value).zip(number(values.first().and_then(Value::as_str)));
    match expression["operator"].as_str().unwrap_or_default() {
        "In" => is_in,
        "NotIn" => !is_in,
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        "Gt" => pair.is_some_and(|(found, wanted)| found > wanted),
        "Lt" => pair.is_some_and(|(found, wanted)| found < wanted),
        _ => false,
    }
}

/// The reasons of all nodes, the most frequent first.
pub(super) fn summary(why: &[String]) -> String {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    why.iter().for_each(|reason| *counts.entry(reason).or_default() += 1);
    let mut counts: Vec<(&str, usize)> = counts.into_iter().collect();
    counts.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    let shown: Vec<String> = counts.iter().map(|(reason, count)| format!("{count} with {reason}")).collect();
    format!(
        "no node can take the changed pod: {} nodes, {}; correct spec.resources or the placement, or make room",
        why.len(),
        if shown.is_empty() { "none".to_owned() } else { shown.join(", ") },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(more: Value) -> Value {
        let mut node = json!({
            "metadata": { "name": "n", "labels": { "zone": "a", "cores": "8" } },
            "status": { "allocatable": { "cpu": "2", "memory": "4Gi", "pods": "3" } },
        });
        node["spec"] = more;
        node
    }

    fn pod(spec: Value) -> Value {
        json!({ "spec": spec })
    }

    fn of(resources: Value) -> Value {
        pod(json!({ "containers": [{ "name": "server", "resources": resources }] }))
    }

    fn why(node: Value, spec: Value) -> Option<String> {
        takes(&node, &pod(spec), &Value::Null).err()
    }

    #[test]
    fn a_pod_fits_beside_those_that_stay() {
        let demand = Demand::of(&of(json!({ "requests": { "memory": "3Gi" } })));
        let problem = |others: &[Value]| {
            let mut usage = Usage::default();
            usage.add(others.iter().cloned(), &demand);
            demand.fits(&node(json!({})), &usage).err()
        };
        let gi = |count: u8| of(json!({ "limits": { "memory": format!("{count}Gi") } }));
        let mut ended = gi(2);
        ended["status"] = json!({ "phase": "Succeeded" });
        let mut low = gi(2);
        low["spec"]["priority"] = json!(-1);
        assert_eq!(problem(&[]), None);
        assert_eq!(problem(&[gi(1)]), None);
        assert_eq!(problem(&[gi(2)]), Some("too little memory".into()));
        assert_eq!(problem(&[ended, low]), None);
        assert_eq!(problem(&[of(json!({})), of(json!({})), of(json!({}))]), Some("too little pods".into()));
    }

    #[test]
    fn what_a_node_does_not_have_cannot_be_asked_of_it() {
        let demand = Demand::of(&of(json!({ "limits": { "example.com/gpu": "1" } })));
        assert_eq!(demand.fits(&node(json!({})), &Usage::default()), Err("too little example.com/gpu".into()));
    }

    #[test]
    fn init_containers_count_by_the_largest_and_lasting_ones_all_the_time() {
        let request = |memory: &str| json!({ "resources": { "requests": { "memory": memory } } });
        let mut lasting = request("1");
        lasting["restartPolicy"] = json!("Always");
        let spec = json!({ "containers": [request("2"), request("3")], "initContainers": [request("9"), lasting] });
        assert_eq!(requests(&pod(spec), "requests")["memory"], 9.0);
    }

    #[test]
    fn labels_and_taints_are_judged_as_the_scheduler_does() {
        let affinity = |operator: &str, key: &str, values: Value| {
            let term = json!({ "matchExpressions": [{ "key": key, "operator": operator, "values": values }] });
            let required = json!({ "nodeSelectorTerms": [term] });
            json!({ "affinity": { "nodeAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": required } } })
        };
        let plain = || node(json!({}));
        assert_eq!(why(plain(), json!({})), None);
        assert_eq!(why(plain(), json!({ "nodeSelector": { "zone": "a" } })), None);
        assert!(why(plain(), json!({ "nodeSelector": { "zone": "b" } })).is_some());
        assert_eq!(why(plain(), affinity("In", "zone", json!(["a", "b"]))), None);
        assert!(why(plain(), affinity("NotIn", "zone", json!(["a"]))).is_some());
        assert_eq!(why(plain(), affinity("Gt", "cores", json!(["4"]))), None);
        assert!(why(plain(), affinity("Exists", "gpu", json!([]))).is_some());
        let tainted = || node(json!({ "taints": [{ "key": "only", "value": "db", "effect": "NoSchedule" }] }));
        assert!(why(tainted(), json!({})).is_some());
        assert_eq!(why(tainted(), json!({ "tolerations": [{ "key": "only", "value": "db" }] })), None);
        assert_eq!(why(tainted(), json!({ "tolerations": [{ "operator": "Exists" }] })), None);
        assert!(why(tainted(), json!({ "tolerations": [{ "key": "only", "value": "web" }] })).is_some());
        assert!(why(node(json!({ "unschedulable": true })), json!({})).is_some());
    }

    #[test]
    fn a_pod_goes_where_its_volume_can_be() {
        let term = json!({ "matchExpressions": [{ "key": "zone", "operator": "In", "values": ["b"] }] });
        let volume = json!({ "spec": { "nodeAffinity": { "required": { "nodeSelectorTerms": [term] } } } });
        assert_eq!(takes(&node(json!({})), &pod(json!({})), &volume), Err("no access to the volume".into()));
    }
}
