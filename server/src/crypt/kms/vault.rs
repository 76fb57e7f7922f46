//! The transit engine of Vault or OpenBao.
//!
//! The context travels inside the plaintext and is compared after decryption: bound as associated data it could not be
//! rewrapped by Vault's own means. What Vault gives is kept as it is, `vault:v3:…`; the key id is the name of the key
//! with that version, `progressdb:v3`.

mod session;

use std::sync::atomic::{AtomicBool, Ordering};

use reqwest::RequestBuilder;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use zeroize::Zeroizing;

use self::session::Session;
use super::{
    super::KeyBytes,
    Context, Error, Wrapped,
    rest::{self, Refusal, Rest},
    settings,
};
use crate::outgoing::Proxies;

/// One key of one Vault.
#[derive(Debug)]
pub(crate) struct Vault {
    key: String,
    mount: String,
    server: Server,
    session: Session,
    /// Vault's policies do not allow to read the key. Remembered, so that later calls do not log in again because of
    /// it.
    unreadable: AtomicBool,
}

/// An address and a namespace.
#[derive(Debug)]
struct Server {
    rest: Rest,
    namespace: Option<String>,
}

/// The shape of every response that is not empty.
#[derive(Deserialize)]
struct Response<T> {
    data: T,
}

#[derive(Serialize)]
struct Encrypt<'a> {
    plaintext: &'a str,
}

#[derive(Deserialize)]
struct Encrypted {
    ciphertext: String,
}

#[derive(Serialize)]
struct Decrypt<'a> {
    ciphertext: &'a str,
}

#[derive(Deserialize)]
struct Decrypted {
    plaintext: String,
}

#[derive(Deserialize)]
struct Key {
    latest_version: u64,
}

impl Vault {
    /// Reads the certificates.
    pub(crate) fn new(settings: settings::Vault, proxies: &Proxies) -> Result<Self, Error> {
        settings::check_key_name(&settings.key)?;
        let rest = Rest::new(&settings.address, settings.ca_file.as_deref(), proxies)?;
        let server = Server { rest, namespace: settings.namespace };
        let (mount, session) = (rest::segments(&settings.mount), Session::new(settings.auth));
        Ok(Self { key: settings.key, mount, server, session, unreadable: AtomicBool::new(false) })
    }

    /// Checks first that the key exists, if policies allow: Vault would create it, and a mistake in the configuration
    /// would go unnoticed.
    pub(crate) async fn wrap(&self, key: &KeyBytes, context: Context) -> Result<(String, Vec<u8>), Error> {
        let readable = self.latest().await?.is_some();
        let wrapped = self.encrypt(key, context).await?;
        self.unreadable.store(!readable, Ordering::Relaxed);
        Ok(wrapped)
    }

    pub(crate) async fn unwrap(&self, wrapped: &Wrapped, context: Context) -> Result<KeyBytes, Error> {
        let ciphertext = std::str::from_utf8(&wrapped.blob).ok().filter(|text| version(text).is_some());
        let ciphertext = ciphertext.ok_or_else(|| Error::invalid("it is nothing that Vault wrapped"))?;
        let name = wrapped.key_id.split_once(':').map_or(wrapped.key_id.as_str(), |(name, _)| name);
        let path = format!("/v1/{}/decrypt/{}", self.mount, rest::segment(name));
        let response: Response<Decrypted> =
            self.call(|rest| rest.post(&path, &Decrypt { ciphertext }), classify_decrypt).await?;
        let plaintext = Zeroizing::new(response.data.plaintext);
        context.unbind(&rest::decode(&plaintext)?)
    }

    /// Who may not read the key learns its version by wrapping a dummy value.
    pub(crate) async fn describe(&self) -> Result<String, Error> {
        if let Some(version) = self.latest().await? {
            return Ok(self.key_id(version));
        }
        let nobody = Context { database_id: [0; 16], epoch: 0 };
        let (key_id, _) = self.encrypt(&KeyBytes::default(), nobody).await?;
        self.unreadable.store(true, Ordering::Relaxed);
        Ok(key_id)
    }

