//! Memory for responses that are being sent: what the server has written and the client has not received yet.
//!
//! A response counts from the end of its handler until its last byte is sent or its connection ends. When there is no
//! room, a read is refused. A write is done by then, so its response is never withheld: it is cut down to the key if
//! the client asked for more. One user gets a quarter at most, or one response, so that a client that does not read
//! cannot keep all others waiting. Responses of a few kilobytes do not count: connections bound them, because each has
//! one response at a time.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::body::{Body, HttpBody as _};
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use http_body_util::BodyExt as _;
use metrics::Gauge;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::http::activity::{Activity, Sending};
use crate::http::error::Error;
use crate::http::output::PREFERENCE_APPLIED;
use crate::model::UserId;

/// Up to this many bytes a response does not count.
const SMALL: u64 = 4 << 10;

/// What is sent in place of a response that there is no room for; an extension of responses.
#[derive(Clone)]
pub(in crate::http) struct Brief(pub(in crate::http) Bytes);

/// One user has at most this part of the memory.
const PART_OF_ONE: usize = 4;

/// Memory for all responses together, in bytes.
pub(in crate::http) struct ResponseMemory {
    free: Arc<Semaphore>,
    total: usize,
    users: Arc<Users>,
    used: Gauge,
}

/// The share of one response.
struct Share {
    permit: OwnedSemaphorePermit,
    _user: Option<UserShare>,
    used: Gauge,
}

impl Drop for Share {
    fn drop(&mut self) {
        self.used.decrement(self.permit.num_permits() as f64);
    }
}

/// The bytes that are being sent to each user, where there are any.
#[derive(Default)]
struct Users(Mutex<HashMap<UserId, usize>>);

impl Users {
    fn lock(&self) -> MutexGuard<'_, HashMap<UserId, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts `bytes` for `user`, unless they come on top of others and exceed `limit` with them.
    fn add(self: &Arc<Self>, user: UserId, bytes: usize, limit: usize) -> Option<UserShare> {
        let mut users = self.lock();
        let before = users.get(&user).copied().unwrap_or(0);
        if before > 0 && before + bytes > limit {
            return None;
        }
        users.insert(user.clone(), before + bytes);
        Some(UserShare { users: self.clone(), user, bytes })
    }
}

/// The bytes of one response that count for its user.
struct UserShare {
    users: Arc<Users>,
    user: UserId,
    bytes: usize,
}

impl Drop for UserShare {
    fn drop(&mut self) {
        let mut users = self.users.lock();
        let rest = users.get(&self.user).copied().unwrap_or(0).saturating_sub(self.bytes);
        if rest == 0 {
            users.remove(&self.user);
        } else {
            users.insert(self.user.clone(), rest);
        }
    }
}

/// Who receives a response.
#[derive(Default)]
pub(in crate::http) struct Recipient {
    /// None if nobody is named, as by administrators.
    pub(in crate::http) user: Option<UserId>,
    /// The connection, which ends when the response is not received in time.
    pub(in crate::http) activity: Option<Arc<Activity>>,
}

/// The bytes of a response, and what is released when they are sent.
struct Held {
    bytes: Bytes,
    _share: Share,
    _sending: Option<Sending>,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl ResponseMemory {
    /// A budget of `bytes`, whose use metrics show under `kind`.
    pub(in crate::http) fn new(bytes: usize, kind: &'static str) -> Self {
        let total = bytes.min(Semaphore::MAX_PERMITS);
        let used = metrics::gauge!("progressdb_http_reply_bytes", "kind" => kind);
        used.set(0.0);
        Self { free: Arc::new(Semaphore::new(total)), total, users: Arc::default(), used }
    }

    /// The response to send: this one, or what takes its place when there is no room for it.
    pub(in crate::http) async fn hold(&self, response: Response, is_read: bool, recipient: Recipient) -> Response {
        let (mut parts, body) = response.into_parts();
        let brief = parts.extensions.remove::<Brief>();
        // Every body here is complete; a stream would have to be counted piece by piece.
        let length = body.size_hint().exact().unwrap_or(0);
        if length <= SMALL {
            return Response::from_parts(parts, body);
        }
        let Some(share) = self.take(length, recipient.user) else {
            return match brief {
                Some(Brief(bytes)) => {
                    parts.headers.remove(PREFERENCE_APPLIED);
                    Response::from_parts(parts, Body::from(bytes))
                }
                None if is_read => Error::ResponsesFull.into_response(),
                None => Response::from_parts(parts, body),
            };
        };
        let Ok(bytes) = body.collect().await.map(http_body_util::Collected::to_bytes) else {
            return Error::ResponsesFull.into_response();
        };
        let held =
            Bytes::from_owner(Held { bytes, _share: share, _sending: recipient.activity.as_ref().map(Sending::begin) });
        Response::from_parts(parts, Body::from(held))
    }

    /// A response that is larger than the whole budget takes all of it: it is sent when no other is.
    fn take(&self, length: u64, user: Option<UserId>) -> Option<Share> {
        let count = u32::try_from(length).unwrap_or(u32::MAX).min(u32::try_from(self.total).unwrap_or(u32::MAX));
        let user_share = match user {
            Some(user) => Some(self.users.add(user, count as usize, self.total / PART_OF_ONE)?),
            None => None,
        };
        let permit = self.free.clone().try_acquire_many_owned(count).ok()?;
        self.used.increment(f64::from(count));
        Some(Share { permit, _user: user_share, used: self.used.clone() })
    }
}

#[cfg(test)]
mod tests {
    use axum::http::{HeaderValue, StatusCode};

