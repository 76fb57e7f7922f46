//! Settings of connections that the server opens itself: proxies, and the collector of traces.
//!
//! Proxies come from the variables that most programs read, and the collector also from those of OpenTelemetry, with the
//! meaning that its specification gives them: <https://opentelemetry.io/docs/specs/otel/protocol/exporter/>.

use std::time::Duration;

use reqwest::Url;

use super::{Encryption, Environment, Error, Problem, Source, check::Checker};
use crate::crypt::kms::ProviderKind;
use crate::outgoing::Proxies;
use crate::telemetry::Collector;

const ENDPOINT: &str = "telemetry.otlp_endpoint";
const TRACES_ENDPOINT: &str = "telemetry.otlp_traces_endpoint";
/// The default address of a collector.
const USUAL_ENDPOINT: &str = "http://localhost:4318";

impl Checker {
    /// The collector, and the proxies in it and in the settings of the KMS. A proxy that cannot be used is a problem
    /// only if there is something to connect to.
    pub(super) fn outgoing(&mut self, environment: &Environment, encryption: &mut Encryption) -> Option<Collector> {
        let collector = self.collector(environment);
        let kms = encryption.kms.as_mut().filter(|kms| kms.kind() != ProviderKind::Local);
        if collector.is_none() && kms.is_none() {
            return None;
        }
        let (proxies, problems) = proxies(environment);
        if let Some(kms) = kms {
            kms.proxies = proxies.clone();
        }
        if collector.is_some() || encryption.enabled {
            self.problems.extend(problems);
        } else if !problems.is_empty() {
            encryption.kms = None;
            encryption.missing = problems;
        }
        collector.map(|collector| Collector { proxies, ..collector })
    }

    fn collector(&mut self, environment: &Environment) -> Option<Collector> {
        let exporter = self.exporter(environment)?;
        let url = self.traces_url().or_else(|| exporter.then(|| append_path(USUAL_ENDPOINT)))?;
        for name in ["OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"] {
            if let Some(protocol) = environment.get(name) {
                if protocol != "http/protobuf" {
                    let message = format!("{name} is {protocol}: spans are still sent as http/protobuf");
                    self.warn(name, &Source::Variable(name.to_owned()), message);
                }
                break;
            }
        }
        let compressions = ["OTEL_EXPORTER_OTLP_TRACES_COMPRESSION", "OTEL_EXPORTER_OTLP_COMPRESSION"];
        if let Some((name, value)) = compressions.iter().find_map(|name| Some((*name, environment.get(name)?)))
            && !value.eq_ignore_ascii_case("none")
        {
            let message = format!("{name} is {value}: spans are sent uncompressed");
            self.warn(name, &Source::Variable(name.to_owned()), message);
        }
        let values = &self.values;
        Some(Collector {
            url,
            ca_file: values.optional_path("telemetry.otlp_ca_file"),
            client_certificate_file: values.optional_path("telemetry.otlp_client_certificate_file"),
            client_key_file: values.optional_path("telemetry.otlp_client_key_file"),
            timeout: ["OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "OTEL_EXPORTER_OTLP_TIMEOUT"]
                .iter()
                .find_map(|name| environment.get(name)?.parse().ok())
                .map_or(Duration::from_secs(10), Duration::from_millis),
            proxies: Proxies::default(),
        })
    }

    /// None if traces are turned off; true if `otlp` is named as the exporter.
    fn exporter(&mut self, environment: &Environment) -> Option<bool> {
        if environment.get("OTEL_SDK_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true")) {
            return None;
        }
        let name = "OTEL_TRACES_EXPORTER";
        let Some(value) = environment.get(name) else { return Some(false) };
        let mut exporters = value.split(',').map(str::trim);
        if exporters.clone().any(|exporter| exporter == "otlp") {
            return Some(true);
        }
        if exporters.any(|exporter| exporter != "none") {
            let message = format!("{name} is {value}: no traces are sent, because only otlp is supported");
            self.warn(name, &Source::Variable(name.to_owned()), message);
        }
        None
    }

    /// The endpoint for traces is used as it is; the path is added to the general one. A variable of this program wins
    /// over one of OpenTelemetry's.
    fn traces_url(&self) -> Option<String> {
        let shared = |key: &str| self.values.get(key).1.to_string().starts_with("OTEL_");
        let (all, traces) = (self.values.optional_text(ENDPOINT), self.values.optional_text(TRACES_ENDPOINT));
        match (all, traces) {
            (Some(all), Some(_)) if shared(TRACES_ENDPOINT) && !shared(ENDPOINT) => Some(append_path(&all)),
            (_, Some(traces)) => Some(traces),
            (all, None) => all.map(|all| append_path(&all)),
        }
    }
}

fn append_path(url: &str) -> String {
    let (url, query) = url.split_once('?').map_or((url, None), |(url, query)| (url, Some(query)));
    let query = query.map(|query| format!("?{query}")).unwrap_or_default();
    format!("{}/v1/traces{query}", url.trim_end_matches('/'))
}

/// The proxies for a command that calls a server itself.
pub fn proxies_of(environment: &Environment) -> Result<Proxies, Error> {
    let (proxies, problems) = proxies(environment);
    if problems.is_empty() { Ok(proxies) } else { Err(Error(problems)) }
}

/// Upper case wins over lower case, and a proxy for a scheme over that for all.
pub(super) fn proxies(environment: &Environment) -> (Proxies, Vec<Problem>) {
    let find = |name: &str| {
        let lower = name.to_lowercase();
        [name, &lower].into_iter().find_map(|name| environment.get(name).map(|value| (name.to_owned(), value)))
    };
    let mut problems: Vec<Problem> = Vec::new();
    let mut proxy = |name: &str| {
        let (name, value) = find(name).or_else(|| find("ALL_PROXY"))?;
        let url = if value.contains("://") { value.to_owned() } else { format!("http://{value}") };
        let good = Url::parse(&url).is_ok_and(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
        if !good && problems.iter().all(|problem| problem.key != name) {
            let allowed = "the http or https URL of a proxy, as in http://proxy.example:3128; SOCKS is not supported";
            problems.push(Problem::new(
                &name,
                None,
                &Source::Variable(name.clone()),
                "its value is not allowed",
                allowed,
            ));
        }
        good.then_some(url)
    };
    let (http, https) = (proxy("HTTP_PROXY"), proxy("HTTPS_PROXY"));
    let direct = find("NO_PROXY").map_or("", |(_, value)| value);
    (Proxies::new(http, https, direct), problems)
}
