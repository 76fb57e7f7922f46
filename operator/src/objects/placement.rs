//! Where a server and its checks may run. A check is placed as the server would be once the one that runs has stopped:
//! neither is it repelled by that, nor does it repel anything.

use k8s_openapi::{
    api::core::v1::{Affinity, PodAffinityTerm, TopologySpreadConstraint},
    apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement},
};
use kube::core::{Selector, SelectorExt as _};
use serde_json::{Map, Value, json};

use super::{Inputs, labels, pod};

/// Places the server. Its anti-affinity, which also keeps others away, leaves checks alone.
pub(super) fn of_server(inputs: &Inputs<'_>, pod: &mut Map<String, Value>) {
    let spec = &inputs.resource.spec;
    let mut affinity = spec.affinity.clone();
    each_anti_affinity(&mut affinity, |selector| require(selector, labels::CHECK, "DoesNotExist", None));
    pod::set(pod, "affinity", json!(affinity));
    pod::set(pod, "topologySpreadConstraints", json!(spec.topology_spread_constraints));
}

/// Places a check: as the server, which itself does not count.
pub(super) fn of_check(inputs: &Inputs<'_>, pod: &mut Map<String, Value>) {
    let spec = &inputs.resource.spec;
    let server = format!("{}-0", inputs.name());
    let without_server = |selector: &mut LabelSelector| match spec.storage.cassandra() {
        None => require(selector, labels::POD_NAME, "NotIn", Some(server.clone())),
        Some(_) => require(selector, labels::TRACK, "DoesNotExist", None),
    };
    let mut affinity = spec.affinity.clone();
    each_anti_affinity(&mut affinity, |selector| {
        without_server(selector);
        require(selector, labels::CHECK, "DoesNotExist", None);
    });
    drop_affinity_to_server(inputs, &mut affinity);
    pod::set(pod, "affinity", json!(affinity));
    let mut spread: Vec<TopologySpreadConstraint> = spec.topology_spread_constraints.clone();
    spread.iter_mut().filter_map(|constraint| constraint.label_selector.as_mut()).for_each(without_server);
    pod::set(pod, "topologySpreadConstraints", json!(spread));
}

fn each_anti_affinity(affinity: &mut Option<Affinity>, change: impl Fn(&mut LabelSelector)) {
    let anti = affinity.as_mut().and_then(|affinity| affinity.pod_anti_affinity.as_mut());
    let terms = anti.and_then(|anti| anti.required_during_scheduling_ignored_during_execution.as_mut());
    // A term without a selector selects nothing.
    terms.into_iter().flatten().filter_map(|term| term.label_selector.as_mut()).for_each(change);
}

/// Drops required affinity to pods like the server: the server itself satisfies it, and a check does not, so no node could
/// take it while the server is stopped.
fn drop_affinity_to_server(inputs: &Inputs<'_>, affinity: &mut Option<Affinity>) {
    let own = pod::labels_over(&inputs.resource.spec.pod_labels, labels::of(&inputs.name(), labels::Component::Server));
    let is_own = |term: &PodAffinityTerm| {
        let selector = term.label_selector.clone().and_then(|selector| Selector::try_from(selector).ok());
        selector.is_some_and(|selector| selector.matches(&own))
    };
    let near = affinity.as_mut().and_then(|affinity| affinity.pod_affinity.as_mut());
    if let Some(terms) = near.and_then(|near| near.required_during_scheduling_ignored_during_execution.as_mut()) {
        terms.retain(|term| !is_own(term));
    }
}

fn require(selector: &mut LabelSelector, key: &str, operator: &str, value: Option<String>) {
    let requirement = LabelSelectorRequirement {
        key: key.to_owned(),
        operator: operator.to_owned(),
        values: value.map(|value| vec![value]),
    };
    selector.match_expressions.get_or_insert_default().push(requirement);
}
