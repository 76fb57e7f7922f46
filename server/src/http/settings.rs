//! The settings of the API, which the configuration makes.

use std::net::IpAddr;
use std::time::Duration;

use secrecy::SecretString;

/// The settings of the API, the same on every listener.
#[derive(Clone, Debug)]
pub struct Settings {
    /// API keys by role, and signing keys.
    pub keys: ApiKeys,
    /// Origins that browsers may call from; `*` allows all, none means no CORS.
    pub cors_allowed_origins: Vec<String>,
    /// Peers that may connect; empty allows all.
    pub ip_whitelist: Vec<IpAddr>,
    /// None is unlimited.
    pub rate_limit: Option<RateLimit>,
    /// The largest request body.
    pub max_body_bytes: usize,
    /// For a whole body.
    pub body_timeout: Duration,
    /// Request bodies in memory at one time, all together.
    pub max_body_memory_bytes: usize,
    /// Responses that clients have not received yet, all together.
    pub max_reply_memory_bytes: usize,
    /// The server is a rehearsal on a copy of a store; `/readyz` says so.
    pub rehearsal: bool,
}

/// A token bucket for each API key and user.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RateLimit {
    /// Requests a second, above 0.
    pub rps: f64,
    /// Requests at once, at least 1.
    pub burst: u32,
}

/// Inline keys and those of key files, together; each non-empty printable ASCII without white space.
#[derive(Clone, Debug, Default)]
pub struct ApiKeys {
    /// May call `/backend` and `/frontend` as any user.
    pub backend: Vec<SecretString>,
    /// May call `/frontend` with a signed user id.
    pub frontend: Vec<SecretString>,
    /// May call `/admin`.
    pub admin: Vec<SecretString>,
    /// HMAC secrets, not API keys: the first signs, every one verifies.
    pub signing: Vec<SecretString>,
}

impl ApiKeys {
    /// Somebody may call the API.
    pub(crate) fn has_api_keys(&self) -> bool {
        [&self.backend, &self.frontend, &self.admin].iter().any(|keys| !keys.is_empty())
    }

    /// There is no key at all.
    pub(crate) fn is_empty(&self) -> bool {
        !self.has_api_keys() && self.signing.is_empty()
    }
}
