//! A collector: takes spans by OTLP over HTTP and keeps them.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use opentelemetry_proto::tonic::collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse};
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value};
use opentelemetry_proto::tonic::trace::v1 as wire;
use prost::Message as _;
use rustls::ServerConfig;
use serde_json::{Value, json};
use testing::servers::listen::{Call, Listener, Reply};
use testing::servers::tls::Authority;
use testing::wait_until;

/// A span as it was received.
#[derive(Clone, Debug)]
pub(crate) struct Span {
    pub(crate) name: String,
    pub(crate) kind: wire::span::SpanKind,
    pub(crate) trace: String,
    pub(crate) id: String,
    /// Empty if nothing is above it.
    pub(crate) parent: String,
    pub(crate) failed: bool,
    pub(crate) attributes: BTreeMap<String, Value>,
    /// Of the one who sent it.
    pub(crate) resource: BTreeMap<String, Value>,
}

#[derive(Default)]
struct Received {
    spans: Vec<Span>,
    bytes: Vec<u8>,
    calls: usize,
}

pub(crate) struct Collector {
    listener: Listener,
    received: Arc<Mutex<Received>>,
}

impl Collector {
    /// One that takes everything.
    pub(crate) fn start() -> Self {
        Self::refusing(0, Reply::Cut)
    }

    /// One that answers so the first `times`.
    pub(crate) fn refusing(times: usize, reply: Reply) -> Self {
        Self::listening(None, "/v1/traces", times, reply)
    }

    /// One that takes everything at another path.
    pub(crate) fn at(path: &'static str) -> Self {
        Self::listening(None, path, 0, Reply::Cut)
    }

    /// One that takes everything over TLS.
    pub(crate) fn with_tls(authority: &Authority) -> Self {
        Self::listening(Some(Arc::clone(&authority.server)), "/v1/traces", 0, Reply::Cut)
    }

    fn listening(tls: Option<Arc<ServerConfig>>, path: &'static str, times: usize, reply: Reply) -> Self {
        let received = Arc::new(Mutex::new(Received::default()));
        let mine = Arc::clone(&received);
        let listener = Listener::start(tls, move |call| {
            let mut received = mine.lock().unwrap();
            received.calls += 1;
            if received.calls <= times { reply.clone() } else { received.take(&call, path) }
        });
        Self { listener, received }
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        self.listener.addr
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.listener.addr)
    }

    pub(crate) fn calls(&self) -> usize {
        self.received.lock().unwrap().calls
    }

    pub(crate) fn spans(&self) -> Vec<Span> {
        self.received.lock().unwrap().spans.clone()
    }

    /// Waits for a span of this name and trace.
    #[track_caller]
    pub(crate) fn wait_for(&self, name: &str, trace: &str) -> Span {
        self.wait_for_one(name, |span| span.name == name && span.trace == trace)
    }

    /// Waits for a span of which this is so.
    #[track_caller]
    pub(crate) fn wait_for_one(&self, what: &str, wanted: impl Fn(&Span) -> bool) -> Span {
        let find = || self.spans().into_iter().find(&wanted);
        wait_until(&format!("the span {what} arrives"), || find().is_some());
        find().unwrap()
    }

    /// Whether these bytes were in anything that arrived.
    pub(crate) fn has_seen(&self, needle: &str) -> bool {
        self.received.lock().unwrap().bytes.windows(needle.len()).any(|window| window == needle.as_bytes())
    }
}

impl Received {
    fn take(&mut self, call: &Call, path: &str) -> Reply {
        if (call.method.as_str(), call.target.as_str()) != ("POST", path) {
            return Reply::text(404, "404 page not found\n");
        }
        let request = ExportTraceServiceRequest::decode(call.body.as_slice()).unwrap();
        self.bytes.extend_from_slice(&call.body);
        for from in request.resource_spans {
            let resource = attributes(&from.resource.unwrap_or_default().attributes);
            let spans = from.scope_spans.into_iter().flat_map(|scope| scope.spans);
            self.spans.extend(spans.map(|span| Span {
                kind: span.kind(),
                trace: hex::encode(&span.trace_id),
                id: hex::encode(&span.span_id),
                parent: hex::encode(&span.parent_span_id),
                failed: span.status.is_some_and(|status| status.code() == wire::status::StatusCode::Error),
                attributes: attributes(&span.attributes),
                resource: resource.clone(),
                name: span.name,
            }));
        }
        let body = ExportTraceServiceResponse::default().encode_to_vec();
        Reply::Answer { status: 200, headers: vec![("content-type".into(), "application/x-protobuf".into())], body }
    }
}

fn attributes(pairs: &[KeyValue]) -> BTreeMap<String, Value> {
    let value = |pair: &KeyValue| match pair.value.as_ref().and_then(|value| value.value.as_ref()) {
        Some(any_value::Value::StringValue(text)) => json!(text),
        Some(any_value::Value::IntValue(number)) => json!(number),
        other => json!(format!("{other:?}")),
    };
    pairs.iter().map(|pair| (pair.key.clone(), value(pair))).collect()
}
