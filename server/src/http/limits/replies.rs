//! Memory for replies under way: what was written for a client, and what the client has not taken yet.
//!
//! A reply counts from the end of its handler until its last byte went out or its connection ended. When there is no
//! room, a read is refused. A write is done by then, so its answer is never withheld: it is cut down to its key if the
//! client asked for more. One user gets a quarter at most, or one reply, so that nobody keeps all others waiting by not
//! reading. Replies of a few kilobytes do not count; the number of connections bounds them, for a
//! connection has one reply at a time.

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

/// Up to this many bytes a reply does not count.
const SMALL: u64 = 4 << 10;

/// What is sent in place of a reply that there is no room for; an extension of replies.
#[derive(Clone)]
pub(in crate::http) struct Brief(pub(in crate::http) Bytes);

/// One user has at most this part of the memory.
const PART_OF_ONE: usize = 4;

/// Memory for all replies together, in bytes.
pub(in crate::http) struct ReplyMemory {
    free: Arc<Semaphore>,
    total: usize,
    users: Arc<Users>,
    used: Gauge,
}

/// The share of one reply.
struct Share {
    permit: OwnedSemaphorePermit,
    _of_user: Option<OfUser>,
    used: Gauge,
}

impl Drop for Share {
    fn drop(&mut self) {
        self.used.decrement(self.permit.num_permits() as f64);
    }
}

/// What is under way to each user that has something under way.
#[derive(Default)]
struct Users(Mutex<HashMap<UserId, usize>>);

impl Users {
    fn lock(&self) -> MutexGuard<'_, HashMap<UserId, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts `bytes` for `user`, unless they come on top of others and exceed `limit` with them.
    fn add(self: &Arc<Self>, user: UserId, bytes: usize, limit: usize) -> Option<OfUser> {
        let mut users = self.lock();
        let before = users.get(&user).copied().unwrap_or(0);
        if before > 0 && before + bytes > limit {
            return None;
        }
        users.insert(user.clone(), before + bytes);
        Some(OfUser { users: self.clone(), user, bytes })
    }
}

/// What one reply counts for its user.
struct OfUser {
    users: Arc<Users>,
    user: UserId,
    bytes: usize,
}

impl Drop for OfUser {
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

/// To whom a reply goes.
#[derive(Default)]
pub(in crate::http) struct Taker {
    /// None if nobody is named, as by administrators.
    pub(in crate::http) user: Option<UserId>,
    /// The connection, which ends when the reply is not taken in time.
    pub(in crate::http) activity: Option<Arc<Activity>>,
}

/// The bytes of a reply with all that goes when they go.
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

impl ReplyMemory {
    /// A budget of `bytes`, whose use is shown as that of `kind`.
    pub(in crate::http) fn new(bytes: usize, kind: &'static str) -> Self {
        let total = bytes.min(Semaphore::MAX_PERMITS);
        let used = metrics::gauge!("progressdb_http_reply_bytes", "kind" => kind);
        used.set(0.0);
        Self { free: Arc::new(Semaphore::new(total)), total, users: Arc::default(), used }
    }

    /// The reply to send: this one, or what takes its place when there is no room for it.
    pub(in crate::http) async fn hold(&self, response: Response, is_read: bool, taker: Taker) -> Response {
        let (mut parts, body) = response.into_parts();
        let brief = parts.extensions.remove::<Brief>();
        // Every body here is one that is whole; a stream would have to be counted piece by piece.
        let length = body.size_hint().exact().unwrap_or(0);
        if length <= SMALL {
            return Response::from_parts(parts, body);
        }
        let Some(share) = self.take(length, taker.user) else {
            return match brief {
                Some(Brief(bytes)) => {
                    parts.headers.remove(PREFERENCE_APPLIED);
                    Response::from_parts(parts, Body::from(bytes))
                }
                None if is_read => Error::RepliesFull.into_response(),
                None => Response::from_parts(parts, body),
            };
        };
        let Ok(bytes) = body.collect().await.map(http_body_util::Collected::to_bytes) else {
            return Error::RepliesFull.into_response();
        };
        let held =
            Bytes::from_owner(Held { bytes, _share: share, _sending: taker.activity.as_ref().map(Sending::begin) });
        Response::from_parts(parts, Body::from(held))
    }

    /// One that is larger than everything takes everything: it is sent when no other is.
    fn take(&self, length: u64, user: Option<UserId>) -> Option<Share> {
        let count = u32::try_from(length).unwrap_or(u32::MAX).min(u32::try_from(self.total).unwrap_or(u32::MAX));
        let of_user = match user {
            Some(user) => Some(self.users.add(user, count as usize, self.total / PART_OF_ONE)?),
            None => None,
        };
        let permit = self.free.clone().try_acquire_many_owned(count).ok()?;
        self.used.increment(f64::from(count));
        Some(Share { permit, _of_user: of_user, used: self.used.clone() })
    }
}

#[cfg(test)]
mod tests {
    use axum::http::{HeaderValue, StatusCode};

    use super::*;

    fn reply(length: usize) -> Response {
        Response::new(Body::from(vec![b'x'; length]))
    }

    async fn body_of(response: Response) -> Bytes {
        response.into_body().collect().await.expect("a whole body").to_bytes()
    }

    #[tokio::test]
    async fn a_reply_counts_until_its_last_byte_is_gone() {
        let memory = ReplyMemory::new(10_000, "test");
        let first = body_of(memory.hold(reply(6_000), true, Taker::default()).await).await;
        let refused = memory.hold(reply(6_000), true, Taker::default()).await;
        assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
        let rest = first.slice(5_999..);
        drop(first);
        assert_eq!(memory.hold(reply(6_000), true, Taker::default()).await.status(), StatusCode::SERVICE_UNAVAILABLE);
        drop(rest);
        assert_eq!(memory.hold(reply(6_000), true, Taker::default()).await.status(), StatusCode::OK);
    }

    #[tokio::test]
    async fn small_replies_do_not_count_and_one_that_is_too_large_takes_all() {
        let memory = ReplyMemory::new(10_000, "test");
        let large = memory.hold(reply(20_000), true, Taker::default()).await;
        assert_eq!(large.status(), StatusCode::OK);
        assert_eq!(memory.hold(reply(4_097), true, Taker::default()).await.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(memory.hold(reply(4_096), true, Taker::default()).await.status(), StatusCode::OK);
        drop(large);
        assert_eq!(memory.hold(reply(4_097), true, Taker::default()).await.status(), StatusCode::OK);
    }

    #[tokio::test]
    async fn one_user_gets_a_part_or_one_reply() {
        let memory = ReplyMemory::new(40_000, "test");
        let hold = async |user: &str, length| {
            let user = UserId::parse(user).ok();
            memory.hold(reply(length), true, Taker { user, activity: None }).await
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
    async fn the_answer_to_a_write_is_cut_down_and_never_withheld() {
        let memory = ReplyMemory::new(10_000, "test");
        let _large = memory.hold(reply(10_000), true, Taker::default()).await;
        let mut represented = reply(5_000);
        represented.headers_mut().insert(PREFERENCE_APPLIED, HeaderValue::from_static("return=representation"));
        represented.extensions_mut().insert(Brief(Bytes::from_static(b"brief")));
        let answer = memory.hold(represented, false, Taker::default()).await;
        assert_eq!((answer.status(), answer.headers().len()), (StatusCode::OK, 0));
        assert_eq!(body_of(answer).await, "brief");
        let answer = memory.hold(reply(5_000), false, Taker::default()).await;
        assert_eq!(body_of(answer).await.len(), 5_000);
    }
}
