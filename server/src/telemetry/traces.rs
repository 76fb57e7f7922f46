//! Traces of requests, sent to an OpenTelemetry collector by OTLP over HTTP if one is configured.
//!
//! Spans are those that this crate makes with `tracing`; without a collector none is made. Their attributes are those
//! of the semantic conventions, except paths: neither ids of threads and users nor anything that a user wrote is sent.
//! Sampling, batches, headers and the name of the service are set by the `OTEL_*` variables, which the libraries read.
//!
//! | Span | Kind | Attributes beside those of HTTP |
//! |---|---|---|
//! | `METHOD ROUTE` | server | `progressdb.request_id` |
//! | `commit` | internal | `progressdb.rows` |
//! | `kms OPERATION` | client | `progressdb.kms.provider`, `error.type` |

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::http::HeaderMap;
use opentelemetry::propagation::TextMapPropagator as _;
use opentelemetry::trace::TracerProvider as _;
use opentelemetry::{Key, KeyValue};
use opentelemetry_http::HeaderExtractor;
use opentelemetry_otlp::{ExporterBuildError, Protocol, WithExportConfig as _, WithHttpConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::{SdkTracerProvider, SpanData, SpanExporter};
use reqwest::blocking::Client;
use reqwest::{Certificate, Identity};
use tracing::Span;
use tracing::level_filters::LevelFilter;
use tracing_opentelemetry::OpenTelemetrySpanExt as _;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::{Layer, Registry};

use crate::outgoing::Proxies;

/// The longest that the exit waits for a collector.
const FAREWELL: Duration = Duration::from_secs(3);

/// Where traces are sent, by OTLP over HTTP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Collector {
    /// The whole URL that spans are posted to.
    pub url: String,
    /// Certificates to trust in place of the system's, as PEM.
    pub ca_file: Option<PathBuf>,
    /// The client certificate, as PEM.
    pub client_certificate_file: Option<PathBuf>,
    /// The key of that certificate, as PEM.
    pub client_key_file: Option<PathBuf>,
    /// For one batch.
    pub timeout: Duration,
    /// How other machines are reached.
    pub proxies: Proxies,
}

/// Why traces cannot be sent.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The `OTEL_*` variables are invalid.
    #[error(transparent)]
    Exporter(#[from] ExporterBuildError),
    /// A certificate or a key.
    #[error("{} is not usable: {why}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The client.
    #[error("the connection to the collector cannot be prepared")]
    Client(#[from] reqwest::Error),
}

/// Spans on their way to a collector. What waits is sent when it is dropped.
#[derive(Debug)]
pub struct Traces(SdkTracerProvider);

impl Traces {
    /// Starts sending to this collector, on a thread of its own.
    pub(super) fn start(collector: &Collector, version: &'static str) -> Result<Self, StartError> {
        let exporter = opentelemetry_otlp::SpanExporter::builder().with_http();
        let exporter = exporter.with_http_client(client(collector)?).with_protocol(Protocol::HttpBinary);
        let exporter = exporter.with_endpoint(&collector.url).with_timeout(collector.timeout).build()?;
        let exporter = Outspoken { exporter, fails: AtomicBool::new(false) };
        let provider = SdkTracerProvider::builder().with_batch_exporter(exporter).with_resource(resource(version));
        Ok(Self(provider.build()))
    }

    /// The layer that exports this crate's spans, and no others.
    pub(super) fn layer(&self) -> Box<dyn Layer<Registry> + Send + Sync> {
        let ours = filter_fn(|metadata| metadata.is_span() && metadata.target().starts_with("progressdb_server"));
        tracing_opentelemetry::layer()
            .with_tracer(self.0.tracer("progressdb"))
            .with_location(false)
            .with_threads(false)
            .with_target(false)
            .with_tracked_inactivity(false)
            .with_filter(ours.with_max_level_hint(LevelFilter::INFO))
            .boxed()
    }
}

impl Drop for Traces {
    fn drop(&mut self) {
        if let Err(error) = self.0.shutdown_with_timeout(FAREWELL) {
            tracing::debug!(event = "traces.unsent", %error);
        }
    }
}

/// A client with the certificates and proxies of the configuration; the exporter's own would read others.
fn client(collector: &Collector) -> Result<Client, StartError> {
    let unusable = |path: &Path| {
        let path = path.to_owned();
        move |why: String| StartError::File { path, why }
    };
    let read = |path: &PathBuf| fs::read(path).map_err(|error| unusable(path)(error.to_string()));
    let mut builder = Client::builder().timeout(collector.timeout).no_proxy();
    for proxy in collector.proxies.to_reqwest()? {
        builder = builder.proxy(proxy);
    }
    if let Some(path) = &collector.ca_file {
        let certificates =
            Certificate::from_pem_bundle(&read(path)?).map_err(|error| unusable(path)(error.to_string()))?;
        if certificates.is_empty() {
            return Err(unusable(path)("it holds no certificate".to_owned()));
        }
        builder = builder.tls_certs_only(certificates);
    }
    if let (Some(certificate), Some(key)) = (&collector.client_certificate_file, &collector.client_key_file) {
        let pem = [read(key)?, b"\n".to_vec(), read(certificate)?].concat();
        let identity = Identity::from_pem(&pem).map_err(|error| unusable(certificate)(error.to_string()))?;
        builder = builder.identity(identity);
    }
    Ok(builder.build()?)
}

/// The service's name: `progressdb`, unless `OTEL_SERVICE_NAME` or `OTEL_RESOURCE_ATTRIBUTES` says otherwise.
fn resource(version: &'static str) -> Resource {
    let said = Resource::builder().build();
    let name = said.get(&Key::new("service.name")).map(|name| name.to_string());
    let name = name.filter(|name| !name.starts_with("unknown_service")).unwrap_or_else(|| "progressdb".to_owned());
    let version = KeyValue::new("service.version", version);
    Resource::builder().with_service_name(name).with_attribute(version).build()
}

/// Makes a span part of the trace that the headers of a request name, if they name one.
pub fn join(span: &Span, headers: &HeaderMap) {
    if !span.is_disabled() {
        // Fails only for a span that is not exported.
        let _ = span.set_parent(TraceContextPropagator::new().extract(&HeaderExtractor(headers)));
    }
}

/// Logs once that the collector takes no spans, and once that it does again.
#[derive(Debug)]
struct Outspoken<E> {
    exporter: E,
    fails: AtomicBool,
}

impl<E: SpanExporter> SpanExporter for Outspoken<E> {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let result = self.exporter.export(batch).await;
        match &result {
            Err(error) if !self.fails.swap(true, Ordering::Relaxed) => {
                tracing::warn!(event = "traces.lost", %error, "the collector takes no spans; they are dropped");
            }
            Ok(()) if self.fails.swap(false, Ordering::Relaxed) => {
                tracing::info!(event = "traces.resumed", "the collector takes spans again");
            }
            _ => {}
        }
        result
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}
