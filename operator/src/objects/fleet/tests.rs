use serde_json::{Value, json};

use super::{
    super::{
        Inputs, client_service, config_check, roll, schema_apply,
        tests::{inputs, resource},
    },
    *,
};
use crate::crd::ProgressDB;

fn fleet(more: Value) -> ProgressDB {
    let mut cassandra = json!({ "contactPoints": ["a"], "datacenter": "dc1", "keyspace": "chat" });
    cassandra.as_object_mut().unwrap().extend(more["cassandra"].as_object().cloned().unwrap_or_default());
    let mut spec = more;
    spec.as_object_mut().unwrap().remove("cassandra");
    spec["storage"] = json!({ "cassandra": cassandra });
    resource(spec)
}

#[test]
fn how_many_servers_a_fleet_has_and_how_an_upgrade_goes_roll_none() {
    let base = fleet(json!({}));
    let rolls = |more: Value| roll(&inputs(&fleet(more))) != roll(&inputs(&base));
    for more in [
        json!({ "cassandra": { "contactPoints": ["b"] } }),
        json!({ "cassandra": { "datacenter": "dc2" } }),
        json!({ "cassandra": { "credentialsSecretRef": { "name": "a" } } }),
        json!({ "cassandra": { "tlsSecretRef": { "name": "a" } } }),
    ] {
        assert!(rolls(more.clone()), "{more}");
    }
    for more in [
        json!({ "replicas": 7 }),
        json!({ "cassandra": { "replicationFactor": 5 } }),
        json!({ "upgrade": { "canary": { "steps": [1] }, "snapshot": { "job": { "template": {} } } } }),
        json!({ "suspend": true }),
    ] {
        assert!(!rolls(more.clone()), "{more}");
    }
    assert_eq!(roll(&Inputs { store_secrets: "rotated", ..inputs(&base) }), roll(&inputs(&base)));
    assert_ne!(roll(&Inputs { has_client_certificate: true, ..inputs(&base) }), roll(&inputs(&base)));
}

#[test]
fn the_tables_are_made_anew_when_the_store_is_reached_in_another_way_and_for_nothing_else() {
    let name = |inputs: &Inputs<'_>| schema_apply(inputs).unwrap()["metadata"]["name"].as_str().unwrap().to_owned();
    let base = fleet(json!({}));
    let same = [
        json!({ "settings": { "logging": { "level": "debug" } } }),
        json!({ "replicas": 5, "drain": { "hold": "1m" } }),
    ];
    for more in same {
        assert_eq!(name(&inputs(&fleet(more.clone()))), name(&inputs(&base)), "{more}");
    }
    for more in [json!({ "cassandra": { "contactPoints": ["b"] } }), json!({ "image": "a:2" })] {
        assert_ne!(name(&inputs(&fleet(more.clone()))), name(&inputs(&base)), "{more}");
    }
    assert_ne!(name(&Inputs { store_secrets: "rotated", ..inputs(&base) }), name(&inputs(&base)));
    assert_eq!(schema_apply(&inputs(&resource(json!({})))), None);
}

#[test]
fn a_server_of_a_fleet_has_no_volume_to_write_to() {
    let resource = fleet(json!({}));
    let pod = &deployment(&inputs(&resource), labels::Track::Stable)["spec"]["template"]["spec"];
    let container = &pod["containers"][0];
    assert_eq!(container["securityContext"]["readOnlyRootFilesystem"], true);
    let mounts = container["volumeMounts"].as_array().unwrap();
    assert!(mounts.iter().all(|mount| mount["readOnly"] == true), "{mounts:?}");
    let sources: Vec<&str> = pod["volumes"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|volume| volume.as_object().unwrap().keys().map(String::as_str).filter(|field| *field != "name"))
        .collect();
    assert_eq!(sources, ["configMap", "secret"]);
    let read: Value = serde_saphyr::from_str(&config::render(&inputs(&resource))).unwrap();
    assert_eq!(read["server"]["db_path"], Value::Null);
}

#[test]
fn both_tracks_run_the_same_pod_behind_one_service_and_neither_selects_the_other_s() {
    let resource = fleet(json!({ "replicas": 4 }));
    let given = inputs(&resource);
    let [stable, canary] = labels::Track::ALL.map(|track| deployment(&given, track));
    assert_eq!((&stable["spec"]["replicas"], &canary["spec"]["replicas"]), (&json!(4), &json!(0)));
    let pod_of = |deployment: &Value| deployment["spec"]["template"]["metadata"]["labels"].clone();
    let selects =
        |selector: &Value, pod: &Value| selector.as_object().unwrap().iter().all(|(label, value)| pod[label] == *value);
    let service = client_service(&given, None)["spec"]["selector"].clone();
    let budget = disruption_budget(&given).unwrap()["spec"]["selector"]["matchLabels"].clone();
    for (own, other) in [(&stable, &canary), (&canary, &stable)] {
        let selector = &own["spec"]["selector"]["matchLabels"];
        assert!(selects(selector, &pod_of(own)) && !selects(selector, &pod_of(other)));
        assert!(selects(&service, &pod_of(own)) && selects(&budget, &pod_of(own)));
    }
    let check = config_check(&given)["spec"]["template"]["metadata"]["labels"].clone();
    assert!(!selects(&service, &check) && !selects(&budget, &check));
    assert_eq!(on_track(stable["spec"]["template"].clone(), labels::Track::Canary), canary["spec"]["template"]);
    assert_eq!(disruption_budget(&inputs(&super::super::tests::resource(json!({})))), None);
}

#[test]
fn the_way_to_the_store_is_the_operator_s_also_where_there_is_a_volume() {
    for resource in [resource(json!({})), fleet(json!({}))] {
        let mut spec = resource.spec;
        spec.settings = serde_json::from_value(json!({ "storage": { "cassandra": { "keyspace": "other" } } })).unwrap();
        assert_eq!(
            config::refused(&spec),
            ["spec.settings.storage.cassandra is set by the operator: use spec.storage.cassandra"]
        );
        spec.settings = serde_json::from_value(json!({ "storage": { "memory": "1GiB" } })).unwrap();
        assert_eq!(config::refused(&spec), [""; 0]);
    }
}
