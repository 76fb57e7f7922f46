//! The one middleware: what happens to every request before its handler and to every response after it.
//!
//! Order: request id → CORS → head → preflight → peer address → public paths → API key → rate limit → role → signature
//! → router. It runs around the routes and both fallbacks, so only those who are allowed to learn that a path or method
//! does not exist.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use tokio::time::Instant;
use tracing::field::Empty;
use tracing::{Instrument as _, Span};

use super::App;
use super::activity::Activity;
use super::auth::{Access, Role};
use super::error::{Error, Internal};
use super::head;
use super::limits::Allowance;
use super::limits::{Recipient, ResponseMemory};
use super::listen::Peer;
use super::request::{Query, named_user};
use crate::model::UserId;
use crate::telemetry::traces;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// The default of every response: without it some caches keep even a 404.
const NOT_STORED: HeaderValue = HeaderValue::from_static("no-store");
const MAX_REQUEST_ID_BYTES: usize = 128;

/// Guards the main listener.
pub(super) async fn guard(State(app): State<App>, mut request: Request, next: Next) -> Response {
    let method = request.method().clone();
    let matched = request.extensions().get::<MatchedPath>().cloned();
    let in_flight = app.metrics().begin(matched.as_ref().map(MatchedPath::as_str), &method);
    let id = app.request_ids().of(request.headers());
    let span = trace(&request, in_flight.route(), &id);
    let cors = app.cors().check(request.headers());
    let may_be_stored = is_documentation(request.uri().path());
    let mut allowance = None;
    let mut response = match admit(&app, &request, in_flight.started(), &mut allowance) {
        Ok(Some(access)) => {
            request.extensions_mut().insert(access);
            let responses = app.limits().responses_to(request.uri().path());
            respond(request, next, responses).instrument(span.clone()).await
        }
        Ok(None) => StatusCode::NO_CONTENT.into_response(),
        Err(error) => error.into_response(),
    };
    let status = response.status();
    in_flight.finish(status);
    span.record("http.response.status_code", i64::from(status.as_u16()));
    if status.is_server_error() {
        span.record("error.type", status.as_str()).record("otel.status_code", "ERROR");
    }
    if let Some(Internal(error)) = response.extensions_mut().remove() {
        let id = String::from_utf8_lossy(id.as_bytes());
        tracing::error!(event = "http.internal_error", request_id = %id, route = in_flight.route(), error);
    }
    tracing::debug!(
        event = "http.request",
        request_id = ?id,
        %method,
        route = in_flight.route(),
        status = status.as_u16(),
        elapsed_us = in_flight.started().elapsed().as_micros() as u64,
    );
    let headers = response.headers_mut();
    headers.insert(REQUEST_ID, id);
    if !may_be_stored && !headers.contains_key(header::CACHE_CONTROL) {
        headers.insert(header::CACHE_CONTROL, NOT_STORED);
    }
    cors.write(headers);
    if let Some(allowance) = allowance {
        allowance.write(headers);
    }
    response
}

/// Lets the request through to its handler and counts the memory of its response, where that is limited.
async fn respond(request: Request, next: Next, responses: Option<&ResponseMemory>) -> Response {
    let (is_read, has_body) = (request.method().is_safe(), request.method() != Method::HEAD);
    let recipient = Recipient {
        user: request.extensions().get::<Access>().and_then(|access| user_of(access, &request)),
        activity: request.extensions().get::<Arc<Activity>>().cloned(),
    };
    let response = next.run(request).await;
    match responses.filter(|_| has_body) {
        Some(responses) => responses.hold(response, is_read, recipient).await,
        None => response,
    }
}

/// The span of a request. Probes and documentation have none: they would be most of what is sent.
fn trace(request: &Request, route: &str, id: &HeaderValue) -> Span {
    if is_public(request.uri().path()) {
        return Span::none();
    }
    let method = request.method();
    let span = tracing::info_span!(
        "request",
        otel.name = format_args!("{method} {route}"),
        otel.kind = "server",
        http.request.method = %method,
        http.route = route,
        url.scheme = "http",
        http.response.status_code = Empty,
        error.type = Empty,
        otel.status_code = Empty,
        progressdb.request_id = id.to_str().unwrap_or_default(),
    );
    traces::join(&span, request.headers());
    span
}

/// Gives responses of the management listener, which needs no keys, their request id.
pub(super) async fn label(State(app): State<App>, request: Request, next: Next) -> Response {
    let id = app.request_ids().of(request.headers());
    let mut response = match head::check(&request) {
        Ok(()) => respond(request, next, Some(&app.limits().scrapes)).await,
        Err(error) => error.into_response(),
    };
    let headers = response.headers_mut();
    headers.insert(REQUEST_ID, id);
    headers.insert(header::CACHE_CONTROL, NOT_STORED);
    response
}

