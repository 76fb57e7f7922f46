//! The Jobs of an upgrade, which ask an image about itself or about data, and rehearse on a copy of the data. What they find
//! is their termination message: one JSON line of each container, at most 4 KiB.
//!
//! ```text
//! version    the new image           version --json
//! inspect    the old image           inspect --json             on the data, while no server runs
//! back       the old image, or the new one if that changed the data: inspect --json, when the upgrade goes back
//! identity   the old image           inspect --json             on a claim that was restored
//! old        the old image           verify --digest, then serve --rehearsal      on a copy
//! new        the new image           migrate, verify --digest, serve --rehearsal  on the same copy
//! finalize   the new image           migrate --finalize, verify --digest          on a copy, or migrate on the data
//! schema     the new image           schema check --json        of a fleet: whether its tables are in the keyspace
//! schema-apply                       schema apply --json        of a fleet: if they are not
//! ```

use serde_json::{Map, Value, json};

use super::{API_PORT, Inputs, MANAGEMENT_PORT, labels, names, owned, placement, pod};

/// Where a container writes what it found.
const OUT: [&str; 2] = ["--out", "/dev/termination-log"];
/// The main container.
pub const MAIN: &str = "main";

/// A Job of an upgrade.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum UpgradeJob {
    /// What the new image is.
    Version,
    /// What the data is, while no server runs.
    Inspect,
    /// What the data of a restored claim is.
    Identity,
    /// The old image on a copy.
    RehearseOld,
    /// The new image on the same copy.
    RehearseNew,
    /// The finalization on the same copy.
    RehearseFinalize,
    /// The finalization of the data.
    Finalize,
    /// What the data is, when the upgrade goes back.
    InspectBack,
    /// The test of the resource's owner.
    Gate,
    /// The backup of a fleet's engine, by the resource's owner, before a new image meets the data.
    Backup,
    /// The same before the format is changed.
    FinalBackup,
    /// Whether a fleet has the tables that the new image needs.
    Schema,
    /// Adds those that are missing.
    SchemaApply,
}

impl UpgradeJob {
    /// All of them.
    pub const ALL: [Self; 13] = [
        Self::Version,
        Self::Inspect,
        Self::Identity,
        Self::RehearseOld,
        Self::RehearseNew,
        Self::RehearseFinalize,
        Self::Finalize,
        Self::InspectBack,
        Self::Gate,
        Self::Backup,
        Self::FinalBackup,
        Self::Schema,
        Self::SchemaApply,
    ];

    /// The end of its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Version => "version",
            Self::Inspect => "inspect",
            Self::Identity => "identity",
            Self::RehearseOld => "old",
            Self::RehearseNew => "new",
            Self::RehearseFinalize => "final",
            Self::Finalize => "finalize",
            Self::InspectBack => "back",
            Self::Gate => "gate",
            Self::Backup => "backup",
            Self::FinalBackup => "backup-final",
            Self::Schema => "schema",
            Self::SchemaApply => "schema-apply",
        }
    }

    /// Whether it works on a copy, with the label that keeps it apart from the server's network.
    fn rehearses(self) -> bool {
        matches!(self, Self::RehearseOld | Self::RehearseNew | Self::RehearseFinalize)
    }

    /// Its containers in their order, by name and arguments; the last one is the main one.
    fn containers(self) -> Vec<(&'static str, Vec<&'static str>)> {
        let with_out = |args: &[&'static str]| [args, &OUT].concat();
        let digest = ("digest", with_out(&["verify", "--digest", "--json"]));
        let serve = (MAIN, vec!["serve", "--rehearsal"]);
        let inspect = (MAIN, with_out(&["inspect", "--json"]));
        match self {
            Self::Version => vec![(MAIN, with_out(&["version", "--json"]))],
            Self::Inspect | Self::Identity | Self::InspectBack => vec![inspect],
            Self::RehearseOld => vec![digest, serve],
            Self::RehearseNew => vec![("migrate", with_out(&["migrate", "--json"])), digest, serve],
            Self::RehearseFinalize => {
                vec![("migrate", with_out(&["migrate", "--finalize", "--json"])), (MAIN, digest.1)]
            }
            Self::Gate | Self::Backup | Self::FinalBackup => Vec::new(),
            Self::Schema => vec![(MAIN, with_out(&["schema", "check", "--json"]))],
            Self::SchemaApply => vec![(MAIN, with_out(&["schema", "apply", "--json"]))],
            Self::Finalize => vec![(MAIN, with_out(&["migrate", "--finalize", "--json"]))],
        }
    }
}

