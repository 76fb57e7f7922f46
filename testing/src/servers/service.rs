//! A key management service that speaks the protocol of `prgkms`, with a bearer token.
//!
//! Like the old service it answers failures with 500 and a text, and `POST /deks` replaces a key without asking.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::listen::{Call, Listener, Reply};

/// The key that exists from the start.
pub const KEY: &str = "progressdb";

struct State {
    tokens: Vec<String>,
    /// Every version of each key, the newest last.
    keys: BTreeMap<String, Vec<[u8; 32]>>,
    /// Whether replies say which version was used.
    versions: bool,
}

/// A running key management service.
pub struct Service {
    listener: Listener,
    state: Arc<Mutex<State>>,
}

impl Service {
    /// Has one key and accepts one token.
    pub fn start(token: &str) -> Self {
        let keys = BTreeMap::from([(KEY.to_owned(), vec![random()])]);
        let state = Arc::new(Mutex::new(State { tokens: vec![token.to_owned()], keys, versions: false }));
        let mine = Arc::clone(&state);
        Self { listener: Listener::start(None, move |call| mine.lock().unwrap().answer(&call)), state }
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.listener.addr
    }

    /// Accepts another token from now on.
    pub fn accept(&self, token: &str) {
        self.state.lock().unwrap().tokens = vec![token.to_owned()];
    }

    /// Accepts one token more from now on.
    pub fn accept_as_well(&self, token: &str) {
        self.state.lock().unwrap().tokens.push(token.to_owned());
    }

    /// Deletes every key.
    pub fn delete_key(&self) {
        self.state.lock().unwrap().keys.clear();
    }

    /// Says from now on which version of a key was used.
    pub fn tell_versions(&self) {
        self.state.lock().unwrap().versions = true;
    }

    /// Makes a new version of the key.
    pub fn rotate_key(&self) {
        self.state.lock().unwrap().keys.get_mut(KEY).unwrap().push(random());
    }
}

impl State {
    fn answer(&mut self, call: &Call) -> Reply {
        if call.method == "GET" && call.target == "/healthz" {
            return Reply::text(200, "OK");
        }
        let token = call.header("authorization").and_then(|value| value.strip_prefix("Bearer "));
        if !self.tokens.iter().any(|accepted| token == Some(accepted)) {
            return Reply::text(401, "who are you\n");
        }
        let body = call.json();
        let Some(name) = body["key_id"].as_str() else { return Reply::text(400, "invalid request\n") };
        if call.target == "/deks" {
            self.keys.insert(name.to_owned(), vec![random()]);
            return Reply::json(201, &json!({ "key_id": name }));
        }
        let Some(versions) = self.keys.get(name) else {
            return Reply::text(500, &format!("key not found: {name}\n"));
        };
        let (key, bytes) = match call.target.as_str() {
            "/encrypt" => ("ciphertext", field(&body, "plaintext").map(|plain| encrypt(versions, &plain))),
            "/decrypt" => match field(&body, "ciphertext").map(|sealed| decrypt(versions, sealed)) {
                Some(None) => return Reply::text(500, "cipher: message authentication failed\n"),
                opened => ("plaintext", opened.flatten()),
            },
            _ => return Reply::text(404, "404 page not found\n"),
        };
        let Some(bytes) = bytes else { return Reply::text(400, "invalid base64\n") };
        let mut reply = json!({ key: STANDARD.encode(bytes) });
        if self.versions {
            reply["kek_version"] = json!(versions.len().to_string());
        }
        Reply::json(200, &reply)
    }
}

fn random() -> [u8; 32] {
    let mut bytes = [0; 32];
    aws_lc_rs::rand::fill(&mut bytes).unwrap();
    bytes
}

fn field(body: &Value, name: &str) -> Option<Vec<u8>> {
    STANDARD.decode(body[name].as_str()?).ok()
}

/// The number of the version, the nonce, the ciphertext.
fn encrypt(versions: &[[u8; 32]], plain: &[u8]) -> Vec<u8> {
    let key = RandomizedNonceKey::new(&AES_256_GCM, versions.last().unwrap()).unwrap();
    let mut sealed = plain.to_vec();
    let nonce = key.seal_in_place_append_tag(Aad::empty(), &mut sealed).unwrap();
    [&[u8::try_from(versions.len()).unwrap()][..], nonce.as_ref(), &sealed].concat()
}

fn decrypt(versions: &[[u8; 32]], sealed: Vec<u8>) -> Option<Vec<u8>> {
    let (version, sealed) = sealed.split_first()?;
    let key = versions.get(usize::from(*version).checked_sub(1)?)?;
    let nonce = Nonce::try_assume_unique_for_key(sealed.get(..NONCE_LEN)?).ok()?;
    let mut opened = sealed[NONCE_LEN..].to_vec();
    let key = RandomizedNonceKey::new(&AES_256_GCM, key).unwrap();
    Some(key.open_in_place(nonce, Aad::empty(), &mut opened).ok()?.to_vec())
}
