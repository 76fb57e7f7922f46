//! Other installations of the operator than the one of `e2e/run`: none, one of a namespace, two at once.

use progressdb_e2e::{Namespace, SYSTEM, helm, image, is_allowed, try_kubectl, wait_until};
use serde_json::{Value, json};

pub(crate) fn wait_until_operator_is_ready() {
    let arguments = ["-n", &SYSTEM.name, "rollout", "status", "deployment/progressdb-operator", "--timeout=5s"];
    wait_until("the operator is ready", || try_kubectl(&arguments, ""), Result::is_ok).unwrap();
}

/// Installs or changes a release of the chart, as `e2e/run` does.
fn install_as(release: &str, namespace: &str, more: &[&str]) {
    let repository = format!("image.repository={}", image("progressdb-operator"));
    let base = ["upgrade", "--install", release, "charts/progressdb-operator", "-n", namespace];
    let values = ["--wait", "--timeout", "240s", "--set", &repository, "--set", "image.tag=dev"];
    helm(&[&base[..], &values[..], more].concat());
}

/// Installs or changes the operator of the whole cluster.
pub(crate) fn install(more: &[&str]) {
    install_as("progressdb-operator", &SYSTEM.name, more);
}

/// No operator, until it is dropped.
pub(crate) struct Without;

impl Without {
    pub(crate) fn operator() -> Self {
        helm(&["uninstall", "progressdb-operator", "-n", &SYSTEM.name, "--wait"]);
        Self
    }
}

impl Drop for Without {
    fn drop(&mut self) {
        install(&[]);
    }
}

#[test]
fn an_operator_of_one_namespace_looks_after_that_one_only() {
    let (own, other) = (Namespace::new("own"), Namespace::new("other"));
    let without = Without::operator();
    install_as("own-progressdb-operator", &own.name, &["--set", "namespaced=true"]);
    let outside = other.database("chat", json!({}));
    own.database("chat", json!({ "deletionPolicy": "Snapshot" })).ready();
    assert_eq!(outside.get().get("status"), None, "it is nobody's");
    let account = format!("system:serviceaccount:{}:own-progressdb-operator", own.name);
    let may = |verb: &str, objects: &str, namespace: &Namespace| is_allowed(&account, verb, objects, &namespace.name);
    assert!(may("get", "secrets", &own) && !may("get", "secrets", &other) && !may("create", "pods", &other));
    helm(&["uninstall", "own-progressdb-operator", "-n", &own.name, "--wait"]);
    drop(without);
    outside.ready();
}

#[test]
fn two_installations_in_one_namespace_have_a_lease_each_and_do_not_fight() {
    let wait_until_leads = |name: &str| {
        let holder = || SYSTEM.find("Lease", name).map(|lease| lease["spec"]["holderIdentity"].clone());
        wait_until(&format!("{name} leads"), holder, |holder| holder.as_ref().is_some_and(Value::is_string));
    };
    wait_until_leads("progressdb-operator");
    install_as("second-progressdb-operator", &SYSTEM.name, &["--set", "namespaced=true"]);
    wait_until_leads("second-progressdb-operator");
    let elsewhere = Namespace::new("overlap");
    elsewhere.database("chat", json!({})).ready();
    let shared = SYSTEM.database("overlap", json!({ "deletionPolicy": "Delete" }));
    let looks_after = shared.ready().get()["status"]["operator"].as_str().unwrap_or_default().to_owned();
    assert!(looks_after.starts_with("progressdb-system/"), "{looks_after}");
    wait_until(
        "the overlap is told",
        || SYSTEM.list("Event", ""),
        |events| {
            let tells = |event: &Value| event["message"].as_str().is_some_and(|message| message.contains(&looks_after));
            events.iter().any(|event| event["reason"] == "OperatorsOverlap" && tells(event))
        },
    );
    shared.delete();
    helm(&["uninstall", "second-progressdb-operator", "-n", &SYSTEM.name, "--wait"]);
}
