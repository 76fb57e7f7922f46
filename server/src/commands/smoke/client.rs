//! Requests to the server that is tried, and responses that are read whole or not at all.

use std::cell::RefCell;
use std::fs;
use std::path::Path;
use std::time::Duration;

use reqwest::header::{LOCATION, RETRY_AFTER};
use reqwest::{Certificate, Method, RequestBuilder, StatusCode, Url, redirect};
use secrecy::{ExposeSecret as _, SecretString};
use serde::de::DeserializeOwned;

use super::trouble::{Trouble, quote};
use crate::error_chain::with_causes;
use crate::outgoing::Proxies;
use crate::serve::StartupError;

/// The longest response; that of `/metrics` has some 100 KB.
const MOST_BYTES: usize = 16 << 20;
/// So often a request that the rate limit refuses is repeated, when the server says that it may.
const MOST_TRIES: usize = 4;

/// Calls one server, and remembers what it asked last.
pub(super) struct Client {
    http: reqwest::Client,
    base: String,
    asked: RefCell<String>,
}

/// A whole response.
pub(super) struct Response {
    asked: String,
    status: StatusCode,
    location: Option<String>,
    body: Vec<u8>,
}

impl Client {
    /// `ca`, if given, is trusted in place of the system's certificates.
    pub(super) fn new(base: &Url, ca: Option<&Path>, proxies: &Proxies) -> Result<Self, StartupError> {
        let unusable = |error: reqwest::Error| StartupError::Config(with_causes(&error));
        // A redirect would send the key to an address that nobody named.
        let mut builder = reqwest::Client::builder().redirect(redirect::Policy::none()).no_proxy().referer(false);
        builder = builder.user_agent(concat!("progressdb-smoke/", env!("CARGO_PKG_VERSION")));
        for proxy in proxies.to_reqwest().map_err(unusable)? {
            builder = builder.proxy(proxy);
        }
        if let Some(path) = ca {
            builder = builder.tls_certs_only(certificates(path)?);
        }
        let base = base.as_str().trim_end_matches('/').to_owned();
        Ok(Self { http: builder.build().map_err(unusable)?, base, asked: RefCell::default() })
    }

    /// The URL in front of each path, without a slash at its end.
    pub(super) fn base(&self) -> &str {
        &self.base
    }

    /// Method and path of the last request.
    pub(super) fn asked(&self) -> String {
        self.asked.borrow().clone()
    }

    pub(super) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, format!("{}{path}", self.base))
    }

    /// Sends it, and again where the rate limit says when.
    pub(super) async fn send(&self, request: RequestBuilder) -> Result<Response, Trouble> {
        let request = request.build().map_err(|error| self.trouble(&error.without_url()))?;
        let path = request.url().as_str().strip_prefix(&self.base).unwrap_or_default();
        *self.asked.borrow_mut() = format!("{} {path}", request.method());
        let mut tries = 1;
        loop {
            let again = request.try_clone().expect("bodies are in memory");
            let (response, wait) = self.execute(again).await?;
            match wait {
                Some(wait) if tries < MOST_TRIES => tokio::time::sleep(wait).await,
                _ => return Ok(response),
            }
            tries += 1;
        }
    }

    /// The response and, where the rate limit refused it, the time until the next may come.
    async fn execute(&self, request: reqwest::Request) -> Result<(Response, Option<Duration>), Trouble> {
        let lost = |error: reqwest::Error| self.trouble(&error.without_url());
        let mut response = self.http.execute(request).await.map_err(lost)?;
        let header = |name| Some(response.headers().get(name)?.to_str().ok()?.to_owned());
        let (status, location) = (response.status(), header(LOCATION));
        let is_limited = status == StatusCode::TOO_MANY_REQUESTS;
        let wait = header(RETRY_AFTER).filter(|_| is_limited).and_then(|seconds| seconds.parse().ok());
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(lost)? {
            if body.len() + chunk.len() > MOST_BYTES {
                let what = format!("the response is longer than {} MiB", MOST_BYTES >> 20);
                return Err(Trouble::Wrong { asked: self.asked(), what });
            }
            body.extend_from_slice(&chunk);
        }
        Ok((Response { asked: self.asked(), status, location, body }, wait.map(Duration::from_secs)))
    }

    fn trouble(&self, error: &reqwest::Error) -> Trouble {
        let (asked, why) = (self.asked(), with_causes(error));
        match error.is_connect() {
            true => Trouble::Unreachable { asked, base: self.base.clone(), why },
            false => Trouble::Broken { asked, why },
        }
    }
}

impl Response {
    /// The status is this.
    pub(super) fn expect(self, status: u16) -> Result<Self, Trouble> {
        self.expect_one_of(&[status])
    }

    pub(super) fn expect_one_of(self, statuses: &[u16]) -> Result<Self, Trouble> {
        if statuses.contains(&self.status.as_u16()) {
            return Ok(self);
        }
        let Self { asked, status, location, body } = self;
        if status.is_success() {
            let what = format!("want status {statuses:?}, got {} with {}", status.as_u16(), quote(&body));
            return Err(Trouble::Wrong { asked, what });
        }
        Err(Trouble::refused(asked, status, location.as_deref(), &body))
    }

    /// The body as JSON of this shape.
    pub(super) fn json<T: DeserializeOwned>(&self) -> Result<T, Trouble> {
        serde_json::from_slice(&self.body)
            .map_err(|error| self.wrong(format!("want another JSON than {} ({error})", quote(&self.body))))
    }

    pub(super) fn text(&self) -> Result<&str, Trouble> {
        std::str::from_utf8(&self.body).map_err(|_| self.wrong("the response is not text"))
    }

    /// The content is not what it has to be.
    pub(super) fn wrong(&self, what: impl Into<String>) -> Trouble {
        Trouble::Wrong { asked: self.asked.clone(), what: what.into() }
    }

    /// The content is what it has to be, or else `what` is said.
    pub(super) fn check(&self, holds: bool, what: impl FnOnce() -> String) -> Result<(), Trouble> {
        if holds { Ok(()) } else { Err(self.wrong(what())) }
    }
}

/// The certificates of a PEM file.
fn certificates(path: &Path) -> Result<Vec<Certificate>, StartupError> {
    let unusable = |why: String| StartupError::Config(format!("--ca {}: {why}", path.display()));
    let pem = fs::read(path).map_err(|error| unusable(format!("cannot be read ({error})")))?;
    let certificates = Certificate::from_pem_bundle(&pem).map_err(|error| unusable(with_causes(&error)))?;
    if certificates.is_empty() { Err(unusable("holds no certificate".to_owned())) } else { Ok(certificates) }
}

/// Carries a key.
pub(super) fn with_key(request: RequestBuilder, key: &SecretString) -> RequestBuilder {
    request.bearer_auth(key.expose_secret())
}
