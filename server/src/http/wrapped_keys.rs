//! For operators: the wrapped epoch keys, as a document that `progressdb kms check --wrapped-keys` reads.

use std::collections::BTreeMap;

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use base64::{Engine, prelude::BASE64_STANDARD};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::audited::written;
use super::error::Error;
use super::output;
use super::request::Request;
use crate::db::{WrappedEpoch, WrappedKeys};
use crate::model::{Commitment, Wrapped};

/// The wrapped epoch keys of a database. They open nothing without the KMS that wrapped them.
#[derive(Serialize, Deserialize, ToSchema)]
pub(super) struct WrappedKeysDocument {
    /// The id of the database, which every key is bound to: 32 hexadecimal digits.
    #[schema(example = "00112233445566778899aabbccddeeff")]
    database_id: String,
    /// Oldest epoch first. An epoch whose key moves to another KMS is listed once for each that wrapped it.
    keys: Vec<WrappedKeyDocument>,
}

/// The key of an epoch, as one KMS wrapped it.
#[derive(Serialize, Deserialize, ToSchema)]
struct WrappedKeyDocument {
    /// The number of the epoch, which the key is bound to as well.
    #[schema(example = "1")]
    epoch: String,
    /// Who wrapped it: `local`, `aws`, `vault` or `http`.
    #[schema(example = "vault")]
    provider: String,
    /// By which key, with its version where the KMS has versions.
    #[schema(example = "progressdb:v3")]
    key_id: String,
    /// The bytes of the wrapped key, in base64.
    #[schema(content_encoding = "base64")]
    wrapped: String,
    /// What the unwrapped key must match, 64 hexadecimal digits. The key does not follow from it.
    commitment: String,
}

/// Lists the wrapped epoch keys, so that a KMS can be tried with them. Plain keys are never shown. Audited.
#[utoipa::path(
    get,
    path = "/admin/encryption/wrapped-keys",
    tag = "encryption",
    responses((status = 200, description = "The keys; none if nothing is encrypted", body = WrappedKeysDocument)),
)]
pub(super) async fn get_wrapped_keys(request: Request) -> Result<Response, Error> {
    written().await?;
    let document = WrappedKeysDocument::of(&request.db()?.wrapped_keys().await?);
    tracing::info!(target: "audit", event = "admin.wrapped_keys_read", keys = document.keys.len());
    written().await?;
    let mut response = output::json(StatusCode::OK, &document);
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

impl WrappedKeysDocument {
    fn of(keys: &WrappedKeys) -> Self {
        let of_epoch = |key: &WrappedEpoch| {
            let (epoch, commitment) = (key.epoch.to_string(), hex::encode(key.commitment.0));
            let document = move |wrap: &Wrapped| WrappedKeyDocument {
                epoch: epoch.clone(),
                provider: wrap.provider.to_string(),
                key_id: wrap.key_id.clone(),
                wrapped: BASE64_STANDARD.encode(&wrap.blob),
                commitment: commitment.clone(),
            };
            key.wraps.iter().map(document).collect::<Vec<_>>()
        };
        let database_id = hex::encode(keys.database_id);
        Self { database_id, keys: keys.epochs.iter().flat_map(of_epoch).collect() }
    }
}

/// The document as JSON, for a backup.
pub fn wrapped_keys_to_json(keys: &WrappedKeys) -> serde_json::Value {
    serde_json::json!(WrappedKeysDocument::of(keys))
}

/// Reads the response of `GET /admin/encryption/wrapped-keys`; the error says where it is invalid.
pub fn parse_wrapped_keys(json: &[u8]) -> Result<WrappedKeys, String> {
    let document: WrappedKeysDocument = serde_json::from_slice(json).map_err(|error| error.to_string())?;
    let mut database_id = [0; 16];
    hex::decode_to_slice(&document.database_id, &mut database_id)
        .map_err(|_| "database_id is not 32 hexadecimal digits".to_owned())?;
    let mut epochs: BTreeMap<u32, WrappedEpoch> = BTreeMap::new();
    for (index, key) in document.keys.into_iter().enumerate() {
        let wrong = |what: &str| format!("keys[{index}].{what}");
        let epoch = key.epoch.parse().map_err(|_| wrong("epoch is not a number of an epoch"))?;
        let mut commitment = Commitment([0; 32]);
        hex::decode_to_slice(&key.commitment, &mut commitment.0)
            .map_err(|_| wrong("commitment is not 64 hexadecimal digits"))?;
        let blob = BASE64_STANDARD.decode(&key.wrapped).map_err(|_| wrong("wrapped is not base64"))?;
        let provider = key.provider.parse().map_err(|error| wrong(&format!("provider: {error}")))?;
        let row = epochs.entry(epoch).or_insert_with(|| WrappedEpoch { epoch, commitment, wraps: Vec::new() });
        if row.commitment != commitment {
            return Err(wrong("commitment is not that of the same epoch before"));
        }
        row.wraps.push(Wrapped { provider, key_id: key.key_id, blob });
    }
    Ok(WrappedKeys { database_id, epochs: epochs.into_values().collect() })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::ProviderKind;

    fn wrapped(provider: ProviderKind) -> Wrapped {
        Wrapped { provider, key_id: format!("{provider}-key"), blob: vec![0, 1, 255] }
    }

    #[test]
    fn what_is_listed_is_read_back() {
        let key = |epoch, wraps| WrappedEpoch { epoch, commitment: Commitment([7; 32]), wraps };
        let one = key(9, vec![wrapped(ProviderKind::Local)]);
        let two = key(10, vec![wrapped(ProviderKind::Vault), wrapped(ProviderKind::Aws)]);
        let keys = WrappedKeys { database_id: [0xab; 16], epochs: vec![one, two] };
        let json = serde_json::to_value(WrappedKeysDocument::of(&keys)).expect("JSON");
        assert_eq!(json["database_id"], "ab".repeat(16));
        assert_eq!((&json["keys"][0]["epoch"], &json["keys"][0]["wrapped"]), (&"9".into(), &"AAH/".into()));
        assert_eq!(parse_wrapped_keys(json.to_string().as_bytes()), Ok(keys));
    }

    #[test]
    fn what_is_no_such_document_is_refused_by_the_place() {
        let key = |epoch: &str, provider: &str, wrapped: &str, commitment: &str| {
            let key = WrappedKeyDocument {
                epoch: epoch.to_owned(),
                provider: provider.to_owned(),
                key_id: "k".to_owned(),
                wrapped: wrapped.to_owned(),
                commitment: commitment.to_owned(),
            };
            serde_json::to_string(&WrappedKeysDocument { database_id: "00".repeat(16), keys: vec![key] })
        };
        let good = "11".repeat(32);
        for (json, place) in [
            (key("one", "local", "AA==", &good), "keys[0].epoch"),
            (key("4294967296", "local", "AA==", &good), "keys[0].epoch"),
            (key("1", "gcp", "AA==", &good), "keys[0].provider"),
            (key("1", "local", "A", &good), "keys[0].wrapped"),
            (key("1", "local", "AA==", "11"), "keys[0].commitment"),
            (Ok(r#"{"database_id":"00","keys":[]}"#.to_owned()), "database_id"),
            (Ok(r#"{"error":"unauthorized"}"#.to_owned()), "database_id"),
        ] {
            let refusal = parse_wrapped_keys(json.expect("JSON").as_bytes()).expect_err(place);
            assert!(refusal.contains(place), "{refusal}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_refused_or_read(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(parse_wrapped_keys(&bytes).is_err());
        }
    }
}
