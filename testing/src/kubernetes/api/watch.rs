//! Watches: every change of a kind, in order.

use axum::{body::Body, http::Response};
use futures::stream;
use serde_json::{Value, json};

use super::{
    Line, Server,
    routes::{Call, is_selected, shaped},
    status_of,
};

impl Server {
    /// The changes after the version that the caller has, for as long as it listens.
    pub(super) fn watch(&self, call: Call) -> Response<Body> {
        let version = call.parameter("resourceVersion").and_then(|text| text.parse().ok()).unwrap_or(0);
        let state = (self.clone(), call, version, self.changed.subscribe());
        let lines = stream::unfold(state, |(server, call, mut version, mut changed)| async move {
            loop {
                changed.borrow_and_update();
                if server.state().store.unserved.contains(call.kind.kind) {
                    return None;
                }
                let (lines, told) = server.next_lines(&call, version);
                version = told;
                if !lines.is_empty() {
                    return Some((Line::Ok(lines), (server, call, version, changed)));
                }
                changed.changed().await.ok()?;
            }
        });
        Response::new(Body::from_stream(lines))
    }

    /// The next lines of a watch that has seen `version`, and the version that they bring it to.
    fn next_lines(&self, call: &Call, version: u64) -> (String, u64) {
        let state = self.state();
        if version < state.store.compacted {
            let gone = json!({ "type": "ERROR", "object": status_of(410, "Expired", "too old resource version") });
            return (format!("{gone}\n"), u64::MAX);
        }
        let changes = state.store.changes_since(version);
        let lines = changes
            .iter()
            .filter(|change| std::ptr::eq(change.key.kind, call.kind))
            .filter_map(|change| change.event(|object| is_selected(call, object)))
            .map(|(what, object)| line(what, shaped(&state.store, call, &object)));
        (lines.collect(), changes.last().map_or(version, |last| last.version))
    }
}

fn line(what: &str, object: Value) -> String {
    // In this order, as the API server writes it.
    format!("{{\"type\":\"{what}\",\"object\":{object}}}\n")
}
