//! Metrics of the HTTP layer. Labels are route templates, methods and statuses, never ids.
//!
//! Handles are registered once, so that a request costs a hash of its route and no lock. Statuses that the OpenAPI
//! document lists are registered at the start, so that they count from 0. `listen` measures the connections; rejections
//! are counted in `error`, which knows the limit that was reached.

use std::collections::HashMap;
use std::sync::OnceLock;

use axum::http::{Method, StatusCode};
use metrics::{Counter, Gauge, Histogram};
use tokio::time::Instant;

/// Statuses of the server; any other would be counted as 0.
const STATUSES: [u16; 24] = [
    200, 202, 204, 303, 304, 308, 400, 401, 403, 404, 405, 408, 409, 412, 413, 415, 417, 422, 429, 500, 501, 503, 507,
    0,
];
/// The methods that routes have; the last stands for all others.
const METHODS: [&str; 6] = ["GET", "HEAD", "POST", "PUT", "DELETE", "OTHER"];

/// The route of a request that no route matches.
const UNMATCHED: &str = "unmatched";

/// The label for it.
const UNMATCHED_STATUSES: [u16; 4] = [401, 403, 404, 405];

/// An operation of the document.
pub(super) struct Documented {
    /// The template of its route.
    pub(super) route: String,
    /// In capitals.
    pub(super) method: &'static str,
    /// The statuses of its responses.
    pub(super) statuses: Vec<u16>,
}

fn index_of(method: &str) -> usize {
    METHODS.iter().position(|name| *name == method).unwrap_or(METHODS.len() - 1)
}

fn slot_of(status: u16) -> usize {
    STATUSES.iter().position(|known| *known == status).unwrap_or(STATUSES.len() - 1)
}

/// All handles of the HTTP layer.
pub(super) struct RequestMetrics {
    routes: HashMap<String, [Operation; METHODS.len()]>,
    in_flight: Gauge,
}

/// The handles of one route and method; those that the document does not know are registered at first use.
#[derive(Default)]
struct Operation {
    duration: OnceLock<Histogram>,
    statuses: [OnceLock<Counter>; STATUSES.len()],
}

impl Operation {
    /// The counter of one status.
    fn count(&self, route: &str, method: &'static str, slot: usize) -> &Counter {
        self.statuses[slot].get_or_init(|| {
            let status = STATUSES[slot].to_string();
            metrics::counter!(
                "progressdb_http_requests_total", "route" => route.to_owned(), "method" => method, "status" => status
            )
        })
    }
}

/// A request in flight; leaves the gauge when dropped, however that happens.
pub(super) struct InFlight<'a> {
    in_flight: &'a Gauge,
    route: Option<(&'a str, &'a [Operation; METHODS.len()])>,
    method: usize,
    started: Instant,
}

impl RequestMetrics {
    /// Handles for these operations.
    pub(super) fn new(operations: impl IntoIterator<Item = Documented>) -> Self {
        let unmatched =
            METHODS.map(|method| Documented { route: UNMATCHED.into(), method, statuses: UNMATCHED_STATUSES.into() });
        let mut routes: HashMap<String, [Operation; METHODS.len()]> = HashMap::new();
        for Documented { route, method, statuses } in operations.into_iter().chain(unmatched) {
            let operations = routes.entry(route.clone()).or_default();
            let index = index_of(method);
            for status in statuses {
                operations[index].count(&route, METHODS[index], slot_of(status));
            }
        }
        Self { routes, in_flight: metrics::gauge!("progressdb_http_requests_in_flight") }
    }

    /// Counts a request of `method` that matched `route`.
    pub(super) fn begin(&self, route: Option<&str>, method: &Method) -> InFlight<'_> {
        self.in_flight.increment(1.0);
        let known = self.routes.get_key_value(route.unwrap_or(UNMATCHED));
        let method = index_of(method.as_str());
        InFlight {
            in_flight: &self.in_flight,
            route: known.map(|(name, operations)| (name.as_str(), operations)),
            method,
            started: Instant::now(),
        }
    }
}

impl InFlight<'_> {
    pub(super) fn started(&self) -> Instant {
        self.started
    }

    /// The template of the matched route.
    pub(super) fn route(&self) -> &str {
        self.route.map_or(UNMATCHED, |(name, _)| name)
    }

    /// Counts the response.
    pub(super) fn finish(&self, status: StatusCode) {
        let Some((route, operations)) = self.route else { return };
        let operation = &operations[self.method];
        let method = METHODS[self.method];
        let duration = operation.duration.get_or_init(
            || metrics::histogram!("progressdb_http_request_duration_seconds", "route" => route.to_owned(), "method" => method),
        );
        duration.record(self.started.elapsed().as_secs_f64());
        operation.count(route, method, slot_of(status.as_u16())).increment(1);
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.in_flight.decrement(1.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_templates_become_labels() {
        let documented = Documented { route: "/a/{k}".into(), method: "GET", statuses: vec![200] };
        let metrics = RequestMetrics::new([documented]);
        assert_eq!(metrics.begin(Some("/a/{k}"), &Method::GET).route(), "/a/{k}");
        assert_eq!(metrics.begin(None, &Method::GET).route(), UNMATCHED);
        assert_eq!(metrics.begin(Some("/a/secret"), &Method::GET).route(), UNMATCHED);
    }
}
