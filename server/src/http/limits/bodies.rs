//! The bytes of a request body, read within the limits of size, time and memory.
//!
//! A body holds its share of the memory for all bodies until its request has a response.

use std::ops::Deref;
use std::sync::Arc;

use axum::body::{Body, HttpBody as _};
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt as _;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Duration, timeout};

use super::Limits;
use crate::http::error::Error;

/// How much of a refused body is still read, so that a client in the middle of sending it sees the response.
const LINGER_BYTES: usize = 8 << 20;
const LINGER: Duration = Duration::from_secs(1);

/// A whole body. Its memory counts until it is dropped, so handlers keep it until they respond.
pub(in crate::http) struct ReceivedBody {
    bytes: Bytes,
    _share: BodyShare,
}

impl Deref for ReceivedBody {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

/// Reads `body`. A client that sends `Expect: 100-continue` is refused before it sends a body that is too large.
pub(in crate::http) async fn read(
    mut body: Body,
    waits_for_permission: bool,
    limits: &Limits,
) -> Result<ReceivedBody, Error> {
    let limit = limits.max_body_bytes;
    let read = if body.size_hint().lower() > limit as u64 {
        if waits_for_permission {
            return Err(Error::BodyTooLarge { limit });
        }
        Err(Error::BodyTooLarge { limit })
    } else {
        timeout(limits.body_timeout, collect(&mut body, limit, &limits.body_memory))
            .await
            .unwrap_or(Err(Error::BodyTimeout))
    };
    if matches!(read, Err(Error::BodyTooLarge { .. } | Error::BodiesFull)) {
        // A failure or timeout is fine: the response is sent either way.
        let _ = timeout(LINGER, discard(&mut body)).await;
    }
    read
}

/// Most bodies come in one piece, which is then used as it is.
async fn collect(body: &mut Body, limit: usize, memory: &BodyMemory) -> Result<ReceivedBody, Error> {
    let mut share = BodyShare::default();
    let mut first = Bytes::new();
    let mut all = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(|_| Error::BodyBroken)?.into_data() else { continue };
        if first.len().max(all.len()) + data.len() > limit {
            return Err(Error::BodyTooLarge { limit });
        }
        memory.grow(&mut share, data.len())?;
        if first.is_empty() {
            first = data;
            continue;
        }
        if all.is_empty() {
            all.extend_from_slice(&first);
        }
        all.extend_from_slice(&data);
    }
    Ok(ReceivedBody { bytes: if all.is_empty() { first } else { all.freeze() }, _share: share })
}

async fn discard(body: &mut Body) {
    let mut discarded = 0;
    while discarded < LINGER_BYTES {
        let Some(Ok(frame)) = body.frame().await else { return };
        discarded += frame.data_ref().map_or(0, Bytes::len);
    }
}

/// Memory for all bodies together, in bytes.
#[derive(Clone)]
pub(in crate::http) struct BodyMemory(Arc<Semaphore>);

/// The share of one body.
#[derive(Default)]
pub(in crate::http) struct BodyShare(Option<OwnedSemaphorePermit>);

impl BodyMemory {
    pub(in crate::http) fn new(bytes: usize) -> Self {
        Self(Arc::new(Semaphore::new(bytes.min(Semaphore::MAX_PERMITS))))
    }

    /// Adds `bytes` to `share`, at once or not at all: waiting would let stalled bodies starve each other.
    pub(in crate::http) fn grow(&self, share: &mut BodyShare, bytes: usize) -> Result<(), Error> {
        let count = u32::try_from(bytes).map_err(|_| Error::BodiesFull)?;
        let more = self.0.clone().try_acquire_many_owned(count).map_err(|_| Error::BodiesFull)?;
        match &mut share.0 {
            Some(permit) => permit.merge(more),
            None => share.0 = Some(more),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::pin::Pin;
    use std::task::{Context, Poll};

    use axum::body::HttpBody;
    use hyper::body::Frame;

    use super::*;
    use crate::http::limits::ResponseMemory;

    /// A body of these pieces, without an announced length; after the last one it ends or stalls.
    struct Pieces {
        left: &'static [&'static [u8]],
        stalls: bool,
    }

    impl HttpBody for Pieces {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            match self.left.split_first() {
                Some((first, rest)) => {
                    self.left = rest;
                    Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(first)))))
                }
                None if self.stalls => Poll::Pending,
                None => Poll::Ready(None),
            }
        }
    }

    fn pieces(left: &'static [&'static [u8]]) -> Body {
        Body::new(Pieces { left, stalls: false })
    }

    fn limits() -> Limits {
        Limits {
            max_body_bytes: 5,
            body_timeout: Duration::from_millis(5),
            body_memory: BodyMemory::new(8),
            responses: ResponseMemory::new(8, "test"),
            scrapes: ResponseMemory::new(8, "test"),
            rate: None,
        }
    }

    #[tokio::test]
    async fn pieces_become_one_body() {
        const SPLITS: [&[&[u8]]; 3] = [&[b"abcde"], &[b"ab", b"", b"cd", b"e"], &[b"", b"abcd", b"e"]];
        for left in SPLITS {
            assert_eq!(&*read(pieces(left), false, &limits()).await.unwrap(), b"abcde");
        }
        assert_eq!(&*read(Body::empty(), false, &limits()).await.unwrap(), b"");
    }

    #[tokio::test]
    async fn more_than_the_limit_is_refused_announced_or_not() {
        let refused = |read| matches!(read, Err(Error::BodyTooLarge { limit: 5 }));
        assert!(refused(read(pieces(&[b"abc", b"def"]), false, &limits()).await));
        assert!(refused(read(Body::from("abcdef"), false, &limits()).await));
        assert!(refused(read(Body::from("abcdef"), true, &limits()).await));
    }

    #[tokio::test]
    async fn a_body_that_stalls_times_out() {
        let body = Body::new(Pieces { left: &[b"abc"], stalls: true });
        assert!(matches!(read(body, false, &limits()).await, Err(Error::BodyTimeout)));
    }

    #[tokio::test]
    async fn bodies_that_are_kept_leave_less_for_others() {
        let limits = limits();
        let first = read(Body::from("abcde"), false, &limits).await.unwrap();
        assert!(matches!(read(Body::from("abcd"), false, &limits).await, Err(Error::BodiesFull)));
        drop(first);
        assert!(read(Body::from("abcd"), false, &limits).await.is_ok());
    }

    #[test]
    fn bodies_share_one_budget() {
        let memory = BodyMemory::new(10);
        let mut first = BodyShare::default();
        memory.grow(&mut first, 4).unwrap();
        memory.grow(&mut first, 4).unwrap();
        let mut second = BodyShare::default();
        assert!(memory.grow(&mut second, 3).is_err());
        drop(first);
        memory.grow(&mut second, 10).unwrap();
    }
}
