//! A service that speaks the protocol of `prgkms`: `POST /encrypt` and `POST /decrypt`, keys and bytes as base64.
//!
//! The protocol takes no associated data, so the context travels inside the plaintext and is compared afterwards. Keys
//! are never created here: to create one that exists silently replaces it in such a service, and whatever it wrapped is
//! lost.

use reqwest::RequestBuilder;
use secrecy::ExposeSecret;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::{
    super::KeyBytes,
    Context, Error, Wrapped,
    rest::{self, Failure, Refusal, Rest},
    settings,
};
use crate::outgoing::Proxies;

/// One such service.
#[derive(Debug)]
pub(crate) struct Http {
    settings: settings::Http,
    rest: Rest,
}

#[derive(Serialize)]
struct Encrypt<'a> {
    key_id: &'a str,
    plaintext: &'a str,
}

#[derive(Deserialize)]
struct Encrypted {
    ciphertext: String,
    #[serde(default)]
    kek_version: Option<Version>,
}

/// Services send the version as a number or as text, if at all.
#[derive(Deserialize)]
#[serde(untagged)]
enum Version {
    Number(u64),
    Text(String),
}

#[derive(Serialize)]
struct Decrypt<'a> {
    key_id: &'a str,
    ciphertext: &'a str,
}

#[derive(Deserialize)]
struct Decrypted {
    plaintext: String,
}

impl Http {
    /// Reads the certificates.
    pub(crate) fn new(settings: settings::Http, proxies: &Proxies) -> Result<Self, Error> {
        settings::check_key_name(&settings.key)?;
        let rest = Rest::new(&settings.endpoint, settings.ca_file.as_deref(), proxies)?;
        Ok(Self { settings, rest })
    }

    pub(crate) async fn wrap(&self, key: &KeyBytes, context: Context) -> Result<(String, Vec<u8>), Error> {
        let plaintext = rest::encode(&context.bind(key));
        let request = Encrypt { key_id: &self.settings.key, plaintext: &plaintext };
        let response: Encrypted = self.send(self.rest.post("/encrypt", &request), &self.settings.key).await?;
        let blob = rest::decode(&response.ciphertext)?.to_vec();
        Ok((key_id(&self.settings.key, response.kek_version), blob))
    }

    pub(crate) async fn unwrap(&self, wrapped: &Wrapped, context: Context) -> Result<KeyBytes, Error> {
        let key_id = key_name(&wrapped.key_id);
        let request = Decrypt { key_id, ciphertext: &rest::encode(&wrapped.blob) };
        let response: Decrypted = self.send(self.rest.post("/decrypt", &request), key_id).await?;
        let plaintext = Zeroizing::new(response.plaintext);
        context.unbind(&rest::decode(&plaintext)?)
    }

    /// The protocol cannot ask for it, so a dummy value is wrapped.
    pub(crate) async fn describe(&self) -> Result<String, Error> {
        let nobody = Context { database_id: [0; 16], epoch: 0 };
        Ok(self.wrap(&KeyBytes::default(), nobody).await?.0)
    }

    async fn send<T: serde::de::DeserializeOwned>(&self, request: RequestBuilder, key: &str) -> Result<T, Error> {
        let request = match &self.settings.token {
            Some(token) => request.bearer_auth(token.read()?.expose_secret()),
            None => request,
        };
        rest::send(request, |_| None)
            .await
            .map_err(|failure: Failure| failure.into_error(|refusal| classify(refusal, key)))
    }
}

fn key_id(name: &str, version: Option<Version>) -> String {
    match version {
        Some(Version::Number(version)) => format!("{name}:{version}"),
        Some(Version::Text(version)) if !version.is_empty() => format!("{name}:{version}"),
        _ => name.to_owned(),
    }
}

/// Names have no colon.
fn key_name(key_id: &str) -> &str {
    key_id.split_once(':').map_or(key_id, |(name, _)| name)
}

/// Such a service responds with 500 to almost everything, so its message decides.
fn classify(refusal: Refusal, key: &str) -> Error {
    let said = refusal.message.to_lowercase();
    let says = |message: &[&str]| message.iter().any(|message| said.contains(message));
    let about_the_key = says(&["not found", "unknown key", "no such key", "does not exist"]);
    let about_the_blob = says(&["authentication", "ciphertext", "decrypt", "cipher:"]);
    let status = refusal.status.as_u16();
    if status == 404 || (matches!(status, 400 | 422 | 500) && about_the_key) {
        let hint = format!("if the key was never made, make it once: POST /deks {{\"key_id\":\"{key}\"}}");
        return Error::key_unusable(format!("{}; {hint}", refusal.message));
    }
    if status == 500 && about_the_blob {
        return Error::invalid(refusal.message);
    }
    rest::classify_status(&refusal).unwrap_or_else(|| Error::invalid(refusal.message))
}

#[cfg(test)]
mod tests {
    use reqwest::StatusCode;

    use super::*;

    fn code(status: u16, message: &str) -> &'static str {
        let status = StatusCode::from_u16(status).unwrap();
        classify(Refusal { status, message: message.to_owned(), retry_after: None }, "progressdb").code()
    }

    #[test]
    fn responses_are_classified_by_status_and_message() {
        for (status, message, wanted) in [
            (400, "illegal base64 data", "invalid"),
            (422, "no", "invalid"),
            (400, "unknown key progressdb", "key_unusable"),
            (401, "who are you", "denied"),
            (403, "no", "denied"),
            (404, "404 page not found", "key_unusable"),
            (429, "slow down", "throttled"),
            (500, "key not found: progressdb", "key_unusable"),
            (500, "cipher: message authentication failed", "invalid"),
            (500, "failed to decrypt", "invalid"),
            (500, "out of memory", "unavailable"),
            (502, "failed to decrypt", "unavailable"),
            (503, "starting", "unavailable"),
            (302, "elsewhere", "unavailable"),
        ] {
            assert_eq!(code(status, message), wanted, "{status} {message}");
        }
    }

    #[test]
    fn a_key_that_is_not_there_comes_with_the_way_to_make_it() {
        let refusal = Refusal { status: StatusCode::NOT_FOUND, message: "no (404)".to_owned(), retry_after: None };
        let hint = "if the key was never made, make it once: POST /deks {\"key_id\":\"chat\"}";
        assert_eq!(classify(refusal, "chat"), Error::key_unusable(format!("no (404); {hint}")));
    }

    #[test]
    fn a_version_becomes_part_of_the_key_id_and_leaves_it_again() {
        let responses = [r#"{"ciphertext":""}"#, r#"{"ciphertext":"","kek_version":""}"#]
            .into_iter()
            .chain([r#"{"ciphertext":"","kek_version":3}"#, r#"{"ciphertext":"","kek_version":"v3"}"#]);
        let ids: Vec<_> = responses
            .map(|response| key_id("chat", serde_json::from_str::<Encrypted>(response).expect(response).kek_version))
            .collect();
        assert_eq!(ids, ["chat", "chat", "chat:3", "chat:v3"]);
        assert!(ids.iter().all(|id| key_name(id) == "chat"));
    }
}
