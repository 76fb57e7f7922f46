//! The variables of OpenTelemetry mean here what its specification says.

use testing::servers::forward::{Forward, HOST};
use testing::servers::secret_file;
use testing::servers::tls::Authority;
use testing::{Finished, Setup, THREADS};

use crate::collector::Collector;

const ALL: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";
const TRACES: &str = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT";

/// A server with these variables that served one request and stopped; what waits is then sent.
#[track_caller]
fn serve_once(variables: &[(&str, &str)]) -> Finished {
    let setup = variables.iter().fold(Setup::new(), |setup, (name, value)| setup.environment(name, value));
    let server = setup.start();
    server.user("ann").get(THREADS).check_status(200);
    let finished = server.stop();
    finished.check_code(0);
    finished
}

#[test]
fn the_address_for_traces_is_asked_as_it_is_and_the_other_with_the_path() {
    let (bare, nested) = (Collector::at("/"), Collector::at("/otlp/v1/traces"));
    serve_once(&[(TRACES, &bare.url()), (ALL, &nested.url())]);
    assert_eq!((bare.spans().len(), nested.calls()), (1, 0), "the address for traces wins, and nothing is added");
    serve_once(&[(ALL, &format!("{}/otlp/", nested.url()))]);
    assert_eq!(nested.spans().len(), 1);
}

#[test]
fn traces_that_are_disabled_are_not_sent() {
    let collector = Collector::start();
    for (name, value) in [("OTEL_SDK_DISABLED", "true"), ("OTEL_TRACES_EXPORTER", "none")] {
        serve_once(&[(ALL, &collector.url()), (name, value)]);
        assert_eq!(collector.calls(), 0, "{name}");
    }
    serve_once(&[(ALL, &collector.url()), ("OTEL_SDK_DISABLED", "false"), ("OTEL_TRACES_EXPORTER", "otlp")]);
    assert_eq!(collector.spans().len(), 1);
}

#[test]
fn spans_are_sent_though_a_compression_is_asked_for() {
    let collector = Collector::start();
    let finished = serve_once(&[(ALL, &collector.url()), ("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip")]);
    finished.check_says(&["OTEL_EXPORTER_OTLP_COMPRESSION is gzip: spans are sent uncompressed"]);
    assert_eq!(collector.spans().len(), 1);
}

#[test]
fn a_collector_is_trusted_by_the_certificate_that_is_named() {
    let (authority, other) = (Authority::new(), Authority::new());
    let collector = Collector::with_tls(&authority);
    let url = format!("https://{}", collector.addr());
    let directory = testing::temporary_directory();
    let right = secret_file(directory.path(), "ca.pem", &authority.pem);
    let wrong = secret_file(directory.path(), "other.pem", &other.pem);
    for variables in [vec![(ALL, url.as_str())], vec![(ALL, &url), ("OTEL_EXPORTER_OTLP_CERTIFICATE", &wrong)]] {
        serve_once(&variables).check_says(&["traces.lost"]);
        assert_eq!(collector.calls(), 0, "{variables:?}");
    }
    serve_once(&[(ALL, &url), ("OTEL_EXPORTER_OTLP_CERTIFICATE", &right)]);
    assert_eq!(collector.spans().len(), 1);
    let name = "OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE";
    serve_once(&[(ALL, &url), ("OTEL_EXPORTER_OTLP_CERTIFICATE", &wrong), (name, &right)]);
    assert_eq!(collector.spans().len(), 2);
    serve_once(&[(ALL, &url), (name, "/no/such/file.pem")]).check_says(&["traces.off", "/no/such/file.pem"]);
}

#[test]
fn a_collector_elsewhere_is_reached_through_the_proxy() {
    let collector = Collector::start();
    let forward = Forward::to(collector.addr());
    let elsewhere = format!("http://{HOST}");
    serve_once(&[(ALL, &elsewhere), ("HTTP_PROXY", &forward.url())]);
    assert_eq!(collector.spans().len(), 1);
    assert_eq!(forward.asked(), [format!("POST {elsewhere}/v1/traces")]);
    // This machine is reached directly, and so is what NO_PROXY names.
    serve_once(&[(ALL, &collector.url()), ("HTTP_PROXY", &forward.url())]);
    serve_once(&[(ALL, &elsewhere), ("HTTP_PROXY", &forward.url()), ("NO_PROXY", HOST)]);
    assert_eq!((collector.spans().len(), forward.asked().len()), (2, 1));
}
