//! A running server and its key management service: what the server asks of it, and what becomes of the server when it
//! goes away, refuses, turns slow or changes its keys. Over all four providers; `testing::servers` says what stands for them.
//!
//! Providers are tested at the same time: most of a test is waiting.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod conversation;
mod credentials;
mod metrics;
mod outage;
mod rotation;
mod secrets;
mod start;
mod steady;
mod wrapped_keys;

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use testing::http::{Answer, Request};
use testing::servers::listen::Reply;
use testing::servers::proxy::{aws_error, vault_error};
use testing::servers::{Provider, Settings, providers};
use testing::{ADMIN_KEY, Server, Setup, wait_until};

/// Stands in everything that a user writes.
pub(crate) const CANARY: &str = "canary-71d0b6";

/// Runs `check` with every provider at once.
pub(crate) fn for_every(test: &str, check: impl Fn(Provider) + Sync) {
    let check = &check;
    std::thread::scope(|scope| {
        let start = |provider: Provider| (provider.name, scope.spawn(move || check(provider)));
        let running: Vec<_> = providers(test).into_iter().map(start).collect();
        let failed = running.into_iter().filter_map(|(name, thread)| thread.join().is_err().then_some(name));
        assert_eq!(failed.collect::<Vec<_>>(), [""; 0], "the providers that failed");
    });
}

/// A new directory that is encrypted under these settings; the KMS is looked after all the time.
pub(crate) fn encrypted(settings: &Settings) -> Setup {
    encrypt(Setup::new(), settings)
}

/// The same on a directory that is there.
pub(crate) fn encrypt(setup: Setup, settings: &Settings) -> Setup {
    let setup = setup.set("encryption.enabled", true);
    let setup = setup.set("encryption.kms.probe_interval", "200ms");
    let setup = setup.set("encryption.kms.probe_interval_failing", "200ms");
    settings.pairs().iter().fold(setup, |setup, (name, value)| setup.environment(name, value))
}

/// The state of encryption.
#[track_caller]
pub(crate) fn status(server: &Server) -> Value {
    server.admin("/admin/encryption/status").check_status(200).json()
}

/// Numbers of the epochs that have a key.
#[track_caller]
pub(crate) fn epochs(server: &Server) -> Vec<u64> {
    status(server)["epochs"].as_array().unwrap().iter().map(|epoch| epoch["epoch"].as_u64().unwrap()).collect()
}

/// Asks for a new epoch.
#[track_caller]
pub(crate) fn rotate(server: &Server) -> Answer {
    server.send(&Request::new("POST", "/admin/encryption/rotate").key(ADMIN_KEY))
}

/// Waits until the log has an event. An event comes after what it tells of, and through a pipe.
#[track_caller]
pub(crate) fn wait_until_logged(server: &Server, event: &str) {
    wait_until(&format!("{event} is logged"), || server.log().contains(event));
}

/// Waits until everything is at this epoch.
#[track_caller]
pub(crate) fn wait_until_sealed(server: &Server, epoch: u64) {
    wait_until("everything is at the newest epoch", || {
        let status = status(server);
        status["sealing"]["state"] == "done" && status["sealing"]["epoch"] == json!(epoch)
    });
}

#[track_caller]
pub(crate) fn readiness(server: &Server) -> Answer {
    server.send(&Request::get("/readyz"))
}

/// Waits until the server has noticed that its KMS does not work, or works again.
#[track_caller]
pub(crate) fn wait_until_kms_is(server: &Server, state: &str) {
    wait_until(&format!("the KMS is {state}"), || {
        let ready = readiness(server);
        ready.status == 200 && ready.json()["kms"]["status"] == json!(state)
    });
}

/// A refusal because the KMS is gone.
#[track_caller]
pub(crate) fn check_kms_unavailable(answer: &Answer) {
    answer.check_error(503, "the key management service is not available");
    assert_eq!(answer.json()["code"], json!("kms_unavailable"), "{answer}");
    assert_eq!(answer.header("retry-after"), Some("10"), "{answer}");
}

/// The sum of the samples of a metric that have these labels.
#[track_caller]
pub(crate) fn metric(server: &Server, name: &str, labels: &[(&str, &str)]) -> f64 {
    let text = server.admin("/metrics").check_status(200).text();
    let labels: Vec<String> = labels.iter().map(|(name, value)| format!("{name}=\"{value}\"")).collect();
    let lines = text.lines().filter(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' '])));
    let lines = lines.filter(|line| labels.iter().all(|label| line.contains(label)));
    lines.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).sum()
}

/// How often the server asked its KMS for an operation, tries counted, and was answered so.
#[track_caller]
pub(crate) fn calls(server: &Server, operation: &str, outcome: &str) -> f64 {
    metric(server, "progressdb_kms_calls_total", &[("operation", operation), ("outcome", outcome)])
}

/// "Too many requests", as each KMS says it.
pub(crate) fn throttled(provider: &Provider) -> Reply {
    match provider.name {
        "aws" => aws_error(400, "ThrottlingException", "Rate exceeded"),
        "vault" => vault_error(429, "Rate exceeded"),
        _ => Reply::text(429, "Rate exceeded"),
    }
}

/// A copy of a directory that nobody serves.
pub(crate) fn copy(setup: &Setup) -> Setup {
    let copy = Setup::new();
    testing::copy_directory(setup.db(), copy.db());
    copy
}

/// The files under a directory whose bytes hold `needle`.
pub(crate) fn holding(directory: &Path, needle: &str) -> Vec<PathBuf> {
    let (mut found, mut directories) = (Vec::new(), vec![directory.to_owned()]);
    while let Some(directory) = directories.pop() {
        for path in std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()) {
            match std::fs::read(&path) {
                Ok(bytes) if bytes.windows(needle.len()).any(|window| window == needle.as_bytes()) => found.push(path),
                Ok(_) => {}
                Err(_) if path.is_dir() => directories.push(path),
                // Compaction removes files while we look.
                Err(_) => {}
            }
        }
    }
    found
}
