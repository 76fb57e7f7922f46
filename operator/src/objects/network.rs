//! The NetworkPolicy of the server and of Jobs, which need the KMS as well.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{API_PORT, Inputs, MANAGEMENT_PORT, labels, owned};
use crate::crd::{Kms, ProgressDBSpec};

/// Where the credentials of a node, and of EKS Pod Identity, are asked for.
const INSTANCE_METADATA: [&str; 2] = ["169.254.169.254/32", "169.254.170.23/32"];
/// Where Cassandra and ScyllaDB listen, if nothing else is said.
const CQL_PORT: u16 = 9042;

/// In: the API for whom the resource names, and for the operator, which tries keys; health and metrics for the pods of the
/// cluster. Out: DNS, the KMS, the store of a fleet and what the resource names. `None` if it is not wanted.
pub fn network_policy(inputs: &Inputs<'_>) -> Option<Value> {
    let (name, wanted) = (inputs.name(), &inputs.resource.spec.network_policy);
    if !wanted.enabled {
        return None;
    }
    let mut api = json!({ "ports": [tcp(API_PORT)] });
    if !wanted.allow_from.is_empty() {
        api["from"] = json!(wanted.allow_from);
    }
    let operator = inputs.operator_namespace.filter(|_| !wanted.allow_from.is_empty());
    let operator =
        operator.map(|namespace| json!({ "from": [from_operator(Some(namespace))], "ports": [tcp(API_PORT)] }));
    let management = json!({ "from": [{ "namespaceSelector": {} }], "ports": [tcp(MANAGEMENT_PORT)] });
    let ingress: Vec<Value> = [Some(api), operator, Some(management)].into_iter().flatten().collect();
    let mut egress = names_kms_and_store(&inputs.resource.spec);
    egress.extend(wanted.egress.iter().map(|rule| json!(rule)));
    Some(json!({
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": owned(inputs.resource, &name, labels::of(&name, labels::Component::Server)),
        "spec": {
            "podSelector": {
                "matchLabels": labels::everything(&name),
                "matchExpressions": [{ "key": labels::REHEARSAL, "operator": "DoesNotExist" }],
            },
            "policyTypes": ["Ingress", "Egress"],
            "ingress": ingress,
            "egress": egress,
        },
    }))
}

/// The pods of the operator; where its namespace is not known, those in any.
pub(super) fn from_operator(namespace: Option<&str>) -> Value {
    let namespaces = namespace
        .map_or_else(|| json!({}), |namespace| json!({ "matchLabels": { "kubernetes.io/metadata.name": namespace } }));
    json!({ "namespaceSelector": namespaces, "podSelector": { "matchLabels": { labels::NAME: crate::MANAGER } } })
}

/// What every pod that opens data has to reach.
pub(super) fn names_kms_and_store(spec: &ProgressDBSpec) -> Vec<Value> {
    let mut egress = vec![json!({ "ports": [{ "port": 53, "protocol": "UDP" }, tcp(53)] })];
    egress.extend(spec.kms.iter().flat_map(to_kms));
    egress.extend(spec.storage.cassandra().map(|cassandra| {
        // The nodes that contact points tell of listen on the port of one of them.
        let ports: BTreeSet<u16> = cassandra.contact_points.iter().map(|point| cql_port(point)).collect();
        json!({ "ports": ports.into_iter().map(tcp).collect::<Vec<_>>() })
    }));
    egress
}

fn to_kms(kms: &Kms) -> Vec<Value> {
    let mut rules = Vec::new();
    if let Some(aws) = &kms.aws {
        rules.push(json!({ "ports": [tcp(443)] }));
        let port = aws.endpoint.as_deref().map_or(443, port);
        if port != 443 {
            rules.push(json!({ "ports": [tcp(port)] }));
        }
        if aws.credentials.is_none() {
            let peers = INSTANCE_METADATA.map(|cidr| json!({ "ipBlock": { "cidr": cidr } }));
            rules.push(json!({ "to": peers, "ports": [tcp(80)] }));
        }
    }
    let address = kms.vault.as_ref().map(|vault| &vault.address).or(kms.http.as_ref().map(|http| &http.url));
    rules.extend(address.map(|address| json!({ "ports": [tcp(port(address))] })));
    rules
}

pub(super) fn tcp(port: u16) -> Value {
    json!({ "port": port, "protocol": "TCP" })
}

/// The port of a contact point: a host, or a host and a port.
fn cql_port(point: &str) -> u16 {
    // The colons of an IPv6 address without a port are not in front of one.
    let named = point.rsplit_once(':').filter(|(host, _)| !host.contains(':') || host.ends_with(']'));
    named.and_then(|(_, port)| port.parse().ok()).unwrap_or(CQL_PORT)
}

/// The port that a URL names, or that of its scheme.
fn port(url: &str) -> u16 {
    let (scheme, rest) = url.split_once("://").unwrap_or(("https", url));
    let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
    // The colons of an IPv6 address are in brackets.
    let named = host.rsplit_once(':').filter(|(_, port)| !port.contains(']'));
    named.and_then(|(_, port)| port.parse().ok()).unwrap_or(if scheme == "http" { 80 } else { 443 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_port_is_that_of_the_url_or_of_its_scheme() {
        let urls = ["https://vault:8200", "http://kms/", "https://[fd00::1]/v1", "http://[fd00::1]:6820/a:b"];
        assert_eq!(urls.map(port), [8200, 80, 443, 6820]);
    }

    #[test]
    fn a_contact_point_without_a_port_has_that_of_cql() {
        let points = ["db-0.db.svc", "10.0.0.1:9142", "fd00::1", "[fd00::1]", "[fd00::1]:9043"];
        assert_eq!(points.map(cql_port), [9042, 9142, 9042, 9042, 9043]);
    }
}
