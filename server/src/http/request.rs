//! One request as handlers see it: path segments, caller, options and body, each parsed on demand into a checked type.
//!
//! Segments are matched raw and decoded here, so `%2F` stays inside its segment and `.`, `..` and `//` mean nothing.
//! Handlers parse in the order in which the contract checks: on writes keys, author, body; on reads the author first.

use std::borrow::Cow;
use std::convert::Infallible;
use std::mem;

use aws_lc_rs::digest;
use axum::body::Body;
use axum::extract::FromRequestParts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, header, request::Parts};
use axum::response::Response;
use percent_encoding::percent_decode_str;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::App;
use super::auth::{Access, user_header};
use super::conditional::{Conditions, Verdict, tag_of_bytes, tag_of_revision};
use super::error::Error;
use super::head;
use super::input;
use super::limits::{self, ReceivedBody};
use super::output;
use crate::backup::Backups;
use crate::db::{self, Caller, Db, Idempotency, WriteOptions};
use crate::model::{InvalidKey, InvalidUserId, MessageKey, ThreadId, UserId};

pub(super) const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
const PREFER: HeaderName = HeaderName::from_static("prefer");
const MAX_IDEMPOTENCY_KEY_BYTES: usize = 255;

/// A request on its way through its handler, but for its body.
pub(super) struct Request {
    app: App,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    access: Access,
}

impl FromRequestParts<App> for Request {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Infallible> {
        Ok(Self {
            app: app.clone(),
            method: parts.method.clone(),
            uri: mem::take(&mut parts.uri),
            headers: mem::take(&mut parts.headers),
            access: parts.extensions.remove().unwrap_or(Access::Unbound),
        })
    }
}

impl Request {
    pub(super) fn app(&self) -> &App {
        &self.app
    }

    /// The database; an error until it is open.
    pub(super) fn db(&self) -> Result<&Db, Error> {
        self.app.db().ok_or(Error::NotReady { reason: self.app.opening() })
    }

    /// What makes backups; an error until the database is open.
    pub(super) fn backups(&self) -> Result<&Backups, Error> {
        let backups = self.app.backups().ok_or(Error::NotReady { reason: self.app.opening() })?;
        backups.ok_or(Error::Db(db::Error::Unsupported))
    }

