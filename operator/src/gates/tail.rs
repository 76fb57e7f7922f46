//! The end of the log of what failed, for the report of an upgrade. What is in a Secret that the server reads is not in it:
//! the server logs no key, but a faulty release might.

use std::time::Duration;

use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::{Api, Client, api::LogParams};
use tokio::time::timeout;

use super::{GateResult, Target, registry::repeated};
use crate::error::{Error, chain};

/// So many lines are read.
const LINES: i64 = 50;
/// So many characters of each.
const LONGEST: usize = 1_000;
/// The longest that one log is read.
const LIMIT: Duration = Duration::from_secs(10);
/// A shorter entry of a Secret is no secret, and may be a word of any line.
const SHORTEST: usize = 6;
/// Stands in the place of what is secret.
const HIDDEN: &str = "***";

/// Reads the log of a container, and of the same container before its last restart if that left few lines.
pub(super) async fn run(client: &Client, target: &Target, pod: &str, container: &str) -> GateResult {
    let namespace = &target.namespace;
    let failed = |doing: String, error| GateResult::nothing("a log", &chain(&Error::new(doing, error)));
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let log = match read(&pods, pod, container).await {
        Ok(log) => log,
        Err(error) => return failed(format!("reading the log of {pod}"), error),
    };
    // The log first: the pod goes, and the Secrets stay.
    let hidden = match entries(client, namespace, &target.secrets).await {
        Ok(hidden) => hidden,
        Err(error) => return failed("reading what the log must not have".to_owned(), error),
    };
    GateResult { log: Some(without(&log, &hidden)), ..GateResult::nothing("a log", "") }
}

async fn read(pods: &Api<Pod>, pod: &str, container: &str) -> Result<String, kube::Error> {
    let now = of(pods, pod, container, false).await;
    let few = !now.as_ref().is_ok_and(|log| log.lines().count() as i64 >= LINES);
    let before = if few { of(pods, pod, container, true).await.unwrap_or_default() } else { String::new() };
    match now {
        Err(error) if before.is_empty() => Err(error),
        now => {
            let both = before + &now.unwrap_or_default();
            let surplus = both.lines().count().saturating_sub(LINES as usize);
            Ok(both.lines().skip(surplus).map(|line| format!("{line}\n")).collect())
        }
    }
}

async fn of(pods: &Api<Pod>, pod: &str, container: &str, previous: bool) -> Result<String, kube::Error> {
    let container = Some(container.to_owned());
    let wanted = LogParams { container, previous, tail_lines: Some(LINES), ..LogParams::default() };
    let mut log = timeout(LIMIT, pods.logs(pod, &wanted)).await.map_err(|late| kube::Error::Service(late.into()))??;
    if !log.is_empty() && !log.ends_with('\n') {
        log.push('\n');
    }
    Ok(log)
}

/// Every entry of these Secrets, and every line of it.
async fn entries(client: &Client, namespace: &str, secrets: &[String]) -> Result<Vec<String>, kube::Error> {
    let api: Api<Secret> = Api::namespaced(client.clone(), namespace);
    let mut hidden = Vec::new();
    for name in secrets {
        let secret = repeated(|| api.get_opt(name)).await?;
        let data = secret.and_then(|secret| secret.data).unwrap_or_default();
        for entry in data.into_values() {
            hidden.push(hex::encode(&entry.0));
            let text = String::from_utf8_lossy(&entry.0).into_owned();
            hidden.extend(text.lines().map(|line| line.trim().to_owned()));
        }
    }
    hidden.retain(|text| text.len() >= SHORTEST);
    // One may be a part of another.
    hidden.sort_by_key(|text| std::cmp::Reverse(text.len()));
    Ok(hidden)
}

fn without(log: &str, hidden: &[String]) -> String {
    let line = |line: &str| {
        let clean = hidden.iter().fold(line.to_owned(), |line, secret| line.replace(secret, HIDDEN));
        let mut clean: String = clean.chars().filter(|char| !char.is_control()).take(LONGEST).collect();
        clean.push('\n');
        clean
    };
    log.lines().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_secret_is_in_no_line_and_lines_are_short() {
        let hidden = ["sk_example_2".to_owned(), "sk_example".to_owned()];
        let log = format!("a sk_example_2 b=\"sk_example\"\r\n\u{1b}[31m{}\n", "x".repeat(5_000));
        let clean = without(&log, &hidden);
        let mut lines = clean.lines();
        assert_eq!(lines.next(), Some("a *** b=\"***\""));
        assert_eq!(lines.next().map(str::len), Some(LONGEST));
        assert_eq!(lines.next(), None);
    }
}
