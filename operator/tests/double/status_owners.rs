//! What others write into the status: parts that this operator does not know, beside and below those that it does. They
//! stay as they are and stay theirs, whatever the operator does.

use std::collections::BTreeMap;

use kube::{
    Api,
    api::{ApiResource, DynamicObject, Patch, PatchParams},
};
use progressdb_operator::crd::ProgressDB;
use serde_json::{Value, json};

use crate::{
    api::{Key, fields},
    cluster::Cluster,
    running::Running,
};

const THEM: &str = "progressdb-upgrades";

/// What they write while their upgrade is at this step.
fn theirs(step: &str) -> Value {
    let condition = json!({
        "type": "RollbackRequiresApproval", "status": "False", "reason": "NothingToApprove", "message": "",
        "lastTransitionTime": "2030-01-01T00:00:00Z",
    });
    json!({ "status": {
        "fleet": {
            "id": "1", "step": step, "gates": [{ "name": "health", "verdict": "Unknown" }],
            "markers": { "dataMutationStarted": true }, "unprotected": {},
        },
        "backup": { "lastVerified": "2030-01-01T00:00:00Z" },
        "kms": { "rotation": { "due": "2030-02-01T00:00:00Z" } },
        "apiKeys": { "rotatedBy": "ann" },
        "canaries": [{ "to": "0.3.0" }],
        "conditions": [condition],
    } })
}

/// Their own operator, at its work on `db`.
struct Them {
    steps: usize,
    written: Value,
}

impl Them {
    /// Writes the next step, as one who would not take anything from anybody.
    async fn go_on(&mut self, running: &Running) {
        self.steps += 1;
        self.written = theirs(&format!("Step{}", self.steps));
        let kind = ApiResource::erase::<ProgressDB>(&());
        let resources: Api<DynamicObject> = Api::namespaced_with(running.cluster.server.client(), "ns", &kind);
        let mut patch = self.written.clone();
        patch["apiVersion"] = json!(kind.api_version);
        patch["kind"] = json!(kind.kind);
        resources.patch_status("db", &PatchParams::apply(THEM), &Patch::Apply(&patch)).await.unwrap();
    }

    /// Holds that all of it is there, and still theirs.
    fn check(&self, cluster: &Cluster, what: &str) {
        let Some(live) = cluster.get("ProgressDB", "db") else { return };
        let key = Key::new("ProgressDB", "ns", "db");
        let managers = cluster.server.with(|store| store.managers(&key).cloned()).unwrap();
        for path in fields::leaves(&self.written) {
            assert_eq!(fields::get(&live, &path), fields::get(&self.written, &path), "{what}: {path:?}");
            for (manager, held) in &managers {
                assert_eq!(held.contains(&path), manager.starts_with(THEM), "{what}: {manager} and {path:?}");
            }
        }
    }

    async fn rests_and_stays(&mut self, running: &mut Running, what: &str, most: usize) {
        running.comes_to_rest(what, most).await;
        self.check(&running.cluster, what);
        self.go_on(running).await;
        running.comes_to_rest(&format!("their next step after {what}"), 0).await;
        self.check(&running.cluster, what);
    }
}

