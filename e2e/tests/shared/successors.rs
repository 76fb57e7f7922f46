//! A server that runs is not stopped for a pod that cannot be: the API server, admission, quotas, the scheduler and the
//! nodes are asked before, and clients notice nothing.

use progressdb_e2e::{Database, Namespace, Writers, kubectl, kubectl_with, wait_until};
use serde_json::{Value, json};

/// Asks for something that cannot be, and takes it back.
fn cannot_be(database: &Database<'_>, change: Value, reason: &str, words: &str) {
    let uid = database.pod_uid();
    let back: Value = change.as_object().unwrap().keys().map(|key| (key.clone(), Value::Null)).collect();
    database.change(change.clone());
    let message = database.wait_for("Stalled", "True", reason);
    assert!(message.contains(words), "{change}: {message}");
    assert_eq!(database.condition("Available").unwrap().0, "True", "{change}");
    assert_eq!(database.pod_uid(), uid, "{change}");
    database.change(back);
    database.ready();
    assert_eq!(database.pod_uid(), uid, "{change}");
    println!("{change}: {message}");
}

#[test]
fn what_the_api_server_refuses_stops_nothing() {
    let namespace = Namespace::new("invalid");
    let database = namespace.database("chat", json!({}));
    let writers = Writers::start(database.ready(), 2);
    let memory = |request: &str, limit: &str| json!({ "resources": { "requests": { "memory": request }, "limits": { "memory": limit } } });
    let spread = |skew: i32| {
        let selector = json!({ "matchLabels": { "a": "b" } });
        json!({
            "maxSkew": skew, "topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": "DoNotSchedule",
            "labelSelector": selector,
        })
    };
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
    let selector = json!({ "matchLabels": { "app.kubernetes.io/instance": "chat" } });
    let constraint = json!({
        "maxSkew": 1, "topologyKey": "example.com/none", "whenUnsatisfiable": "DoNotSchedule", "labelSelector": selector,
    });
    nowhere(json!({ "topologySpreadConstraints": [constraint] }), "topology spread");
    let term = json!({
        "labelSelector": { "matchLabels": { "app.kubernetes.io/name": "progressdb-operator" } },
        "namespaceSelector": {}, "topologyKey": "kubernetes.io/hostname",
    });
    let anti = json!({ "podAntiAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": [term] } });
    nowhere(json!({ "affinity": anti }), "anti-affinity");
    assert_eq!(writers.failures(), 0);
    writers.check();
}

#[test]
fn what_the_namespace_does_not_allow_stops_nothing_and_what_it_allows_needs_no_room_for_two() {
    let namespace = Namespace::new("allowed");
    let memory = |amount: &str| json!({ "resources": { "requests": { "memory": amount, "cpu": "50m" }, "limits": { "memory": amount } } });
    let database = namespace.database("chat", memory("300Mi"));
    let writers = Writers::start(database.ready(), 2);
    namespace.apply(&json!({
        "apiVersion": "v1", "kind": "ResourceQuota", "metadata": { "name": "small" },
        "spec": { "hard": { "requests.memory": "500Mi" } },
    }));
    // The quota controller must have counted what runs.
    let used = ["get", "resourcequota", "small", "-o", "jsonpath={.status.used.requests\\.memory}"];
    wait_until("the quota counts", || namespace.kubectl(&used) == "300Mi");
    let uid = database.pod_uid();
    database.change(memory("600Mi"));
    let message = database.wait_for("Stalled", "True", "PodRefused");
    assert!(message.contains("exceeded quota: small") && message.contains("raise the quota"), "{message}");
    assert_eq!(database.pod_uid(), uid);
    namespace.apply(&json!({
        "apiVersion": "v1", "kind": "LimitRange", "metadata": { "name": "most" },
        "spec": { "limits": [{ "type": "Container", "max": { "memory": "350Mi" } }] },
    }));
    database.change(memory("360Mi"));
    wait_until("the limit range is told", || {
        database
            .condition("Stalled")
            .is_some_and(|(status, _, message)| status == "True" && message.contains("maximum memory usage"))
    });
    assert_eq!(database.pod_uid(), uid);
    assert_eq!(writers.failures(), 0);
    namespace.kubectl(&["delete", "limitrange", "most"]);
    // Together with what runs it is more than the quota.
    database.change(memory("400Mi"));
    database.wait_for_other_pod(&uid);
    database.ready();
    writers.check();
}

#[test]
fn a_server_that_keeps_from_its_like_is_no_obstacle_to_its_own_successor() {
    let namespace = Namespace::new("alike");
    let term = |label: &str, value: &str| json!({ "labelSelector": { "matchLabels": { label: value } }, "topologyKey": "kubernetes.io/hostname" });
    let terms = [term("app.kubernetes.io/instance", "chat"), term("team", "chat")];
    let anti = json!({ "podAntiAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": terms } });
    let database = namespace.database("chat", json!({ "affinity": anti, "podLabels": { "team": "chat" } }));
    let uid = database.ready().pod_uid();
    database.change(json!({ "settings": { "logging": { "level": "debug" } } }));
    database.wait_for_other_pod(&uid);
    database.ready();
}

#[test]
fn a_misspelt_setting_and_a_long_list_are_no_secret() {
    let namespace = Namespace::new("warned");
    let database = namespace.database("chat", json!({ "settings": { "logging": { "levl": "debug" } } }));
    let message = database.wait_for("ConfigurationValid", "True", "AcceptedWithWarnings");
    assert!(message.contains("logging.levl") && message.contains("logging.level"), "{message}");
    let uid = database.ready().pod_uid();
    let origins: Vec<String> = (0..3_300).map(|number| format!("https://origin-{number:040}.example.com")).collect();
    // Too much for a command line.
    let change = |settings: Value| {
        let patch = json!({ "spec": { "settings": settings } }).to_string();
        let arguments =
            ["-n", &namespace.name, "patch", "progressdb", "chat", "--type=merge", "--patch-file=/dev/stdin"];
        kubectl_with(&arguments, &patch).unwrap();
    };
    change(json!({ "logging": null, "server": { "cors": { "allowed_origins": origins } } }));
    database.wait_for_other_pod(&uid);
    database.ready();
    let uid = database.pod_uid();
    let origins: Vec<String> = (0..6_000).map(|number| format!("https://origin-{number:040}.example.com")).collect();
    change(json!({ "server": { "cors": { "allowed_origins": origins } } }));
    let message = database.wait_for("ConfigurationValid", "False", "SettingsTooLarge");
    assert!(message.contains("262144"), "{message}");
    assert_eq!(database.pod_uid(), uid);
}

#[test]
fn a_check_that_is_not_admitted_says_why() {
    let namespace = Namespace::new("silent");
    let class = format!("{}-class", namespace.name);
    let database = namespace.database("chat", json!({ "priorityClassName": class }));
    let message = database.wait_for("Stalled", "True", "PodRefused");
    assert!(message.contains(&class) && message.contains("make the priority class"), "{message}");
    kubectl(&["create", "priorityclass", &class, "--value=1"]);
    database.ready();
    kubectl(&["delete", "priorityclass", &class]);
}
