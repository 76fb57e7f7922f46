//! JSON over HTTP, for the providers that use it: one client, and responses that are read whole or not at all.

use std::{path::Path, time::Duration};

use base64::{Engine, prelude::BASE64_STANDARD};
use reqwest::{Certificate, Client, Method, RequestBuilder, StatusCode, header::RETRY_AFTER, redirect};
use serde::{Serialize, de::DeserializeOwned};
use zeroize::Zeroizing;

use super::{Error, files};
use crate::error_chain::with_causes;
use crate::outgoing::{Proxies, trace_headers};

/// The longest response of a KMS.
const MAX_RESPONSE_BYTES: usize = 1 << 20;

/// The longest message that is kept: it has to fit a log line.
const MAX_MESSAGE_CHARS: usize = 300;

/// A service at one address.
#[derive(Debug)]
pub(crate) struct Rest {
    client: Client,
    base: String,
}

/// A response with an error status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) status: StatusCode,
    /// The message of the response, in one line.
    pub(crate) message: String,
    pub(crate) retry_after: Option<Duration>,
}

/// Why a request failed.
#[derive(Debug)]
pub(crate) enum Failure {
    /// No response, or none that can be read.
    Error(Error),
    /// A response with a status that is not 2xx, and the request that it is for. The provider classifies it.
    Refused(Refusal, String),
}

impl Rest {
    /// `endpoint` is a URL or `HOST:PORT`. Certificates in `ca_file`, if given, are trusted in place of the system's.
    pub(crate) fn new(endpoint: &str, ca_file: Option<&Path>, proxies: &Proxies) -> Result<Self, Error> {
        let address = if endpoint.contains("://") { endpoint.to_owned() } else { format!("http://{endpoint}") };
        let base = address.trim_end_matches('/').to_owned();
        if !is_url(&base) {
            return Err(Error::Settings(format!(
                "the KMS endpoint {endpoint} is neither HOST:PORT nor an http(s) URL"
            )));
        }
        // A redirect would send the token to an address that is not configured.
        let mut builder = Client::builder().redirect(redirect::Policy::none()).no_proxy().referer(false);
        let proxies = proxies.to_reqwest();
        for proxy in
            proxies.map_err(|error| Error::Settings(format!("the proxy cannot be used: {}", with_causes(&error))))?
        {
            builder = builder.proxy(proxy);
        }
        if let Some(path) = ca_file {
            let unusable = |message: String| Error::Settings(format!("the CA file {}: {message}", path.display()));
            let certificates = Certificate::from_pem_bundle(&files::read(path)?)
                .map_err(|error| unusable(format!("not PEM: {}", with_causes(&error))))?;
            if certificates.is_empty() {
                return Err(unusable("holds no certificate".to_owned()));
            }
            builder = builder.tls_certs_only(certificates);
        }
        let client = builder
            .build()
            .map_err(|error| Error::Settings(format!("cannot prepare TLS for the KMS: {}", with_causes(&error))))?;
        Ok(Self { client, base })
    }

    pub(crate) fn get(&self, path: &str) -> RequestBuilder {
        self.client.request(Method::GET, format!("{}{path}", self.base))
    }

    pub(crate) fn post(&self, path: &str, body: &impl Serialize) -> RequestBuilder {
        self.client.request(Method::POST, format!("{}{path}", self.base)).json(body)
    }
}

/// Sends, and reads the whole response as JSON. `message_of` finds the message of a refusal in its body.
pub(crate) async fn send<T: DeserializeOwned>(
    request: RequestBuilder,
    message_of: fn(&[u8]) -> Option<String>,
) -> Result<T, Failure> {
    let (client, request) = request.headers(trace_headers()).build_split();
    let request = request.map_err(|error| Failure::Error(Error::Settings(with_causes(&error.without_url()))))?;
    let asked = describe_request(&request);
    let lost = |error: reqwest::Error| {
        Failure::Error(Error::unavailable(format!("{asked}: {}", with_causes(&error.without_url()))))
    };
    let mut response = client.execute(request).await.map_err(lost)?;
    let (status, retry_after) = (response.status(), retry_after(&response));
    let mut body = Zeroizing::new(Vec::new());
    while let Some(chunk) = response.chunk().await.map_err(lost)? {
        if body.len() + chunk.len() > MAX_RESPONSE_BYTES {
            return Err(Failure::Error(Error::unavailable("the response is too long for one of a KMS")));
        }
        body.extend_from_slice(&chunk);
    }
    if !status.is_success() {
        let message = message_of(&body).unwrap_or_else(|| String::from_utf8_lossy(&body).into_owned());
        return Err(Failure::Refused(Refusal { status, message: describe(status, &message), retry_after }, asked));
    }
    serde_json::from_slice(&body)
        .map_err(|_| Failure::Error(Error::unavailable(format!("{status}, but not the response of such a KMS"))))
}

fn retry_after(response: &reqwest::Response) -> Option<Duration> {
    response.headers().get(RETRY_AFTER)?.to_str().ok()?.parse().ok().map(Duration::from_secs)
}

