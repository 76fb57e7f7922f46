use k8s_openapi::api::{
    apps::v1::{Deployment, StatefulSet},
    batch::v1::Job,
    core::v1::{ConfigMap, PersistentVolumeClaim, Secret, Service, ServiceAccount},
    networking::v1::NetworkPolicy,
    policy::v1::PodDisruptionBudget,
};
use kube::core::SelectorExt as _;
use serde::{Serialize, de::DeserializeOwned};

use super::*;
use crate::golden;

const GENERATED: [&str; 4] = config::KEY_ENTRIES;

pub(super) fn resource(spec: Value) -> ProgressDB {
    let mut whole = json!({ "image": "a:1", "storage": { "embedded": { "size": "1Gi" } } });
    whole.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
    let metadata = json!({ "name": "chat", "namespace": "default", "uid": "6f9619ff-8b86-4d01-b42d-00cf4fc964ff" });
    serde_json::from_value(json!({
        "apiVersion": "progressdb.io/v1alpha1", "kind": "ProgressDB", "metadata": metadata, "spec": whole,
    }))
    .unwrap()
}

pub(super) fn inputs(resource: &ProgressDB) -> Inputs<'_> {
    Inputs {
        release: Release::of(resource),
        resource,
        key_entries: &GENERATED,
        role_id: None,
        read_at_start: "a",
        kms_secrets: "b",
        changed_keys: None,
        wrapped_keys: None,
        store_secrets: "c",
        has_client_certificate: false,
        operator_namespace: None,
    }
}

/// Everything that is made for a resource, in the order in which it is applied.
fn everything(inputs: &Inputs<'_>) -> Vec<Value> {
    let is_fleet = inputs.resource.spec.storage.cassandra().is_some();
    let made = [
        Some(check_settings(inputs)),
        Some(config_check(inputs)),
        kms_check(inputs),
        schema_apply(inputs),
        data_check(inputs),
        service_account(inputs),
        api_keys(inputs),
        Some(config_map(inputs)),
        inputs.resource.spec.storage.embedded().map(|storage| claim(inputs, storage)),
        Some(headless_service(inputs)),
        Some(client_service(inputs, None)),
        network_policy(inputs),
        disruption_budget(inputs),
        (!is_fleet).then(|| stateful_set(inputs)),
        is_fleet.then(|| deployment(inputs, labels::Track::Stable)),
        is_fleet.then(|| deployment(inputs, labels::Track::Canary)),
        service_monitor(inputs),
        prometheus_rule(inputs),
    ];
    made.into_iter().flatten().collect()
}

/// An object as Kubernetes' own types understand it: a misspelled field is lost on the way.
fn understood(object: &Value) -> Value {
    fn through<T: DeserializeOwned + Serialize>(object: &Value) -> Value {
        serde_json::to_value(serde_json::from_value::<T>(object.clone()).unwrap()).unwrap()
    }
    match object["kind"].as_str().unwrap() {
        "StatefulSet" => through::<StatefulSet>(object),
        "Deployment" => through::<Deployment>(object),
        "PodDisruptionBudget" => through::<PodDisruptionBudget>(object),
        "Job" => through::<Job>(object),
        "ConfigMap" => through::<ConfigMap>(object),
        "PersistentVolumeClaim" => through::<PersistentVolumeClaim>(object),
        "Secret" => through::<Secret>(object),
        "Service" => through::<Service>(object),
        "ServiceAccount" => through::<ServiceAccount>(object),
        "NetworkPolicy" => through::<NetworkPolicy>(object),
        _ => object.clone(),
    }
}

#[test]
fn the_objects_of_every_example_are_the_committed_ones() {
    for file in golden::list("examples") {
        let mut resource: ProgressDB = serde_saphyr::from_str(&golden::read(&format!("examples/{file}"))).expect(&file);
        resource.metadata.uid = Some("6f9619ff-8b86-4d01-b42d-00cf4fc964ff".into());
        let vault = resource.spec.kms.as_ref().and_then(|kms| kms.vault.as_ref());
        let role_id = vault.and_then(|vault| vault.auth.app_role_secret_name.as_ref()).map(|_| "role");
        let objects = everything(&Inputs { role_id, ..inputs(&resource) });
        let text: Vec<String> = objects.iter().map(|object| serde_saphyr::to_string(object).unwrap()).collect();
        golden::check(&format!("operator/tests/golden/{file}"), &text.join("---\n"));
    }
}

