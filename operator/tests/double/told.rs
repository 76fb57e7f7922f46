//! Whom an upgrade is told to: its report, Events, and whoever is notified by HTTP.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use progressdb_operator::{args::PluginCommand, plugin};
use serde_json::{Value, json};
use testing::servers::{
    listen::{Call, Listener, Reply},
    tls::Authority,
};

use crate::{api::Key, cluster::Cluster};

const NEW: &str = "registry/progressdb:0.4.0";

/// A database whose upgrades wait for approval, that tells this URL.
async fn installed(url: Option<&str>) -> Cluster {
    let mut cluster = Cluster::new();
    let version = json!({ "version": "0.4.0", "formats": { "reads": [1, 1] }, "migrations": [] });
    cluster.world.job_messages.insert("-version".into(), version.to_string());
    let mut upgrade = json!({
        "strategy": "Guarded", "approval": "Manual", "snapshot": { "policy": "Skip" }, "rehearsal": { "policy": "Skip" },
    });
    if let Some(url) = url {
        upgrade["notify"] = json!({ "url": url, "tokenSecretName": "hook" });
    }
    cluster.create("db", json!({ "upgrade": upgrade }));
    cluster.settle().await;
    assert_eq!(cluster.condition("db", "Ready").0, "True");
    cluster
}

fn secret(cluster: &Cluster, data: Value) {
    cluster.server.with(|store| {
        store.create(&Key::new("Secret", "ns", "hook"), json!({ "data": data }), BTreeMap::new()).unwrap();
    });
}

async fn ask(cluster: &mut Cluster, command: PluginCommand) {
    plugin::execute(&cluster.server.client(), "ns", &command, &mut Vec::new()).await.unwrap();
    cluster.settle().await;
}

async fn upgrade(cluster: &mut Cluster) {
    ask(cluster, PluginCommand::Upgrade { name: "db".into(), image: NEW.into(), watch: false }).await;
}

fn record(cluster: &Cluster) -> Value {
    cluster.get("ProgressDB", "db").unwrap()["status"]["upgrade"].clone()
}

fn report(cluster: &Cluster) -> (Value, Value) {
    let name = format!("db-{}-report", record(cluster)["id"].as_str().unwrap());
    let map = cluster.get("ConfigMap", &name).expect("there is a report");
    let text = map["data"]["report.yaml"].as_str().unwrap().to_owned();
    (map, serde_saphyr::from_str(&text).unwrap())
}

#[tokio::test]
async fn an_upgrade_that_is_held_and_one_that_ended_have_a_report() {
    let mut cluster = installed(None).await;
    upgrade(&mut cluster).await;
    let (map, held) = report(&cluster);
    assert_eq!(held["waitsFor"]["reason"], "ApprovalNeeded");
    assert_eq!(map["metadata"]["labels"]["progressdb.io/upgrade"], record(&cluster)["id"]);
    assert_eq!(map["metadata"]["ownerReferences"][0]["kind"], "ProgressDB");
    assert_eq!(map["immutable"], Value::Null);
    let steps: Vec<Value> = held["timeline"].as_array().unwrap().iter().map(|step| step["step"].clone()).collect();
    assert_eq!(steps, ["Preflight", "Approval"]);
    rests(&mut cluster, "while it is held").await;

    ask(&mut cluster, PluginCommand::Abort { name: "db".into() }).await;
    let (map, ended) = report(&cluster);
    assert_eq!((&ended["outcome"], &map["immutable"]), (&json!("Aborted"), &json!(true)));
    assert!(ended["endedAt"].is_string() && ended["timeline"][1]["took"].is_string(), "{ended:#}");
    rests(&mut cluster, "once it has ended").await;
}

/// Nothing more is written, also by an operator that knows nothing. What the API server is only asked whether it would take it
/// changes nothing.
async fn rests(cluster: &mut Cluster, when: &str) {
    cluster.restart_operator();
    cluster.settle().await;
    let version = |cluster: &Cluster| cluster.server.with(|store| store.version());
    let before = version(cluster);
    cluster.settle().await;
    assert_eq!(version(cluster), before, "{when}");
}

#[tokio::test]
async fn reports_of_upgrades_that_are_no_longer_told_go() {
    let mut cluster = installed(None).await;
    upgrade(&mut cluster).await;
    let (map, _) = report(&cluster);
    for (id, is_told) in [("0000000a", true), ("0000000b", false)] {
        let mut other = map.clone();
        other["metadata"]["name"] = json!(format!("db-{id}-report"));
        other["metadata"]["labels"]["progressdb.io/upgrade"] = json!(id);
        other["immutable"] = json!(true);
        ["uid", "resourceVersion"]
            .iter()
            .for_each(|name| drop(other["metadata"].as_object_mut().unwrap().remove(*name)));
        cluster.server.with(|store| {
            let key = Key::new("ConfigMap", "ns", &format!("db-{id}-report"));
            store.create(&key, other, BTreeMap::new()).unwrap();
            if is_told {
                let entry = json!({ "id": id, "from": "a", "to": "b", "outcome": "Succeeded" });
                store.edit(&Key::new("ProgressDB", "ns", "db"), |object| object["status"]["history"] = json!([entry]));
            }
        });
    }
    cluster.settle().await;
    assert!(cluster.get("ConfigMap", "db-0000000a-report").is_some());
    assert_eq!(cluster.get("ConfigMap", "db-0000000b-report"), None);
    report(&cluster);
}

#[tokio::test]
async fn each_step_and_each_hold_is_an_event() {
    let mut cluster = installed(None).await;
    upgrade(&mut cluster).await;
    cluster.restart_operator();
    cluster.settle().await;
    let events = cluster.server.with(|store| store.all("Event"));
    let count = |reason: &str| events.iter().filter(|event| event["reason"] == reason).count();
    assert_eq!(["Preflight", "Approval", "ApprovalNeeded"].map(count), [1, 1, 1]);
}

