//! A KMS that pods reach, and the identity that the server has there: from a Secret, or its service account.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use progressdb_e2e::{CLUSTER, MACHINE, Namespace, kubectl};
use serde_json::{Value, json};
use testing::servers::Provider;
use testing::servers::listen::{Call, Listener};
use testing::servers::moto::{REGION, credentials};
use testing::servers::proxy::aws_error;
use testing::servers::vault::Vault;

/// The Secret with the server's identity.
pub(super) const SECRET: &str = "identity";
/// A role of Vault.
const ROLE: &str = "server";
/// What AWS answers to unknown credentials.
const UNKNOWN_TO_AWS: &str = "The security token included in the request is invalid.";

/// A provider, and how the server proves to it who it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    Aws,
    VaultToken,
    VaultAppRole,
    VaultKubernetes,
    Http,
    Embedded,
}

impl Way {
    pub(super) const ALL: [Self; 6] =
        [Self::Aws, Self::VaultToken, Self::VaultAppRole, Self::VaultKubernetes, Self::Http, Self::Embedded];

    /// As the server names the provider.
    pub(super) fn provider(self) -> &'static str {
        match self {
            Self::Aws => "aws",
            Self::VaultToken | Self::VaultAppRole | Self::VaultKubernetes => "vault",
            Self::Http => "http",
            Self::Embedded => "local",
        }
    }

    /// Reason and words of the condition while there are no credentials.
    pub(super) fn said_without(self) -> (&'static str, &'static str) {
        match self {
            Self::VaultKubernetes => ("KmsFailed", "invalid role name"),
            _ => ("SecretMissing", SECRET),
        }
    }

    /// What the provider says to wrong credentials; of the embedded one, what the server says of a key that is none.
    pub(super) fn said_to_wrong(self) -> &'static str {
        match self {
            Self::Aws => UNKNOWN_TO_AWS,
            Self::VaultToken => "permission denied",
            Self::VaultAppRole => "invalid secret id",
            Self::VaultKubernetes => "service account name not authorized",
            Self::Http => "who are you",
            Self::Embedded => "neither 32 raw bytes nor 64 hexadecimal digits",
        }
    }
}

/// Whom the server is to the KMS: two identities that the KMS accepts, and one that it does not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Identity {
    First,
    Second,
    Wrong,
}

/// A KMS that pods reach.
pub(super) struct Player {
    pub(super) way: Way,
    provider: Provider,
    /// The provider where pods reach it; the embedded one is reached by nobody.
    reachable: Option<Listener>,
    /// Texts by which the first identity and the second are known in the server's requests.
    marks: [String; 2],
    role_id: String,
    _reviewer: Option<Reviewer>,
}

impl Player {
    /// `None` where this machine has no such server.
    pub(super) fn start(way: Way, test: &str, namespace: &Namespace) -> Option<Self> {
        let mut provider = match way {
            Way::Aws => Provider::aws(test)?,
            Way::VaultToken | Way::VaultAppRole | Way::VaultKubernetes => Provider::vault(test)?,
            Way::Http => Provider::http(),
            Way::Embedded => Provider::local(),
        };
        let (mut role_id, mut reviewer) = (String::new(), None);
        let marks = match way {
            Way::Aws => {
                refuse(&provider, "AKIAWRONG");
                ["AKIAFIRST".to_owned(), "AKIASECOND".to_owned()]
            }
            Way::VaultToken => {
                let second = provider.real_vault().token(json!({ "ttl": "1h" }));
                [provider.base().get("token").to_owned(), second]
            }
            Way::VaultAppRole => {
                let (role, first) = provider.real_vault().approle("approle", json!({ "token_ttl": "1h" }));
                // Otherwise Vault refuses the role for a quarter of an hour after five wrong logins.
                let lockout = json!({ "user_lockout_config": { "lockout_disable": true } });
                provider.real_vault().write("sys/auth/approle/tune", &lockout);
                role_id = role;
                [first, provider.real_vault().secret_id("approle")]
            }
            Way::VaultKubernetes => {
                reviewer = Some(Reviewer::new(namespace, provider.real_vault()));
                [String::new(), String::new()]
            }
            Way::Http => {
                let second = "the-second-service-token";
                provider.service().accept_as_well(second);
                [provider.base().get("token").to_owned(), second.to_owned()]
            }
            Way::Embedded => ["5f".repeat(32), String::new()],
        };
        let reachable = provider.proxy.as_ref().map(|proxy| proxy.listen_at(MACHINE));
        Some(Self { way, provider, reachable, marks, role_id, _reviewer: reviewer })
    }

    /// `spec.kms`.
    pub(super) fn spec(&self) -> Value {
        let url = self.reachable.as_ref().map(|listener| format!("http://{}", listener.addr)).unwrap_or_default();
        let vault = |auth: Value| json!({ "vault": { "address": url, "auth": auth } });
        match self.way {
            Way::Aws => json!({ "aws": {
                "keyId": self.provider.base().get("key_id"), "region": REGION, "endpoint": url,
                "credentials": { "secretName": SECRET },
            } }),
            Way::VaultToken => vault(json!({ "tokenSecretName": SECRET })),
            Way::VaultAppRole => vault(json!({ "appRoleSecretName": SECRET })),
            Way::VaultKubernetes => vault(json!({ "kubernetesRole": ROLE })),
            Way::Http => json!({ "http": { "url": url, "tokenSecretName": SECRET } }),
            Way::Embedded => json!({ "embedded": { "secretName": SECRET } }),
        }
    }