#[test]
fn kubernetes_understands_every_field() {
    for file in golden::list("examples") {
        let mut resource: ProgressDB = serde_saphyr::from_str(&golden::read(&format!("examples/{file}"))).expect(&file);
        resource.metadata.uid = Some("6f9619ff-8b86-4d01-b42d-00cf4fc964ff".into());
        for object in everything(&inputs(&resource)) {
            assert_eq!(understood(&object), object, "{file}");
        }
    }
}

#[test]
fn everything_carries_the_labels_and_the_data_has_no_owner() {
    let resource = resource(json!({ "kms": { "embedded": { "secretName": "key" } } }));
    let inputs = inputs(&resource);
    let mut outlives = Vec::new();
    for object in everything(&inputs).into_iter().chain([final_snapshot(&resource, "chat-data-0", None)]) {
        let metadata = &object["metadata"];
        assert_eq!(metadata["labels"][labels::INSTANCE], "chat", "{object}");
        assert_eq!(metadata["labels"][labels::MANAGED_BY], crate::MANAGER, "{object}");
        let is_kept = labels::KEEP.iter().all(|(annotation, value)| metadata["annotations"][annotation] == *value);
        assert_eq!(is_kept, metadata["ownerReferences"].is_null(), "{object}");
        if is_kept {
            outlives.push(metadata["name"].as_str().unwrap().to_owned());
        }
    }
    assert_eq!(outlives, ["chat-api-keys", "chat-data-0", "chat-final-6f9619ff"]);
}

#[test]
fn no_service_selects_a_job() {
    let resource = resource(json!({}));
    let inputs = inputs(&resource);
    let job = config_check(&inputs)["spec"]["template"]["metadata"]["labels"].clone();
    for service in [client_service(&inputs, None), headless_service(&inputs)] {
        let selector = service["spec"]["selector"].as_object().unwrap();
        assert!(selector.iter().any(|(label, value)| job.get(label) != Some(value)), "{service}");
    }
}

fn pod_of(job: &Value) -> &Value {
    &job["spec"]["template"]
}

#[test]
fn a_check_carries_what_people_add_and_asks_meshes_to_stay_out() {
    let resource = resource(json!({
        "podLabels": { "cost-center": "1", "sidecar.istio.io/inject": "true" },
        "podAnnotations": { "owner": "ann", "linkerd.io/inject": "enabled" },
    }));
    let job = config_check(&inputs(&resource));
    let metadata = &pod_of(&job)["metadata"];
    assert_eq!(metadata["labels"]["cost-center"], "1");
    assert_eq!(metadata["labels"]["sidecar.istio.io/inject"], "false");
    assert_eq!(metadata["labels"][labels::COMPONENT], "job");
    assert_eq!(metadata["annotations"]["owner"], "ann");
    assert_eq!(metadata["annotations"]["linkerd.io/inject"], "disabled");
}

#[test]
fn a_check_judges_settings_that_lie_in_a_config_map_of_their_own() {
    let resource = resource(json!({ "settings": { "logging": { "level": "debug" } } }));
    let inputs = inputs(&resource);
    let (settings, job) = (check_settings(&inputs), config_check(&inputs));
    assert_eq!(pod_of(&job)["spec"]["volumes"][0]["configMap"]["name"], settings["metadata"]["name"]);
    assert_eq!(settings["data"]["config.yaml"], config_map(&inputs)["data"]["config.yaml"]);
    assert_ne!(settings["metadata"]["name"], config_map(&inputs)["metadata"]["name"]);
}

/// Whether a required term of `pod` against others selects a pod with these labels.
fn repels(pod: &Value, labels: &Value) -> bool {
    let terms = &pod["spec"]["affinity"]["podAntiAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"];
    let labels: BTreeMap<String, String> = serde_json::from_value(labels.clone()).unwrap();
    terms.as_array().into_iter().flatten().any(|term| {
        let selector: k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector =
            serde_json::from_value(term["labelSelector"].clone()).unwrap();
        kube::core::Selector::try_from(selector).unwrap().matches(&labels)
    })
}

