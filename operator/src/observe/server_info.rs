//! How a server is probed: `GET /readyz` on its management port, which needs no key, and requests to its API with a key.

use std::{net::IpAddr, sync::Arc, time::Duration};

use futures::{FutureExt, future::BoxFuture};
use serde_json::Value;
use tokio::time::timeout;

use crate::{
    objects::{API_PORT, MANAGEMENT_PORT},
    probe,
};

/// A healthy server answers within a millisecond.
const TIMEOUT: Duration = Duration::from_secs(2);

/// What a ready server says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ServerInfo {
    /// Its version.
    pub version: String,
    /// The format of its data.
    pub format: i32,
    /// Whether its KMS works; `None` without encryption.
    pub kms: Option<bool>,
    /// How many commits its data has seen.
    pub sequence: Option<i64>,
}

/// A GET of the API with headers, among them a key.
#[derive(Clone)]
pub struct ApiRequest {
    /// Path and query.
    pub path: &'static str,
    /// Names and values.
    pub headers: Vec<(&'static str, String)>,
}

type Response<T> = BoxFuture<'static, Option<T>>;
type Readiness = dyn Fn(IpAddr) -> Response<ServerInfo> + Send + Sync;
type Api = dyn Fn(IpAddr, ApiRequest) -> Response<(u16, String)> + Send + Sync;

/// How the server at an address is probed. `None` is no response.
#[derive(Clone)]
pub struct Probe {
    /// What it says of itself when it is ready.
    pub readiness: Arc<Readiness>,
    /// Status code and body of its API's response.
    pub api: Arc<Api>,
}

impl Probe {
    /// Probes over HTTP.
    pub fn over_http() -> Self {
        let readiness = |address| {
            async move { parse(&timeout(TIMEOUT, probe::readiness((address, MANAGEMENT_PORT))).await.ok()?.ok()?) }
                .boxed()
        };
        let api = |address, request: ApiRequest| {
            async move {
                let headers: Vec<(&str, &str)> =
                    request.headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
                let response = probe::get((address, API_PORT), request.path, &headers);
                let response = timeout(TIMEOUT, response).await.ok()?.ok()?;
                probe::status_and_body(&response).map(|(status, body)| (status, body.to_owned()))
            }
            .boxed()
        };
        Self { readiness: Arc::new(readiness), api: Arc::new(api) }
    }
}

fn parse(response: &[u8]) -> Option<ServerInfo> {
    let (_, body) = probe::status_and_body(response).filter(|(status, _)| *status == 200)?;
    let body: Value = serde_json::from_str(body).ok()?;
    Some(ServerInfo {
        version: body.get("version")?.as_str()?.to_owned(),
        format: i32::try_from(body.pointer("/format/data")?.as_i64()?).ok()?,
        kms: body.pointer("/kms/status").map(|status| status == "ok"),
        sequence: body.get("sequence").and_then(Value::as_i64),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ready_server_names_its_version_and_format() {
        let response = b"HTTP/1.0 200 OK\r\ncontent-type: application/json\r\n\r\n\
            {\"status\":\"ok\",\"version\":\"0.3.0\",\"format\":{\"data\":2,\"reads\":[1,2],\"writes\":2},\"sequence\":7,\"kms\":{\"status\":\"failing\"}}";
        assert_eq!(
            parse(response),
            Some(ServerInfo { version: "0.3.0".into(), format: 2, kms: Some(false), sequence: Some(7) })
        );
    }

    #[test]
    fn any_other_response_is_no_server_info() {
        assert_eq!(
            parse(b"HTTP/1.0 503 Service Unavailable\r\n\r\n{\"version\":\"0.3.0\",\"format\":{\"data\":2}}"),
            None
        );
        assert_eq!(parse(b"HTTP/1.0 200 OK\r\n\r\n{}"), None);
        assert_eq!(parse(b""), None);
    }
}
