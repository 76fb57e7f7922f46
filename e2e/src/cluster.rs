//! The API server of KUBECONFIG: one `kube` client, and a runtime for it, since tests block.

use std::fmt::Debug;
use std::sync::LazyLock;
use std::time::Duration;

use kube::Client;
use tokio::runtime::{Builder, Runtime};

use crate::wait_until;

/// How long one request may take; a node that was just stopped may leave it without any answer.
pub(crate) const TO_ANSWER: Duration = Duration::from_secs(30);

pub(crate) static RUNTIME: LazyLock<Runtime> =
    LazyLock::new(|| Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap());

static CLIENT: LazyLock<Client> =
    LazyLock::new(|| RUNTIME.block_on(Client::try_default()).expect("KUBECONFIG names a cluster"));

/// The client of this process.
pub(crate) fn client() -> Client {
    CLIENT.clone()
}

/// Sends a request until it is answered; the error is a refusal. The request may have its effect more than once, so it
/// must be one that is the same twice.
#[track_caller]
pub(crate) fn ask<T: Debug>(request: impl AsyncFn() -> kube::Result<T>) -> Result<T, String> {
    wait_until("the API server answers", || ask_once(request()), Result::is_ok).unwrap()
}

/// Sends a request. The outer error says why there is no answer, the inner one why the request is refused.
pub(crate) fn ask_once<T>(request: impl Future<Output = kube::Result<T>>) -> Result<Result<T, String>, String> {
    match RUNTIME.block_on(async { tokio::time::timeout(TO_ANSWER, request).await }) {
        Ok(Ok(answer)) => Ok(Ok(answer)),
        Ok(Err(kube::Error::Api(status))) if status.code < 500 && status.code != 429 => Ok(Err(status.message)),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("nothing within {TO_ANSWER:?}")),
    }
}