    pub(super) fn query(&self) -> Query<'_> {
        Query::new(self.uri.query())
    }

    /// The thread that path segment `index` names.
    pub(super) fn thread(&self, index: usize) -> Result<ThreadId, Error> {
        self.segment(index).ok_or(InvalidKey::Thread)?.parse().map_err(Error::InvalidKey)
    }

    /// The message that path segment `index` names.
    pub(super) fn message(&self, index: usize) -> Result<MessageKey, Error> {
        self.segment(index).ok_or(InvalidKey::Message)?.parse().map_err(Error::InvalidKey)
    }

    /// The user that path segment `index` names.
    pub(super) fn user(&self, index: usize) -> Result<UserId, Error> {
        let text = self.segment(index).ok_or(Error::Malformed("userID"))?;
        UserId::parse(&text).map_err(|_| Error::InvalidUserIdFormat)
    }

    /// Path segment `index`, counted from 0, decoded; none if it is no text.
    pub(super) fn segment(&self, index: usize) -> Option<Cow<'_, str>> {
        // The path starts with a slash, so the split starts with an empty piece.
        self.uri.path().split('/').nth(index + 1).and_then(decode)
    }

    /// For whom the request is made: the signed user, or whom a backend key names.
    pub(super) fn caller(&self) -> Result<Caller, Error> {
        match &self.access {
            Access::Signed(user) => match author(self.query())? {
                Some(other) if other.trim() != user.as_str() => Err(Error::AuthorMismatch),
                _ => Ok(Caller { user: user.clone() }),
            },
            Access::Backend => Ok(Caller { user: named_user(&self.headers, self.query())? }),
            Access::Unbound => Err(Error::Unauthorized),
        }
    }

    /// Refuses everybody but a backend key.
    pub(super) fn check_backend(&self) -> Result<(), Error> {
        if matches!(self.access, Access::Backend) { Ok(()) } else { Err(Error::Forbidden) }
    }

    /// Idempotency key and conditions of a change with this `body`.
    pub(super) fn write_options(&self, body: &[u8]) -> Result<WriteOptions, Error> {
        let idempotency = self.idempotency(body)?;
        let (if_match, if_none_match) = Conditions::of(&self.headers)?.of_change();
        Ok(WriteOptions { idempotency, if_match, if_none_match })
    }

    /// Idempotency key of a create with this `body`; conditions are refused.
    pub(super) fn create_options(&self, body: &[u8]) -> Result<WriteOptions, Error> {
        let idempotency = self.idempotency(body)?;
        Conditions::of(&self.headers)?.check_create()?;
        Ok(WriteOptions { idempotency, ..WriteOptions::default() })
    }

    /// A 200 with an object whose `ETag` is its revision, or what the conditions make of it.
    pub(super) fn show_object<T: Serialize>(
        &self,
        value: &T,
        revision: u64,
        storing: Storing,
    ) -> Result<Response, Error> {
        let tag = tag_of_revision(revision);
        match Conditions::of(&self.headers)?.evaluate(&tag) {
            Verdict::Fresh => Ok(tagged(output::json(StatusCode::OK, value), tag, storing)),
            verdict => unchanged_or_refused(verdict, tag, storing),
        }
    }

    /// A 200 with a page whose `ETag` is a digest of its bytes, or what the conditions make of it.
    pub(super) fn show_page<T: Serialize>(&self, value: &T) -> Result<Response, Error> {
        let bytes = serde_json::to_vec(value).map_err(Error::Encoding)?;
        self.show_tagged(tag_of_bytes(&bytes), || Ok(bytes))
    }

    /// A 200 with JSON whose `ETag` is known before it is written, or what the conditions make of it.
    pub(super) fn show_tagged(
        &self,
        tag: HeaderValue,
        write: impl FnOnce() -> Result<Vec<u8>, Error>,
    ) -> Result<Response, Error> {
        let storing = Storing::Revalidate;
        match Conditions::of(&self.headers)?.evaluate(&tag) {
            Verdict::Fresh => Ok(tagged(output::json_text(StatusCode::OK, write()?), tag, storing)),
            verdict => unchanged_or_refused(verdict, tag, storing),
        }
    }

    fn idempotency(&self, body: &[u8]) -> Result<Option<Idempotency>, Error> {
        let Some(value) = self.headers.get(IDEMPOTENCY_KEY) else { return Ok(None) };
        let key = value.to_str().map_err(|_| Error::InvalidHeader("Idempotency-Key"))?;
        let fine = (1..=MAX_IDEMPOTENCY_KEY_BYTES).contains(&key.len()) && key.bytes().all(|b| b.is_ascii_graphic());
        if !fine {
            return Err(Error::InvalidHeader("Idempotency-Key"));
        }
        // Only this parameter makes the same path another request.
        let erases = self.method == Method::DELETE && self.query().get("purge")?.as_deref() == Some("true");
        // Neither methods nor keys have line feeds, so the parts are separate.
        let mut hash = digest::Context::new(&digest::SHA256);
        hash.update(self.method.as_str().as_bytes());
        hash.update(b"\n");
        hash.update(&Cow::from(percent_decode_str(self.uri.path())));
        hash.update(if erases { b"?purge=true\n" } else { b"\n" });
        hash.update(body);
        let mut request = [0; 32];
        request.copy_from_slice(hash.finish().as_ref());
        Ok(Some(Idempotency { key: key.to_owned(), request }))
    }

    /// Whether the client wants the object back.
    pub(super) fn wants_representation(&self) -> bool {
        let preferences = self.headers.get_all(PREFER).iter().filter_map(|value| value.to_str().ok());
        preferences
            .flat_map(|text| text.split(','))
            .any(|one| one.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case("return=representation"))
    }

    /// The whole `body` of this request, within the limits.
    pub(super) async fn read(&self, body: Body) -> Result<ReceivedBody, Error> {
        head::check_content_coding(&self.headers)?;
        limits::read(body, self.headers.contains_key(header::EXPECT), self.app.limits()).await
    }

    /// Options in the body, or the defaults if there is none.
    pub(super) async fn options<T: Default + DeserializeOwned>(&self, body: Body) -> Result<T, Error> {
        let bytes = self.read(body).await?;
        if bytes.is_empty() { Ok(T::default()) } else { input::parse(&bytes, "invalid request") }
    }
}

