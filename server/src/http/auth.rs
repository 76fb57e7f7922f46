//! Authentication: API keys and roles, user ids and their signatures.
//!
//! A signature is the lowercase hex HMAC-SHA256 of the user id under a signing key, taken as the bytes it is written
//! with. Keys are compared by SHA-256 digest and signatures in constant time, so neither leaks through timing; plain
//! API keys are not kept. What a role may reach is decided on the raw path, the same text that the router matches.

use std::borrow::Cow;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, PoisonError, RwLock};

use aws_lc_rs::{digest, hmac};
use axum::http::{HeaderMap, HeaderName, header};
use secrecy::{ExposeSecret, SecretString};

use super::error::Error;
use super::settings::ApiKeys;
use crate::model::UserId;

pub(super) const API_KEY: HeaderName = HeaderName::from_static("x-api-key");
pub(super) const USER_ID: HeaderName = HeaderName::from_static("x-user-id");
pub(super) const USER_SIGNATURE: HeaderName = HeaderName::from_static("x-user-signature");

/// What an API key stands for; a key in several lists has the strongest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Role {
    /// Browsers: a signed user, `/frontend` only.
    Frontend,
    /// The application's servers: any user.
    Backend,
    /// Operators: `/admin` and `/metrics` only.
    Admin,
}

impl Role {
    /// Whether this role may use `path`, whether or not that exists.
    pub(super) fn may_reach(self, path: &str) -> bool {
        match self {
            Self::Frontend => path.starts_with("/frontend"),
            Self::Backend => path.starts_with("/frontend") || path.starts_with("/backend"),
            Self::Admin => path.starts_with("/admin") || path == "/metrics",
        }
    }
}

/// One configured API key: its role, and its number for the rate limit, which no other key gets while the process runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Key {
    pub(super) number: u32,
    pub(super) role: Role,
}

/// The user of a request as far as the middleware knows it.
#[derive(Clone, Debug)]
pub(super) enum Access {
    /// A frontend key with a valid signature.
    Signed(UserId),
    /// A backend key: the handler finds out for whom.
    Backend,
    /// An admin key, or a path that needs none.
    Unbound,
}

/// The keys in force; clones share them.
#[derive(Clone)]
pub struct KeysInForce(Arc<RwLock<Arc<Auth>>>);

impl KeysInForce {
    pub(super) fn new(keys: &ApiKeys) -> Self {
        Self(Arc::new(RwLock::new(Arc::new(Auth::new(keys)))))
    }

    pub(super) fn get(&self) -> Arc<Auth> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Replaces the keys. A request that has begun keeps the key that it came with.
    pub fn replace(&self, keys: &ApiKeys) {
        let mut auth = self.0.write().unwrap_or_else(PoisonError::into_inner);
        *auth = Arc::new(auth.renewed(keys));
    }
}

/// The configured keys.
pub(super) struct Auth {
    keys: HashMap<[u8; 32], Key>,
    next_number: u32,
    signing: Vec<hmac::Key>,
}

impl Auth {
    pub(super) fn new(config: &ApiKeys) -> Self {
        Self { keys: HashMap::new(), next_number: 0, signing: Vec::new() }.renewed(config)
    }

    /// The keys of this configuration; those that were there before keep their numbers, and with them their buckets.
    pub(super) fn renewed(&self, config: &ApiKeys) -> Self {
        let mut keys = HashMap::new();
        let mut next_number = self.next_number;
        let lists =
            [(Role::Admin, &config.admin), (Role::Backend, &config.backend), (Role::Frontend, &config.frontend)];
        for (role, secrets) in lists {
            for secret in secrets {
                let digest = digest_of(secret.expose_secret().as_bytes());
                let number = self.keys.get(&digest).map_or(next_number, |key| key.number);
                if let Entry::Vacant(entry) = keys.entry(digest) {
                    entry.insert(Key { number, role });
                    next_number += u32::from(number == next_number);
                }
            }
        }
        let signing = |secret: &SecretString| hmac::Key::new(hmac::HMAC_SHA256, secret.expose_secret().as_bytes());
        Self { keys, next_number, signing: config.signing.iter().map(signing).collect() }
    }

    /// The key that the request carries, if it is one of ours.
    pub(super) fn identify(&self, headers: &HeaderMap) -> Option<Key> {
        self.keys.get(&digest_of(presented_key(headers)?)).copied()
    }

