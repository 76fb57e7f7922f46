//! What a server says: of itself, by `GET /readyz` on its management port, which needs no key, and to one who has a key.

use std::{net::IpAddr, sync::Arc, time::Duration};

use futures::{FutureExt, future::BoxFuture};
use serde_json::Value;
use tokio::time::timeout;

use crate::{ask, objects::API_PORT};

/// The management port of a container.
const PORT: u16 = 9090;
/// A server that is well answers in a millisecond.
const PATIENCE: Duration = Duration::from_secs(2);

/// What a ready server says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Its version.
    pub version: String,
    /// The format of its data.
    pub format: i32,
    /// Whether the KMS does what it is asked to; `None` without encryption.
    pub kms: Option<bool>,
}

/// A GET of the API with headers, among them a key.
#[derive(Clone)]
pub struct Call {
    /// Path and query.
    pub path: &'static str,
    /// Names and values.
    pub headers: Vec<(&'static str, String)>,
}

type Later<T> = BoxFuture<'static, Option<T>>;
type Readiness = dyn Fn(IpAddr) -> Later<Answer> + Send + Sync;
type Api = dyn Fn(IpAddr, Call) -> Later<(u16, String)> + Send + Sync;

/// How the server at an address is asked; no answer is `None`.
#[derive(Clone)]
pub struct Ask {
    /// What it says of itself.
    pub readiness: Arc<Readiness>,
    /// Status and body of what the API answers.
    pub api: Arc<Api>,
}

/// Asks over HTTP.
pub fn over_http() -> Ask {
    let readiness =
        |address| async move { parse(&timeout(PATIENCE, ask::readiness((address, PORT))).await.ok()?.ok()?) }.boxed();
    let api = |address, call: Call| {
        async move {
            let headers: Vec<(&str, &str)> = call.headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
            let asked = ask::get((address, API_PORT), call.path, &headers);
            let response = timeout(PATIENCE, asked).await.ok()?.ok()?;
            ask::status_and_body(&response).map(|(status, body)| (status, body.to_owned()))
        }
        .boxed()
    };
    Ask { readiness: Arc::new(readiness), api: Arc::new(api) }
}

fn parse(response: &[u8]) -> Option<Answer> {
    let (_, body) = ask::parts(response).filter(|(is_ready, _)| *is_ready)?;
    let body: Value = serde_json::from_str(body).ok()?;
    Some(Answer {
        version: body.get("version")?.as_str()?.to_owned(),
        format: i32::try_from(body.pointer("/format/data")?.as_i64()?).ok()?,
        kms: body.pointer("/kms/status").map(|status| status == "ok"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ready_server_names_its_version_and_format() {
        let response = b"HTTP/1.0 200 OK\r\ncontent-type: application/json\r\n\r\n\
            {\"status\":\"ok\",\"version\":\"0.3.0\",\"format\":{\"data\":2,\"reads\":[1,2],\"writes\":2},\"kms\":{\"status\":\"failing\"}}";
        assert_eq!(parse(response), Some(Answer { version: "0.3.0".into(), format: 2, kms: Some(false) }));
    }

    #[test]
    fn anything_else_is_no_answer() {
        assert_eq!(
            parse(b"HTTP/1.0 503 Service Unavailable\r\n\r\n{\"version\":\"0.3.0\",\"format\":{\"data\":2}}"),
            None
        );
        assert_eq!(parse(b"HTTP/1.0 200 OK\r\n\r\n{}"), None);
        assert_eq!(parse(b""), None);
    }
}
