//! Whether a server accepts the API keys of its Secret: each of them is tried by a request that reads next to nothing. Only
//! a key that the server does not accept gets 401 with the code `unauthorized`.

use std::{collections::BTreeMap, net::IpAddr};

use k8s_openapi::api::core::v1::Secret;
use serde_json::Value;

use crate::{
    objects::{config::KEY_ENTRIES, keys_of},
    observe::{ApiRequest, Probe},
    probe::signature,
};

/// A user without threads, so that a list of them is empty.
const USER: &str = "progressdb-operator";
/// A request that needs an admin key.
const STATUS: &str = "/admin/encryption/status";
/// A request that needs a backend or frontend key.
const THREADS: &str = "/frontend/v1/threads?limit=1";
/// The wrapped keys of the store, which newer servers show.
const WRAPPED_KEYS: &str = "/admin/encryption/wrapped-keys";

/// The most bytes of wrapped keys: all annotations of a pod together may have 256 KiB.
const MAX_WRAPPED_KEYS: usize = 128 * 1024;

/// Whether a server accepts the keys of a Secret.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// It accepts all of them.
    Accepted,
    /// It does not accept those of these entries.
    Refused(Vec<&'static str>),
    /// There was no response, or one that says nothing about the keys.
    Unknown,
}

/// The API keys of a Secret, for as long as a server is probed with them.
pub(super) struct Keys(BTreeMap<&'static str, Vec<String>>);

impl Keys {
    pub(super) fn of(secret: &Secret) -> Self {
        let data = secret.data.as_ref();
        let entry = |name: &'static str| Some((name, keys_of(&data?.get(name)?.0)));
        Self(KEY_ENTRIES.into_iter().filter_map(entry).collect())
    }

    fn all(&self, entry: &str) -> &[String] {
        self.0.get(entry).map(Vec::as_slice).unwrap_or_default()
    }

    /// Tries every key.
    pub(super) async fn try_all(&self, probe: &Probe, address: IpAddr) -> Verdict {
        let mut refused = Vec::new();
        for (entry, request) in self.requests() {
            match accepts(entry, (probe.api)(address, request).await) {
                Some(true) => {}
                Some(false) => refused.push(entry),
                None => return Verdict::Unknown,
            }
        }
        refused.dedup();
        if refused.is_empty() { Verdict::Accepted } else { Verdict::Refused(refused) }
    }

    /// A request that tries each key. A signing key needs a frontend key beside it, and a frontend key a signing key.
    fn requests(&self) -> Vec<(&'static str, ApiRequest)> {
        let (frontend, signing) = (self.all("frontend"), self.all("signing"));
        let plain =
            |entry: &'static str, path| self.all(entry).iter().map(move |key| (entry, request(path, key, None)));
        let signed = |key: &String, signing: &String| request(THREADS, key, Some(signing));
        let by_frontend = frontend.iter().filter_map(|key| Some(("frontend", signed(key, signing.first()?))));
        let by_signing = signing.iter().filter_map(|key| Some(("signing", signed(frontend.first()?, key))));
        plain("admin", STATUS).chain(plain("backend", THREADS)).chain(by_frontend).chain(by_signing).collect()
    }

    /// The wrapped keys of the store, as the server shows them; none from one that does not, or without an admin key.
    pub(super) async fn wrapped_keys(&self, probe: &Probe, address: IpAddr) -> Option<Wrapped> {
        let Some(key) = self.all("admin").first() else { return Some(Wrapped::NotShown) };
        let (status, body) = (probe.api)(address, request(WRAPPED_KEYS, key, None)).await?;
        match status {
            200 => Some(shortened(&body).map_or(Wrapped::NotShown, Wrapped::Shown)),
            400..=499 => Some(Wrapped::NotShown),
            _ => None,
        }
    }

    /// The key of the KMS that wraps the newest epoch, such as `progressdb:v3`.
    pub(super) async fn kms_key(&self, probe: &Probe, address: IpAddr) -> Option<String> {
        let key = self.all("admin").first()?;
        let (_, body) = (probe.api)(address, request(STATUS, key, None)).await.filter(|(status, _)| *status == 200)?;
        let status: Value = serde_json::from_str(&body).ok()?;
        let newest = status["epochs"].as_array()?.last()?["wrapped_by"].as_str()?.to_owned();
        let provider = status["kms"]["provider"].as_str()?;
        // While keys move from one KMS to another, both are named.
        let mut named = newest.split(", ").filter_map(|one| one.strip_prefix(provider)?.strip_prefix(':'));
        named.next().map(str::to_owned)
    }
}

/// What is known of the wrapped keys of a store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wrapped {
    /// The document, as `progressdb kms check --wrapped-keys` reads it.
    Shown(String),
    /// The server does not show them: it is an older one, or there is no admin key.
    NotShown,
}