/// Somebody who is told, and what.
struct Hook {
    calls: Arc<Mutex<Vec<Call>>>,
    listener: Listener,
}

impl Hook {
    /// Answers with these in turn, and with the last one from then on.
    fn new(tls: Option<&Authority>, replies: Vec<Reply>) -> Self {
        let calls = Arc::new(Mutex::new(Vec::new()));
        let heard = Arc::clone(&calls);
        let listener = Listener::start(tls.map(|tls| Arc::clone(&tls.server)), move |call| {
            let mut heard = heard.lock().unwrap();
            heard.push(call);
            replies[(heard.len() - 1).min(replies.len() - 1)].clone()
        });
        Self { calls, listener }
    }

    fn url(&self, scheme: &str) -> String {
        format!("{scheme}://{}/hook?a=b", self.listener.addr)
    }

    /// Waits for so many calls.
    async fn heard(&self, count: usize) -> Vec<Call> {
        for _ in 0..2_000 {
            let calls = self.calls.lock().unwrap().clone();
            if calls.len() >= count {
                return calls;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("{} of {count} calls came", self.calls.lock().unwrap().len());
    }
}

#[tokio::test]
async fn who_is_named_is_told_once_and_asked_again_when_not_there() {
    let busy = || Reply::text(503, "not now");
    let hook = Hook::new(None, vec![busy(), Reply::Cut, Reply::text(204, "")]);
    let mut cluster = installed(Some(&hook.url("http"))).await;
    secret(&cluster, json!({ "token": "c2VjcmV0Cg==" }));
    upgrade(&mut cluster).await;
    let calls = hook.heard(3).await;
    for call in &calls {
        assert_eq!((call.method.as_str(), call.target.as_str()), ("POST", "/hook?a=b"));
        assert_eq!(call.header("authorization"), Some("Bearer secret"));
        assert_eq!(call.header("content-type"), Some("application/json"));
    }
    let news = calls[2].json();
    let wanted = json!({
        "resource": "db", "namespace": "ns", "id": record(&cluster)["id"], "event": "Held",
        "from": "registry/progressdb:0.3.0", "to": NEW, "at": news["at"], "message": news["message"],
    });
    assert_eq!(news, wanted);
    assert!(news["message"].as_str().unwrap().contains("waits to be approved"), "{news}");
    // Neither the same operator nor another one tells it again.
    cluster.settle().await;
    cluster.restart_operator();
    cluster.settle().await;
    ask(&mut cluster, PluginCommand::Abort { name: "db".into() }).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(hook.heard(3).await.len(), 3);
    assert_eq!(record(&cluster)["announced"], json!(["Held"]));
}

async fn event_of_failure(cluster: &Cluster) -> String {
    for _ in 0..2_000 {
        let events = cluster.server.with(|store| store.all("Event"));
        if let Some(event) = events.iter().find(|event| event["reason"] == "NotificationFailed") {
            assert_eq!(event["type"], "Warning");
            return event["message"].as_str().unwrap().to_owned();
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("no Event tells that nobody was told");
}

#[tokio::test]
async fn when_nobody_hears_an_event_says_so_after_a_few_tries() {
    let hook = Hook::new(None, vec![Reply::text(500, "")]);
    let mut cluster = installed(Some(&hook.url("http"))).await;
    secret(&cluster, json!({ "token": "c2VjcmV0" }));
    upgrade(&mut cluster).await;
    let said = event_of_failure(&cluster).await;
    assert!(said.contains("Held") && said.contains("500") && said.contains("5 times"), "{said}");
    assert_eq!(hook.heard(5).await.len(), 5);
    // Who refuses is not asked again.
    let hook = Hook::new(None, vec![Reply::text(401, "")]);
    let mut cluster = installed(Some(&hook.url("http"))).await;
    secret(&cluster, json!({ "token": "c2VjcmV0" }));
    upgrade(&mut cluster).await;
    assert!(event_of_failure(&cluster).await.contains("401"));
    assert_eq!(hook.heard(1).await.len(), 1);
    // Without the Secret nothing is posted.
    let hook = Hook::new(None, vec![Reply::text(200, "")]);
    let mut cluster = installed(Some(&hook.url("http"))).await;
    upgrade(&mut cluster).await;
    assert!(event_of_failure(&cluster).await.contains("no Secret hook"));
    assert_eq!(hook.heard(0).await.len(), 0);
}

#[tokio::test]
async fn over_tls_only_a_certificate_of_the_named_authority_is_told() {
    use std::fmt::Write as _;
    let authority = Authority::new();
    let data = |pem: &str| {
        let mut base64 = String::new();
        write!(base64, "{}", json!(k8s_openapi::ByteString(pem.as_bytes().to_vec()))).unwrap();
        json!({ "token": "c2VjcmV0", "ca.crt": base64.trim_matches('"') })
    };
    let hook = Hook::new(Some(&authority), vec![Reply::text(200, "")]);
    let mut cluster = installed(Some(&hook.url("https"))).await;
    secret(&cluster, data(&authority.pem));
    upgrade(&mut cluster).await;
    assert_eq!(hook.heard(1).await[0].header("authorization"), Some("Bearer secret"));

    let hook = Hook::new(Some(&authority), vec![Reply::text(200, "")]);
    let mut cluster = installed(Some(&hook.url("https"))).await;
    secret(&cluster, data(&Authority::new().pem));
    upgrade(&mut cluster).await;
    let said = event_of_failure(&cluster).await;
    assert!(said.contains("certificate"), "{said}");
    assert_eq!(hook.heard(0).await.len(), 0, "the token went nowhere");
}
