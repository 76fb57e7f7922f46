//! After any disturbance a bounded number of writes, then none; and what stands in the way for good is one condition that
//! does not change.

use serde_json::{Value, json};

use crate::{
    api::{Key, faults::Faults, policy::Policy},
    running::Running,
};

/// What somebody does to an object.
type Edit = fn(&mut Value);

fn edit(running: &Running, kind: &str, name: &str, change: impl FnOnce(&mut Value)) {
    running.cluster.server.with(|store| store.edit(&Key::new(kind, "ns", name), change));
}

#[tokio::test(start_paused = true)]
async fn an_installation_comes_to_rest() {
    let mut running = Running::installed(json!({})).await;
    running.comes_to_rest("an installation", 10).await;
}

#[tokio::test(start_paused = true)]
async fn an_edit_by_hand_comes_to_rest() {
    let mut running = Running::installed(json!({})).await;
    let edits: [(&str, &str, Edit); 5] = [
        ("Service", "db", |object| object["spec"]["ports"][0]["targetPort"] = json!(1)),
        ("StatefulSet", "db", |object| object["spec"]["replicas"] = json!(2)),
        ("StatefulSet", "db", |object| object["spec"]["template"]["spec"]["containers"][0]["image"] = json!("other:1")),
        ("PersistentVolumeClaim", "db-data-0", |object| {
            object["metadata"]["labels"]["app.kubernetes.io/name"] = json!("a")
        }),
        ("ServiceAccount", "db", |object| object["metadata"]["annotations"]["progressdb.io/applied"] = json!("a")),
    ];
    for (kind, name, change) in edits {
        let before = running.cluster.get(kind, name).unwrap();
        edit(&running, kind, name, change);
        running.comes_to_rest(&format!("an edit of the {kind}"), 8).await;
        let after = running.cluster.get(kind, name).unwrap();
        assert_eq!((&after["spec"], &after["data"]), (&before["spec"], &before["data"]), "{kind}");
        assert_eq!(after["metadata"]["labels"], before["metadata"]["labels"], "{kind}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_change_of_the_resource_comes_to_rest() {
    let mut running = Running::installed(json!({})).await;
    let changes: [(&str, Edit); 5] = [
        ("settings", |spec| spec["settings"] = json!({ "logging": { "level": "debug" } })),
        ("the size", |spec| spec["storage"]["embedded"]["size"] = json!("2Gi")),
        ("the end of monitoring", |spec| {
            spec["monitoring"] = json!({ "serviceMonitor": false, "prometheusRule": false })
        }),
        ("suspension", |spec| spec["suspend"] = json!(true)),
        ("the end of suspension", |spec| spec["suspend"] = json!(false)),
    ];
    for (what, change) in changes {
        running.cluster.change("db", change);
        running.comes_to_rest(what, 30).await;
        assert_eq!(running.cluster.condition("db", "Stalled").0, "False", "{what}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_new_operator_writes_nothing() {
    let mut running =
        Running::installed(json!({ "resources": { "requests": { "cpu": "1000m", "memory": 1_073_741_824 } } })).await;
    running.comes_to_rest("an installation", 10).await;
    running.restart().await;
    running.comes_to_rest("a restart", 0).await;
    // Also after it has set something back.
    edit(&running, "Service", "db", |service| service["spec"]["ports"][0]["targetPort"] = json!(1));
    running.comes_to_rest("an edit", 8).await;
    running.restart().await;
    running.comes_to_rest("another restart", 0).await;
}

#[tokio::test(start_paused = true)]
async fn a_policy_that_changes_what_is_applied_comes_to_rest() {
    let tolerations = json!([{ "key": "ours", "operator": "Exists" }]);
    let mut running = Running::installed(json!({ "tolerations": tolerations })).await;
    running.cluster.server.with(|store| {
        store.policy = Some(|key, object| {
            let list = &mut object["spec"]["template"]["spec"]["tolerations"];
            if key.kind.kind == "StatefulSet" && list.as_array().is_some_and(|list| list.len() == 1) {
                list.as_array_mut().unwrap().push(json!({ "key": "theirs", "operator": "Exists" }));
            }
            Ok(())
        });
    });
    running.cluster.change("db", |spec| spec["settings"] = json!({ "logging": { "level": "debug" } }));
    running.comes_to_rest("a policy", 30).await;
    let set = running.cluster.get("StatefulSet", "db").unwrap();
    assert_eq!(set["spec"]["template"]["spec"]["tolerations"].as_array().unwrap().len(), 2);
    running.restart().await;
    running.comes_to_rest("a restart", 8).await;
    // What is edited is still set back.
    edit(&running, "StatefulSet", "db", |set| set["spec"]["replicas"] = json!(2));
    running.comes_to_rest("an edit", 8).await;
    assert_eq!(running.cluster.get("StatefulSet", "db").unwrap()["spec"]["replicas"], 1);
    assert_eq!(running.cluster.condition("db", "Stalled").0, "False");
}

#[tokio::test(start_paused = true)]
async fn somebody_who_insists_on_a_field_is_named_and_costs_few_writes() {
    insists("StatefulSet", |set| set["spec"]["replicas"] = json!(2), "kubernetes sets spec.replicas").await;
}

#[tokio::test(start_paused = true)]
async fn somebody_who_insists_on_an_addition_is_named_with_what_it_was_added_to() {
    insists("Service", |service| service["spec"]["selector"]["more"] = json!("a"), "kubernetes sets spec.selector")
        .await;
}

/// Somebody makes this change to the object `db` of a kind every 15 seconds unless it is made already, for ten minutes.
async fn insists(kind: &str, change: Edit, says: &str) {
    let mut running = Running::installed(json!({})).await;
    running.cluster.server.take_calls();
    let mut conditions = Vec::new();
    for second in 0..600 {
        if second % 15 == 0 {
            edit(&running, kind, "db", change);
        }
        running.step().await;
        conditions.push(running.cluster.condition("db", "Stalled"));
    }
    let calls = running.cluster.server.take_calls();
    let writes: Vec<&String> = calls.iter().filter(|call| !call.starts_with("GET ")).collect();
    assert!(writes.len() <= 40, "{} writes: {writes:#?}", writes.len());
    let (status, reason, message) = conditions.last().unwrap();
    assert_eq!((status.as_str(), reason.as_str()), ("True", "FieldConflict"));
    assert!(message.contains(&format!("{kind} db")) && message.contains(says), "{message}");
    conditions.dedup();
    assert!(conditions.len() <= 2, "it flaps: {conditions:#?}");
    assert_eq!(running.cluster.condition("db", "Reconciling").0, "False");
    assert_eq!(running.cluster.condition("db", "Ready").0, "True");
    // It heals when they no longer do.
    let writes = running.writes_in(1_600).await;
    assert!(writes.len() <= 8, "{writes:#?}");
    assert_eq!(running.cluster.condition("db", "Stalled").1, "NothingInTheWay");
    running.comes_to_rest("peace", 0).await;
}

#[tokio::test(start_paused = true)]
async fn what_is_refused_for_good_is_one_condition_and_is_tried_every_minute() {
    let policies: [(&str, Policy); 3] = [
        ("StatefulSet", |key, _| match key.kind.kind {
            "StatefulSet" => Err("admission webhook denied the request: no StatefulSets here"),
            _ => Ok(()),
        }),
        ("Job", |key, _| match key.kind.kind {
            "Job" => Err("exceeded quota: no Jobs here"),
            _ => Ok(()),
        }),
        ("Service", |key, _| match key.kind.kind {
            "Service" => Err("no Services here"),
            _ => Ok(()),
        }),
    ];
    for (what, policy) in policies {
        let mut running = Running::start(crate::cluster::Cluster::new());
        running.cluster.server.with(|store| store.policy = Some(policy));
        running.cluster.create("db", json!({}));
        let writes = running.writes_in(120).await;
        assert!(writes.len() <= 60, "{what}: {} writes: {writes:#?}", writes.len());
        let (status, reason, message) = running.cluster.condition("db", "Stalled");
        assert_eq!((status.as_str(), reason.as_str()), ("True", "ApiRefuses"), "{what}");
        assert!(message.contains("s here"), "{message}");
        let told = running.status("db");
        let writes = running.writes_in(1_200).await;
        assert!(writes.len() <= 21, "{what}: {} writes in 20 minutes: {writes:#?}", writes.len());
        assert!(writes.iter().all(|call| !call.contains("progressdbs") && !call.contains("events")), "{writes:#?}");
        assert_eq!(running.status("db"), told, "{what}");
        assert_eq!(running.cluster.condition("db", "Reconciling").0, "False");
        running.cluster.server.with(|store| store.policy = None);
        running.until("healing", |cluster| cluster.condition("db", "Ready").0 == "True").await;
        running.comes_to_rest(what, 20).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_status_that_may_not_be_written_costs_few_tries() {
    let mut running = Running::start(crate::cluster::Cluster::new());
    running.cluster.server.set_faults(Faults::default().refuse("progressdbs/db/status", 403, usize::MAX));
    running.cluster.create("db", json!({}));
    let writes = running.writes_in(120).await;
    assert!(writes.len() <= 60, "{} writes: {writes:#?}", writes.len());
    let writes = running.writes_in(600).await;
    assert!(writes.len() <= 60, "{} writes in 10 minutes: {writes:#?}", writes.len());
}

#[tokio::test(start_paused = true)]
async fn a_volume_that_grows_at_the_next_start_keeps_nothing_waiting() {
    let mut running = Running::installed(json!({})).await;
    edit(&running, "PersistentVolumeClaim", "db-data-0", |claim| {
        claim["status"]["conditions"] = json!([{ "type": "FileSystemResizePending", "status": "True" }]);
        claim["spec"]["resources"]["requests"]["storage"] = json!("2Gi");
    });
    running.cluster.world.volumes_grow = false;
    running.comes_to_rest("a volume that grows later", 8).await;
    assert_eq!(running.cluster.condition("db", "StorageReady").1, "RestartToGrow");
    assert_eq!(running.cluster.condition("db", "Ready").0, "True");
    running.cluster.world.volumes_grow = true;
    running.until("growth", |cluster| cluster.condition("db", "StorageReady").1 == "Bound").await;
}

/// A claim that is there before the resource: of a former one, or restored.
fn keep_claim(running: &Running, change: impl FnOnce(&mut Value)) {
    edit(running, "PersistentVolumeClaim", "db-data-0", change);
}

#[tokio::test(start_paused = true)]
async fn a_claim_that_is_larger_than_the_manifest_is_taken_as_it_is() {
    let mut running = Running::installed(json!({})).await;
    keep_claim(&running, |claim| {
        claim["spec"]["resources"]["requests"]["storage"] = json!("5Gi");
        claim["status"]["capacity"]["storage"] = json!("5Gi");
    });
    running.comes_to_rest("a claim that somebody grew", 8).await;
    let says = |running: &Running| running.cluster.condition("db", "StorageReady");
    let (status, _, message) = says(&running);
    assert_eq!(status, "True");
    assert!(message.contains("it has 5Gi, more than the 1Gi of spec.storage.embedded.size"), "{message}");
    assert_eq!(running.cluster.condition("db", "Ready").0, "True");
    // Kept under Retain, and met by a manifest that says less, another class and another mode.
    running.cluster.delete("db");
    running
        .until("its end", |cluster| cluster.get("StatefulSet", "db").is_none() && cluster.get("Pod", "db-0").is_none())
        .await;
    running.cluster.server.with(|store| {
        store.end(&Key::new("ServiceAccount", "ns", "db"));
    });
    running.cluster.create("db", json!({ "storage": { "embedded": { "size": "2Gi", "storageClassName": "fixed" } } }));
    running.until("serving again", |cluster| cluster.condition("db", "Ready").0 == "True").await;
    running.comes_to_rest("a claim that was kept", 10).await;
    let (_, _, message) = says(&running);
    assert!(
        message.contains("it has 5Gi") && message.contains("storageClassName is standard and not fixed"),
        "{message}"
    );
    let claim = running.cluster.get("PersistentVolumeClaim", "db-data-0").unwrap();
    assert_eq!(claim["spec"]["resources"]["requests"]["storage"], "5Gi");
    // It can still grow.
    running.cluster.change("db", |spec| spec["storage"]["embedded"]["size"] = json!("6Gi"));
    running.comes_to_rest("growth", 10).await;
    let claim = running.cluster.get("PersistentVolumeClaim", "db-data-0").unwrap();
    assert_eq!(claim["spec"]["resources"]["requests"]["storage"], "6Gi");
}
