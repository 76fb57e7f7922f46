//! Metrics of the HTTP layer. Labels are route templates, methods and statuses, never ids.
//!
//! Handles are registered once, so that a request costs a hash of its route and no lock.
//!
//! | Name | Kind | Labels |
//! |---|---|---|
//! | `progressdb_http_requests_total` | counter | route, method, status |
//! | `progressdb_http_request_duration_seconds` | histogram | route, method |
//! | `progressdb_http_requests_in_flight` | gauge | |
//! | `progressdb_http_rejections_total` | counter | limit: `rate`, `body_bytes`, `body_memory`, `body_time`, `writes`, `audit` |
//!
//! `listen` adds the connections; rejections are counted in `error`, where it is known which limit was met.

use std::collections::HashMap;
use std::sync::OnceLock;

use axum::http::{Method, StatusCode};
use metrics::{Counter, Gauge, Histogram};
use tokio::time::Instant;

/// Statuses that the server can answer; anything else would be counted as 0.
const STATUSES: [u16; 22] =
    [200, 202, 204, 303, 400, 401, 403, 404, 405, 408, 409, 412, 413, 422, 429, 500, 503, 507, 304, 307, 501, 0];
/// The methods that routes have; the last stands for all others.
const METHODS: [&str; 6] = ["GET", "HEAD", "POST", "PUT", "DELETE", "OTHER"];

/// The route of a request that no route matches.
const UNMATCHED: &str = "unmatched";

/// All handles of the HTTP layer.
pub(super) struct Observer {
    routes: HashMap<String, [Operation; METHODS.len()]>,
    in_flight: Gauge,
}

/// The handles of one route and method, registered at first use.
#[derive(Default)]
struct Operation {
    duration: OnceLock<Histogram>,
    statuses: [OnceLock<Counter>; STATUSES.len()],
}

/// A request being answered; leaves the in-flight gauge when dropped, however that happens.
pub(super) struct Observation<'a> {
    in_flight: &'a Gauge,
    route: Option<(&'a str, &'a [Operation; METHODS.len()])>,
    method: usize,
    started: Instant,
}

impl Observer {
    /// Handles for these route templates.
    pub(super) fn new<'p>(paths: impl Iterator<Item = &'p str>) -> Self {
        describe();
        Self {
            routes: paths.chain([UNMATCHED]).map(|path| (path.to_owned(), Default::default())).collect(),
            in_flight: metrics::gauge!("progressdb_http_requests_in_flight"),
        }
    }

    /// Starts to observe a request of `method` that matched `route`.
    pub(super) fn begin(&self, route: Option<&str>, method: &Method) -> Observation<'_> {
        self.in_flight.increment(1.0);
        let known = self.routes.get_key_value(route.unwrap_or(UNMATCHED));
        let method = METHODS.iter().position(|name| *name == method.as_str()).unwrap_or(METHODS.len() - 1);
        Observation {
            in_flight: &self.in_flight,
            route: known.map(|(name, operations)| (name.as_str(), operations)),
            method,
            started: Instant::now(),
        }
    }
}

impl Observation<'_> {
    pub(super) fn started(&self) -> Instant {
        self.started
    }

    /// The template of the matched route.
    pub(super) fn route(&self) -> &str {
        self.route.map_or(UNMATCHED, |(name, _)| name)
    }

    /// Counts the answer.
    pub(super) fn answered(&self, status: StatusCode) {
        let Some((route, operations)) = self.route else { return };
        let operation = &operations[self.method];
        let method = METHODS[self.method];
        let duration = operation.duration.get_or_init(
            || metrics::histogram!("progressdb_http_request_duration_seconds", "route" => route.to_owned(), "method" => method),
        );
        duration.record(self.started.elapsed().as_secs_f64());
        let slot = STATUSES.iter().position(|known| *known == status.as_u16()).unwrap_or(STATUSES.len() - 1);
        let requests = operation.statuses[slot].get_or_init(|| {
            let status = STATUSES[slot].to_string();
            metrics::counter!(
                "progressdb_http_requests_total", "route" => route.to_owned(), "method" => method, "status" => status
            )
        });
        requests.increment(1);
    }
}

impl Drop for Observation<'_> {
    fn drop(&mut self) {
        self.in_flight.decrement(1.0);
    }
}

fn describe() {
    metrics::describe_counter!("progressdb_http_requests_total", "Requests answered.");
    metrics::describe_histogram!(
        "progressdb_http_request_duration_seconds",
        metrics::Unit::Seconds,
        "Time to answer a request."
    );
    metrics::describe_gauge!("progressdb_http_requests_in_flight", "Requests being answered.");
    metrics::describe_counter!("progressdb_http_rejections_total", "Requests refused because a limit was reached.");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_templates_become_labels() {
        let observer = Observer::new(["/a/{k}"].into_iter());
        assert_eq!(observer.begin(Some("/a/{k}"), &Method::GET).route(), "/a/{k}");
        assert_eq!(observer.begin(None, &Method::GET).route(), UNMATCHED);
        assert_eq!(observer.begin(Some("/a/secret"), &Method::GET).route(), UNMATCHED);
    }
}
