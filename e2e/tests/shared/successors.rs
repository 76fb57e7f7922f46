//! A server that runs is not stopped for a pod that cannot be: the API server, admission, quotas, the scheduler and the
//! nodes are asked before, and clients notice nothing.

use progressdb_e2e::{CLUSTER, Database, Namespace, Writers, wait_until};
use serde_json::{Value, json};

/// Asks for something that cannot be, and takes it back.
fn cannot_be(database: &Database<'_>, change: Value, reason: &str, words: &str) {
    let uid = database.pod_uid();
    let back: Value = change.as_object().unwrap().keys().map(|key| (key.clone(), Value::Null)).collect();
    database.change(change);
    database.wait_for("Stalled", "True", reason, &[words]);
    assert_eq!(database.status_of("Available"), "True");
    assert_eq!(database.pod_uid(), uid);
    database.change(back);
    assert_eq!(database.ready().pod_uid(), uid);
}

/// Requests and limits of the server's memory.
fn memory(request: &str, limit: &str) -> Value {
    json!({ "resources": { "requests": { "memory": request }, "limits": { "memory": limit } } })
}

fn spread(skew: i32, topology: &str) -> Value {
    json!({
        "maxSkew": skew, "topologyKey": topology, "whenUnsatisfiable": "DoNotSchedule",
        "labelSelector": { "matchLabels": { "app.kubernetes.io/instance": "chat" } },
    })
}

fn apart_from(terms: &[Value]) -> Value {
    json!({ "affinity": { "podAntiAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": terms } } })
}

#[test]
fn what_the_api_server_refuses_stops_nothing() {
    let namespace = Namespace::new("invalid");
    let database = namespace.database("chat", json!({}));
    let writers = Writers::start(database.ready(), 2);
    let spread = |skew: i32| spread(skew, "kubernetes.io/hostname");
    let refused = |change: Value, words: &str| cannot_be(&database, change, "PodRefused", words);
    refused(memory("1Gb", "2Gi"), "quantities must match");
    refused(memory("2Gi", "1Gi"), "must be less than or equal to memory limit");
    refused(json!({ "podLabels": { "a b": "c" } }), "a b");
    refused(json!({ "podAnnotations": { "a b": "c" } }), "a b");
    refused(json!({ "topologySpreadConstraints": [spread(0)] }), "maxSkew");
    refused(json!({ "topologySpreadConstraints": [spread(1), spread(1)] }), "uplicate");
    refused(json!({ "imagePullSecrets": [{ "name": "a" }, { "name": "a" }], "podLabels": { "a": "b" } }), "uplicate");
    refused(json!({ "tolerations": [{ "key": "a", "operator": "Sometimes" }] }), "operator");
    refused(json!({ "priorityClassName": "no-such-class" }), "no-such-class");
    assert_eq!(writers.failures(), 0);
    writers.check();
}

#[test]
fn what_no_node_can_take_stops_nothing() {
    let namespace = Namespace::new("nowhere");
    let database = namespace.database("chat", json!({}));
    let writers = Writers::start(database.ready(), 2);
    let nowhere = |change: Value, words: &str| cannot_be(&database, change, "Unschedulable", words);
    nowhere(json!({ "resources": { "requests": { "memory": "900Gi" } } }), "memory");
    nowhere(json!({ "nodeSelector": { "example.com/pool": "none" } }), "node");
    nowhere(json!({ "topologySpreadConstraints": [spread(1, "example.com/none")] }), "topology spread");
    let operators = json!({
        "labelSelector": { "matchLabels": { "app.kubernetes.io/name": "progressdb-operator" } },
        "namespaceSelector": {}, "topologyKey": "kubernetes.io/hostname",
    });
    nowhere(apart_from(&[operators]), "anti-affinity");
    assert_eq!(writers.failures(), 0);
    writers.check();
}

#[test]
fn what_the_namespace_does_not_allow_stops_nothing_and_what_it_allows_needs_no_room_for_two() {
    let namespace = Namespace::new("allowed");
    let memory = |amount: &str| {
        let mut memory = memory(amount, amount);
        memory["resources"]["requests"]["cpu"] = json!("50m");
        memory
    };
    let database = namespace.database("chat", memory("300Mi"));
    let writers = Writers::start(database.ready(), 2);
    namespace.apply("ResourceQuota", "small", json!({ "spec": { "hard": { "requests.memory": "500Mi" } } }));
    // The quota controller must have counted what runs.
    let used = || namespace.get("ResourceQuota", "small")["status"]["used"].clone();
    wait_until("the quota counts", used, |used| used["requests.memory"] == "300Mi");
    let uid = database.pod_uid();
    database.change(memory("600Mi"));
    database.wait_for("Stalled", "True", "PodRefused", &["exceeded quota: small", "raise the quota"]);
    assert_eq!(database.pod_uid(), uid);
    let most = json!({ "limits": [{ "type": "Container", "max": { "memory": "350Mi" } }] });
    namespace.apply("LimitRange", "most", json!({ "spec": most }));
    database.change(memory("360Mi"));
    database.wait_for("Stalled", "True", "PodRefused", &["maximum memory usage"]);
    assert_eq!(database.pod_uid(), uid);
    assert_eq!(writers.failures(), 0);
    namespace.delete("LimitRange", "most");
    // Together with what runs it is more than the quota.
    database.change(memory("400Mi"));
    database.wait_for_other_pod(&uid).ready();
    writers.check();
}

#[test]
fn a_server_that_keeps_from_its_like_is_no_obstacle_to_its_own_successor() {
    let namespace = Namespace::new("alike");
    let with_label = |label: &str, value: &str| {
        let selector = json!({ "matchLabels": { label: value } });
        json!({ "labelSelector": selector, "topologyKey": "kubernetes.io/hostname" })
    };
    let mut spec = apart_from(&[with_label("app.kubernetes.io/instance", "chat"), with_label("team", "chat")]);
    spec["podLabels"] = json!({ "team": "chat" });
    let database = namespace.database("chat", spec);
    let uid = database.ready().pod_uid();
    database.change(json!({ "settings": { "logging": { "level": "debug" } } }));
    database.wait_for_other_pod(&uid).ready();
}

#[test]
fn a_misspelt_setting_and_a_long_list_are_no_secret() {
    let namespace = Namespace::new("warned");
    let database = namespace.database("chat", json!({ "settings": { "logging": { "levl": "debug" } } }));
    database.wait_for("ConfigurationValid", "True", "AcceptedWithWarnings", &["logging.levl", "logging.level"]);
    let uid = database.ready().pod_uid();
    let origins = |count: usize| {
        let origins = (0..count).map(|number| format!("https://origin-{number:040}.example.com"));
        let cors = json!({ "allowed_origins": origins.collect::<Vec<_>>() });
        json!({ "settings": { "logging": null, "server": { "cors": cors } } })
    };
    database.change(origins(3_300));
    let uid = database.wait_for_other_pod(&uid).ready().pod_uid();
    database.change(origins(6_000));
    database.wait_for("ConfigurationValid", "False", "SettingsTooLarge", &["262144"]);
    assert_eq!(database.pod_uid(), uid);
}

#[test]
fn a_check_that_is_not_admitted_says_why() {
    let namespace = Namespace::new("silent");
    let class = format!("{}-class", namespace.name);
    let database = namespace.database("chat", json!({ "priorityClassName": class }));
    database.wait_for("Stalled", "True", "PodRefused", &[&class, "make the priority class"]);
    CLUSTER.apply("PriorityClass", &class, json!({ "value": 1 }));
    database.ready();
    CLUSTER.delete("PriorityClass", &class);
}
