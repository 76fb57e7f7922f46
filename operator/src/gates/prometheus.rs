//! What a Prometheus says: each query gives one value, which is held to its limits. What gives none proves nothing.

use std::time::Duration;

use hyper::Method;
use serde_json::Value;
use tokio::time::{Instant, sleep};

use super::{
    GateResult, Query, Verdict,
    client::{Answer, Client, Request},
};

/// The longest that one answer may take.
const LIMIT: Duration = Duration::from_secs(10);
/// So long a Prometheus that gives no whole answer is asked again, and the time in between.
const PATIENCE: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(1));

/// Asks every query once.
pub(super) async fn run(address: &str, queries: &[Query]) -> GateResult {
    let threshold = join(queries.iter().map(Query::limits));
    let (host, prefix) = match parse(address) {
        Some(parts) => parts,
        None => {
            let why = format!("{address:?} is no URL that begins with http:// and names a host");
            return GateResult::nothing(&threshold, &why);
        }
    };
    let mut client = Client::new(host, LIMIT);
    let mut answers = Vec::new();
    for query in queries {
        answers.push(ask(&mut client, &prefix, &query.query).await);
    }
    judge(queries, &answers, &threshold)
}

/// Host and port, and what stands in front of paths.
fn parse(address: &str) -> Option<(String, String)> {
    let rest = address.strip_prefix("http://")?.trim_end_matches('/');
    let (host, prefix) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let has_port = host.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    let host = if has_port { host.to_owned() } else { format!("{host}:80") };
    (!host.starts_with(':') && !rest.contains(['@', '?', '#', ' '])).then(|| (host, prefix.to_owned()))
}

async fn ask(client: &mut Client, prefix: &str, query: &str) -> Result<f64, String> {
    let path = format!("{prefix}/api/v1/query?query={}", encoded(query));
    let until = Instant::now() + PATIENCE.0;
    loop {
        let request = Request { method: Method::GET, path: &path, headers: &[], body: String::new() };
        match client.send(request).await {
            Ok(Answer { status: 500.., .. }) | Err(_) if Instant::now() < until => sleep(PATIENCE.1).await,
            Ok(Answer { status, body, .. }) => return value_of(status, &body),
            Err(lost) => return Err(lost.to_string()),
        }
    }
}

/// The one value of an answer.
fn value_of(status: u16, body: &[u8]) -> Result<f64, String> {
    let said: Value = serde_json::from_slice(body).unwrap_or_default();
    if said["status"] != "success" {
        let error = said["error"].as_str().map_or_else(|| String::from_utf8_lossy(body), Into::into);
        return Err(format!("{status}: {error}"));
    }
    let data = &said["data"];
    let sample = match (data["resultType"].as_str(), data["result"].as_array()) {
        (Some("scalar"), Some(sample)) => sample.get(1),
        (Some("vector"), Some(elements)) => match elements.as_slice() {
            [] => return Err("no data".to_owned()),
            [element] => element.pointer("/value/1"),
            elements => return Err(format!("{} elements: aggregate them into one", elements.len())),
        },
        (kind, _) => {
            return Err(format!("a {} is neither a scalar nor a vector", kind.unwrap_or("result without a type")));
        }
    };
    let number = sample.and_then(Value::as_str).and_then(|text| text.parse::<f64>().ok());
    number.filter(|number| !number.is_nan()).ok_or_else(|| "no number".to_owned())
}

fn judge(queries: &[Query], answers: &[Result<f64, String>], threshold: &str) -> GateResult {
    let values = queries.iter().zip(answers).map(|(query, answer)| match answer {
        Ok(value) => format!("{} {value}", query.name),
        Err(_) => format!("{} nothing", query.name),
    });
    let judged = || queries.iter().zip(answers).map(|(query, answer)| (query, query.judge(answer)));
    let first = |wanted| judged().find(|(_, (verdict, _))| *verdict == wanted);
    let (verdict, why) = match first(Verdict::Failed).or_else(|| first(Verdict::Inconclusive)) {
        Some((query, (verdict, why))) => (verdict, format!("{}: {why}", query.name)),
        None if queries.is_empty() => (Verdict::Inconclusive, "no query is given".to_owned()),
        None => (Verdict::Passed, String::new()),
    };
    let samples = answers.iter().filter(|answer| answer.is_ok()).count() as i64;
    GateResult::new(verdict, &join(values), threshold, samples, &why)
}

impl Query {
    fn judge(&self, answer: &Result<f64, String>) -> (Verdict, String) {
        let value = match answer {
            Ok(value) => *value,
            Err(why) => return (Verdict::Inconclusive, why.clone()),
        };
        let limit = |limit: &Option<String>| {
            limit.as_ref().map(|text| {
                let number = text.parse::<f64>().ok();
                number.filter(|number| !number.is_nan()).ok_or_else(|| text.clone())
            })
        };
        match (limit(&self.max), limit(&self.min)) {
            (Some(Err(text)), _) | (_, Some(Err(text))) => {
                (Verdict::Inconclusive, format!("the limit {text:?} is no number"))
            }
            (Some(Ok(max)), _) if value > max => (Verdict::Failed, format!("{value} is more than {max}")),
            (_, Some(Ok(min))) if value < min => (Verdict::Failed, format!("{value} is less than {min}")),
            _ => (Verdict::Passed, String::new()),
        }
    }

