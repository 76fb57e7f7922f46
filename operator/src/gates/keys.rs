//! The API keys that a gate calls with, and how a user is signed.

use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client};

use super::{Target, registry::repeated};
use crate::{
    error::{Error, chain},
    objects::keys_of,
    probe::signature,
};

/// The first key of each kind, for as long as a gate runs.
pub(super) struct Keys {
    pub(super) backend: Option<String>,
    pub(super) frontend: Option<String>,
    /// All of them: a server signs with the first that it knows.
    pub(super) signing: Vec<String>,
}

impl Keys {
    /// Reads the Secret of a target.
    pub(super) async fn read(client: &Client, target: &Target) -> Result<Self, String> {
        let secrets: Api<Secret> = Api::namespaced(client.clone(), &target.namespace);
        let failed = |error| chain(&Error::new(format!("reading the Secret {}", target.secret), error));
        let secret = repeated(|| secrets.get(&target.secret)).await.map_err(failed)?;
        Ok(Self::of(&secret))
    }

    pub(super) fn of(secret: &Secret) -> Self {
        let all = |entry: &str| {
            secret.data.as_ref().and_then(|data| data.get(entry)).map(|keys| keys_of(&keys.0)).unwrap_or_default()
        };
        let first = |entry: &str| all(entry).into_iter().next();
        Self { backend: first("backend"), frontend: first("frontend"), signing: all("signing") }
    }

    /// The headers of a user who writes, or why there are none. Only a backend may remove for good what a gate makes; its key
    /// speaks for any user.
    pub(super) fn writing(&self, user: &str, target: &Target) -> Result<Headers, String> {
        let key = self.backend.as_ref().ok_or_else(|| {
            format!(
                "the Secret {} has no backend key, without which no gate can call the server: add one",
                target.secret
            )
        })?;
        Ok(vec![("X-API-Key", key.clone()), ("X-User-ID", user.to_owned())])
    }

    /// The headers of a user who only reads: without a backend key those of a browser.
    pub(super) fn reading(&self, user: &str, target: &Target) -> Result<Headers, String> {
        match (&self.backend, &self.frontend, self.signing.first()) {
            (None, Some(frontend), Some(signing)) => Ok(signed(frontend, user, &signature(signing, user))),
            _ => self.writing(user, target),
        }
    }
}

/// Names and values.
pub(super) type Headers = Vec<(&'static str, String)>;

/// The headers of a browser.
pub(super) fn signed(frontend: &str, user: &str, signature: &str) -> Headers {
    let headers = [("X-API-Key", frontend), ("X-User-ID", user), ("X-User-Signature", signature)];
    headers.map(|(name, value)| (name, value.to_owned())).into()
}

#[cfg(test)]
mod tests {
    use k8s_openapi::ByteString;

    use super::*;

    fn keys(entries: &[(&str, &str)]) -> Keys {
        let data = entries.iter().map(|(name, keys)| ((*name).to_owned(), ByteString(keys.as_bytes().to_vec())));
        Keys::of(&Secret { data: Some(data.collect()), ..Secret::default() })
    }

    #[test]
    fn a_backend_key_speaks_for_a_user_and_a_frontend_key_for_one_who_is_signed_and_reads() {
        let target = Target::of_pod([127, 0, 0, 1].into(), "ns", "keys", Vec::new());
        let owned = |headers: &[(&'static str, &str)]| {
            Some(headers.iter().map(|(name, value)| (*name, (*value).to_owned())).collect::<Headers>())
        };
        let both = |keys: &Keys| (keys.writing("u", &target).ok(), keys.reading("u", &target).ok());
        let backend = owned(&[("X-API-Key", "b"), ("X-User-ID", "u")]);
        let all = keys(&[("backend", "# ours\nb\nc"), ("frontend", "f"), ("signing", "s")]);
        assert_eq!(both(&all), (backend.clone(), backend));
        let by_hand = "a39dbf09a0ab0967399aff34357b314fd2b82492517f45de8f6120a963b14a67";
        let browser = owned(&[("X-API-Key", "f"), ("X-User-ID", "u"), ("X-User-Signature", by_hand)]);
        assert_eq!(both(&keys(&[("frontend", "f"), ("signing", "s\nt")])), (None, browser));
        assert_eq!(both(&keys(&[("frontend", "f")])), (None, None));
        assert_eq!(both(&keys(&[("admin", "a")])), (None, None));
    }
}
