//! A double of the API server, in this process, as far as an operator meets it: resource versions and conflicts,
//! server-side apply with managers, finalizers, garbage collection, preconditions, watches, and faults at any call.
//!
//! Requests come through a client of kube, so that what is tested is what the operator sends.

pub mod access;
mod admission;
pub mod faults;
pub mod fields;
pub mod kinds;
pub mod object;
pub mod pods;
pub mod policy;
mod routes;
pub mod store;
mod watch;

use std::{
    collections::BTreeSet,
    convert::Infallible,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard},
};

use axum::{
    Router,
    body::{Body, to_bytes},
    http::{Request, Response, StatusCode, header},
};
use serde_json::{Value, json};
use tokio::{net::TcpListener, sync::watch as channel};

pub use self::object::Key;
use self::{
    access::Access,
    faults::{Effect, Faults},
    object::{Refusal, refuse},
    routes::{Call, Target},
    store::Store,
};

/// The double; clones are the same server.
#[derive(Clone)]
pub struct Server {
    state: Arc<Mutex<State>>,
    changed: channel::Sender<u64>,
}

#[derive(Default)]
struct State {
    store: Store,
    faults: Faults,
    calls: Vec<String>,
    accesses: BTreeSet<Access>,
}

impl Default for Server {
    fn default() -> Self {
        Self::new()
    }
}

impl Server {
    /// A server without any object.
    pub fn new() -> Self {
        Self::with_store(Store::default())
    }

    /// A server with these objects.
    pub fn with_store(store: Store) -> Self {
        let changed = channel::Sender::new(store.version());
        Self { state: Arc::new(Mutex::new(State { store, ..State::default() })), changed }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no test panics while it holds the server")
    }

    /// Works on the store directly, without requests and faults, as Kubernetes itself does.
    pub fn with<T>(&self, work: impl FnOnce(&mut Store) -> T) -> T {
        let (result, version) = {
            let mut state = self.state();
            (work(&mut state.store), state.store.version())
        };
        self.changed.send_replace(version);
        result
    }

    /// Sets the plan of faults.
    pub fn set_faults(&self, faults: Faults) {
        self.state().faults = faults;
    }

    /// Whether the fault that ends the caller has happened.
    pub fn has_crashed(&self) -> bool {
        self.state().faults.has_crashed()
    }

    /// Takes the calls so far, oldest first; watches are not among them.
    pub fn take_calls(&self) -> Vec<String> {
        std::mem::take(&mut self.state().calls)
    }

    /// What all calls so far have needed to be allowed to do, watches included.
    pub fn accesses(&self) -> BTreeSet<Access> {
        self.state().accesses.clone()
    }

    /// A client that talks to this server.
    pub fn client(&self) -> kube::Client {
        let server = self.clone();
        let service = tower::service_fn(move |request: Request<kube::client::Body>| {
            let server = server.clone();
            async move { server.serve(request.map(Body::new)).await }
        });
        kube::Client::new(service, "default")
    }

    /// Serves over HTTP as long as the runtime lives; says where.
    pub async fn listen(&self) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let server = self.clone();
        let router = Router::new().fallback(move |request: Request<Body>| {
            let server = server.clone();
            async move { server.serve(request).await.map_err(|_| StatusCode::BAD_GATEWAY) }
        });
        tokio::spawn(async move { axum::serve(listener, router).await });
        address
    }

    async fn serve(&self, request: Request<Body>) -> Result<Response<Body>, std::io::Error> {
        if let Some(found) = routes::discovery(&self.state().store, request.uri()) {
            return Ok(respond(Ok(found)));
        }
        let call = match parse(request).await {
            Ok(call) => call,
            Err(refusal) => return Ok(respond(Err(refusal))),
        };
        if self.state().store.unserved.contains(call.kind.kind) {
            return Ok(respond(Err(refuse(404, "NotFound", "the server could not find the requested resource"))));
        }
        {
            let mut state = self.state();
            let needed = access::of(&state.store, &call);
            state.accesses.extend(needed);
        }
        if call.parameter("watch").is_some_and(|watch| watch != "false") {
            return Ok(self.watch(call));
        }
        let lost = || std::io::Error::new(std::io::ErrorKind::ConnectionReset, "connection reset by the double");
        let effect = {
            let mut state = self.state();
            state.calls.push(call.summary());
            state.faults.next(&call.summary())
        };
        match effect {
            Effect::Works => Ok(respond(self.with(|store| routes::answer(store, &call)))),
            Effect::IsRefused(code) => Ok(respond(Err(injected(code)))),
            Effect::NeverArrives => Err(lost()),
            Effect::LosesItsReply => {
                // The effect stays; the caller does not learn whether it was refused.
                let _ = self.with(|store| routes::answer(store, &call));
                Err(lost())
            }
        }
    }
}

fn injected(code: u16) -> Refusal {
    let reason = match code {
        409 => "Conflict",
        429 => "TooManyRequests",
        _ => "InternalError",
    };
    refuse(code, reason, "injected by the double")
}

async fn parse(request: Request<Body>) -> Result<Call, Refusal> {
    let (head, body) = request.into_parts();
    let unknown = || refuse(404, "NotFound", format!("the server could not find the requested resource: {}", head.uri));
    let Target { kind, namespace, name, subresource } = routes::parse_path(&head.uri).ok_or_else(unknown)?;
    let bytes = to_bytes(body, usize::MAX).await.map_err(|error| refuse(400, "BadRequest", error.to_string()))?;
    let body = match bytes.len() {
        0 => Value::Null,
        _ => serde_json::from_slice(&bytes).map_err(|error| refuse(400, "BadRequest", error.to_string()))?,
    };
    let header = |name| head.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
    Ok(Call {
        method: head.method.clone(),
        kind,
        namespace,
        name,
        subresource,
        query: parse_query(head.uri.query().unwrap_or_default()),
        content_type: header(header::CONTENT_TYPE),
        metadata_only: header(header::ACCEPT).contains("PartialObjectMetadata"),
        body,
    })
}

fn parse_query(query: &str) -> Vec<(String, String)> {
    let decode = |text: &str| {
        let mut bytes = Vec::new();
        let mut rest = text.bytes();
        while let Some(byte) = rest.next() {
            bytes.push(match byte {
                b'%' => {
                    let digits: String = rest.by_ref().take(2).map(char::from).collect();
                    u8::from_str_radix(&digits, 16).expect("kube encodes queries")
                }
                b'+' => b' ',
                other => other,
            });
        }
        String::from_utf8(bytes).expect("kube sends UTF-8")
    };
    query
        .split('&')
        .filter_map(|pair| pair.split_once('='))
        .map(|(name, value)| (decode(name), decode(value)))
        .collect()
}

fn respond(answer: Result<Value, Refusal>) -> Response<Body> {
    let (code, body) = match answer {
        // A log is no JSON.
        Ok(Value::String(log)) => return Response::new(Body::from(log)),
        Ok(object) => (200, object),
        Err(Refusal { code, reason, message, field }) => {
            let mut status = status_of(code, reason, &message);
            if let Some(field) = field {
                status["details"] = json!({ "causes": [{ "reason": "FieldValueInvalid", "field": field }] });
            }
            (code, status)
        }
    };
    let mut response = Response::new(Body::from(body.to_string()));
    *response.status_mut() = StatusCode::from_u16(code).expect("we only use real codes");
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/json"));
    response
}

fn status_of(code: u16, reason: &str, message: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Status", "status": "Failure",
        "code": code, "reason": reason, "message": message,
    })
}

/// One event of a watch.
type Line = Result<String, Infallible>;
