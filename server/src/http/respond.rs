//! Replies: JSON written once into its buffer, acknowledgements.

use std::fmt::Display;

use axum::body::Body;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use super::conditional::tag_of_revision;
use super::error::Error;
use super::replies::Brief;
use crate::db::Written;

pub(super) const IDEMPOTENCY_REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");
pub(super) const PREFERENCE_APPLIED: HeaderName = HeaderName::from_static("preference-applied");

/// A reply of `status` with `value` as its JSON body.
pub(super) fn json<T: Serialize>(status: StatusCode, value: &T) -> Response {
    match serde_json::to_vec(value) {
        Ok(bytes) => json_text(status, bytes),
        Err(error) => Error::Encoding(error).into_response(),
    }
}

/// A reply of `status` with JSON that is written already.
pub(super) fn json_text(status: StatusCode, mut bytes: Vec<u8>) -> Response {
    // A buffer that grew by doubling would hold up to twice what is counted.
    if bytes.capacity() > bytes.len() + bytes.len() / 8 {
        bytes.shrink_to_fit();
    }
    text(status, "application/json", bytes)
}

/// A reply of `status` with a body of another type.
pub(super) fn text(status: StatusCode, content_type: &'static str, body: impl Into<Body>) -> Response {
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// The 202 of a committed write: the key and, in `represented`, the object too if the client asked for it.
pub(super) fn acknowledge<K: Display, T: Serialize>(
    written: &Written<K>,
    brief: &T,
    represented: Option<&T>,
) -> Response {
    let mut response = json(StatusCode::ACCEPTED, represented.unwrap_or(brief));
    if represented.is_some()
        && let Ok(bytes) = serde_json::to_vec(brief)
    {
        response.extensions_mut().insert(Brief(bytes.into()));
    }
    let headers = response.headers_mut();
    if written.revision > 0 {
        headers.insert(header::ETAG, tag_of_revision(written.revision));
    }
    if written.replayed {
        headers.insert(IDEMPOTENCY_REPLAYED, HeaderValue::from_static("true"));
    }
    if represented.is_some() {
        headers.insert(PREFERENCE_APPLIED, HeaderValue::from_static("return=representation"));
    }
    response
}
