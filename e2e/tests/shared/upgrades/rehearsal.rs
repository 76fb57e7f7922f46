//! What pods that rehearse leave alone, with everything configured that a server does by itself.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use progressdb_e2e::{Course, MACHINE, Namespace, Scope, Writers, image, is_own_cluster, wait_until};
use serde_json::{Value, json};
use testing::servers::Provider;
use testing::servers::listen::Call;
use testing::servers::object_store::ObjectStore;
use testing::servers::proxy::Proxy;
use testing::skip;

/// What a server logs of its backups, its retention and its keys.
const EVENTS: [&str; 4] = ["backup.verified", "backup.pruned", "retention.", "encryption.epoch_created"];

/// The network of a cluster that is made here enforces no NetworkPolicy: that there is the right one is all that is seen of
/// it. What the pods ask for is seen by whom they ask.
#[test]
fn a_rehearsal_opens_keys_and_leaves_the_bucket_the_data_and_the_kms_alone() {
    let test = "a_rehearsal_opens_keys_and_leaves_the_bucket_the_data_and_the_kms_alone";
    if !is_own_cluster() {
        return skip(test, "what plays a KMS runs on this machine, which only pods of a cluster made here reach");
    }
    let Some(store) = ObjectStore::moto(test) else { return };
    let (bucket, kms) = (Proxy::before(store.addr), Provider::http());
    let [at_bucket, at_kms] = [&bucket, kms.proxy()].map(|proxy| proxy.listen_at(MACHINE));
    let namespace = Namespace::new("upgrade-rehearsal");
    namespace.secret("kms", json!({ "token": kms.base().get("token") }));
    let often = "* * * * * *";
    let settings = json!({
        "backup": {
            "schedule": often, "destination": store.url("s"), "keep": 1,
            "endpoint": store.endpoint(at_bucket.addr), "allow_http": true,
        },
        "retention": { "enabled": true, "cron": often, "mttl": "1ms", "tttl": "1ms" },
        "encryption": { "epoch_age": "1s", "erasure_horizon": "0s", "kms": { "probe_interval": "1s" } },
    });
    // Long enough for each image to do what it does every second.
    let gates = json!({ "health": { "successes": 20, "period": "250ms" } });
    let database = namespace.guarded(
        "chat",
        json!({
            "image": image("progressdb:dev-storing"), "settings": settings, "upgrade": { "gates": gates },
            "kms": { "http": { "url": format!("http://{}", at_kms.addr), "tokenSecretName": "kms" } },
        }),
    );
    let writers = Writers::start(database.ready(), 2);
    let (course, uid) = (Course::of(&database), database.pod_uid());
    database.change(json!({ "upgrade": { "approval": "Manual" } }));
    database.ask_for("next-storing");

    let id = course.at("Rehearse").record["id"].as_str().unwrap().to_owned();
    let mut seen = Rehearsals::default();
    let rehearsal = || {
        seen.look(&namespace, &id);
        database.get()["status"]["upgrade"]["rehearsal"]["passed"].clone()
    };
    wait_until("the rehearsal has ended", rehearsal, |passed| !passed.is_null());
    let held = course.held("ApprovalNeeded");
    assert_eq!(held["rehearsal"]["passed"], true, "{held}");
    assert_eq!(held["rehearsal"]["oldDigest"], held["rehearsal"]["newDigest"], "{held}");
    database.check_still_runs(&uid);

    println!("{:?}", seen.addresses);
    assert_eq!(seen.addresses.len(), 2, "the pods of both images: {seen:?}");
    let (theirs, others) = asked(kms.proxy(), &seen.addresses);
    assert_eq!(theirs, BTreeSet::from(["POST /decrypt".to_owned()]), "the KMS");
    assert!(others.contains("POST /encrypt"), "the server makes keys all the time: {others:?}");
    let (theirs, others) = asked(&bucket, &seen.addresses);
    assert_eq!((theirs, others.is_empty()), (BTreeSet::new(), false), "the bucket");
    let server = namespace.log(&database.pod()).unwrap();
    assert_eq!(seen.logs.len(), 2, "the logs of both images: {seen:?}");
    for event in EVENTS {
        assert!(server.contains(event), "the server has never logged {event}");
        for (pod, log) in &seen.logs {
            assert!(!log.contains(event), "{pod} logged {event}: {log}");
        }
    }
    assert_eq!(seen.policies, [allowed(at_kms.addr.port())], "each pod had this one around it");
    let uid = database.pod_uid();
    database.type_command_of(&held);
    database.wait_for_other_pod(&uid);
    course.ended("Succeeded");
    database.check_upgrades_left(&[("chat-data-0", "current")]);
    writers.check();
}

/// What pods of rehearsals may ask for: names, and the KMS.
fn allowed(kms: u16) -> Value {
    let port = |port: u16, protocol: &str| json!({ "port": port, "protocol": protocol });
    json!([{ "ports": [port(53, "UDP"), port(53, "TCP")] }, { "ports": [port(kms, "TCP")] }])
}

/// What there was of the rehearsals of an upgrade.
#[derive(Debug, Default)]
struct Rehearsals {
    /// Of their pods.
    addresses: BTreeSet<IpAddr>,
    /// What each pod had logged when it was last seen.
    logs: BTreeMap<String, String>,
    /// To where their NetworkPolicies let them.
    policies: Vec<Value>,
}

impl Rehearsals {
    fn look(&mut self, namespace: &Scope, id: &str) {
        for pod in namespace.list("Pod", &format!("progressdb.io/rehearsal={id}")) {
            let name = pod["metadata"]["name"].as_str().unwrap();
            self.addresses.extend(pod["status"]["podIP"].as_str().map(|address| address.parse::<IpAddr>().unwrap()));
            // There is none before its main container runs, and none that is whole once it goes.
            let log = namespace.log(name).ok().filter(|log| log.contains("server.ready"));
            self.logs.extend(log.map(|log| (name.to_owned(), log)));
        }
        for policy in namespace.list("NetworkPolicy", &format!("progressdb.io/upgrade={id}")) {
            assert_eq!(policy["spec"]["podSelector"]["matchLabels"], json!({ "progressdb.io/rehearsal": id }));
            if !self.policies.contains(&policy["spec"]["egress"]) {
                self.policies.push(policy["spec"]["egress"].clone());
            }
        }
    }
}

/// What was asked for from these addresses, and from others.
fn asked(proxy: &Proxy, from: &BTreeSet<IpAddr>) -> (BTreeSet<String>, BTreeSet<String>) {
    let (theirs, others): (Vec<Call>, Vec<Call>) =
        proxy.calls().into_iter().partition(|call| from.contains(&call.peer));
    let what = |calls: Vec<Call>| calls.iter().map(|call| format!("{} {}", call.method, call.target)).collect();
    (what(theirs), what(others))
}