    fn limits(&self) -> String {
        let limit = |word: &str, limit: &Option<String>| limit.as_ref().map(|limit| format!(" {word} {limit}"));
        let (max, min) = (limit("at most", &self.max), limit("at least", &self.min));
        format!("{}{}{}", self.name, max.unwrap_or_default(), min.unwrap_or_default())
    }
}

fn join(texts: impl Iterator<Item = String>) -> String {
    texts.collect::<Vec<_>>().join("; ")
}

fn encoded(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte);
    text.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn value(result_type: &str, result: Value) -> Result<f64, String> {
        let body = json!({ "status": "success", "data": { "resultType": result_type, "result": result } });
        value_of(200, body.to_string().as_bytes())
    }

    #[test]
    fn one_value_is_taken_and_nothing_else() {
        let element = |value: &str| json!({ "metric": {}, "value": [1.5, value] });
        assert_eq!(value("scalar", json!([1.5, "0.25"])), Ok(0.25));
        assert_eq!(value("vector", json!([element("3e-3")])), Ok(0.003));
        assert_eq!(value("vector", json!([element("+Inf")])), Ok(f64::INFINITY));
        for (kind, result, why) in [
            ("vector", json!([]), "no data"),
            ("vector", json!([element("1"), element("2")]), "2 elements"),
            ("vector", json!([element("NaN")]), "no number"),
            ("scalar", json!([1.5]), "no number"),
            ("matrix", json!([]), "a matrix is neither"),
        ] {
            let error = value(kind, result).unwrap_err();
            assert!(error.starts_with(why), "{error}");
        }
        let error = value_of(400, br#"{"status":"error","errorType":"bad_data","error":"parse error"}"#);
        assert_eq!(error, Err("400: parse error".to_owned()));
        assert_eq!(value_of(404, b"not here"), Err("404: not here".to_owned()));
    }

    fn query(name: &str, max: Option<&str>, min: Option<&str>) -> Query {
        Query { name: name.into(), query: String::new(), max: max.map(str::to_owned), min: min.map(str::to_owned) }
    }

    fn verdict(query: &Query, answer: Result<f64, &str>) -> (Verdict, String) {
        let result = judge(std::slice::from_ref(query), &[answer.map_err(str::to_owned)], &query.limits());
        (result.verdict, result.why)
    }

    #[test]
    fn a_value_may_be_its_limit() {
        let errors = query("errors", Some("0.5"), Some("0.1"));
        for value in [0.1, 0.3, 0.5] {
            assert_eq!(verdict(&errors, Ok(value)), (Verdict::Passed, String::new()));
        }
        assert_eq!(verdict(&errors, Ok(0.6)), (Verdict::Failed, "errors: 0.6 is more than 0.5".to_owned()));
        assert_eq!(verdict(&errors, Ok(0.0)), (Verdict::Failed, "errors: 0 is less than 0.1".to_owned()));
        assert_eq!(verdict(&errors, Err("no data")), (Verdict::Inconclusive, "errors: no data".to_owned()));
        for limit in ["many", "NaN"] {
            let verdict = verdict(&query("x", Some(limit), None), Ok(1.0));
            assert_eq!(verdict, (Verdict::Inconclusive, format!("x: the limit {limit:?} is no number")));
        }
    }

    #[test]
    fn one_failure_outweighs_what_is_missing_and_all_must_be_there() {
        let queries = [query("a", Some("1"), None), query("b", None, Some("1"))];
        let verdict = |a: Result<f64, String>, b| {
            let result = judge(&queries, &[a, b], "");
            (result.verdict, result.samples, result.value)
        };
        let missing = || Err("no data".to_owned());
        assert_eq!(verdict(Ok(1.0), Ok(1.0)), (Verdict::Passed, 2, "a 1; b 1".to_owned()));
        assert_eq!(verdict(missing(), Ok(0.5)), (Verdict::Failed, 1, "a nothing; b 0.5".to_owned()));
        assert_eq!(verdict(Ok(1.0), missing()).0, Verdict::Inconclusive);
        assert_eq!(judge(&[], &[], "").verdict, Verdict::Inconclusive);
        assert_eq!(join(queries.iter().map(Query::limits)), "a at most 1; b at least 1");
    }

    #[test]
    fn an_address_is_a_url_without_tls() {
        let parts = |host: &str, prefix: &str| Some((host.to_owned(), prefix.to_owned()));
        assert_eq!(parse("http://prometheus.monitoring:9090"), parts("prometheus.monitoring:9090", ""));
        assert_eq!(parse("http://prometheus/some/path/"), parts("prometheus:80", "/some/path"));
        assert_eq!(parse("http://[::1]:9090/"), parts("[::1]:9090", ""));
        for address in ["prometheus:9090", "https://prometheus", "http://", "http:///x", "http://a@b", "http://a b"] {
            assert_eq!(parse(address), None, "{address}");
        }
        assert_eq!(encoded("sum(x{a=\"b\"}) > 1"), "sum%28x%7Ba%3D%22b%22%7D%29%20%3E%201");
    }
}
