//! `spec.service` and `spec.networkPolicy`: how clients reach the server, and what it reaches.

use std::collections::BTreeMap;

use k8s_openapi::api::networking::v1::{NetworkPolicyEgressRule, NetworkPolicyPeer};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The Service that clients use.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Service {
    /// From where it can be reached.
    #[serde(rename = "type")]
    pub kind: ServiceType,
    /// Annotations, as load balancers of clouds want them.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 64))]
    pub annotations: BTreeMap<String, String>,
}

/// From where the Service can be reached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ServiceType {
    /// From inside the cluster.
    #[default]
    ClusterIP,
    /// Also at a port of each node.
    NodePort,
    /// Also through a load balancer of the cloud.
    LoadBalancer,
}

impl ServiceType {
    /// As Kubernetes spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ClusterIP => "ClusterIP",
            Self::NodePort => "NodePort",
            Self::LoadBalancer => "LoadBalancer",
        }
    }
}

/// Who may reach the pod, and what the pod may reach. Only some networks of clusters enforce it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct NetworkPolicy {
    /// Make a NetworkPolicy: in, port 8080 for allowFrom and port 9090 (health and metrics) for the cluster's pods; out, DNS, the KMS and egress.
    pub enabled: bool,
    /// Who may reach port 8080. Empty: everybody.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub allow_from: Vec<NetworkPolicyPeer>,
    /// What else the pod may reach.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub egress: Vec<NetworkPolicyEgressRule>,
}

impl Default for NetworkPolicy {
    fn default() -> Self {
        Self { enabled: true, allow_from: Vec::new(), egress: Vec::new() }
    }
}
