//! `spec.kms`: one provider, and how the server proves to it who it is. Secrets are named here and never held.
#![allow(rustdoc::bare_urls, reason = "kubectl explain shows these lines as they stand")]

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::object_name;

/// Who wraps the keys that seal what users write: exactly one provider.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("[has(self.aws), has(self.vault), has(self.http), has(self.embedded)].exists_one(given, given)")
        .message("name exactly one KMS provider: aws, vault, http or embedded")
)]
pub struct Kms {
    /// AWS KMS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub aws: Option<AwsKms>,
    /// The transit engine of Vault or OpenBao.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vault: Option<VaultKms>,
    /// A prgkms service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http: Option<HttpKms>,
    /// A master key in a Secret: whoever can read the cluster's Secrets can open the data.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub embedded: Option<EmbeddedKms>,
}

/// AWS KMS.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AwsKms {
    /// Id, ARN or alias of the key.
    #[schemars(length(min = 1, max = 2048), pattern(r"^\S+$"))]
    pub key_id: String,
    /// Region of the key. Unset: that of its ARN, else as the AWS SDK finds it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64), pattern(r"^[a-z0-9-]+$"))]
    pub region: Option<String>,
    /// Another address than the region's, as in https://kms.internal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2048), pattern(r"^https?://\S+$"))]
    pub endpoint: Option<String>,
    /// Who the server is to AWS. Unset: whoever the node or EKS Pod Identity says it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials: Option<AwsCredentials>,
}

/// Who the server is to AWS: exactly one of the two.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.serviceAccountName) != has(self.secretName)")
        .message("give exactly one of serviceAccountName and secretName")
)]
pub struct AwsCredentials {
    /// A service account of this namespace that AWS trusts (IAM roles for service accounts); the pod runs as it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "object_name")]
    pub service_account_name: Option<String>,
    /// Secret with the entry credentials, a shared credentials file with the profile default. Read again when it changes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "object_name")]
    pub secret_name: Option<String>,
}

/// The transit engine of Vault or OpenBao.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct VaultKms {
    /// Address, as in https://vault.vault.svc:8200.
    #[schemars(length(max = 2048), pattern(r"^https?://\S+$"))]
    pub address: String,
    /// Where the transit engine is mounted.
    #[serde(default = "transit")]
    #[schemars(length(min = 1, max = 256), pattern(r"^[^\s/]+(/[^\s/]+)*$"))]
    pub mount: String,
    /// Name of the transit key.
    #[serde(default = "progressdb")]
    #[schemars(length(min = 1, max = 256), pattern(r"^[^\s/]+$"))]
    pub key: String,
    /// Secret with the entry ca.crt: certificates to trust in place of the system's. A change restarts the pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "object_name")]
    pub ca_secret_name: Option<String>,
    /// How the server logs in.
    pub auth: VaultAuth,
}

/// How the server logs in to Vault: exactly one way.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("[has(self.kubernetesRole), has(self.tokenSecretName), has(self.appRoleSecretName)].exists_one(given, given)")
        .message("give exactly one of kubernetesRole, tokenSecretName and appRoleSecretName")
)]
pub struct VaultAuth {
    /// Role of Vault's Kubernetes auth method; the server presents the token of its service account NAME.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256), pattern(r"^\S+$"))]
    pub kubernetes_role: Option<String>,
    /// Secret with the entry token. Read again when it changes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "object_name")]
    pub token_secret_name: Option<String>,
    /// Secret with the entries role-id (a change restarts the pod) and secret-id (read again at each login).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "object_name")]
    pub app_role_secret_name: Option<String>,
}

/// A prgkms service.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HttpKms {
    /// Address, as in https://kms.security.svc:6820.
    #[schemars(length(max = 2048), pattern(r"^https?://\S+$"))]
    pub url: String,
    /// Secret with the entry ca.crt: certificates to trust in place of the system's. A change restarts the pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "object_name")]
    pub ca_secret_name: Option<String>,
    /// Secret with the entry token. Read again when it changes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "object_name")]
    pub token_secret_name: Option<String>,
}

/// A master key in a Secret.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EmbeddedKms {
    /// Secret with the entry master.key: 32 bytes or 64 hexadecimal digits. Keep a copy elsewhere: without it the data cannot be opened.
    #[schemars(schema_with = "object_name")]
    pub secret_name: String,
}

fn transit() -> String {
    "transit".into()
}

fn progressdb() -> String {
    "progressdb".into()
}
