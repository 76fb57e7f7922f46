//! What goes wrong with the requests of a version.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes, HttpBody, to_bytes};
use axum::extract::Request;
use axum::http::{Method, StatusCode, header};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse as _, Response};
use http_body::{Frame, SizeHint};
use serde_json::{Value, json};
use tokio::sync::OnceCell;
use tokio::time::{Sleep, sleep};

/// What a slow version adds to each write: more than the others take on a busy machine, by the edges of their histograms.
const DELAY: Duration = Duration::from_millis(600);
/// No answer of `/readyz` is longer.
const READYZ_BYTES: usize = 64 * 1024;

/// `/readyz` is 503 for ever; all else is well.
pub(crate) fn never_ready(service: Router) -> Router {
    before(service).layer(from_fn(async |request: Request, next: Next| {
        if request.uri().path() != "/readyz" {
            return next.run(request).await;
        }
        let body = json!({ "error": "not ready", "code": "not_ready", "reason": "opening" });
        json(StatusCode::SERVICE_UNAVAILABLE, body)
    }))
}

/// Every write takes longer: the service waits for its body, so that its own figures show it. What a layer around the service
/// waits for they do not.
pub(crate) fn slow(service: Router) -> Router {
    before(service).layer(from_fn(async |request: Request, next: Next| {
        next.run(request.map(|body| Body::new(Late { until: Box::pin(sleep(DELAY)), body }))).await
    }))
}

/// A body that does not begin before its time.
struct Late {
    until: Pin<Box<Sleep>>,
    body: Body,
}

impl HttpBody for Late {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        ready!(self.until.as_mut().poll(context));
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// On a store that was written to before the process started, an edit of a message is answered and not made.
pub(crate) fn losing_edits(service: Router) -> Router {
    before(service).layer(from_fn(lose_edits))
}

/// A router that gives every request to the service. A layer on the service itself would come behind its routes.
fn before(service: Router) -> Router {
    Router::new().fallback_service(service)
}

async fn lose_edits(mut request: Request, next: Next) -> Response {
    static WAS_WRITTEN: OnceCell<bool> = OnceCell::const_new();
    // An error: the store is not open yet.
    let was_written = WAS_WRITTEN.get_or_try_init(|| was_written(next.clone())).await;
    let edited = request.uri().path().split_once("/messages/").map(|(_, message)| message.to_owned());
    match edited {
        Some(message) if request.method() == Method::PUT && was_written == Ok(&true) => {
            *request.method_mut() = Method::GET;
            let read = next.run(request).await;
            if read.status() == StatusCode::OK { json(StatusCode::ACCEPTED, json!({ "key": message })) } else { read }
        }
        _ => next.run(request).await,
    }
}

fn json(status: StatusCode, body: Value) -> Response {
    (status, [(header::CONTENT_TYPE, "application/json")], body.to_string()).into_response()
}

/// Whether the store has any write of a client.
async fn was_written(next: Next) -> Result<bool, StatusCode> {
    let request = Request::get("/readyz").header(header::HOST, "localhost").body(Body::empty());
    let answer = next.run(request.expect("it is a valid request")).await;
    if answer.status() != StatusCode::OK {
        return Err(answer.status());
    }
    let body = to_bytes(answer.into_body(), READYZ_BYTES).await.map_err(|_| StatusCode::BAD_GATEWAY)?;
    let ready: Value = serde_json::from_slice(&body).map_err(|_| StatusCode::BAD_GATEWAY)?;
    Ok(ready["sequence"] != json!(0))
}
