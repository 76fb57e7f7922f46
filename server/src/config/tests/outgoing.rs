//! The collector of traces and proxies, as the environment names them.

use super::*;
use crate::outgoing::Proxies;

const ALL: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";
const TRACES: &str = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT";
const OURS: &str = "PROGRESSDB_TELEMETRY_OTLP_ENDPOINT";

#[track_caller]
fn url<const N: usize>(pairs: [(&str, &str); N]) -> Option<String> {
    Given::nothing().environment(pairs).config().collector.map(|collector| collector.url)
}

#[test]
fn the_address_for_traces_is_used_as_it_is_and_the_other_gets_the_path() {
    for (pairs, wanted) in [
        (vec![(ALL, "http://c:4318")], "http://c:4318/v1/traces"),
        (vec![(ALL, "http://c:4318/")], "http://c:4318/v1/traces"),
        (vec![(ALL, "http://c/otlp")], "http://c/otlp/v1/traces"),
        (vec![(ALL, "http://c/otlp?key=1")], "http://c/otlp/v1/traces?key=1"),
        (vec![(TRACES, "http://t:4318")], "http://t:4318"),
        (vec![(TRACES, "http://t/x/")], "http://t/x/"),
        (vec![(ALL, "http://c"), (TRACES, "http://t/x")], "http://t/x"),
        (vec![(ALL, "http://c"), (OURS, "http://o")], "http://o/v1/traces"),
        (vec![(TRACES, "http://t"), (OURS, "http://o")], "http://o/v1/traces"),
        (vec![(OURS, "http://o"), ("PROGRESSDB_TELEMETRY_OTLP_TRACES_ENDPOINT", "http://p/x")], "http://p/x"),
    ] {
        let mut environment = Environment::default();
        for (name, value) in &pairs {
            environment.insert((*name).to_owned(), (*value).to_owned());
        }
        let given = Given { environment, ..Given::nothing() };
        given.warned(&[]);
        assert_eq!(given.config().collector.map(|collector| collector.url).as_deref(), Some(wanted), "{pairs:?}");
    }
    assert_eq!(url([]), None);
    assert_eq!(url([(ALL, ""), (TRACES, " ")]), None);
}

#[test]
fn traces_can_be_turned_off_as_everywhere() {
    for (name, value, on) in [
        ("OTEL_SDK_DISABLED", "true", false),
        ("OTEL_SDK_DISABLED", "True", false),
        ("OTEL_SDK_DISABLED", "false", true),
        ("OTEL_SDK_DISABLED", "1", true),
        ("OTEL_TRACES_EXPORTER", "none", false),
        ("OTEL_TRACES_EXPORTER", "otlp", true),
        ("OTEL_TRACES_EXPORTER", "console,otlp", true),
    ] {
        assert_eq!(url([(ALL, "http://c"), (name, value)]).is_some(), on, "{name}={value}");
    }
    let given = Given::nothing().environment([(ALL, "http://c"), ("OTEL_TRACES_EXPORTER", "zipkin")]);
    given.warned(&["OTEL_TRACES_EXPORTER is zipkin: no traces are sent, because only otlp is supported"]);
    assert_eq!(given.config().collector, None);
    assert_eq!(url([("OTEL_TRACES_EXPORTER", "otlp")]).as_deref(), Some("http://localhost:4318/v1/traces"));
}