    /// The user whose id and signature the request carries.
    pub(super) fn verify(&self, headers: &HeaderMap) -> Result<UserId, Error> {
        let signature = headers.get(USER_SIGNATURE).ok_or(Error::SignatureRequired)?.as_bytes();
        let user = user_header(headers).ok_or(Error::UserIdMissing)?;
        let signature = unhex(signature).ok_or(Error::InvalidSignature)?;
        if !self.signing.iter().any(|key| hmac::verify(key, user.as_bytes(), &signature).is_ok()) {
            return Err(Error::InvalidSignature);
        }
        UserId::of_request(&user).map_err(Error::InvalidUserId)
    }

    /// A signature for `user`, by the first signing key.
    pub(super) fn sign(&self, user: &UserId) -> Result<String, Error> {
        let key = self.signing.first().ok_or(Error::SigningKeysMissing)?;
        Ok(hex::encode(hmac::sign(key, user.as_str().as_bytes())))
    }
}

fn digest_of(bytes: &[u8]) -> [u8; 32] {
    let mut digest = [0; 32];
    digest.copy_from_slice(digest::digest(&digest::SHA256, bytes).as_ref());
    digest
}

/// `Authorization: Bearer K` wins; anything else in that header falls through to `X-API-Key`.
fn presented_key(headers: &HeaderMap) -> Option<&[u8]> {
    let bearer = headers.get(header::AUTHORIZATION).and_then(|value| bearer(value.as_bytes()));
    bearer.or_else(|| headers.get(API_KEY).map(|value| value.as_bytes().trim_ascii())).filter(|key| !key.is_empty())
}

/// The second of exactly two fields, if the first is the scheme.
fn bearer(value: &[u8]) -> Option<&[u8]> {
    let mut fields = value.split(u8::is_ascii_whitespace).filter(|field| !field.is_empty());
    match (fields.next(), fields.next(), fields.next()) {
        (Some(scheme), Some(key), None) if scheme.eq_ignore_ascii_case(b"bearer") => Some(key),
        _ => None,
    }
}

/// The text of `X-User-ID`, unless there is none.
///
/// Bytes that are not UTF-8 are taken as Latin-1: Python's http.client sends header text that way, so the user `José`
/// of the Python client is the `José` of every other.
pub(super) fn user_header(headers: &HeaderMap) -> Option<Cow<'_, str>> {
    let bytes = headers.get(USER_ID)?.as_bytes().trim_ascii();
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => Cow::Borrowed(text),
        Err(_) => Cow::Owned(bytes.iter().copied().map(char::from).collect()),
    };
    Some(text).filter(|text| !text.is_empty())
}

