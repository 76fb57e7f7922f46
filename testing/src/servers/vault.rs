//! A real Vault in memory: transit with one key, policies, tokens, AppRole, Kubernetes auth, sealing.

use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::Command;

use serde_json::{Value, json};

use super::process::Process;
use crate::http::{Answer, Connection, Request};
use crate::machine::{missing, variable};

/// The transit key that exists from the start.
pub const KEY: &str = "progressdb";

/// The least that ProgressDB needs: not `create`, under which Vault makes a key of any name that is asked for.
pub const POLICY: &str = r#"
path "transit/encrypt/progressdb" { capabilities = ["update"] }
path "transit/decrypt/progressdb" { capabilities = ["update"] }
path "transit/keys/progressdb" { capabilities = ["read"] }
"#;

/// A running Vault, unsealed.
pub struct Vault {
    /// Where it listens.
    pub addr: SocketAddr,
    /// The root token.
    pub root: String,
    unseal: String,
    pub(super) process: Process,
}

impl Vault {
    /// With transit, [`KEY`] and [`POLICY`] under its name; `None` where there is no Vault, and `test` is then skipped.
    pub fn start(test: &str) -> Option<Self> {
        let Some(binary) = binary() else {
            missing(test, "there is no Vault in ~/.cache/progressdb/bin");
            return None;
        };
        // Another process may take the port in between; then Vault ends and gets another one.
        let (process, addr, words) = (0..20)
            .find_map(|_| {
                let addr = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
                let mut command = Command::new(&binary);
                command.env_clear().args(["-addr", &addr.to_string()]);
                Process::start(command).map(|(process, words)| (process, addr, words))
            })
            .expect("Vault starts");
        let vault = Self { addr, root: words[3].clone(), unseal: words[5].clone(), process };
        vault.write("sys/mounts/transit", &json!({ "type": "transit" }));
        vault.write(&format!("transit/keys/{KEY}"), &json!({}));
        vault.write("sys/policies/acl/progressdb", &json!({ "policy": POLICY }));
        Some(vault)
    }

    /// Sends a request with the root token.
    pub fn send(&self, method: &str, path: &str, body: &Value) -> Answer {
        let request = Request::new(method, &format!("/v1/{path}")).header("X-Vault-Token", &self.root).json(body);
        Connection::open(self.addr).unwrap().send(&request).unwrap()
    }

    /// Writes with the root token, and what Vault answers.
    #[track_caller]
    pub fn write(&self, path: &str, body: &Value) -> Value {
        let answer = self.send("PUT", path, body);
        assert!(answer.status < 300, "{path}: {answer}");
        serde_json::from_slice(&answer.body).unwrap_or_default()
    }

    /// A token with [`POLICY`], and whose life is as `options` say.
    pub fn token(&self, options: Value) -> String {
        let mut body = options;
        body["policies"] = json!(["progressdb"]);
        self.write("auth/token/create", &body)["auth"]["client_token"].as_str().unwrap().to_owned()
    }

    /// Makes a new version of the key.
    pub fn rotate_key(&self) {
        self.write(&format!("transit/keys/{KEY}/rotate"), &json!({}));
    }

    /// Changes settings of the key.
    pub fn configure_key(&self, options: &Value) {
        self.write(&format!("transit/keys/{KEY}/config"), options);
    }

    /// Deletes the key.
    pub fn delete_key(&self) {
        self.configure_key(&json!({ "deletion_allowed": true }));
        let answer = self.send("DELETE", &format!("transit/keys/{KEY}"), &json!({}));
        assert_eq!(answer.status, 204, "{answer}");
    }

    /// Turns AppRole on; the role id and a secret id of a role whose tokens follow `options`.
    pub fn approle(&self, mount: &str, options: Value) -> (String, String) {
        self.write(&format!("sys/auth/{mount}"), &json!({ "type": "approle" }));
        let mut role = options;
        role["token_policies"] = json!(["progressdb"]);
        self.write(&format!("auth/{mount}/role/server"), &role);
        let answer = self.send("GET", &format!("auth/{mount}/role/server/role-id"), &json!({}));
        let role_id = answer.json()["data"]["role_id"].as_str().unwrap().to_owned();
        (role_id, self.secret_id(mount))
    }

    /// A new secret id of the role.
    pub fn secret_id(&self, mount: &str) -> String {
        let made = self.write(&format!("auth/{mount}/role/server/secret-id"), &json!({}));
        made["data"]["secret_id"].as_str().unwrap().to_owned()
    }

    /// Turns Kubernetes auth on against an API server that reviews tokens.
    pub fn kubernetes(&self, mount: &str, api: SocketAddr, options: Value) {
        self.write(&format!("sys/auth/{mount}"), &json!({ "type": "kubernetes" }));
        let config = json!({
            "kubernetes_host": format!("http://{api}"),
            "token_reviewer_jwt": super::review::service_account_token(0),
            // It must be given, although nothing on loopback presents a certificate under it.
            "kubernetes_ca_cert": super::tls::Authority::new().pem,
            "disable_local_ca_jwt": true,
        });
        self.write(&format!("auth/{mount}/config"), &config);
        let mut role = options;
        role["bound_service_account_names"] = json!(["progressdb"]);
        role["bound_service_account_namespaces"] = json!(["chat"]);
        role["token_policies"] = json!(["progressdb"]);
        self.write(&format!("auth/{mount}/role/server"), &role);
    }

    /// Ends every token that a login made.
    pub fn revoke_all(&self, mount: &str) {
        self.write(&format!("sys/leases/revoke-prefix/auth/{mount}/login"), &json!({}));
    }

    /// Makes it refuse every request until [`Self::unseal`].
    pub fn seal(&self) {
        self.write("sys/seal", &json!({}));
    }

    /// Ends [`Self::seal`].
    pub fn unseal(&self) {
        self.write("sys/unseal", &json!({ "key": self.unseal }));
    }
}

/// The one that `scripts/test-servers` made, or the one of `PROGRESSDB_TEST_VAULT`.
fn binary() -> Option<PathBuf> {
    if let Some(given) = variable("PROGRESSDB_TEST_VAULT") {
        return Some(PathBuf::from(given)).filter(|path| path.exists());
    }
    let modules = include_str!("../../servers/vault/go.mod");
    let version = modules.lines().find_map(|line| line.trim().strip_prefix("github.com/hashicorp/vault v")).unwrap();
    let home = variable("HOME").unwrap_or_default();
    Some(PathBuf::from(home).join(format!(".cache/progressdb/bin/vault-{version}"))).filter(|path| path.exists())
}