/// A Job of the upgrade of this id, with the image and the settings of the release of `inputs`, whose ConfigMap has this
/// name, on the claim of this name if it works on data.
pub fn upgrade_job(inputs: &Inputs<'_>, id: &str, job: UpgradeJob, config_map: &str, claim: Option<&str>) -> Value {
    let spec = &inputs.resource.spec;
    let mut own = labels::of(&inputs.name(), labels::Component::Job);
    own.insert(labels::UPGRADE.into(), id.into());
    let mut of_pod = own.clone();
    of_pod.insert(labels::CHECK.into(), "true".into());
    if job.rehearses() {
        // Apart from the instance's own pods, so that its NetworkPolicy does not select it.
        of_pod.insert(labels::COMPONENT.into(), "rehearsal".into());
        of_pod.insert(labels::REHEARSAL.into(), id.into());
    }
    let mut pod = pod::spec(inputs, pod::release_volume(config_map));
    placement::of_check(inputs, &mut pod);
    pod.insert("restartPolicy".into(), json!("Never"));
    if let Some((claim, Value::Array(volumes))) = claim.zip(pod.get_mut("volumes")) {
        volumes.push(pod::data_volume(claim));
    }
    let mut containers: Vec<Value> =
        job.containers().into_iter().map(|(name, args)| container(inputs, job, name, &args, claim.is_some())).collect();
    let main = containers.pop().expect("each Job has a main container");
    pod::set(&mut pod, "initContainers", Value::Array(containers));
    pod.insert("containers".into(), json!([main]));
    let name = names::of_upgrade(&inputs.name(), id, job.as_str());
    let metadata = json!({
        "annotations": super::job::without_mesh_annotations(&spec.pod_annotations),
        "labels": pod::labels_over(&super::job::without_mesh_labels(&spec.pod_labels), of_pod),
    });
    super::job::of_template(inputs, &name, own, json!({ "metadata": metadata, "spec": pod }))
}

fn as_object(value: &Value) -> Value {
    if value.is_object() { value.clone() } else { json!({}) }
}

/// The test of the resource's owner, of the server at this address.
pub fn gate_job(inputs: &Inputs<'_>, id: &str, template: &Value, address: &str) -> Value {
    let host = if address.contains(':') { format!("[{address}]") } else { address.to_owned() };
    let variables = [("PROGRESSDB_URL", API_PORT), ("PROGRESSDB_MANAGEMENT_URL", MANAGEMENT_PORT)]
        .map(|(name, port)| json!({ "name": name, "value": format!("http://{host}:{port}") }));
    own_job(inputs, id, UpgradeJob::Gate, template, &variables)
}

/// The backup of a fleet's engine, by the resource's owner, under a name that no other backup of an upgrade has.
pub fn backup_job(inputs: &Inputs<'_>, id: &str, job: UpgradeJob, template: &Value) -> Value {
    let cassandra = inputs.resource.spec.storage.cassandra();
    let contact_points = cassandra.map(|cassandra| cassandra.contact_points.join(",")).unwrap_or_default();
    let keyspace = cassandra.map(|cassandra| cassandra.keyspace.clone()).unwrap_or_default();
    let variables = [
        ("PROGRESSDB_CASSANDRA_CONTACT_POINTS", contact_points),
        ("PROGRESSDB_CASSANDRA_KEYSPACE", keyspace),
        ("PROGRESSDB_SNAPSHOT", names::of_upgrade(&inputs.name(), id, job.as_str())),
    ];
    let variables = variables.map(|(name, value)| json!({ "name": name, "value": value }));
    own_job(inputs, id, job, template, &variables)
}

