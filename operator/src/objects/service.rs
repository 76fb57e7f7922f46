//! Services: one for clients, and one that gives the pod a name and is scraped.

use serde_json::{Value, json};

use super::{API_PORT, Inputs, MANAGEMENT_PORT, labels, names, owned, pod};

/// Addresses of both families where the cluster has both, else of the one that it has.
const IP_FAMILIES: &str = "PreferDualStack";

/// The Service that clients use; while an upgrade of this id keeps it closed, it selects no pod.
pub fn client_service(inputs: &Inputs<'_>, closed_for: Option<&str>) -> Value {
    let (name, wanted) = (inputs.name(), &inputs.resource.spec.service);
    let mut metadata = pod::object(owned(inputs.resource, &name, labels::of(&name, labels::Component::Server)));
    pod::set(&mut metadata, "annotations", json!(wanted.annotations));
    let mut selector = labels::selector(&name, labels::Component::Server);
    selector.extend(closed_for.map(|upgrade| (labels::CLOSED.to_owned(), upgrade.to_owned())));
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata,
        "spec": {
            "type": wanted.kind.as_str(),
            "ipFamilyPolicy": IP_FAMILIES,
            "selector": selector,
            "ports": [port("http", API_PORT)],
        },
    })
}

/// The Service that names every pod, whether or not it is ready: that of the StatefulSet, and that which is scraped.
pub fn headless_service(inputs: &Inputs<'_>) -> Value {
    let name = inputs.name();
    let labels = labels::of(&name, labels::Component::Server);
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": owned(inputs.resource, &names::headless_service(&name), labels),
        "spec": {
            "type": "ClusterIP",
            "clusterIP": "None",
            "ipFamilyPolicy": IP_FAMILIES,
            "publishNotReadyAddresses": true,
            "selector": labels::selector(&name, labels::Component::Server),
            "ports": [port("http", API_PORT), port("management", MANAGEMENT_PORT)],
        },
    })
}

fn port(name: &str, port: u16) -> Value {
    json!({ "name": name, "port": port, "targetPort": name, "protocol": "TCP" })
}
