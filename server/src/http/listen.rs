//! Connections: accept, serve HTTP/1.1, time out, drain.
//!
//! An idle connection closes after the idle timeout, one in the middle of its headers after the header timeout, one
//! whose client has not received its response after the response timeout; bodies are timed where they are read. Beyond the
//! connection limit nothing is served until a connection closes, and idle ones close within seconds while others wait,
//! so that idle clients cannot keep others out. A stop ends accepting, lets every request in flight finish within the
//! drain timeout, and aborts the rest.
//!
//! hyper responds to errors of the HTTP framing itself (400, 414, 431), without a body.

mod bind;

use std::future::{Future, pending, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use axum::Router;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use metrics::{Counter, Gauge};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tower::Service as _;

use super::activity::{Activity, Phase, Watched};

pub use bind::bind;

/// The most bytes that request line and headers may have.
const MAX_HEADER_BYTES: usize = 64 * 1024;
/// The pause after an accept that failed, such as for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// The address that a request came from; an extension of every request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Peer(pub(super) SocketAddr);

/// The limits of one listener.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// The name in metrics: `main` or `management`.
    pub name: &'static str,
    /// Connections at one time.
    pub max_connections: usize,
    /// From the first byte of a request to the end of its headers.
    pub header_timeout: Duration,
    /// Before a request, and between two pieces of a response that the client is slow to read.
    pub idle_timeout: Duration,
    /// From the end of the handler to the last byte of a response that counts.
    pub reply_timeout: Duration,
    /// From the stop to the abort of what is still in flight.
    pub drain_timeout: Duration,
}

/// How a listener ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drained {
    /// Connections that did not finish within the drain timeout.
    pub aborted: usize,
}

struct Metrics {
    connections: Gauge,
    limit: Gauge,
    accepted: Counter,
    limited: Counter,
    headers_late: Counter,
    responses_late: Counter,
}

impl Metrics {
    fn new(listener: &'static str) -> Self {
        Self {
            connections: metrics::gauge!("progressdb_http_connections", "listener" => listener),
            limit: metrics::gauge!("progressdb_http_connections_limit", "listener" => listener),
            accepted: metrics::counter!("progressdb_http_connections_accepted_total", "listener" => listener),
            limited: metrics::counter!("progressdb_http_connections_limited_total", "listener" => listener),
            headers_late: metrics::counter!("progressdb_http_header_timeouts_total", "listener" => listener),
            responses_late: metrics::counter!("progressdb_http_reply_timeouts_total", "listener" => listener),
        }
    }
}

/// Serves `router` on `listener` until `stop` becomes true or its sender is gone.
pub async fn serve(listener: TcpListener, router: Router, settings: Settings, stop: watch::Receiver<bool>) -> Drained {
    let metrics = Arc::new(Metrics::new(settings.name));
    let slots = Arc::new(Semaphore::new(settings.max_connections.min(Semaphore::MAX_PERMITS)));
    metrics.limit.set(settings.max_connections as f64);
    let crowded = watch::Sender::new(false);
    let mut connections = JoinSet::new();
    let mut stopping = pin!(stopped(stop.clone()));
    loop {
        let (slot, stream, peer) = tokio::select! {
            biased;
            () = &mut stopping => break,
            accepted = accept(&listener, &slots, &crowded, &metrics) => accepted,
        };
        while connections.try_join_next().is_some() {}
        metrics.accepted.increment(1);
        let (router, stop, metrics) = (router.clone(), stop.clone(), metrics.clone());
        let crowded = crowded.subscribe();
        connections.spawn(async move {
            let _open = Open::new(&metrics.connections, slot);
            match serve_connection(stream, peer, router, settings, stop, crowded).await {
                End::Closed => {}
                End::HeadersLate => metrics.headers_late.increment(1),
                End::ResponseLate => metrics.responses_late.increment(1),
            }
        });
    }
    drop(listener);
    let finished = async { while connections.join_next().await.is_some() {} };
    let in_time = timeout(settings.drain_timeout, finished).await.is_ok();
    let aborted = if in_time { 0 } else { connections.len() };
    connections.shutdown().await;
    Drained { aborted }
}

async fn stopped(mut stop: watch::Receiver<bool>) {
    // A sender that is gone can never say stop again, so that counts as a stop.
    let _ = stop.wait_for(|stop| *stop).await;
}

