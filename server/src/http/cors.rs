//! Cross-origin rules for browsers: which origins may read the responses.
//!
//! A preflight gets 204 even for a foreign origin, but without the headers that would allow anything.

use axum::http::{HeaderMap, HeaderValue, header};

const METHODS: HeaderValue = HeaderValue::from_static("GET,POST,PUT,DELETE,PATCH,OPTIONS");
/// Every header that the API reads.
const HEADERS: HeaderValue = HeaderValue::from_static(
    "Authorization,Content-Encoding,Content-Type,Idempotency-Key,If-Match,If-None-Match,Prefer,X-API-Key,X-Request-Id,\
     X-User-ID,X-User-Signature,traceparent,tracestate",
);
/// Every response header that scripts can read only if it is exposed.
const EXPOSED: HeaderValue = HeaderValue::from_static(
    "Accept-Encoding,Allow,Content-Encoding,Date,ETag,Idempotency-Replayed,Location,Preference-Applied,Retry-After,Vary,\
     WWW-Authenticate,X-RateLimit-Limit,X-RateLimit-Remaining,X-RateLimit-Reset,X-Request-Id",
);
const ORIGIN: HeaderValue = HeaderValue::from_static("Origin");
const MAX_AGE: HeaderValue = HeaderValue::from_static("600");

/// The configured origins; none means that CORS is off.
pub(super) struct Cors {
    origins: Vec<String>,
}

/// What a response says about its origin.
pub(super) enum Verdict {
    /// Nothing: CORS is off.
    Off,
    /// No, or the request names no origin; caches must still keep origins apart.
    Foreign,
    /// This origin may read it.
    Allowed(HeaderValue),
}

impl Cors {
    pub(super) fn new(origins: &[String]) -> Self {
        Self { origins: origins.to_vec() }
    }

    pub(super) fn check(&self, headers: &HeaderMap) -> Verdict {
        if self.origins.is_empty() {
            return Verdict::Off;
        }
        match headers.get(header::ORIGIN) {
            Some(origin) if self.allows(origin.as_bytes()) => Verdict::Allowed(origin.clone()),
            _ => Verdict::Foreign,
        }
    }

    fn allows(&self, origin: &[u8]) -> bool {
        self.origins.iter().any(|entry| entry == "*" || entry.as_bytes().eq_ignore_ascii_case(origin))
    }
}

impl Verdict {
    pub(super) fn write(self, headers: &mut HeaderMap) {
        if !matches!(self, Self::Off) {
            let others = headers.get(header::VARY).and_then(|value| value.to_str().ok());
            let all = others.map_or(Ok(ORIGIN), |others| HeaderValue::try_from(format!("{others}, Origin")));
            headers.insert(header::VARY, all.unwrap_or(ORIGIN));
        }
        if let Self::Allowed(origin) = self {
            headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
            headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, METHODS);
            headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, HEADERS);
            headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED);
            headers.insert(header::ACCESS_CONTROL_MAX_AGE, MAX_AGE);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(origins: &[&str], origin: &'static str, allowed: Option<&str>, vary: bool) {
        let cors = Cors::new(&origins.iter().map(ToString::to_string).collect::<Vec<_>>());
        let request = HeaderMap::from_iter([(header::ORIGIN, HeaderValue::from_static(origin))]);
        let mut response = HeaderMap::new();
        cors.check(&request).write(&mut response);
        let got = response.get(header::ACCESS_CONTROL_ALLOW_ORIGIN).map(|value| value.to_str().unwrap());
        assert_eq!((got, response.contains_key(header::VARY)), (allowed, vary));
    }

    #[test]
    fn only_listed_origins_are_echoed() {
        check(&["https://App.example"], "https://app.example", Some("https://app.example"), true);
        check(&["https://app.example"], "https://evil.example", None, true);
        check(&["*"], "https://any.example", Some("https://any.example"), true);
        check(&[], "https://app.example", None, false);
    }
}
