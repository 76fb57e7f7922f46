//! The NetworkPolicy of the server and of Jobs, which need the KMS as well.

use serde_json::{Value, json};

use super::{API_PORT, Inputs, MANAGEMENT_PORT, labels, owned};
use crate::crd::{Kms, ProgressDBSpec};

/// Where the credentials of a node, and of EKS Pod Identity, are asked for.
const INSTANCE_METADATA: [&str; 2] = ["169.254.169.254/32", "169.254.170.23/32"];

/// In: the API for whom the resource names, and for the operator, which tries keys; health and metrics for the pods of the
/// cluster. Out: DNS, the KMS and what the resource names. `None` if it is not wanted.
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
    let mut egress = names_and_kms(&inputs.resource.spec);
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
pub(super) fn names_and_kms(spec: &ProgressDBSpec) -> Vec<Value> {
    let mut egress = vec![json!({ "ports": [{ "port": 53, "protocol": "UDP" }, tcp(53)] })];
    egress.extend(spec.kms.iter().flat_map(to_kms));
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
}
