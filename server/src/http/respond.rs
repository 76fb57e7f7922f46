//! Success replies: JSON written once into its buffer, entity tags, acknowledgements.

use std::fmt::Display;

use axum::body::Body;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use super::error::Error;
use crate::db::Written;

pub(super) const IDEMPOTENCY_REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");
pub(super) const PREFERENCE_APPLIED: HeaderName = HeaderName::from_static("preference-applied");

/// A reply of `status` with `value` as its JSON body.
pub(super) fn json<T: Serialize>(status: StatusCode, value: &T) -> Response {
    match serde_json::to_vec(value) {
        Ok(bytes) => text(status, "application/json", bytes),
        Err(error) => Error::Encoding(error).into_response(),
    }
}

/// A reply of `status` with a body of another type.
pub(super) fn text(status: StatusCode, content_type: &'static str, body: impl Into<Body>) -> Response {
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// A 200 with the object under its name and its revision as `ETag`.
pub(super) fn object<T: Serialize>(value: &T, revision: u64) -> Response {
    let mut response = json(StatusCode::OK, value);
    response.headers_mut().insert(header::ETAG, etag(revision));
    response
}

/// The 202 of a committed write. `reply` holds the key, and the object if the client asked for it.
pub(super) fn acknowledge<K: Display, T: Serialize>(written: &Written<K>, reply: &T, represented: bool) -> Response {
    let mut response = json(StatusCode::ACCEPTED, reply);
    let headers = response.headers_mut();
    if written.revision > 0 {
        headers.insert(header::ETAG, etag(written.revision));
    }
    if written.replayed {
        headers.insert(IDEMPOTENCY_REPLAYED, HeaderValue::from_static("true"));
    }
    if represented {
        headers.insert(PREFERENCE_APPLIED, HeaderValue::from_static("return=representation"));
    }
    response
}

/// A revision as a strong entity tag.
pub(super) fn etag(revision: u64) -> HeaderValue {
    HeaderValue::try_from(format!("\"{revision}\"")).expect("quoted digits are a header value")
}