#[test]
fn a_server_and_its_checks_do_not_repel_each_other() {
    let by = |selector: Value| json!({ "labelSelector": selector, "topologyKey": "kubernetes.io/hostname" });
    let terms = [
        by(json!({ "matchLabels": { "app.kubernetes.io/name": "progressdb" } })),
        by(json!({ "matchLabels": { "team": "chat" } })),
    ];
    let anti = json!({ "requiredDuringSchedulingIgnoredDuringExecution": terms });
    let resource = resource(json!({ "podLabels": { "team": "chat" }, "affinity": { "podAntiAffinity": anti } }));
    let inputs = inputs(&resource);
    let (set, job) = (stateful_set(&inputs), config_check(&inputs));
    let (server, check) = (pod_of(&set), pod_of(&job));
    let mut runs = server["metadata"]["labels"].clone();
    runs[labels::POD_NAME] = json!("chat-0");
    let mut stranger = runs.clone();
    stranger[labels::POD_NAME] = json!("other-0");
    assert!(!repels(server, &check["metadata"]["labels"]), "the server keeps its checks away");
    assert!(!repels(check, &runs), "a check keeps away from its server");
    assert!(!repels(check, &check["metadata"]["labels"]), "a check keeps away from another");
    assert!(repels(server, &stranger) && repels(check, &stranger), "both keep away from other databases");
}

#[test]
fn a_check_is_spread_as_if_its_server_had_stopped() {
    let spread = json!([{
        "maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule",
        "labelSelector": { "matchLabels": { "team": "chat" } },
    }]);
    let resource = resource(json!({ "podLabels": { "team": "chat" }, "topologySpreadConstraints": spread }));
    let inputs = inputs(&resource);
    let job = config_check(&inputs);
    let constraint = &pod_of(&job)["spec"]["topologySpreadConstraints"][0];
    assert_eq!(constraint["topologyKey"], "zone");
    let selects = json!([{ "key": labels::POD_NAME, "operator": "NotIn", "values": ["chat-0"] }]);
    assert_eq!(constraint["labelSelector"]["matchExpressions"], selects);
}

#[test]
fn labels_of_people_never_hide_ours() {
    let mut resource = resource(json!({}));
    resource.spec.pod_labels = [(labels::INSTANCE.to_owned(), "other".to_owned())].into();
    let template = &stateful_set(&inputs(&resource))["spec"]["template"];
    assert_eq!(template["metadata"]["labels"][labels::INSTANCE], "chat");
}

#[test]
fn a_pod_runs_under_the_ids_that_were_asked_for_or_those_of_the_cluster() {
    let security = |spec: Value| {
        let resource = resource(spec);
        let pods = [stateful_set(&inputs(&resource)), config_check(&inputs(&resource))];
        let [server, check] = pods.map(|object| object["spec"]["template"]["spec"]["securityContext"].clone());
        assert_eq!(server, check);
        assert_eq!(server["runAsNonRoot"], true);
        ["runAsUser", "runAsGroup", "fsGroup"].map(|id| server[id].as_i64())
    };
    assert_eq!(security(json!({})), [Some(1000); 3]);
    assert_eq!(security(json!({ "securityContext": {} })), [None; 3]);
    assert_eq!(security(json!({ "securityContext": { "fsGroup": 5 } })), [None, None, Some(5)]);
}

#[test]
fn monitors_carry_the_labels_that_a_prometheus_selects_by_under_ours() {
    let resource =
        resource(json!({ "monitoring": { "labels": { "release": "prometheus", labels::INSTANCE: "other" } } }));
    for monitor in [service_monitor(&inputs(&resource)), prometheus_rule(&inputs(&resource))] {
        let labels = monitor.unwrap()["metadata"]["labels"].clone();
        assert_eq!((&labels["release"], &labels[labels::INSTANCE]), (&json!("prometheus"), &json!("chat")));
    }
}

#[test]
fn settings_of_the_operator_are_refused_by_name() {
    let refused = |settings: Value| config::refused(&resource(json!({ "settings": settings })).spec);
    assert_eq!(refused(json!({ "server": { "max_payload_size": "1MiB" }, "logging": null })), [""; 0]);
    assert_eq!(
        refused(json!({ "server": { "port": 1, "api_keys": { "backend": ["key"] } }, "drain": {}, "logging": "json" })),
        [
            "spec.settings.server.port is set by the operator: remove it",
            "spec.settings.server.api_keys is set by the operator: use spec.apiKeys",
            "spec.settings.drain is set by the operator: use spec.drain",
            "spec.settings.logging is a section: write settings below it",
        ]
    );
    assert_eq!(
        refused(json!({ "encryption": { "epoch_age": "24h", "kms": { "master_key_hex": "00", "grace": "2h" } } })),
        ["spec.settings.encryption.kms.master_key_hex is set by the operator: use spec.kms"]
    );
}