    /// The newest version of the key; none if policies do not allow to read it.
    async fn latest(&self) -> Result<Option<u64>, Error> {
        if self.unreadable.load(Ordering::Relaxed) {
            return Ok(None);
        }
        let path = format!("/v1/{}/keys/{}", self.mount, rest::segment(&self.key));
        let classify = |refusal: Refusal| {
            let absent = refusal.status == 404;
            match classify_encrypt(refusal) {
                Error::KeyUnusable { message } if absent => Error::key_unusable(format!(
                    "{message}: there is no transit key {} at {}: make it, or correct encryption.kms.key_id",
                    self.key, self.mount
                )),
                other => other,
            }
        };
        match self.call::<Response<Key>>(|rest| rest.get(&path), classify).await {
            Ok(response) => Ok(Some(response.data.latest_version)),
            Err(Error::Denied { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn encrypt(&self, key: &KeyBytes, context: Context) -> Result<(String, Vec<u8>), Error> {
        let path = format!("/v1/{}/encrypt/{}", self.mount, rest::segment(&self.key));
        let plaintext = rest::encode(&context.bind(key));
        let request = Encrypt { plaintext: &plaintext };
        let response: Response<Encrypted> = self.call(|rest| rest.post(&path, &request), classify_encrypt).await?;
        let ciphertext = response.data.ciphertext;
        let version = version(&ciphertext)
            .ok_or_else(|| Error::unavailable("the response holds something else than vault:vN:"))?;
        Ok((self.key_id(version), ciphertext.into_bytes()))
    }

    fn key_id(&self, version: u64) -> String {
        format!("{}:v{version}", self.key)
    }

    /// Calls with a token; if that is refused, once more with another one, if there is one.
    async fn call<T: DeserializeOwned>(
        &self,
        request: impl Fn(&Rest) -> RequestBuilder,
        classify: impl Fn(Refusal) -> Error,
    ) -> Result<T, Error> {
        let token = self.session.token(&self.server).await?;
        match self.server.send(request(&self.server.rest), Some(&token), &classify).await {
            Err(Error::Denied { message }) => match self.session.token_after(&self.server, &token).await? {
                Some(token) => self.server.send(request(&self.server.rest), Some(&token), &classify).await,
                None => Err(Error::Denied { message }),
            },
            result => result,
        }
    }
}

impl Server {
    async fn send<T: DeserializeOwned>(
        &self,
        mut request: RequestBuilder,
        token: Option<&SecretString>,
        classify: impl Fn(Refusal) -> Error,
    ) -> Result<T, Error> {
        if let Some(namespace) = &self.namespace {
            request = request.header("X-Vault-Namespace", namespace);
        }
        if let Some(token) = token {
            request = request.header("X-Vault-Token", token.expose_secret());
        }
        rest::send(request, errors).await.map_err(|failure| failure.into_error(classify))
    }
}

/// The message in `{"errors": [...]}`.
fn errors(body: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Errors {
        errors: Vec<String>,
    }
    serde_json::from_slice::<Errors>(body).ok().map(|body| body.errors.join("; "))
}

/// N of `vault:vN:…`.
fn version(ciphertext: &str) -> Option<u64> {
    let (version, rest) = ciphertext.strip_prefix("vault:v")?.split_once(':')?;
    if rest.is_empty() { None } else { version.parse().ok() }
}

fn classify_encrypt(refusal: Refusal) -> Error {
    rest::classify_status(&refusal).unwrap_or_else(|| Error::key_unusable(refusal.message))
}

/// All that is wrong with a key or a ciphertext is a 400 to Vault, so its message decides.
fn classify_decrypt(refusal: Refusal) -> Error {
    let said = refusal.message.to_lowercase();
    let about_the_key = ["too old", "disallowed by policy", "key not found", "no existing key", "not support"];
    if refusal.status == 400 && about_the_key.iter().any(|message| said.contains(message)) {
        return Error::key_unusable(refusal.message);
    }
    rest::classify_status(&refusal).unwrap_or_else(|| Error::invalid(refusal.message))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use reqwest::StatusCode;

    use super::*;

    fn refusal(status: u16, message: &str) -> Refusal {
        Refusal { status: StatusCode::from_u16(status).unwrap(), message: message.to_owned(), retry_after: None }
    }

    #[test]
    fn refusals_are_classified_by_status_and_message() {
        for (status, message, encrypt, decrypt) in [
            (400, "cipher: message authentication failed", "key_unusable", "invalid"),
            (400, "invalid ciphertext: could not decode base64", "key_unusable", "invalid"),
            (400, "ciphertext or signature version is disallowed by policy (too old)", "key_unusable", "key_unusable"),
            (400, "encryption key not found", "key_unusable", "key_unusable"),
            (403, "permission denied", "denied", "denied"),
            (404, "", "key_unusable", "key_unusable"),
            (429, "request path quota exceeded", "throttled", "throttled"),
            (500, "internal error", "unavailable", "unavailable"),
            (503, "Vault is sealed", "unavailable", "unavailable"),
        ] {
            let codes = [classify_encrypt(refusal(status, message)), classify_decrypt(refusal(status, message))];
            assert_eq!(codes.each_ref().map(Error::code), [encrypt, decrypt], "{status} {message}");
        }
    }

    #[test]
    fn the_message_of_vault_is_kept() {
        let body = br#"{"errors":["permission denied","really"]}"#;
        assert_eq!(errors(body), Some("permission denied; really".to_owned()));
        assert_eq!(errors(b"<html>"), None);
    }

    #[test]
    fn the_version_stands_in_the_ciphertext() {
        let texts = ["vault:v12:abc", "vault:v1:", "vault:vx:abc", "vault:v:abc", "vault:v1", "v1:abc", ""];
        assert_eq!(texts.map(version), [Some(12), None, None, None, None, None, None]);
    }

    proptest! {
        #[test]
        fn any_text_has_a_version_or_none(text in "(vault:v)?[0-9:a-zé]{0,40}") {
            if let Some(number) = version(&text) {
                let head = format!("vault:v{number}:");
                prop_assert!(text.starts_with("vault:v") && (text.starts_with(&head) || text.contains("v0")));
            }
        }
    }
}