/// The newest keys, as many as an annotation holds; `None` if this is no such document.
fn shortened(document: &str) -> Option<String> {
    let mut document: Value = serde_json::from_str(document).ok()?;
    let keys = document["keys"].as_array()?.clone();
    let sizes = keys.iter().rev().scan(0, |sum, key| {
        *sum += key.to_string().len() + 1;
        Some(*sum)
    });
    let fitting = sizes.take_while(|sum| *sum <= MAX_WRAPPED_KEYS).count();
    document["keys"] = keys[keys.len() - fitting..].into();
    (fitting > 0).then(|| document.to_string())
}

fn request(path: &'static str, key: &str, signing: Option<&String>) -> ApiRequest {
    let mut headers = vec![("X-API-Key", key.to_owned())];
    if path == THREADS {
        headers.push(("X-User-ID", USER.to_owned()));
    }
    if let Some(signing) = signing {
        headers.push(("X-User-Signature", signature(signing, USER)));
    }
    ApiRequest { path, headers }
}

/// Whether a response says that the key of this entry is accepted; `None` if it says nothing about the key.
fn accepts(entry: &str, response: Option<(u16, String)>) -> Option<bool> {
    let (status, body) = response?;
    let code = serde_json::from_str::<Value>(&body).ok().and_then(|body| body["code"].as_str().map(str::to_owned));
    match (status, code.as_deref()) {
        // The other key of the request is wrong, which its own request finds.
        (401, Some("invalid_signature")) => Some(entry != "signing"),
        (401, _) => Some(entry == "signing"),
        (429 | 500.., _) => None,
        _ => Some(true),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use futures::FutureExt;
    use k8s_openapi::ByteString;
    use serde_json::json;

    use super::*;

    fn keys(entries: &[(&str, &str)]) -> Keys {
        let data = entries.iter().map(|(name, keys)| ((*name).to_owned(), ByteString(keys.as_bytes().to_vec())));
        Keys::of(&Secret { data: Some(data.collect()), ..Secret::default() })
    }

    /// A server that knows the keys `a`, `b`, `f`, `g` and signs with `s`.
    fn probe() -> Probe {
        let refusal = |code: &str| (401, json!({ "code": code }).to_string());
        let api = move |_: IpAddr, request: ApiRequest| {
            let header =
                |name: &str| request.headers.iter().find(|(known, _)| *known == name).map(|(_, value)| value.clone());
            let key = header("X-API-Key").unwrap();
            let signed = super::request(THREADS, &key, Some(&"s".to_owned())).headers.pop().map(|(_, value)| value);
            let response = match key.as_str() {
                "a" | "b" => (200, "{}".to_owned()),
                "f" | "g" if header("X-User-Signature") == signed => (200, "{}".to_owned()),
                "f" | "g" => refusal("invalid_signature"),
                "busy" => (503, String::new()),
                _ => refusal("unauthorized"),
            };
            async move { Some(response) }.boxed()
        };
        Probe { readiness: Arc::new(|_| async { None }.boxed()), api: Arc::new(api) }
    }

    async fn verdict(entries: &[(&str, &str)]) -> Verdict {
        keys(entries).try_all(&probe(), IpAddr::from([127, 0, 0, 1])).await
    }

    #[test]
    fn of_many_wrapped_keys_the_newest_are_tried() {
        let keys: Vec<Value> = (0..2_000).map(|epoch| json!({ "epoch": epoch, "wrapped": "a".repeat(200) })).collect();
        let short: Value =
            serde_json::from_str(&shortened(&json!({ "database_id": "00", "keys": keys }).to_string()).unwrap())
                .unwrap();
        let kept = short["keys"].as_array().unwrap();
        assert!(kept.len() < 1_000 && short.to_string().len() < 2 * MAX_WRAPPED_KEYS, "{}", kept.len());
        assert_eq!((kept.last(), &short["database_id"]), (keys.last(), &json!("00")));
        // A store with nothing in it has nothing to try.
        assert_eq!((shortened(r#"{"keys":[]}"#), shortened("no JSON")), (None, None));
    }

    #[tokio::test]
    async fn each_key_is_judged_by_itself() {
        let good = [("admin", "a"), ("backend", "# ours\nb\n"), ("frontend", "f\ng"), ("signing", "s")];
        assert_eq!(verdict(&good).await, Verdict::Accepted);
        for (entry, name) in [(0, "admin"), (1, "backend"), (2, "frontend"), (3, "signing")] {
            let mut entries = good;
            entries[entry].1 = "new";
            assert_eq!(verdict(&entries).await, Verdict::Refused(vec![name]), "{name}");
        }
        assert_eq!(verdict(&[("backend", "b\nnew\nother")]).await, Verdict::Refused(vec!["backend"]));
        assert_eq!(verdict(&[("admin", "a"), ("backend", "busy")]).await, Verdict::Unknown);
        let none = Probe { api: Arc::new(|_, _| async { None }.boxed()), ..probe() };
        assert_eq!(keys(&good).try_all(&none, IpAddr::from([127, 0, 0, 1])).await, Verdict::Unknown);
    }
}