#[test]
fn the_key_name_is_free_only_where_the_resource_has_no_field_for_it() {
    let refused = |kms: Value| {
        let settings = json!({ "encryption": { "kms": { "key_id": "mine" } } });
        config::refused(&resource(json!({ "settings": settings, "kms": kms })).spec).len()
    };
    assert_eq!(refused(json!({ "http": { "url": "http://kms" } })), 0);
    assert_eq!(refused(json!({ "aws": { "keyId": "alias/a" } })), 1);
}

#[test]
fn settings_survive_as_they_were_written() {
    let hostile = json!({ "a": "yes", "b": "0123", "c": "x: y # z", "d": "two\nlines", "e": "", "f": null, "g": [1, "1"], "h": "🦀" });
    let resource = resource(json!({ "settings": { "other": hostile } }));
    let read: Value = serde_saphyr::from_str(&config::render(&inputs(&resource))).unwrap();
    assert_eq!(read["other"], hostile);
    assert_eq!(read["server"]["port"], 8080);
    assert_eq!(read["logging"]["format"], "json");
}

#[test]
fn only_what_the_server_must_read_again_rolls_it() {
    let base = resource(json!({}));
    let rolls = |spec: Value| roll(&inputs(&resource(spec))) != roll(&inputs(&base));
    for spec in [
        json!({ "image": "a:2" }),
        json!({ "settings": { "storage": { "reserve": "1GiB" } } }),
        json!({ "drain": { "timeout": "1m" } }),
        json!({ "podLabels": { "a": "b" } }),
        json!({ "kms": { "embedded": { "secretName": "key" } } }),
        json!({ "resources": { "limits": { "memory": "1Gi" } } }),
        json!({ "securityContext": {} }),
    ] {
        assert!(rolls(spec.clone()), "{spec}");
    }
    for spec in [
        json!({ "storage": { "embedded": { "size": "2Gi" } } }),
        json!({ "service": { "type": "NodePort" } }),
        json!({ "networkPolicy": { "enabled": false } }),
        json!({ "monitoring": { "serviceMonitor": false, "labels": { "a": "b" } } }),
        json!({ "deletionPolicy": "Delete", "suspend": true, "imagePullPolicy": "Always" }),
    ] {
        assert!(!rolls(spec.clone()), "{spec}");
    }
    assert_ne!(roll(&Inputs { read_at_start: "other", ..inputs(&base) }), roll(&inputs(&base)));
    assert_eq!(roll(&Inputs { kms_secrets: "rotated", ..inputs(&base) }), roll(&inputs(&base)));
}

#[test]
fn a_job_is_another_one_when_what_it_tries_is() {
    let base = resource(json!({ "kms": { "embedded": { "secretName": "key" } } }));
    let name = |job: Value| job["metadata"]["name"].as_str().unwrap().to_owned();
    let tries = |inputs: &Inputs<'_>| (name(config_check(inputs)), name(kms_check(inputs).unwrap()));
    let (config, kms) = tries(&inputs(&base));
    assert_eq!(tries(&inputs(&base)), (config.clone(), kms.clone()));
    let (same, other) = tries(&Inputs { kms_secrets: "rotated", ..inputs(&base) });
    assert_eq!((same == config, other == kms), (true, false));
    let (other, same) = tries(&Inputs { read_at_start: "other", ..inputs(&base) });
    assert_eq!((other == config, same == kms), (false, true));
}

#[test]
fn no_object_holds_a_secret() {
    let resource = resource(
        json!({ "kms": { "vault": { "address": "https://vault", "auth": { "appRoleSecretName": "role" } } } }),
    );
    let keys = api_keys(&inputs(&resource)).unwrap();
    let entries: Vec<&Value> = keys["stringData"].as_object().unwrap().values().collect();
    assert_eq!(entries, [""; 4]);
    let text = config::render(&Inputs { role_id: Some("role"), ..inputs(&resource) });
    assert!(text.contains("secret_id_file: ") && !text.contains("secret_id: "), "{text}");
}

