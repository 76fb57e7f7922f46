//! Whether a server is healthy, ready, and what it is expected to be, so often in a row.

use std::{net::SocketAddr, time::Duration};

use serde_json::Value;
use tokio::time::{sleep, timeout};

use super::{Expectation, GateResult, Verdict};
use crate::probe;

/// A healthy server answers within a millisecond.
const TIMEOUT: Duration = Duration::from_secs(2);
/// No more looks a second than twenty.
const SHORTEST_PERIOD: Duration = Duration::from_millis(50);

/// Looks until there are so many successes in a row; shows what it saw after each look.
pub(super) async fn run(
    address: SocketAddr,
    successes: u32,
    period: Duration,
    expect: &Expectation,
    shown: impl Fn(GateResult),
) -> GateResult {
    let (wanted, mut looks, mut in_a_row) = (successes.max(1), 0, 0);
    loop {
        looks += 1;
        let seen = look(address, expect).await;
        in_a_row = if seen.is_ok() { in_a_row + 1 } else { 0 };
        let (value, threshold) = (format!("{in_a_row} in a row"), format!("{wanted} in a row"));
        if in_a_row == wanted {
            return GateResult::new(Verdict::Passed, &value, &threshold, looks, "");
        }
        let why = seen.err().unwrap_or_else(|| "it goes on".to_owned());
        shown(GateResult::new(Verdict::Inconclusive, &value, &threshold, looks, &why));
        sleep(period.max(SHORTEST_PERIOD)).await;
    }
}

/// Looks once; says what is wrong.
async fn look(address: SocketAddr, expect: &Expectation) -> Result<(), String> {
    let alive = ask(address, "/healthz").await?;
    judge_alive(alive).map_err(|why| format!("/healthz: {why}"))?;
    let (status, body) = ask(address, "/readyz").await?;
    judge_ready(status, &body, expect).map_err(|why| format!("/readyz: {why}"))
}

async fn ask(address: SocketAddr, path: &str) -> Result<(u16, String), String> {
    let response = match timeout(TIMEOUT, probe::get(address, path, &[])).await {
        Ok(response) => response.map_err(|error| format!("{path}: {error}"))?,
        Err(_) => return Err(format!("{path}: no answer within {TIMEOUT:?}")),
    };
    let (status, body) = probe::status_and_body(&response).ok_or_else(|| format!("{path}: that is no HTTP"))?;
    Ok((status, body.to_owned()))
}

fn judge_alive((status, body): (u16, String)) -> Result<(), String> {
    match status {
        200 => Ok(()),
        status => Err(format!("{status}: {body}")),
    }
}

fn judge_ready(status: u16, body: &str, expect: &Expectation) -> Result<(), String> {
    let said: Value = serde_json::from_str(body).unwrap_or_default();
    if status != 200 {
        let reason = said["reason"].as_str().unwrap_or(body);
        return Err(format!("{status}: {reason}"));
    }
    let version = said["version"].as_str();
    if let Some(wanted) = &expect.version
        && version != Some(wanted)
    {
        return Err(format!("the version is {} and not {wanted}", version.unwrap_or("not told")));
    }
    let format = said.pointer("/format/data").and_then(Value::as_i64);
    if let Some(wanted) = expect.format
        && format != Some(wanted.into())
    {
        return Err(format!("the format of the data is {} and not {wanted}", told(format)));
    }
    let sequence = said["sequence"].as_i64();
    match expect.sequence_at_least {
        Some(least) if sequence.is_none_or(|sequence| sequence < least) => {
            Err(format!("it has {} writes and not at least {least}: it has other data", told(sequence)))
        }
        _ => Ok(()),
    }
}

fn told<T: ToString>(value: Option<T>) -> String {
    value.map_or_else(|| "not told".to_owned(), |value| value.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    const READY: &str =
        r#"{"status":"ok","version":"0.3.0","format":{"data":2,"reads":[1,2],"writes":2},"sequence":7}"#;

    fn expect(version: Option<&str>, format: Option<i32>, sequence_at_least: Option<i64>) -> Expectation {
        Expectation { version: version.map(str::to_owned), format, sequence_at_least }
    }

    fn why(status: u16, body: &str, expect: &Expectation) -> String {
        judge_ready(status, body, expect).unwrap_err()
    }

    #[test]
    fn what_is_not_expected_of_a_ready_server_may_be_anything() {
        assert_eq!(judge_ready(200, READY, &Expectation::default()), Ok(()));
        assert_eq!(judge_ready(200, READY, &expect(Some("0.3.0"), Some(2), Some(7))), Ok(()));
        assert_eq!(judge_ready(200, "{}", &Expectation::default()), Ok(()));
    }

    #[test]
    fn another_server_than_the_expected_one_is_told_apart() {
        assert_eq!(why(200, READY, &expect(Some("0.4.0"), None, None)), "the version is 0.3.0 and not 0.4.0");
        assert_eq!(why(200, READY, &expect(None, Some(1), None)), "the format of the data is 2 and not 1");
        assert!(why(200, READY, &expect(None, None, Some(8))).starts_with("it has 7 writes and not at least 8"));
        for expect in [expect(Some("0.3.0"), None, None), expect(None, Some(2), None), expect(None, None, Some(0))] {
            assert!(why(200, "{}", &expect).contains("not told"), "{expect:?}");
        }
    }

    #[test]
    fn a_server_that_is_not_ready_says_why() {
        let body = r#"{"error":"not ready","code":"not_ready","reason":"migrating"}"#;
        assert_eq!(why(503, body, &Expectation::default()), "503: migrating");
        assert_eq!(why(502, "bad gateway", &Expectation::default()), "502: bad gateway");
    }
}