#[tokio::test(start_paused = true)]
async fn what_others_write_into_the_status_survives_whatever_happens() {
    let cluster = Cluster::new();
    let master = Key::new("Secret", "ns", "master");
    let entries = json!({ "data": { "master.key": "a2V5" } });
    cluster.server.with(|store| {
        store.serve("VolumeSnapshot");
        store.create(&master, entries, BTreeMap::new()).unwrap();
    });
    let mut running = Running::start(cluster);
    let spec = json!({ "kms": { "embedded": { "secretName": "master" } }, "deletionPolicy": "Snapshot" });
    running.cluster.create("db", spec);
    running.until("serving", |cluster| cluster.condition("db", "Ready").0 == "True").await;
    let mut them = Them { steps: 0, written: json!({}) };
    them.go_on(&running).await;
    them.rests_and_stays(&mut running, "an installation", 10).await;

    running.cluster.change("db", |spec| spec["settings"] = json!({ "logging": { "level": "debug" } }));
    them.rests_and_stays(&mut running, "a change", 40).await;
    running.restart().await;
    them.rests_and_stays(&mut running, "a restart", 0).await;

    running.cluster.server.with(|store| {
        store.policy = Some(|key, _| match key.kind.kind {
            "StatefulSet" => Err("no StatefulSets here"),
            _ => Ok(()),
        });
    });
    running.cluster.change("db", |spec| spec["settings"] = json!({}));
    running.until("a refusal", |cluster| cluster.condition("db", "Stalled").0 == "True").await;
    them.check(&running.cluster, "a refusal");
    running.cluster.server.with(|store| store.policy = None);
    running.until("healing", |cluster| cluster.condition("db", "Ready").0 == "True").await;
    them.rests_and_stays(&mut running, "a refusal", 20).await;

    running.cluster.change("db", |spec| spec["deletionPolicy"] = json!("Archive"));
    running.until("a condition", |cluster| cluster.condition("db", "Stalled").1 == "Unreadable").await;
    them.rests_and_stays(&mut running, "a spec that cannot be read", 4).await;
    running.restart().await;
    them.rests_and_stays(&mut running, "a restart over such a spec", 0).await;
    running.cluster.change("db", |spec| spec["deletionPolicy"] = json!("Snapshot"));
    running.until("healing", |cluster| cluster.condition("db", "Ready").0 == "True").await;

    // What the operator no longer has anything to say of goes, and theirs beside it stays.
    running.cluster.change("db", |spec| spec["suspend"] = json!(true));
    them.rests_and_stays(&mut running, "suspension", 20).await;
    running.cluster.change("db", |spec| drop(spec.as_object_mut().unwrap().remove("kms")));
    them.rests_and_stays(&mut running, "the end of the KMS", 20).await;
    assert_eq!(running.status("db")["kms"], theirs("")["status"]["kms"]);

    running.cluster.delete("db");
    for _ in 0..120 {
        them.check(&running.cluster, "deletion");
        running.step().await;
    }
    assert_eq!(running.cluster.get("ProgressDB", "db"), None);
    assert_eq!(running.cluster.get("PersistentVolumeClaim", "db-data-0"), None);
    assert_eq!(running.cluster.server.with(|store| store.all("VolumeSnapshot").len()), 1);
}

/// Values of the status that a newer operator, which had the same name, could have left.
fn unknown_values() -> Vec<Value> {
    vec![
        json!({ "dataFormat": { "reads": [1, 2], "writes": 2 } }),
        json!({ "observedGeneration": "1", "replicas": 1e21, "readyReplicas": "1" }),
        json!({ "phase": ["Running"], "kms": { "provider": { "name": "gcp" }, "ok": "yes" }, "apiKeys": 5 }),
        json!({ "conditions": [{ "type": "Ready", "status": "Maybe", "lastTransitionTime": 5 }, null] }),
        json!({ "conditions": { "Ready": "True" }, "fleet": { "step": "NotInvented" } }),
    ]
}

#[tokio::test(start_paused = true)]
async fn a_status_with_unknown_values_is_no_reason_to_leave_a_database_alone() {
    for value in unknown_values() {
        let mut running = Running::installed(json!({})).await;
        let write = |running: &Running| {
            let key = Key::new("ProgressDB", "ns", "db");
            let more = value.as_object().unwrap().clone();
            running.cluster.server.with(|store| {
                store.edit(&key, |object| object["status"].as_object_mut().unwrap().extend(more));
            });
        };
        write(&running);
        running.restart().await;
        running.comes_to_rest(&format!("a restart with {value}"), 12).await;
        assert_eq!(running.cluster.condition("db", "Ready").0, "True", "{value}");
        assert_eq!(running.cluster.times_made("Pod", "db-0"), 1, "{value}");
        running.cluster.change("db", |spec| spec["settings"] = json!({ "logging": { "level": "debug" } }));
        running.comes_to_rest(&format!("a change with {value}"), 30).await;
        assert_eq!(running.cluster.condition("db", "Ready").0, "True", "{value}");
        assert_eq!(running.cluster.times_made("Pod", "db-0"), 2, "{value}");

        // What it says of the data is still known: no empty volume is made in place of one that is lost.
        write(&running);
        let claim = Key::new("PersistentVolumeClaim", "ns", "db-data-0");
        running.cluster.server.with(|store| store.end(&claim));
        running.restart().await;
        running.comes_to_rest(&format!("the loss of the claim with {value}"), 10).await;
        assert_eq!(running.cluster.condition("db", "StorageReady").1, "ClaimLost", "{value}");
        assert_eq!(running.cluster.get("PersistentVolumeClaim", "db-data-0"), None, "{value}");
    }
}