/// The JSON pointers at which two values differ.
fn differences_of(one: &Value, other: &Value, pointer: &str, found: &mut Vec<String>) {
    match (one, other) {
        (Value::Object(one), Value::Object(other)) if one.keys().eq(other.keys()) => {
            for (name, value) in one {
                let pointer = format!("{pointer}/{}", name.replace('/', "~1"));
                differences_of(value, &other[name], &pointer, found);
            }
        }
        (Value::Array(one), Value::Array(other)) if one.len() == other.len() => {
            let pairs = one.iter().zip(other).enumerate();
            pairs.for_each(|(index, (one, other))| differences_of(one, other, &format!("{pointer}/{index}"), found));
        }
        _ if one == other => {}
        _ => found.push(pointer.to_owned()),
    }
}

/// Kind and name of an object, without the hash that ends the names of checks.
fn short_name(object: &Value) -> String {
    let name = object["metadata"]["name"].as_str().unwrap();
    let is_hash = |end: &str| end.len() == 8 && end.bytes().all(|letter| letter.is_ascii_hexdigit());
    let stem = name.rsplit_once('-').filter(|(_, end)| is_hash(end)).map_or(name, |(stem, _)| stem);
    format!("{} {stem}", object["kind"].as_str().unwrap())
}

const WITH_KMS: &str = r#"{ "kms": { "embedded": { "secretName": "master" } } }"#;

fn settings(level: &str) -> Map<String, Value> {
    json!({ "logging": { "level": level } }).as_object().unwrap().clone()
}

#[test]
fn two_releases_of_one_resource_differ_exactly_where_they_must() {
    let mut resource = resource(serde_json::from_str(WITH_KMS).unwrap());
    resource.spec.settings = settings("info");
    let next = Release { image: "a:2".into(), settings: settings("debug"), claim: "chat-data-1".into(), replicas: 0 };
    let (now, next) = (inputs(&resource), Inputs { release: next, ..inputs(&resource) });
    let pairs = everything(&now).into_iter().zip(everything(&next));
    let differ = pairs.filter_map(|(now, next)| {
        assert_eq!(short_name(&now).split(' ').next(), short_name(&next).split(' ').next());
        let mut found = Vec::new();
        differences_of(&now, &next, "", &mut found);
        (!found.is_empty()).then(|| (short_name(&now), found))
    });
    let of_check =
        ["/metadata/name", "/spec/template/spec/containers/0/image", "/spec/template/spec/volumes/0/configMap/name"];
    let of_set = [
        "/spec/replicas",
        "/spec/template/metadata/annotations/progressdb.io~1release",
        "/spec/template/metadata/annotations/progressdb.io~1roll",
        "/spec/template/spec/containers/0/image",
        "/spec/template/spec/volumes/0/configMap/name",
        "/spec/template/spec/volumes/3/persistentVolumeClaim/claimName",
    ];
    let expected = [
        ("ConfigMap chat-check", &["/data/config.yaml", "/metadata/name"][..]),
        ("Job chat-config-check", &of_check),
        ("Job chat-kms-check", &of_check),
        ("ConfigMap chat-config", &["/data/config.yaml", "/data/template.json", "/metadata/name"]),
        ("PersistentVolumeClaim chat-data-0", &["/metadata/name"]),
        ("StatefulSet chat", &of_set),
    ];
    let expected =
        expected.map(|(name, at)| (name.to_owned(), at.iter().map(|at| (*at).to_owned()).collect::<Vec<_>>()));
    assert_eq!(differ.collect::<Vec<_>>(), expected);
    let set = stateful_set(&next);
    assert_eq!(set["spec"]["replicas"], 0);
    assert_eq!(set["spec"]["template"]["spec"]["containers"][0]["image"], "a:2");
    assert_eq!(claim(&next, resource.spec.storage.embedded().unwrap())["metadata"]["name"], "chat-data-1");
}

#[test]
fn of_image_and_settings_only_those_of_the_release_count() {
    let with_kms = |image: &str, level: &str| {
        let mut resource = resource(serde_json::from_str(WITH_KMS).unwrap());
        resource.spec.image = image.to_owned();
        resource.spec.settings = settings(level);
        resource
    };
    let release = Release { image: "a:3".into(), settings: settings("warn"), claim: "chat-data-7".into(), replicas: 1 };
    let [one, other] = [with_kms("a:1", "info"), with_kms("a:2", "debug")].map(|resource| {
        let inputs = Inputs { release: release.clone(), ..inputs(&resource) };
        (everything(&inputs), roll(&inputs))
    });
    for (one, other) in one.0.iter().zip(&other.0) {
        assert_eq!(one, other, "{} reads the spec", short_name(one));
    }
    assert_eq!(one.1, other.1);
}
