//! What pods have counted of the requests that users make: their `/metrics`, read at the same time. Half a picture is none:
//! if one of them does not tell, that is said and nothing is taken.

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use futures::future::join_all;
use tokio::time::timeout;

use super::{GateResult, Verdict};
use crate::{crd::PodCounters, gate::TrackedPod, probe};

/// The longest that one pod may take.
const LIMIT: Duration = Duration::from_secs(2);
/// Where requests of users go; probes of the cluster and administrators do not count.
const ROUTES: [&str; 2] = ["/frontend/", "/backend/"];

const REQUESTS: &str = "progressdb_http_requests_total";
const DURATION: &str = "progressdb_http_request_duration_seconds";
const STARTED: &str = "process_start_time_seconds";

/// Reads them all.
pub(super) async fn run(pods: &[TrackedPod]) -> GateResult {
    let found = join_all(pods.iter().map(read)).await;
    collect(pods, found)
}

fn collect(pods: &[TrackedPod], found: Vec<Result<PodCounters, String>>) -> GateResult {
    let threshold = format!("{} pods", pods.len());
    let told = found.iter().filter(|found| found.is_ok()).count();
    let value = format!("{told} of {threshold}");
    match found.into_iter().collect::<Result<Vec<PodCounters>, String>>() {
        Ok(counters) => {
            let result = GateResult::new(Verdict::Inconclusive, &value, &threshold, told as i64, "");
            GateResult { counters: Some(counters), ..result }
        }
        Err(why) => GateResult::new(Verdict::Inconclusive, &value, &threshold, told as i64, &why),
    }
}

async fn read(pod: &TrackedPod) -> Result<PodCounters, String> {
    let failed = |why: String| format!("the metrics of the pod {} cannot be read: {why}", pod.name);
    let address: SocketAddr = pod.management.parse().map_err(|_| failed("it has no address".to_owned()))?;
    let page = page(address).await.map_err(failed)?;
    let counters = counted(&page).map_err(failed)?;
    Ok(PodCounters { pod: pod.name.clone(), uid: pod.uid.clone(), canary: pod.canary, ..counters })
}

async fn page(address: SocketAddr) -> Result<String, String> {
    let response = match timeout(LIMIT, probe::get(address, "/metrics", &[])).await {
        Ok(response) => response.map_err(|error| error.to_string())?,
        Err(_) => return Err(format!("no answer within {LIMIT:?}")),
    };
    match probe::status_and_body(&response) {
        Some((200, body)) => Ok(body.to_owned()),
        Some((status, _)) => Err(format!("status {status}")),
        None => Err("that is no HTTP".to_owned()),
    }
}

/// What a page of metrics says, in Prometheus' text format.
fn counted(page: &str) -> Result<PodCounters, String> {
    let (mut counters, mut is_whole) = (PodCounters::default(), false);
    let mut buckets: BTreeMap<String, i64> = BTreeMap::new();
    for sample in page.lines().filter_map(Sample::of) {
        match sample.name.strip_prefix(DURATION) {
            _ if sample.name == STARTED => (counters.started_at, is_whole) = (sample.value, true),
            Some(part) if sample.is_of_users() => match part {
                "_bucket" => {
                    *buckets.entry(sample.label("le").unwrap_or_default().to_owned()).or_default() += sample.value
                }
                "_count" => counters.requests += sample.value,
                _ => {}
            },
            _ if sample.name == REQUESTS && sample.is_of_users() && sample.has_failed() => {
                counters.errors += sample.value;
            }
            _ => {}
        }
    }
    // All requests are in the last one, which has no edge.
    buckets.remove("+Inf");
    // A page that does not end with a line was cut off.
    match is_whole && page.ends_with('\n') {
        true => Ok(PodCounters { buckets, ..counters }),
        false => Err("they do not say when the process started".to_owned()),
    }
}

/// One line.
struct Sample<'a> {
    name: &'a str,
    labels: &'a str,
    /// Without what is behind the point: counts have none.
    value: i64,
}

impl<'a> Sample<'a> {
    fn of(line: &'a str) -> Option<Self> {
        let (head, value) = line.trim_end().rsplit_once(' ').filter(|_| !line.starts_with('#'))?;
        let (name, labels) = head.split_once('{').map_or((head, ""), |(name, rest)| (name, rest.trim_end_matches('}')));
        let value = value.parse::<f64>().ok().filter(|value| value.is_finite())?;
        Some(Self { name, labels, value: value as i64 })
    }

