//! Whether the log of a server tells of a grave fault. It is read as it comes, and nothing of it is kept but the line that
//! tells of one.
//!
//! The container that runs is read, and the one before it in the same pod: a server that panics is started again. The node
//! keeps some 10 MiB of a log; what it has dropped is not seen.

use std::{pin::pin, time::Duration};

use futures::{AsyncBufRead, AsyncBufReadExt};
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, Client, api::LogParams};
use tokio::time::timeout;

use super::{GateResult, Verdict, registry::repeated};
use crate::{
    error::{Error, chain},
    objects::SERVER,
};

/// The most that is read of a log, in bytes.
const MAX_LOG: i64 = 32 * 1024 * 1024;
/// So much of a line is looked at: events are at its beginning.
const MAX_LINE: usize = 8 * 1024;
/// The longest that one log is read.
const LIMIT: Duration = Duration::from_secs(30);

const THRESHOLD: &str = "no event panic, store.* or kms.failing";

/// What an empty log leaves open.
const EMPTY: &str =
    "the server has logged nothing: no fault is in it, and nothing else; with logging.level info there is more";

/// What was found in a log.
#[derive(Debug, Default, PartialEq, Eq)]
struct Found {
    lines: i64,
    bytes: u64,
    /// The first line that tells of a fault.
    fault: Option<String>,
}

/// Reads the logs of a pod.
pub(super) async fn run(client: &Client, namespace: &str, pod: &str) -> GateResult {
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    match repeated(|| read_both(&pods, pod)).await {
        Ok(found) => judge(&found),
        Err(error) => {
            let error = Error::new(format!("reading the log of {pod}"), error);
            GateResult::nothing(THRESHOLD, &chain(&error))
        }
    }
}

async fn read_both(pods: &Api<Pod>, pod: &str) -> Result<Found, kube::Error> {
    let mut found = read(pods, pod, false).await?;
    match read(pods, pod, true).await {
        Ok(before) => found.fault = found.fault.or(before.fault),
        // There was none before.
        Err(kube::Error::Api(status)) if status.code == 400 => {}
        Err(error) => return Err(error),
    }
    Ok(found)
}

async fn read(pods: &Api<Pod>, pod: &str, previous: bool) -> Result<Found, kube::Error> {
    let container = Some(SERVER.to_owned());
    let wanted = LogParams { container, previous, limit_bytes: Some(MAX_LOG), ..LogParams::default() };
    let read = async {
        let log = pods.log_stream(pod, &wanted).await?;
        scan(log).await.map_err(|error| kube::Error::Service(error.into()))
    };
    timeout(LIMIT, read).await.map_err(|late| kube::Error::Service(late.into()))?
}

fn judge(found: &Found) -> GateResult {
    let result = |verdict, value: &str, why: &str| GateResult::new(verdict, value, THRESHOLD, found.lines, why);
    match &found.fault {
        Some(line) => result(Verdict::Failed, event(line).unwrap_or_default(), line),
        // With logging.level above info a healthy server writes nothing; other gates say whether it works.
        None if found.lines == 0 => result(Verdict::Passed, "an empty log", EMPTY),
        None if found.bytes >= MAX_LOG.unsigned_abs() => {
            result(Verdict::Inconclusive, "none in the first 32 MiB", "the log is longer than what is read of it")
        }
        None => result(Verdict::Passed, "none", ""),
    }
}

/// Reads to the end, or to the first fault.
async fn scan(log: impl AsyncBufRead) -> std::io::Result<Found> {
    let mut log = pin!(log);
    let (mut found, mut line) = (Found::default(), Vec::new());
    loop {
        let chunk = log.fill_buf().await?;
        let end = chunk.iter().position(|byte| *byte == b'\n');
        let part = &chunk[..end.unwrap_or(chunk.len())];
        line.extend_from_slice(&part[..part.len().min(MAX_LINE - line.len())]);
        let (is_over, used) = (chunk.is_empty(), part.len() + usize::from(end.is_some()));
        log.as_mut().consume(used);
        found.bytes += used as u64;
        if end.is_some() || (is_over && !line.is_empty()) {
            found.lines += 1;
            let text = String::from_utf8_lossy(&line);
            if event(&text).is_some_and(is_grave) {
                found.fault = Some(text.into_owned());
            }
            line.clear();
        }
        if is_over || found.fault.is_some() {
            return Ok(found);
        }
    }
}

