//! What takes an edit back that server-side apply cannot.

use serde_json::{Value, json};

/// The patch of a Service with a port that is not desired; `None` if there is nothing of the kind. Server-side apply knows
/// ports by their numbers, so one with another number is another port, and stays beside ours.
pub fn correction(desired: &Value, live: &Value) -> Option<Value> {
    let ports = |object: &Value| object.pointer("/spec/ports").and_then(Value::as_array).cloned();
    let (desired_ports, found) = (ports(desired)?, ports(live)?);
    let identity = |port: &Value| (port["port"].clone(), port["protocol"].as_str().unwrap_or("TCP").to_owned());
    let is_desired = |port: &Value| desired_ports.iter().any(|desired| identity(desired) == identity(port));
    if desired["kind"] != "Service" || found.iter().all(is_desired) {
        return None;
    }
    let with_node_port = |port: &Value| {
        let mut port = port.clone();
        let before = found.iter().find(|found| found["name"] == port["name"]).and_then(|found| found.get("nodePort"));
        if let Some(node_port) = before {
            port["nodePort"] = node_port.clone();
        }
        port
    };
    let ports: Vec<Value> = desired_ports.iter().map(with_node_port).collect();
    Some(json!({ "spec": { "ports": ports } }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_with_another_number_is_taken_back_and_keeps_the_port_of_the_nodes() {
        let desired = json!({ "kind": "Service", "spec": { "ports": [{ "name": "http", "port": 8080 }] } });
        let edited = json!({ "spec": { "ports": [{ "name": "http", "port": 80, "nodePort": 30000 }] } });
        let patch = correction(&desired, &edited).unwrap();
        assert_eq!(patch["spec"]["ports"], json!([{ "name": "http", "port": 8080, "nodePort": 30000 }]));
        let retargeted = json!({ "spec": { "ports": [{ "name": "http", "port": 8080, "targetPort": 1 }] } });
        assert_eq!(correction(&desired, &retargeted), None);
    }
}