/// A connection, then a slot for it. `crowded` is true while it waits for the slot.
async fn accept(
    listener: &TcpListener,
    slots: &Arc<Semaphore>,
    crowded: &watch::Sender<bool>,
    metrics: &Metrics,
) -> (Option<OwnedSemaphorePermit>, TcpStream, SocketAddr) {
    let (stream, peer) = loop {
        match listener.accept().await {
            Ok(accepted) => break accepted,
            Err(error) if is_of_one_connection(&error) => {}
            Err(error) => {
                tracing::warn!(event = "http.accept_failed", %error);
                sleep(ACCEPT_PAUSE).await;
            }
        }
    };
    if let Ok(slot) = slots.clone().try_acquire_owned() {
        return (Some(slot), stream, peer);
    }
    metrics.limited.increment(1);
    crowded.send_replace(true);
    let slot = slots.clone().acquire_owned().await.ok();
    crowded.send_replace(false);
    (slot, stream, peer)
}

/// Waits until a connection waits for a slot.
async fn wanted(mut crowded: watch::Receiver<bool>) {
    // The listener has ended, so no connection waits.
    if crowded.wait_for(|crowded| *crowded).await.is_err() {
        pending::<()>().await;
    }
}

fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind as K;
    matches!(error.kind(), K::ConnectionAborted | K::ConnectionReset | K::ConnectionRefused | K::Interrupted)
}

/// Counts a connection and holds its slot, however it ends.
struct Open<'a> {
    gauge: &'a Gauge,
    _slot: Option<OwnedSemaphorePermit>,
}

impl<'a> Open<'a> {
    fn new(gauge: &'a Gauge, slot: Option<OwnedSemaphorePermit>) -> Self {
        gauge.increment(1.0);
        Self { gauge, _slot: slot }
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.gauge.decrement(1.0);
    }
}

#[derive(PartialEq, Eq)]
enum End {
    /// By the peer, by a stop, or by the idle timeout.
    Closed,
    /// In the middle of a request's headers.
    HeadersLate,
    /// In the middle of a response.
    ResponseLate,
}

async fn serve_connection(
    stream: TcpStream,
    peer: SocketAddr,
    router: Router,
    settings: Settings,
    stop: watch::Receiver<bool>,
    crowded: watch::Receiver<bool>,
) -> End {
    // Responses are written whole; waiting to fill a packet only adds latency. Failing means that the peer is gone.
    let _ = stream.set_nodelay(true);
    let activity = Arc::new(Activity::new(settings));
    let of_service = activity.clone();
    let service = service_fn(move |mut request: hyper::Request<Incoming>| {
        of_service.enter(Phase::Busy);
        request.extensions_mut().insert(Peer(peer));
        request.extensions_mut().insert(of_service.clone());
        let response = router.clone().call(request);
        let activity = of_service.clone();
        async move {
            let response = response.await;
            activity.enter(Phase::Idle);
            response
        }
    });
    let connection = http1::Builder::new()
        // A client may close its sending side and still wait for responses.
        .half_close(true)
        .header_read_timeout(None)
        .max_header_size(MAX_HEADER_BYTES)
        .max_buf_size(MAX_HEADER_BYTES)
        .serve_connection(TokioIo::new(Watched { stream, activity: activity.clone() }), service);
    let mut connection = pin!(connection);
    let mut timer = pin!(sleep_until(activity.deadline(false)));
    let mut wanting = pin!(wanted(crowded.clone()));
    let mut is_wanted = false;
    let mut stopping = pin!(stopped(stop));
    let mut draining = false;
    poll_fn(|context| {
        if connection.as_mut().poll(context).is_ready() {
            return Poll::Ready(End::Closed);
        }
        if !draining && stopping.as_mut().poll(context).is_ready() {
            draining = true;
            connection.as_mut().graceful_shutdown();
            if connection.as_mut().poll(context).is_ready() {
                return Poll::Ready(End::Closed);
            }
        }
        is_wanted = is_wanted || wanting.as_mut().poll(context).is_ready();
        // Requests mostly move the deadline back, so the timer is reset only when it fires or must fire sooner.
        let deadline = activity.deadline(is_wanted);
        if deadline < timer.deadline() {
            timer.as_mut().reset(deadline);
        }
        while timer.as_mut().poll(context).is_ready() {
            if is_wanted && !*crowded.borrow() {
                wanting.set(wanted(crowded.clone()));
                is_wanted = wanting.as_mut().poll(context).is_ready();
            }
            let deadline = activity.deadline(is_wanted);
            if deadline <= Instant::now() {
                return Poll::Ready(match activity.phase() {
                    _ if activity.response_is_late() => End::ResponseLate,
                    Phase::Headers => End::HeadersLate,
                    Phase::Idle | Phase::Busy => End::Closed,
                });
            }
            timer.as_mut().reset(deadline);
        }
        Poll::Pending
    })
    .await
}