    /// Gives the server this identity; it takes effect when the server next reads its credentials.
    pub(super) fn give(&mut self, identity: Identity, namespace: &Namespace) {
        let entry = match identity {
            Identity::First => self.marks[0].clone(),
            Identity::Second => self.marks[1].clone(),
            Identity::Wrong if self.way == Way::Aws => "AKIAWRONG".to_owned(),
            Identity::Wrong => "nobody".to_owned(),
        };
        match self.way {
            Way::Aws => namespace.secret(SECRET, json!({ "credentials": credentials(&entry) })),
            Way::VaultToken | Way::Http => namespace.secret(SECRET, json!({ "token": entry })),
            Way::VaultAppRole => namespace.secret(SECRET, json!({ "role-id": self.role_id, "secret-id": entry })),
            Way::VaultKubernetes => {
                let account = if identity == Identity::Wrong { "somebody" } else { "chat" };
                let role = json!({
                    "bound_service_account_names": [account],
                    "bound_service_account_namespaces": [namespace.name],
                    "token_policies": ["progressdb"],
                });
                self.provider.real_vault().write(&format!("auth/kubernetes/role/{ROLE}"), &role);
            }
            Way::Embedded => namespace.secret(SECRET, json!({ "master.key": entry })),
        }
    }

    /// How many requests came so far.
    pub(super) fn calls(&self) -> usize {
        self.provider.proxy().count()
    }

    /// How many requests after the first `after` ones prove each of the two identities.
    pub(super) fn proofs(&self, after: usize) -> [usize; 2] {
        let calls = self.provider.proxy().calls().split_off(after);
        self.marks.each_ref().map(|mark| {
            let shows = |bytes: &[u8]| String::from_utf8_lossy(bytes).contains(mark.as_str());
            let in_headers = |call: &Call| call.headers.iter().any(|(_, value)| shows(value.as_bytes()));
            calls.iter().filter(|call| in_headers(call) || shows(&call.body)).count()
        })
    }

    /// Makes the server prove anew who it is; all but AppRole do with every request.
    pub(super) fn end_sessions(&mut self) {
        if self.way == Way::VaultAppRole {
            self.provider.real_vault().revoke_all("approle");
        }
    }

    /// Ends the first identity at the KMS.
    pub(super) fn revoke_first(&mut self) {
        let first = self.marks[0].clone();
        match self.way {
            // moto accepts all credentials, so the proxy refuses these.
            Way::Aws => refuse(&self.provider, &first),
            Way::VaultToken => {
                self.provider.real_vault().write("auth/token/revoke", &json!({ "token": first }));
            }
            Way::VaultAppRole => {
                let path = "auth/approle/role/server/secret-id/destroy";
                self.provider.real_vault().write(path, &json!({ "secret_id": first }));
                self.end_sessions();
            }
            Way::Http => self.provider.service().accept(&self.marks[1]),
            Way::VaultKubernetes | Way::Embedded => unreachable!("{:?} has one identity", self.way),
        }
    }
}

fn refuse(provider: &Provider, access_key: &str) {
    let access_key = format!("Credential={access_key}/");
    let is_theirs = move |call: &Call| call.header("authorization").is_some_and(|value| value.contains(&access_key));
    provider.proxy().when(is_theirs, aws_error(400, "UnrecognizedClientException", UNKNOWN_TO_AWS));
}

/// The account with which Vault asks the cluster's API server to whom a token belongs; deleted when dropped.
struct Reviewer {
    binding: String,
}

impl Reviewer {
    fn new(namespace: &Namespace, vault: &Vault) -> Self {
        const RBAC: &str = "rbac.authorization.k8s.io";
        let (name, binding) = (&namespace.name, format!("{}-reviewer", namespace.name));
        namespace.apply("ServiceAccount", "reviewer", json!({}));
        CLUSTER.apply(
            "ClusterRoleBinding",
            &binding,
            json!({
                "roleRef": { "apiGroup": RBAC, "kind": "ClusterRole", "name": "system:auth-delegator" },
                "subjects": [{ "kind": "ServiceAccount", "namespace": name, "name": "reviewer" }],
            }),
        );
        let reviewer = Self { binding };
        let token = namespace.kubectl(&["create", "token", "reviewer", "--duration=1h"]);
        let cluster = |field: &str| {
            let path = format!("jsonpath={{.clusters[0].cluster.{field}}}");
            kubectl(&["config", "view", "--raw", "--minify", "-o", &path])
        };
        let authority = STANDARD.decode(cluster("certificate-authority-data")).unwrap();
        vault.write("sys/auth/kubernetes", &json!({ "type": "kubernetes" }));
        let config = json!({
            "kubernetes_host": cluster("server"),
            "kubernetes_ca_cert": String::from_utf8(authority).unwrap(),
            "token_reviewer_jwt": token.trim(),
            "disable_local_ca_jwt": true,
        });
        vault.write("auth/kubernetes/config", &config);
        reviewer
    }
}

impl Drop for Reviewer {
    fn drop(&mut self) {
        CLUSTER.give_up("ClusterRoleBinding", &self.binding);
    }
}