/// The user that a backend key names: in `X-User-ID`, else in `?author=`.
pub(super) fn named_user(headers: &HeaderMap, query: Query<'_>) -> Result<UserId, Error> {
    let author = author(query)?;
    let named = user_header(headers).or(author).ok_or(Error::AuthorRequired)?;
    UserId::of_request(named.trim()).map_err(|why| match why {
        InvalidUserId::TooLong => Error::AuthorTooLong,
        InvalidUserId::Empty => Error::AuthorRequired,
        why @ (InvalidUserId::ControlCharacter | InvalidUserId::Padded) => Error::InvalidAuthor(why),
    })
}

fn author(query: Query<'_>) -> Result<Option<Cow<'_, str>>, Error> {
    Ok(query.get("author")?.filter(|text| !text.trim().is_empty()))
}

/// Whether a browser may keep a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Storing {
    /// It may, and asks with its `ETag` before it shows it again.
    Revalidate,
    /// It may not.
    Never,
}

/// The response to a read whose conditions do not hold.
fn unchanged_or_refused(verdict: Verdict, tag: HeaderValue, storing: Storing) -> Result<Response, Error> {
    if verdict == Verdict::Failed {
        return Err(Error::PreconditionFailed { current: tag });
    }
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NOT_MODIFIED;
    Ok(tagged(response, tag, storing))
}

/// Says which representation this is, for whom, and what a cache may do with it.
fn tagged(mut response: Response, tag: HeaderValue, storing: Storing) -> Response {
    let headers = response.headers_mut();
    headers.insert(header::ETAG, tag);
    headers.insert(header::VARY, HeaderValue::from_static("Authorization, X-API-Key, X-User-ID"));
    if storing == Storing::Revalidate {
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("private, no-cache"));
    }
    response
}

/// The parameters of a query; the first of a name counts.
#[derive(Clone, Copy)]
pub(super) struct Query<'q>(&'q str);

impl<'q> Query<'q> {
    pub(super) fn new(query: Option<&'q str>) -> Self {
        Self(query.unwrap_or_default())
    }

    /// The decoded value of `name`.
    pub(super) fn get(self, name: &'static str) -> Result<Option<Cow<'q, str>>, Error> {
        let value = self.0.split('&').find_map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            (key == name).then_some(value)
        });
        let Some(value) = value else { return Ok(None) };
        let decoded = if value.contains('+') {
            decode(&value.replace('+', " ")).map(|text| Cow::Owned(text.into_owned()))
        } else {
            decode(value)
        };
        decoded.map(Some).ok_or(Error::Malformed(name))
    }
}

/// Percent-decodes `text`; none if an escape is cut short or the bytes are no UTF-8.
fn decode(text: &str) -> Option<Cow<'_, str>> {
    if !text.contains('%') {
        return Some(Cow::Borrowed(text));
    }
    let whole =
        text.split('%').skip(1).all(|rest| rest.len() >= 2 && rest.bytes().take(2).all(|b| b.is_ascii_hexdigit()));
    if !whole {
        return None;
    }
    percent_decode_str(text).decode_utf8().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_decode_once_and_strictly() {
        assert_eq!(decode("t:1").as_deref(), Some("t:1"));
        assert_eq!(decode("t%3A1%3a").as_deref(), Some("t:1:"));
        assert_eq!(decode("a%2Fb").as_deref(), Some("a/b"));
        assert_eq!(decode("a%252Fb").as_deref(), Some("a%2Fb"));
        assert_eq!(decode("%00").as_deref(), Some("\0"));
        for broken in ["%", "%a", "a%zz", "%%41", "%ff", "%c3"] {
            assert_eq!(decode(broken), None, "{broken}");
        }
    }

    #[test]
    fn the_first_parameter_of_a_name_counts() {
        let get = |query, name| Query::new(Some(query)).get(name).map(|v| v.map(Cow::into_owned)).map_err(|_| ());
        assert_eq!(get("a=1&b=2&a=3", "a"), Ok(Some("1".into())));
        assert_eq!(get("a&b=x+y%2B", "a"), Ok(Some(String::new())));
        assert_eq!(get("a&b=x+y%2B", "b"), Ok(Some("x y+".into())));
        assert_eq!(get("a=%zz", "a"), Err(()));
        assert_eq!(get("a=%zz", "b"), Ok(None));
    }
}