/// Method and path, readable; never the host, which may come with a password.
fn describe_request(request: &reqwest::Request) -> String {
    let path = percent_encoding::percent_decode_str(request.url().path()).decode_utf8_lossy();
    format!("{} {path}", request.method())
}

/// Status and message on one line.
fn describe(status: StatusCode, message: &str) -> String {
    let line: Vec<&str> = message.split_whitespace().collect();
    let line: String = line.join(" ").chars().filter(|c| !c.is_control()).take(MAX_MESSAGE_CHARS).collect();
    if line.is_empty() { status.to_string() } else { format!("{line} ({})", status.as_u16()) }
}

/// Classifies a status that means the same in every service; none for 400, 422 and unknown statuses.
pub(crate) fn classify_status(refusal: &Refusal) -> Option<Error> {
    let message = refusal.message.clone();
    match refusal.status.as_u16() {
        401 | 403 => Some(Error::denied(message)),
        404 => Some(Error::key_unusable(message)),
        429 => Some(Error::throttled(message, refusal.retry_after)),
        300..400 => Some(Error::unavailable(format!("{message}: redirects are not followed, name the address itself"))),
        400 | 422 => None,
        500..600 => Some(Error::unavailable(message)),
        _ => None,
    }
}

impl Failure {
    /// The error; a refusal is classified by the provider.
    pub(crate) fn into_error(self, classify: impl FnOnce(Refusal) -> Error) -> Error {
        match self {
            Self::Error(error) => error,
            Self::Refused(refusal, asked) => classify(refusal).with_request(&asked),
        }
    }
}

/// Whether it is an http or https URL with a host.
pub(crate) fn is_url(text: &str) -> bool {
    reqwest::Url::parse(text).is_ok_and(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
}

/// Bytes as text for JSON.
pub(crate) fn encode(bytes: &[u8]) -> Zeroizing<String> {
    Zeroizing::new(BASE64_STANDARD.encode(bytes))
}

/// Bytes of text that a KMS sent.
pub(crate) fn decode(text: &str) -> Result<Zeroizing<Vec<u8>>, Error> {
    let bytes = BASE64_STANDARD.decode(text);
    bytes.map(Zeroizing::new).map_err(|_| Error::unavailable("the response holds something else than base64"))
}

/// One segment of a path.
pub(crate) fn segment(text: &str) -> String {
    percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string()
}

/// A path of several segments, without slashes at its ends.
pub(crate) fn segments(path: &str) -> String {
    path.split('/').filter(|part| !part.is_empty()).map(segment).collect::<Vec<_>>().join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_is_a_url_or_an_address() {
        for (endpoint, base) in [
            ("127.0.0.1:6820", "http://127.0.0.1:6820"),
            ("kms.example:6820/", "http://kms.example:6820"),
            ("https://vault.example/base/", "https://vault.example/base"),
        ] {
            assert_eq!(Rest::new(endpoint, None, &Proxies::default()).map(|rest| rest.base), Ok(base.to_owned()));
        }
        for endpoint in ["", "ftp://kms.example", "http://", "two message"] {
            let message = format!("the KMS endpoint {endpoint} is neither HOST:PORT nor an http(s) URL");
            assert_eq!(
                Rest::new(endpoint, None, &Proxies::default()).map(|rest| rest.base),
                Err(Error::Settings(message))
            );
        }
    }

    #[test]
    fn a_ca_file_without_certificates_is_refused() {
        let directory = tempfile::TempDir::new().unwrap();
        let path = directory.path().join("ca.pem");
        std::fs::write(&path, "nothing").unwrap();
        let error = Rest::new("https://kms.example", Some(&path), &Proxies::default()).expect_err("no certificate");
        assert_eq!(error, Error::Settings(format!("the CA file {}: holds no certificate", path.display())));
    }

    #[test]
    fn statuses_are_classified_alike_everywhere() {
        let code = |status: u16| {
            let status = StatusCode::from_u16(status).unwrap();
            let refusal = Refusal { status, message: "w".to_owned(), retry_after: None };
            classify_status(&refusal).map(|error| error.code())
        };
        let statuses = [307, 400, 401, 403, 404, 405, 422, 429, 500, 502, 503];
        let (denied, down) = (Some("denied"), Some("unavailable"));
        let codes = [down, None, denied, denied, Some("key_unusable"), None, None, Some("throttled"), down, down, down];
        assert_eq!(statuses.map(code), codes);
    }

    #[test]
    fn a_message_of_a_response_fits_one_line() {
        let message = describe(StatusCode::BAD_REQUEST, " one\n two\u{1b}[0m \r\n");
        assert_eq!(message, "one two[0m (400)");
        assert_eq!(describe(StatusCode::BAD_GATEWAY, ""), "502 Bad Gateway");
        assert_eq!(describe(StatusCode::BAD_GATEWAY, &"x".repeat(9999)).len(), MAX_MESSAGE_CHARS + " (502)".len());
    }

    #[test]
    fn path_segments_cannot_leave_their_place() {
        assert_eq!(segment("../x?y#z"), "%2E%2E%2Fx%3Fy%23z");
        assert_eq!(segments("/kv/transit/"), "kv/transit");
    }
}