/// Events of the store that tell of the past, and of no fault of the server that runs.
const OF_THE_PAST: [&str; 2] = ["store.log_unknown", "store.log_unrecorded"];

fn is_grave(event: &str) -> bool {
    let is_of_store = event.starts_with("store.") && !OF_THE_PAST.contains(&event);
    event == "panic" || event == "kms.failing" || is_of_store
}

/// The event that a line of the server tells of, as JSON or as text. Within a value quotes are escaped, so that no value looks
/// like an event.
fn event(line: &str) -> Option<&str> {
    let rest = |begin: &str| Some(&line[line.find(begin)? + begin.len()..]);
    let rest = rest(r#""event":""#).or_else(|| rest(r#" event=""#))?;
    rest.split_once('"').map(|(event, _)| event)
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: &str =
        r#"{"timestamp":"2026-01-01T00:00:00Z","level":"INFO","event":"server.ready","target":"progressdb"}"#;

    async fn verdict(log: &str) -> (Verdict, i64, String) {
        let result = judge(&scan(log.as_bytes()).await.unwrap());
        (result.verdict, result.samples, result.value)
    }

    #[tokio::test]
    async fn a_grave_event_is_found_in_json_and_in_text() {
        for event in ["panic", "store.stopped", "store.log_removed", "kms.failing"] {
            let json = format!(r#"{{"level":"ERROR","message":"a write failed","event":"{event}","reason":"x"}}"#);
            let text = format!(r#"2026-01-01T00:00:00Z ERROR progressdb: a write failed event="{event}" reason="x""#);
            for line in [json, text] {
                let (verdict, lines, value) = verdict(&format!("{START}\n{line}\n{START}\n")).await;
                assert_eq!((verdict, lines, value.as_str()), (Verdict::Failed, 2, event), "{line}");
            }
        }
    }

    #[tokio::test]
    async fn other_lines_are_no_fault() {
        let quoted = r#"{"event":"http.internal_error","error":"\"event\":\"panic\" event=\"panic\""}"#;
        let text = r#"2026-01-01T00:00:00Z WARN progressdb: x event="rocksdb.warning" error=" event=\"panic\"""#;
        let past = r#"{"level":"WARN","event":"store.log_unrecorded"}"#;
        assert_eq!(verdict(past).await.0, Verdict::Passed);
        let log = format!("{START}\n{quoted}\n{text}\nstore.stopped panic kms.failing\n{{\"event\":\"kms.wrapped\"}}");
        assert_eq!(verdict(&log).await, (Verdict::Passed, 5, "none".to_owned()));
    }

    #[tokio::test]
    async fn a_log_of_which_the_end_is_missing_proves_nothing_and_an_empty_one_tells_of_no_fault() {
        assert_eq!(verdict("").await.0, Verdict::Passed);
        let line = format!("{START}\n");
        let whole = line.repeat(MAX_LOG as usize / line.len() + 1);
        assert_eq!(verdict(&whole).await.0, Verdict::Inconclusive);
        assert_eq!(verdict(&line.repeat(1000)).await.0, Verdict::Passed);
    }

    #[tokio::test]
    async fn a_line_of_any_length_is_read_in_little_memory() {
        let long = format!(r#"{{"event":"panic","backtrace":"{}"}}"#, "x".repeat(1 << 20));
        let found = scan(format!("{START}\n{long}\n").as_bytes()).await.unwrap();
        assert_eq!((found.lines, found.fault.map(|line| line.len())), (2, Some(MAX_LINE)));
    }
}