    /// The value of a label. None of those that are asked for holds a quote or a comma.
    fn label(&self, name: &str) -> Option<&'a str> {
        let mut labels = self.labels.split(',').filter_map(|label| label.split_once('='));
        labels.find(|(label, _)| *label == name).map(|(_, value)| value.trim_matches('"'))
    }

    fn is_of_users(&self) -> bool {
        self.label("route").is_some_and(|route| ROUTES.iter().any(|prefix| route.starts_with(prefix)))
    }

    /// Whether these requests were answered with 500 and above; a status that the server does not count by itself is 0.
    fn has_failed(&self) -> bool {
        self.label("status").and_then(|status| status.parse::<u16>().ok()).is_some_and(|status| status >= 500)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = r#"# HELP progressdb_http_requests_total Requests that got a response.
# TYPE progressdb_http_requests_total counter
progressdb_http_requests_total{route="/frontend/v1/threads",method="GET",status="200"} 10
progressdb_http_requests_total{route="/frontend/v1/threads",method="GET",status="503"} 2
progressdb_http_requests_total{route="/frontend/v1/threads",method="POST",status="500"} 1
progressdb_http_requests_total{route="/readyz",method="GET",status="503"} 90
progressdb_http_request_duration_seconds_bucket{route="/frontend/v1/threads",method="GET",le="0.001"} 4
progressdb_http_request_duration_seconds_bucket{route="/frontend/v1/threads",method="GET",le="0.01"} 11
progressdb_http_request_duration_seconds_bucket{route="/frontend/v1/threads",method="GET",le="+Inf"} 12
progressdb_http_request_duration_seconds_sum{route="/frontend/v1/threads",method="GET"} 0.5
progressdb_http_request_duration_seconds_count{route="/frontend/v1/threads",method="GET"} 12
progressdb_http_request_duration_seconds_bucket{route="/backend/v1/sign",method="POST",le="0.001"} 1
progressdb_http_request_duration_seconds_count{route="/backend/v1/sign",method="POST"} 1
progressdb_http_request_duration_seconds_bucket{route="/readyz",method="GET",le="0.001"} 90
progressdb_http_request_duration_seconds_count{route="/readyz",method="GET"} 90
process_start_time_seconds 1900000000.25
"#;

    fn pod(name: &str, management: &str) -> TrackedPod {
        TrackedPod { name: name.into(), uid: name.into(), management: management.into(), canary: true }
    }

    #[test]
    fn requests_of_users_are_counted_and_no_others() {
        let buckets = [("0.001", 5), ("0.01", 11)].map(|(edge, count)| (edge.to_owned(), count)).into();
        let wanted =
            PodCounters { started_at: 1_900_000_000, requests: 13, errors: 3, buckets, ..PodCounters::default() };
        assert_eq!(counted(PAGE), Ok(wanted));
    }

    #[test]
    fn half_a_page_is_none() {
        for page in ["", "<html>\n", &PAGE[..PAGE.len() - 60], PAGE.trim_end()] {
            assert!(counted(page).is_err(), "{page}");
        }
    }

    #[test]
    fn one_pod_that_does_not_tell_leaves_nothing() {
        let pods = [pod("a", "127.0.0.1:1"), pod("b", "127.0.0.1:1")];
        let all = collect(&pods, vec![Ok(PodCounters::default()), Ok(PodCounters::default())]);
        assert_eq!((all.counters.map(|all| all.len()), all.value.as_str()), (Some(2), "2 of 2 pods"));
        let one = collect(&pods, vec![Ok(PodCounters::default()), Err("the pod b is silent".into())]);
        assert_eq!((one.counters, one.value.as_str(), one.verdict), (None, "1 of 2 pods", Verdict::Inconclusive));
        assert_eq!(one.why, "the pod b is silent");
    }

    #[tokio::test]
    async fn a_pod_that_nobody_answers_for_is_named() {
        // Nobody listens on the first port.
        let told = read(&pod("a", "127.0.0.1:1")).await;
        assert!(told.as_ref().is_err_and(|why| why.starts_with("the metrics of the pod a cannot be read")), "{told:?}");
        assert!(read(&pod("a", "nowhere")).await.is_err());
    }
}
