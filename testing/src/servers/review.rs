//! The part of a Kubernetes API server that tells Vault to which service account a token belongs.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use serde_json::json;

use super::listen::{Call, Listener, Reply};

/// A running server that reviews tokens.
pub struct TokenReview {
    listener: Listener,
    accepted: Arc<Mutex<String>>,
}

impl TokenReview {
    /// Knows one token, as that of service account `progressdb` in namespace `chat`.
    pub fn start(token: &str) -> Self {
        let accepted = Arc::new(Mutex::new(token.to_owned()));
        let mine = Arc::clone(&accepted);
        let listener = Listener::start(None, move |call| review(&call, &mine.lock().unwrap()));
        Self { listener, accepted }
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.listener.addr
    }

    /// Knows another token from now on.
    pub fn accept(&self, token: &str) {
        *self.accepted.lock().unwrap() = token.to_owned();
    }
}

fn review(call: &Call, accepted: &str) -> Reply {
    if call.target != "/apis/authentication.k8s.io/v1/tokenreviews" {
        return Reply::text(404, "not found");
    }
    let mut review = call.json();
    review["status"] = if review["spec"]["token"] == json!(accepted) {
        let groups = ["system:serviceaccounts", "system:serviceaccounts:chat"];
        let user = json!({ "username": "system:serviceaccount:chat:progressdb", "uid": "1", "groups": groups });
        json!({ "authenticated": true, "user": user })
    } else {
        json!({ "authenticated": false, "error": "invalid bearer token" })
    };
    Reply::json(201, &review)
}

/// A token in the form of a service account's, which Vault looks into before it asks; `number` tells tokens apart.
pub fn service_account_token(number: u32) -> String {
    use base64::Engine as _;
    let encode = |text: String| base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(text);
    let claims = json!({
        "iss": "kubernetes/serviceaccount",
        "sub": "system:serviceaccount:chat:progressdb",
        "kubernetes.io/serviceaccount/namespace": "chat",
        "kubernetes.io/serviceaccount/service-account.name": "progressdb",
        "kubernetes.io/serviceaccount/service-account.uid": "1",
        "number": number,
    });
    let header = json!({ "alg": "RS256", "typ": "JWT" });
    format!("{}.{}.{}", encode(header.to_string()), encode(claims.to_string()), encode("signature".to_owned()))
}
