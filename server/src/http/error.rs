//! Every response that is not a success: one table from the error to status, code and text.
//!
//! Clients see `{"error": "<text>", "code": "<snake_case>"}` and never a `message` field, because the Python client
//! would append it to the text. Internal details of a 5xx are a response extension, [`Internal`], which the middleware
//! logs once; they never reach the client.

use std::borrow::Cow;

use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use super::backup::row_of as backup_row;
use super::conditional::tag_of_revision;
use super::output;
use crate::backup::{CutError, MakeError};
use crate::clock::Held;
use crate::db;
use crate::error_chain::with_causes;
use crate::model::{InvalidKey, InvalidUserId};

/// The challenge of every 401. `X-API-Key` has no registered scheme to name.
const CHALLENGE: HeaderValue = HeaderValue::from_static("Bearer realm=\"progressdb\"");

/// Why a request is refused.
#[derive(Debug)]
pub(super) enum Error {
    /// An error of the database.
    Db(db::Error),
    /// No API key, or one that is not configured.
    Unauthorized,
    /// The address or the role may not do this.
    Forbidden,
    /// The bucket of this key and user is empty.
    RateLimited { retry_after_s: u64 },
    /// A frontend key without a signature.
    SignatureRequired,
    /// A frontend key without a user.
    UserIdMissing,
    /// No signing key made this signature.
    InvalidSignature,
    /// A backend key that does not say for whom.
    AuthorRequired,
    /// More bytes than a user id may have.
    AuthorTooLong,
    /// An author that is not a valid user id for another reason.
    InvalidAuthor(InvalidUserId),
    /// `?author=` names another user than the signed one.
    AuthorMismatch,
    /// No such path.
    NotFound,
    /// The path exists, the method does not.
    MethodNotAllowed,
    /// The path or query segment named here does not decode.
    Malformed(&'static str),
    /// A key that does not parse.
    InvalidKey(InvalidKey),
    /// A caller's user id that does not parse.
    InvalidUserId(InvalidUserId),
    /// A user id in a path or cursor of the administrator's that does not parse.
    InvalidUserIdFormat,
    /// Parameters of a page that contradict each other or are out of range.
    InvalidPagination(Cow<'static, str>),
    /// A header that does not parse.
    InvalidHeader(&'static str),
    /// Several lines of a header that must occur once.
    RepeatedHeader(&'static str),
    /// A condition that is neither `*` nor a list of entity tags.
    InvalidCondition(&'static str),
    /// A condition on a create, where there is nothing to check it against.
    ConditionOnCreate(&'static str),
    /// `If-Match` names another representation than this one.
    PreconditionFailed { current: HeaderValue },
    /// No `Host`, more than one, or one that is invalid.
    InvalidHost,
    /// An expectation other than `100-continue`.
    ExpectationFailed,
    /// A transfer coding other than `chunked`.
    UnsupportedTransferCoding,
    /// A body that is compressed.
    UnsupportedContentCoding,
    /// A body that is not the JSON that this route takes; the text is the whole message.
    InvalidInput(&'static str),
    /// Fields of the right type with wrong content, joined with `; `.
    Validation(String),
    /// More bytes than `server.max_payload_size`.
    BodyTooLarge { limit: usize },
    /// The body did not arrive in time.
    BodyTimeout,
    /// The client ended in the middle of its body, or its framing is invalid.
    BodyBroken,
    /// All bodies together are at their limit.
    BodiesFull,
    /// All responses that are being sent are at their limit together.
    ResponsesFull,
    /// No signing key is configured.
    SigningKeysMissing,
    /// The store has no row of that name.
    RowNotFound,
    /// The machine's clock shows an impossible time.
    ClockImpossible,
    /// Not opened yet, or about to stop.
    NotReady { reason: &'static str },
    /// An audited action is refused because the log cannot be written.
    AuditUnwritable,
    /// No backup was made.
    Backup(MakeError),
    /// A response that could not be written as JSON.
    Encoding(serde_json::Error),
}

impl From<db::Error> for Error {
    fn from(error: db::Error) -> Self {
        Self::Db(error)
    }
}

impl From<InvalidKey> for Error {
    fn from(error: InvalidKey) -> Self {
        Self::InvalidKey(error)
    }
}

/// Internal details, for the log only.
#[derive(Clone)]
pub(super) struct Internal(pub(super) String);

/// The body of every error.
#[derive(Serialize, ToSchema)]
#[schema(as = Error, example = json!({"error": "thread not found", "code": "thread_not_found"}))]
pub(super) struct ErrorBody<'a> {
    /// For people.
    error: &'a str,
    /// For programs; stable.
    #[schema(pattern = "^[a-z_]+$")]
    code: &'a str,
    /// Why the server is not ready.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    reason: Option<&'a str>,
}

/// Status, code and text.
pub(super) type Row = (StatusCode, &'static str, Cow<'static, str>);

pub(super) fn row(status: StatusCode, code: &'static str, text: impl Into<Cow<'static, str>>) -> Row {
    (status, code, text.into())
}

impl Error {
    /// The table.
    fn row(&self) -> Row {
        use StatusCode as S;
        match self {
            Self::Db(error) => db_row(error),
            Self::Unauthorized => row(S::UNAUTHORIZED, "unauthorized", "unauthorized"),
            Self::Forbidden => row(S::FORBIDDEN, "forbidden", "forbidden"),
            Self::RateLimited { .. } => row(S::TOO_MANY_REQUESTS, "rate_limited", "rate limit exceeded"),
            Self::SignatureRequired => row(S::UNAUTHORIZED, "signature_required", "signature required"),
            Self::UserIdMissing => row(S::UNAUTHORIZED, "user_id_missing", "missing user id"),
            Self::InvalidSignature => row(S::UNAUTHORIZED, "invalid_signature", "invalid signature"),
            Self::AuthorRequired => row(S::BAD_REQUEST, "author_required", "author required for backend requests"),
            Self::AuthorTooLong => row(S::BAD_REQUEST, "author_too_long", "author too long"),
            Self::InvalidAuthor(why) => row(S::BAD_REQUEST, "invalid_author", format!("invalid author: {why}")),
            Self::AuthorMismatch => {
                row(S::FORBIDDEN, "author_mismatch", "author mismatch between signature and query param")
            }
            Self::NotFound => row(S::NOT_FOUND, "not_found", "not found"),
            Self::MethodNotAllowed => row(S::METHOD_NOT_ALLOWED, "method_not_allowed", "method not allowed"),
            Self::Malformed(what) => row(S::BAD_REQUEST, "malformed_request", format!("malformed {what}")),
            Self::InvalidKey(why) => row(S::BAD_REQUEST, "invalid_key", why.to_string()),
            Self::InvalidUserId(why) => row(S::BAD_REQUEST, "invalid_user_id", format!("invalid user ID: {why}")),
            Self::InvalidUserIdFormat => row(S::BAD_REQUEST, "invalid_user_id", "invalid userID format"),
            Self::InvalidPagination(why) => {
                row(S::BAD_REQUEST, "invalid_pagination", format!("invalid pagination: {why}"))
            }
            Self::InvalidHeader(name) => row(S::BAD_REQUEST, "invalid_header", format!("malformed header: {name}")),
            Self::RepeatedHeader(name) => {
                row(S::BAD_REQUEST, "invalid_header", format!("malformed header: {name}: want it once"))
            }
            Self::InvalidCondition(name) => row(
                S::BAD_REQUEST,
                "invalid_header",
                format!("malformed header: {name}: want * or entity tags in quotes, such as \"1\""),
            ),
            Self::ConditionOnCreate(name) => row(
                S::BAD_REQUEST,
                "condition_on_create",
                format!(
                    "{name} cannot be checked on a create: leave it out; Idempotency-Key keeps a create from happening twice"
                ),
            ),
            Self::PreconditionFailed { .. } => row(S::PRECONDITION_FAILED, "precondition_failed", PRECONDITION_FAILED),
            Self::InvalidHost => {
                row(S::BAD_REQUEST, "invalid_host", "want one Host header: a name or address, and perhaps a port")
            }
            Self::ExpectationFailed => {
                row(S::EXPECTATION_FAILED, "expectation_failed", "the only expectation supported is 100-continue")
            }
            Self::UnsupportedTransferCoding => {
                row(S::NOT_IMPLEMENTED, "unsupported_transfer_coding", "the only transfer coding supported is chunked")
            }
            Self::UnsupportedContentCoding => row(
                S::UNSUPPORTED_MEDIA_TYPE,
                "unsupported_content_coding",
                "no content coding is supported: send the body as it is, without Content-Encoding",
            ),
            Self::InvalidInput(text) => row(S::BAD_REQUEST, "invalid_payload", *text),
            Self::Validation(errors) => {
                row(S::BAD_REQUEST, "validation_failed", format!("validation errors: {errors}"))
            }
            Self::BodyTooLarge { limit } => {
                row(S::PAYLOAD_TOO_LARGE, "payload_too_large", format!("payload too large (maximum {limit} bytes)"))
            }
            Self::BodyTimeout => row(S::REQUEST_TIMEOUT, "body_timeout", "request body did not arrive in time"),
            Self::BodyBroken => row(S::BAD_REQUEST, "body_broken", "request body could not be read"),
            Self::BodiesFull => row(S::SERVICE_UNAVAILABLE, "bodies_full", "server busy; try again"),
            Self::ResponsesFull => {
                row(S::SERVICE_UNAVAILABLE, "replies_full", "server busy sending; try again, or ask for less")
            }
            Self::SigningKeysMissing => {
                row(S::INTERNAL_SERVER_ERROR, "signing_keys_missing", "signing keys not configured")
            }
            Self::RowNotFound => row(S::NOT_FOUND, "key_not_found", "key not found"),
            Self::ClockImpossible => {
                row(S::CONFLICT, "clock_impossible", "the server's clock shows an impossible time: set it right first")
            }
            Self::NotReady { .. } => row(S::SERVICE_UNAVAILABLE, "not_ready", "not ready"),
            Self::AuditUnwritable => {
                row(S::SERVICE_UNAVAILABLE, "audit_unavailable", "not done: the server's audit log cannot be written")
            }
            Self::Backup(error) => backup_row(error),
            Self::Encoding(_) => row(S::INTERNAL_SERVER_ERROR, "internal", "internal error"),
        }
    }

    /// The limit that was reached, for metrics.
    fn limit(&self) -> Option<&'static str> {
        match self {
            Self::RateLimited { .. } => Some("rate"),
            Self::BodyTooLarge { .. } => Some("body_bytes"),
            Self::BodiesFull => Some("body_memory"),
            Self::ResponsesFull => Some("reply_memory"),
            Self::BodyTimeout => Some("body_time"),
            Self::Db(db::Error::Busy) => Some("writes"),
            Self::AuditUnwritable => Some("audit"),
            _ => None,
        }
    }

    /// When to try again, in seconds: each 429 and 503 says so.
    fn retry_after_s(&self, status: StatusCode) -> Option<u64> {
        match self {
            Self::RateLimited { retry_after_s } => Some(*retry_after_s),
            Self::Db(db::Error::KmsUnavailable { .. }) | Self::AuditUnwritable => Some(10),
            Self::Backup(MakeError::Cut(CutError::TooMany)) => Some(60),
            Self::Db(db::Error::ClockHeld(Held { retry_after: left, .. }) | db::Error::ClockSettling { left }) => {
                Some(left.as_secs().max(1))
            }
            _ => (status == StatusCode::SERVICE_UNAVAILABLE).then_some(1),
        }
    }

    /// Headers that the status demands.
    fn write_headers(&self, status: StatusCode, headers: &mut HeaderMap) {
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, CHALLENGE);
        }
        if let Some(seconds) = self.retry_after_s(status) {
            headers.insert(header::RETRY_AFTER, seconds.into());
        }
        match self {
            Self::Db(db::Error::PreconditionFailed { current }) => {
                headers.insert(header::ETAG, tag_of_revision(*current));
            }
            Self::PreconditionFailed { current } => {
                headers.insert(header::ETAG, current.clone());
            }
            Self::UnsupportedContentCoding => {
                headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
            }
            // The rest of what the client sends on this connection cannot be trusted, or is not worth waiting for.
            Self::BodyTimeout | Self::InvalidHost | Self::UnsupportedTransferCoding => {
                headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
            }
            _ => {}
        }
    }

    /// Details for the log only.
    fn internal(&self) -> Option<String> {
        let error: &(dyn std::error::Error + 'static) = match self {
            Self::Backup(error) if backup_row(error).0 == StatusCode::INTERNAL_SERVER_ERROR => error,
            Self::Db(error @ (db::Error::Corrupt { .. } | db::Error::Store(_) | db::Error::KmsUnavailable { .. })) => {
                error
            }
            Self::Encoding(error) => error,
            _ => return None,
        };
        Some(with_causes(error))
    }
}

const PRECONDITION_FAILED: &str = "precondition failed: changed since it was read";

fn db_row(error: &db::Error) -> Row {
    use StatusCode as S;
    use db::Error as E;
    match error {
        E::AccessDenied => row(S::FORBIDDEN, "access_denied", "access denied: not thread owner or participant"),
        E::ThreadNotFound => row(S::NOT_FOUND, "thread_not_found", "thread not found"),
        E::MessageNotFound => row(S::NOT_FOUND, "message_not_found", "message not found"),
        E::MessageNotInThread => row(S::NOT_FOUND, "message_not_in_thread", "message not found in thread"),
        E::ParentNotFound => {
            row(S::BAD_REQUEST, "parent_not_found", "validation errors: reply_to: message not found in thread")
        }
        E::PreconditionFailed { .. } => row(S::PRECONDITION_FAILED, "precondition_failed", PRECONDITION_FAILED),
        E::IdempotencyMismatch => {
            row(S::UNPROCESSABLE_ENTITY, "idempotency_mismatch", "idempotency key already used for a different request")
        }
        E::Erased => row(S::NOT_FOUND, "thread_not_found", "thread not found"),
        E::EncryptionDisabled => {
            row(S::CONFLICT, "encryption_disabled", "encryption is disabled: set encryption.enabled and restart")
        }
        E::KmsUnavailable { .. } => {
            row(S::SERVICE_UNAVAILABLE, "kms_unavailable", "the key management service is not available")
        }
        E::RetentionDisabled => row(S::CONFLICT, "retention_disabled", "retention is disabled"),
        E::ClockHeld(_) => row(
            S::SERVICE_UNAVAILABLE,
            "clock_jumped",
            "writes refused: the server's clock jumped ahead; set it right, or accept it with POST /admin/clock",
        ),
        E::ClockSettling { .. } => row(
            S::SERVICE_UNAVAILABLE,
            "clock_settling",
            "nothing is removed yet: the server's clock was set less than a minute ago",
        ),
        E::Busy => row(S::SERVICE_UNAVAILABLE, "busy", "server busy; try again"),
        E::DiskFull => row(S::INSUFFICIENT_STORAGE, "disk_full", "writes refused: the server's disk is almost full"),
        E::Stopped => row(S::SERVICE_UNAVAILABLE, "stopped", "server shutting down"),
        E::Unavailable => row(S::SERVICE_UNAVAILABLE, "unavailable", "the storage engine does not answer; try again"),
        E::TooLarge { bytes, most } => row(
            S::PAYLOAD_TOO_LARGE,
            "payload_too_large",
            format!("the write carries {bytes} bytes, and the storage engine takes {most} at once"),
        ),
        E::Unsupported => row(
            S::NOT_IMPLEMENTED,
            "unsupported",
            "the storage engine of this server cannot do this; see docs/fleet.md",
        ),
        E::Corrupt { .. } | E::Store(_) => row(S::INTERNAL_SERVER_ERROR, "internal", "internal error"),
    }
}

/// A refusal by a listener that is not part of the API, in the words of the API's errors.
pub(crate) fn refusal(status: StatusCode, code: &str, text: impl AsRef<str>) -> Response {
    output::json(status, &ErrorBody { error: text.as_ref(), code, reason: None })
}

impl IntoResponse for Error {
    fn into_response(self) -> Response {
        if let Some(limit) = self.limit() {
            metrics::counter!("progressdb_http_rejections_total", "limit" => limit).increment(1);
        }
        let (status, code, text) = self.row();
        let reason = if let Self::NotReady { reason } = self { Some(reason) } else { None };
        let mut response = output::json(status, &ErrorBody { error: &text, code, reason });
        self.write_headers(status, response.headers_mut());
        if let Some(text) = self.internal() {
            response.extensions_mut().insert(Internal(text));
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// One row of the table as a client sees it.
    fn check(error: impl Into<Error>, status: u16, code: &str, text: &str) {
        let (got_status, got_code, got_text) = error.into().row();
        assert_eq!((got_status.as_u16(), got_code, &*got_text), (status, code, text));
    }

    #[test]
    fn texts_are_those_that_clients_know() {
        check(Error::Unauthorized, 401, "unauthorized", "unauthorized");
        check(Error::AuthorRequired, 400, "author_required", "author required for backend requests");
        check(db::Error::AccessDenied, 403, "access_denied", "access denied: not thread owner or participant");
        check(db::Error::ThreadNotFound, 404, "thread_not_found", "thread not found");
        check(db::Error::MessageNotInThread, 404, "message_not_in_thread", "message not found in thread");
        check(InvalidKey::ThreadWanted, 400, "invalid_key", "expected thread key, got message");
        check(
            Error::InvalidPagination("limit must be at least 1".into()),
            400,
            "invalid_pagination",
            "invalid pagination: limit must be at least 1",
        );
        check(
            Error::Validation("title: cannot be empty".into()),
            400,
            "validation_failed",
            "validation errors: title: cannot be empty",
        );
    }

    #[test]
    fn internal_details_are_for_the_log_only() {
        let error = Error::Db(db::Error::Corrupt { key: "secret-row".into() });
        assert_eq!(error.row().2, "internal error");
        let response = error.into_response();
        assert_eq!(response.extensions().get::<Internal>().map(|i| i.0.as_str()), Some("row secret-row is damaged"));
    }

    #[test]
    fn a_failed_precondition_names_the_current_revision() {
        let response = Error::Db(db::Error::PreconditionFailed { current: 7 }).into_response();
        assert_eq!(response.headers()[header::ETAG], "\"7\"");
    }

    #[test]
    fn a_clock_that_is_held_says_when_to_try_again() {
        let held = Held { ahead: Duration::from_hours(70), retry_after: Duration::from_millis(41_500) };
        for (error, seconds) in
            [(db::Error::ClockHeld(held), "41"), (db::Error::ClockSettling { left: Duration::from_millis(200) }, "1")]
        {
            let response = Error::Db(error).into_response();
            assert_eq!(
                (response.status(), &response.headers()[header::RETRY_AFTER]),
                (StatusCode::SERVICE_UNAVAILABLE, &HeaderValue::from_static(seconds))
            );
        }
    }

    #[test]
    fn every_error_is_json() {
        let response = Error::NotReady { reason: "opening" }.into_response();
        assert_eq!(response.headers()[header::CONTENT_TYPE], "application/json");
        assert_eq!(response.headers()[header::RETRY_AFTER], "1");
    }
}