#[test]
fn the_rest_of_the_exporter_follows_its_variables() {
    let given = Given::nothing().environment([
        (ALL, "https://c"),
        ("OTEL_EXPORTER_OTLP_CERTIFICATE", "/all"),
        ("OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE", "/traces"),
        ("OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE", "/client"),
        ("OTEL_EXPORTER_OTLP_CLIENT_KEY", "/key"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "1500"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
        ("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip"),
    ]);
    given.warned(&[
        "OTEL_EXPORTER_OTLP_PROTOCOL is grpc: spans are still sent as http/protobuf",
        "OTEL_EXPORTER_OTLP_COMPRESSION is gzip: spans are sent uncompressed",
    ]);
    let collector = given.config().collector.unwrap();
    assert_eq!(collector.timeout, Duration::from_millis(1500));
    let files = [collector.ca_file, collector.client_certificate_file, collector.client_key_file];
    assert_eq!(files, ["/traces", "/client", "/key"].map(|path| Some(PathBuf::from(path))));
}

#[test]
fn proxies_are_those_of_the_usual_variables() {
    let proxies = |pairs: [(&str, &str); 4]| {
        let given = Given::yaml("telemetry: {otlp_endpoint: 'http://c'}").environment(pairs);
        given.config().collector.unwrap().proxies
    };
    let none = ("", "");
    let [a, b] = ["http://a:1", "http://b:2"].map(|url| Some(url.to_owned()));
    for (pairs, wanted) in [
        ([none; 4], Proxies::new(None, None, "")),
        ([("HTTP_PROXY", "http://a:1"), ("https_proxy", "b:2"), none, none], Proxies::new(a.clone(), b.clone(), "")),
        (
            [("ALL_PROXY", "http://a:1"), ("HTTPS_PROXY", "http://b:2"), none, none],
            Proxies::new(a.clone(), b.clone(), ""),
        ),
        ([("HTTP_PROXY", "http://a:1"), ("http_proxy", "http://b:2"), none, none], Proxies::new(a.clone(), None, "")),
        ([("all_proxy", "http://a:1"), ("NO_PROXY", "x,y"), none, none], Proxies::new(a.clone(), a.clone(), "x,y")),
    ] {
        assert_eq!(proxies(pairs), wanted, "{pairs:?}");
    }
}

#[test]
fn a_proxy_that_cannot_be_used_stops_who_needs_one_and_is_not_quoted() {
    let message = "HTTPS_PROXY: its value is not allowed: want the http or https URL of a proxy, as in http://proxy.example:3128; SOCKS is not supported";
    for value in ["socks5://u:hush@proxy:1080", "http://", "http://two words"] {
        let pairs = [("HTTPS_PROXY", value)];
        Given::yaml("telemetry: {otlp_endpoint: 'http://c'}").environment(pairs).refused(&[message]);
        let vault = "encryption: {enabled: true, kms: {provider: vault, endpoint: 'https://v', token: t}}";
        Given::yaml(vault).environment(pairs).refused(&[message]);
        assert!(Given::yaml(&vault.replace("true", "false")).environment(pairs).config().encryption.kms.is_none());
        assert!(Given::nothing().environment(pairs).load().config.is_ok());
    }
}

#[test]
fn the_kms_that_is_checked_is_that_of_the_file_whatever_the_environment_says() {
    let vault = "encryption: {enabled: true, kms: {provider: vault, endpoint: 'https://v', token: t}}";
    let check = |given: &Given, file: Option<&str>| {
        let flags = Flags { config: file.map(|name| given.path(name)), ..Flags::default() };
        let directory = given.directory.path().to_owned();
        load_for_kms_check(&Sources { environment: given.environment.clone(), directory, flags, only_file: false })
    };
    let provider =
        |loaded: &Loaded| loaded.config.as_ref().ok()?.encryption.kms.as_ref().map(|kms| kms.kind().as_str());
    let given = Given::yaml("server: {port: 1}").file("new.yaml", vault);
    let given =
        given.file(".env", "PROGRESSDB_ENCRYPTION_KMS_NAMESPACE=x\nPROGRESSDB_ENCRYPTION_KMS_TOKEN_FILE=/old\n");
    let given = given.environment([("PROGRESSDB_KMS_MASTER_KEY_FILE", "/old"), ("PROGRESSDB_SERVER_PORT", "x")]);
    let of_file = check(&given, Some("new.yaml"));
    assert_eq!(provider(&of_file), Some("vault"), "{:?}", of_file.config);
    let applied: Vec<_> = of_file.warnings.iter().map(|warning| warning.source.as_str()).collect();
    assert_eq!(applied, ["PROGRESSDB_KMS_MASTER_KEY_FILE", "PROGRESSDB_ENCRYPTION_KMS_TOKEN_FILE in .env"]);
    let given = given.environment([("PROGRESSDB_KMS_MASTER_KEY_FILE", "/old")]);
    for file in [None, Some("config.yaml")] {
        let of_environment = check(&given, file);
        // A file that names no KMS leaves it to the environment.
        let kms = of_environment.config.unwrap().encryption.kms.unwrap();
        assert_eq!(kms.kind().as_str(), "local", "{file:?}");
    }
}