/// Decides whether the request may go on, and as whom; a preflight goes nowhere.
fn admit(
    app: &App,
    request: &Request,
    now: Instant,
    allowance: &mut Option<Allowance>,
) -> Result<Option<Access>, Error> {
    head::check(request)?;
    if request.method() == Method::OPTIONS {
        return Ok(None);
    }
    let (headers, path) = (request.headers(), request.uri().path());
    if !app.whitelist().is_empty() && !peer(request).is_some_and(|ip| app.whitelist().contains(&ip)) {
        return Err(Error::Forbidden);
    }
    if is_public(path) {
        return Ok(Some(Access::Unbound));
    }
    let auth = app.auth();
    let key = auth.identify(headers).ok_or(Error::Unauthorized)?;
    let access = match key.role {
        Role::Admin => Ok(Access::Unbound),
        Role::Backend => Ok(Access::Backend),
        Role::Frontend => auth.verify(headers).map(Access::Signed),
    };
    if let Some(limiter) = app.limits().rate.as_ref() {
        let user = access.as_ref().ok().and_then(|access| user_of(access, request));
        let user = user.as_ref().map(UserId::as_str).unwrap_or_default();
        allowance.insert(limiter.take(key.number, user, now)).check()?;
    }
    if !key.role.may_reach(path) {
        return Err(Error::Forbidden);
    }
    access.map(Some)
}

/// The user whose limit the request counts against, if proven: with invented names a client could get any number of
/// limits.
fn user_of(access: &Access, request: &Request) -> Option<UserId> {
    match access {
        Access::Signed(user) => Some(user.clone()),
        Access::Backend => named_user(request.headers(), Query::new(request.uri().query())).ok(),
        Access::Unbound => None,
    }
}

/// Paths that need no key.
pub(super) fn is_public(path: &str) -> bool {
    matches!(path, "/healthz" | "/readyz") || is_documentation(path)
}

/// Paths whose responses depend on the version only.
fn is_documentation(path: &str) -> bool {
    matches!(path, "/openapi.json" | "/docs") || path.starts_with("/docs/")
}

fn peer(request: &Request) -> Option<IpAddr> {
    request.extensions().get::<Peer>().map(|peer| peer.0.ip().to_canonical())
}

/// Hands out request ids: the client's own if it is valid, else one that is unique across restarts.
pub(super) struct RequestIds {
    prefix: u64,
    next: AtomicU64,
}

impl RequestIds {
    pub(super) fn new() -> Self {
        let mut prefix = [0; 8];
        // Without random bytes two runs may use the same ids, which is better than not to start.
        let _ = aws_lc_rs::rand::fill(&mut prefix);
        Self { prefix: u64::from_be_bytes(prefix), next: AtomicU64::new(0) }
    }

    fn of(&self, headers: &HeaderMap) -> HeaderValue {
        match headers.get(REQUEST_ID) {
            Some(value) if is_sane(value.as_bytes()) => value.clone(),
            _ => {
                let number = self.next.fetch_add(1, Ordering::Relaxed);
                let text = format!("{:016x}-{number:x}", self.prefix);
                HeaderValue::try_from(text).expect("hex digits are a header value")
            }
        }
    }
}

fn is_sane(id: &[u8]) -> bool {
    (1..=MAX_REQUEST_ID_BYTES).contains(&id.len()) && id.iter().all(u8::is_ascii_graphic)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn valid_request_ids_are_kept_and_others_replaced() {
        let ids = RequestIds::new();
        let of = |value: &[u8]| {
            ids.of(&HeaderMap::from_iter([(REQUEST_ID, HeaderValue::from_bytes(value).unwrap())])).as_bytes().to_vec()
        };
        assert_eq!(of(b"abc-1"), b"abc-1");
        for bad in [&b""[..], b"a b", b"a\xff", &[b'a'; 129]] {
            assert_ne!(of(bad), bad);
        }
        assert_ne!(ids.of(&HeaderMap::new()), ids.of(&HeaderMap::new()));
    }

    #[test]
    fn public_paths_are_exact() {
        for path in ["/healthz", "/readyz", "/openapi.json", "/docs", "/docs/", "/docs/index.css"] {
            assert!(is_public(path), "{path}");
        }
        for path in ["/healthz/", "/docsx", "/metrics", "/admin/health", "//healthz", "/docs%2F"] {
            assert!(!is_public(path), "{path}");
        }
    }
}