/// 32 bytes from 64 lowercase digits; clients of older servers rely on uppercase being refused.
fn unhex(text: &[u8]) -> Option<[u8; 32]> {
    if text.iter().any(u8::is_ascii_uppercase) {
        return None;
    }
    let mut bytes = [0; 32];
    hex::decode_to_slice(text, &mut bytes).ok()?;
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    const USER1: &str = "1c0d39859b33b032c6a315790e70f92dc8738c4575026f89b0d5325e2e34920b";
    const USER_123: &str = "3c6f2ca6e61bab3dc2d986d97ed09f77faa2bacb9b26ce8efc077a49716a9750";

    fn secrets(keys: &[&str]) -> Vec<SecretString> {
        keys.iter().map(|key| SecretString::from(*key)).collect()
    }

    fn auth(signing: &[&str]) -> Auth {
        Auth::new(&ApiKeys {
            backend: secrets(&["sk_example", "both"]),
            frontend: secrets(&["pk_example", "both", "all"]),
            admin: secrets(&["admin_example", "all"]),
            signing: secrets(signing),
        })
    }

    fn headers(pairs: &[(HeaderName, &[u8])]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.clone(), HeaderValue::from_bytes(value).unwrap())).collect()
    }

    #[test]
    fn signatures_match_the_published_vectors() {
        let auth = auth(&["sign_example"]);
        for (user, signature) in [("user1", USER1), ("user-123", USER_123)] {
            let user = UserId::parse(user).unwrap();
            assert_eq!(auth.sign(&user).unwrap(), signature);
            let signed = headers(&[(USER_ID, user.as_str().as_bytes()), (USER_SIGNATURE, signature.as_bytes())]);
            assert_eq!(auth.verify(&signed).unwrap(), user);
        }
    }

    #[test]
    fn any_signing_key_verifies_and_the_first_signs() {
        let rotated = auth(&["new", "sign_example"]);
        let signed = headers(&[(USER_ID, b"user1"), (USER_SIGNATURE, USER1.as_bytes())]);
        assert!(rotated.verify(&signed).is_ok());
        let user = UserId::parse("user1").unwrap();
        assert_eq!(rotated.sign(&user).unwrap(), auth(&["new"]).sign(&user).unwrap());
        assert!(matches!(auth(&[]).sign(&user), Err(Error::SigningKeysMissing)));
    }

    #[test]
    fn a_signature_that_is_not_exactly_right_is_refused() {
        let auth = auth(&["sign_example"]);
        let verify = |user: &[u8], signature: &[u8]| {
            auth.verify(&headers(&[(USER_ID, user), (USER_SIGNATURE, signature)])).expect_err("refused")
        };
        for signature in [USER1.to_uppercase().as_str(), USER_123, &USER1[..62], "", "zz"] {
            assert!(matches!(verify(b"user1", signature.as_bytes()), Error::InvalidSignature), "{signature}");
        }
        assert!(matches!(verify(b"", USER1.as_bytes()), Error::UserIdMissing));
        assert!(matches!(auth.verify(&headers(&[(USER_ID, b"user1")])), Err(Error::SignatureRequired)));
    }

    #[test]
    fn latin_1_and_utf_8_spell_the_same_user() {
        let name = |bytes| user_header(&headers(&[(USER_ID, bytes)])).map(Cow::into_owned);
        assert_eq!(name(b"Jos\xe9"), Some("José".to_owned()));
        assert_eq!(name("José".as_bytes()), Some("José".to_owned()));
        assert_eq!(name(b" user1 "), Some("user1".to_owned()));
    }

    #[test]
    fn keys_come_in_two_headers_and_the_strongest_role_wins() {
        let auth = auth(&[]);
        let role = |pairs: &[(HeaderName, &[u8])]| auth.identify(&headers(pairs)).map(|key| key.role);
        assert_eq!(role(&[(header::AUTHORIZATION, b"Bearer sk_example")]), Some(Role::Backend));
        assert_eq!(role(&[(header::AUTHORIZATION, b"bEARER \t pk_example ")]), Some(Role::Frontend));
        assert_eq!(role(&[(API_KEY, b" admin_example ")]), Some(Role::Admin));
        assert_eq!(role(&[(API_KEY, b"both")]), Some(Role::Backend));
        assert_eq!(role(&[(API_KEY, b"all")]), Some(Role::Admin));
        let both = [(header::AUTHORIZATION, &b"Basic x"[..]), (API_KEY, b"sk_example")];
        assert_eq!(role(&both), Some(Role::Backend));
        let both = [(header::AUTHORIZATION, &b"Bearer nobody"[..]), (API_KEY, b"sk_example")];
        assert_eq!(role(&both), None);
        assert_eq!(role(&[(API_KEY, b"")]), None);
        assert_eq!(role(&[]), None);
    }

    #[test]
    fn keys_that_stay_keep_their_numbers_and_new_ones_have_fresh_ones() {
        let before = Auth::new(&ApiKeys { backend: secrets(&["a", "b"]), ..ApiKeys::default() });
        let after = before.renewed(&ApiKeys {
            admin: secrets(&["c"]),
            backend: secrets(&["b", "d", "b"]),
            ..ApiKeys::default()
        });
        let again = after.renewed(&ApiKeys { backend: secrets(&["a"]), ..ApiKeys::default() });
        let number = |auth: &Auth, key: &str| {
            auth.identify(&headers(&[(API_KEY, key.as_bytes())])).map(|key| (key.number, key.role))
        };
        let numbers = |auth: &Auth| ["a", "b", "c", "d"].map(|key| number(auth, key));
        let (admin, backend) = (Role::Admin, Role::Backend);
        assert_eq!(numbers(&before), [Some((0, backend)), Some((1, backend)), None, None]);
        assert_eq!(numbers(&after), [None, Some((1, backend)), Some((2, admin)), Some((3, backend))]);
        assert_eq!(numbers(&again), [Some((4, backend)), None, None, None]);
    }

    #[test]
    fn each_role_has_its_paths() {
        let reach = |path| [Role::Frontend, Role::Backend, Role::Admin].map(|role| role.may_reach(path));
        assert_eq!(reach("/frontend/v1/threads"), [true, true, false]);
        assert_eq!(reach("/backend/v1/sign"), [false, true, false]);
        assert_eq!(reach("/admin/stats"), [false, false, true]);
        assert_eq!(reach("/metrics"), [false, false, true]);
        assert_eq!(reach("/elsewhere"), [false, false, false]);
    }
}