    use super::*;

    fn response(length: usize) -> Response {
        Response::new(Body::from(vec![b'x'; length]))
    }

    async fn body_of(response: Response) -> Bytes {
        response.into_body().collect().await.expect("a whole body").to_bytes()
    }

    #[tokio::test]
    async fn a_response_counts_until_its_last_byte_is_sent() {
        let memory = ResponseMemory::new(10_000, "test");
        let first = body_of(memory.hold(response(6_000), true, Recipient::default()).await).await;
        let refused = memory.hold(response(6_000), true, Recipient::default()).await;
        assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
        let rest = first.slice(5_999..);
        drop(first);
        assert_eq!(
            memory.hold(response(6_000), true, Recipient::default()).await.status(),
            StatusCode::SERVICE_UNAVAILABLE
        );
        drop(rest);
        assert_eq!(memory.hold(response(6_000), true, Recipient::default()).await.status(), StatusCode::OK);
    }

    #[tokio::test]
    async fn small_responses_do_not_count_and_one_that_is_too_large_takes_all() {
        let memory = ResponseMemory::new(10_000, "test");
        let large = memory.hold(response(20_000), true, Recipient::default()).await;
        assert_eq!(large.status(), StatusCode::OK);
        assert_eq!(
            memory.hold(response(4_097), true, Recipient::default()).await.status(),
            StatusCode::SERVICE_UNAVAILABLE
        );
        assert_eq!(memory.hold(response(4_096), true, Recipient::default()).await.status(), StatusCode::OK);
        drop(large);
        assert_eq!(memory.hold(response(4_097), true, Recipient::default()).await.status(), StatusCode::OK);
    }

    #[tokio::test]
    async fn one_user_gets_a_part_or_one_response() {
        let memory = ResponseMemory::new(40_000, "test");
        let hold = async |user: &str, length| {
            let user = UserId::parse(user).ok();
            memory.hold(response(length), true, Recipient { user, activity: None }).await
        };
        let first = hold("ann", 6_000).await;
        assert_eq!(hold("ann", 6_000).await.status(), StatusCode::SERVICE_UNAVAILABLE);
        let large = hold("bob", 20_000).await;
        assert_eq!((first.status(), large.status()), (StatusCode::OK, StatusCode::OK));
        assert_eq!(hold("bob", 5_000).await.status(), StatusCode::SERVICE_UNAVAILABLE);
        drop((first, large));
        assert_eq!(hold("ann", 10_000).await.status(), StatusCode::OK);
        assert!(memory.users.lock().is_empty());
    }

    #[tokio::test]
    async fn the_response_to_a_write_is_cut_down_and_never_withheld() {
        let memory = ResponseMemory::new(10_000, "test");
        let _large = memory.hold(response(10_000), true, Recipient::default()).await;
        let mut represented = response(5_000);
        represented.headers_mut().insert(PREFERENCE_APPLIED, HeaderValue::from_static("return=representation"));
        represented.extensions_mut().insert(Brief(Bytes::from_static(b"brief")));
        let sent = memory.hold(represented, false, Recipient::default()).await;
        assert_eq!((sent.status(), sent.headers().len()), (StatusCode::OK, 0));
        assert_eq!(body_of(sent).await, "brief");
        let sent = memory.hold(response(5_000), false, Recipient::default()).await;
        assert_eq!(body_of(sent).await.len(), 5_000);
    }
}
