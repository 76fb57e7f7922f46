//! moto, which plays AWS KMS: the wire protocol, keys, aliases and encryption contexts.
//!
//! It forgets its keys when it ends, and enforces neither key states nor credentials.

use std::net::SocketAddr;
use std::process::Command;

use serde_json::{Value, json};

use super::process::Process;
use crate::http::{Connection, Request};
use crate::machine::python;

/// The region of every key.
pub const REGION: &str = "eu-central-1";

/// A running moto.
pub struct Moto {
    /// Where it listens.
    pub addr: SocketAddr,
    pub(super) process: Process,
}

impl Moto {
    /// `None` where there is none; `test` is then skipped.
    pub fn start(test: &str) -> Option<Self> {
        let mut command = Command::new(python(test, "moto.moto_server")?);
        command.args(["-c", include_str!("../../servers/serve_aws.py")]);
        command.env("PYTHONDONTWRITEBYTECODE", "1");
        let (process, words) = Process::start(command).expect("moto starts");
        Some(Self { addr: words[1].parse().unwrap(), process })
    }

    /// Calls `TrentService.ACTION` with made-up credentials.
    #[track_caller]
    pub fn call(&self, action: &str, body: &Value) -> Value {
        let credential = format!("test/20200101/{REGION}/kms/aws4_request");
        let authorization = format!("AWS4-HMAC-SHA256 Credential={credential}, SignedHeaders=host, Signature=00");
        let request = Request::new("POST", "/")
            .header("Authorization", authorization)
            .header("X-Amz-Target", format!("TrentService.{action}"))
            .header("Content-Type", "application/x-amz-json-1.1")
            .body(body.to_string());
        let answer = Connection::open(self.addr).unwrap().send(&request).unwrap();
        answer.check_status(200);
        serde_json::from_slice(&answer.body).unwrap_or_default()
    }

    /// The ARN of a new key.
    pub fn create_key(&self) -> String {
        self.call("CreateKey", &json!({}))["KeyMetadata"]["Arn"].as_str().unwrap().to_owned()
    }

    /// The ARNs of a new multi-Region key: here, and that of its replica.
    pub fn create_key_in_two_regions(&self) -> (String, String) {
        let arn = |reply: &Value, name: &str| reply[name]["Arn"].as_str().unwrap().to_owned();
        let here = arn(&self.call("CreateKey", &json!({ "MultiRegion": true })), "KeyMetadata");
        let id = here.rsplit('/').next().unwrap();
        let request = json!({ "KeyId": id, "ReplicaRegion": "us-east-1" });
        let there = arn(&self.call("ReplicateKey", &request), "ReplicaKeyMetadata");
        (here, there)
    }

    /// Names a key.
    pub fn create_alias(&self, name: &str, key: &str) {
        self.call("CreateAlias", &json!({ "AliasName": name, "TargetKeyId": key }));
    }

    /// Gives a name to another key.
    pub fn move_alias(&self, name: &str, key: &str) {
        self.call("UpdateAlias", &json!({ "AliasName": name, "TargetKeyId": key }));
    }
}

/// A file of shared credentials.
pub fn credentials(access_key: &str) -> String {
    format!("[default]\naws_access_key_id = {access_key}\naws_secret_access_key = {SECRET_ACCESS_KEY}\n")
}

/// Must never be seen in any output.
pub const SECRET_ACCESS_KEY: &str = "wJalrXUtnFEMIbPxRfiCYEXAMPLEKEY";