/// A Job of the resource's owner: their pod as they wrote it, with labels by which it is found again, and with variables.
fn own_job(inputs: &Inputs<'_>, id: &str, job: UpgradeJob, template: &Value, variables: &[Value]) -> Value {
    let mut own = labels::of(&inputs.name(), labels::Component::Job);
    own.insert(labels::UPGRADE.into(), id.into());
    // What has the wrong shape is left out, and the API server says what is missing.
    let mut template = json!({ "metadata": as_object(&template["metadata"]), "spec": as_object(&template["spec"]) });
    template["metadata"]["labels"] = as_object(&template["metadata"]["labels"]);
    for (label, value) in &own {
        template["metadata"]["labels"][label] = json!(value);
    }
    template["spec"]["restartPolicy"] = json!("Never");
    for part in ["initContainers", "containers"] {
        let containers = template["spec"].get_mut(part).and_then(Value::as_array_mut).into_iter().flatten();
        for container in containers.filter(|container| container.is_object()) {
            match container.get_mut("env").and_then(Value::as_array_mut) {
                Some(given) => given.extend(variables.iter().cloned()),
                None => container["env"] = json!(variables),
            }
        }
    }
    super::job::of_template(inputs, &names::of_upgrade(&inputs.name(), id, job.as_str()), own, template)
}

/// A container; one that opens a volume gets what the server gets.
fn container(inputs: &Inputs<'_>, job: UpgradeJob, name: &str, args: &[&str], has_volume: bool) -> Value {
    let spec = &inputs.resource.spec;
    let path = pod::config_path();
    // Asking for the version needs no settings, and an image may judge those of the other one.
    let args: Vec<&str> = match job {
        UpgradeJob::Version => args.to_vec(),
        _ => [args, &["--config", &path]].concat(),
    };
    let mut container = pod::container(inputs, name, &args);
    if has_volume {
        if let Some(Value::Array(mounts)) = container.get_mut("volumeMounts") {
            mounts.push(pod::data_mount());
        }
        pod::set(&mut container, "resources", json!(spec.resources));
    } else {
        pod::set(&mut container, "resources", super::job::resources(&spec.resources));
    }
    if args.contains(&"serve") {
        container.insert("ports".into(), pod::ports());
    }
    Value::Object(container)
}

/// What pods that rehearse may reach, and who reaches them: the KMS and names, and the operator. Nobody else, whatever the
/// resource says of its server.
pub fn rehearsal_policy(inputs: &Inputs<'_>, id: &str) -> Value {
    let mut own = labels::of(&inputs.name(), labels::Component::Job);
    own.insert(labels::UPGRADE.into(), id.into());
    let ports = [API_PORT, MANAGEMENT_PORT].map(super::network::tcp);
    let from_operator = super::network::from_operator(inputs.operator_namespace);
    let selected: Map<String, Value> = [(labels::REHEARSAL.to_owned(), json!(id))].into_iter().collect();
    json!({
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": owned(inputs.resource, &names::of_upgrade(&inputs.name(), id, "rehearsal"), own),
        "spec": {
            "podSelector": { "matchLabels": selected },
            "policyTypes": ["Ingress", "Egress"],
            "ingress": [{ "from": [from_operator], "ports": ports }],
            "egress": super::network::names_kms_and_store(&inputs.resource.spec),
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::objects::tests::{inputs, resource};

    #[test]
    fn a_test_of_ones_own_gets_the_address_and_labels_whatever_its_template_is() {
        let resource = resource(json!({}));
        let of = |template: Value| gate_job(&inputs(&resource), "0123abcd", &template, "10.0.0.1")["spec"].clone();
        let spec = of(
            json!({ "spec": { "containers": [{ "name": "a", "image": "b:1", "env": [{ "name": "C", "value": "d" }] }] } }),
        );
        let template = &spec["template"];
        assert_eq!(template["metadata"]["labels"][labels::UPGRADE], "0123abcd");
        let env = template["spec"]["containers"][0]["env"].as_array().unwrap();
        assert_eq!((env.len(), &env[1]["value"]), (3, &json!("http://10.0.0.1:8080")));
        for shapeless in [json!({}), json!({ "spec": 5, "metadata": "x" }), json!({ "spec": { "containers": ["a"] } })]
        {
            assert_eq!(of(shapeless)["template"]["spec"]["restartPolicy"], "Never");
        }
    }
}
