//! A client of one HTTP server over one connection, which is kept from one request to the next.

use std::time::Duration;

use http_body_util::{BodyExt, Full, Limited};
use hyper::{
    Method,
    body::Bytes,
    client::conn::http1::{SendRequest, handshake},
    header::RETRY_AFTER,
};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpStream, time::timeout};

use crate::error::chain;

/// The longest answer, in bytes: a page of messages has some 4 MiB at most.
const MAX_ANSWER: usize = 8 * 1024 * 1024;

/// What is asked.
pub(super) struct Request<'a> {
    pub(super) method: Method,
    /// Path and query.
    pub(super) path: &'a str,
    pub(super) headers: &'a [(&'static str, String)],
    /// JSON; empty is none.
    pub(super) body: String,
}

/// What was answered.
pub(super) struct Answer {
    pub(super) status: u16,
    /// When the server takes the next request, if it refused this one for coming too early.
    pub(super) retry_after: Option<Duration>,
    pub(super) body: Bytes,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum Lost {
    #[error("cannot connect to {to}: {why}")]
    Unreachable { to: String, why: String },
    #[error("no whole answer: {0}")]
    Broken(String),
    #[error("no answer within {0:?}")]
    Late(Duration),
}

type Connection = SendRequest<Full<Bytes>>;

/// Calls one server.
pub(super) struct Client {
    /// Host and port.
    host: String,
    /// The longest that one answer may take.
    limit: Duration,
    kept: Option<Connection>,
}

impl Client {
    pub(super) fn new(host: String, limit: Duration) -> Self {
        Self { host, limit, kept: None }
    }

    pub(super) async fn send(&mut self, request: Request<'_>) -> Result<Answer, Lost> {
        // After a failure another request must not read what is left of this one.
        let kept = self.kept.take();
        let (answer, connection) =
            timeout(self.limit, self.exchange(kept, request)).await.map_err(|_| Lost::Late(self.limit))??;
        self.kept = Some(connection);
        Ok(answer)
    }

    async fn exchange(&self, kept: Option<Connection>, request: Request<'_>) -> Result<(Answer, Connection), Lost> {
        let mut connection = self.connection(kept).await?;
        let mut built = hyper::Request::builder().method(request.method).uri(request.path).header("Host", &self.host);
        for (name, value) in request.headers {
            built = built.header(*name, value);
        }
        if !request.body.is_empty() {
            built = built.header("Content-Type", "application/json");
        }
        let built = built.body(Full::from(request.body)).map_err(|error| Lost::Broken(error.to_string()))?;
        let broken = |error: hyper::Error| Lost::Broken(chain(&error));
        let response = connection.send_request(built).await.map_err(broken)?;
        let (head, body) = response.into_parts();
        let retry_after = head.headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
        let body = Limited::new(body, MAX_ANSWER).collect().await.map_err(|error| Lost::Broken(error.to_string()))?;
        let retry_after = retry_after.map(Duration::from_secs);
        Ok((Answer { status: head.status.as_u16(), retry_after, body: body.to_bytes() }, connection))
    }

    async fn connection(&self, kept: Option<Connection>) -> Result<Connection, Lost> {
        if let Some(mut kept) = kept
            && kept.ready().await.is_ok()
        {
            return Ok(kept);
        }
        let unreachable = |why: String| Lost::Unreachable { to: self.host.clone(), why };
        let stream = TcpStream::connect(&self.host).await.map_err(|error| unreachable(error.to_string()))?;
        stream.set_nodelay(true).map_err(|error| unreachable(error.to_string()))?;
        let (sender, driver) = handshake(TokioIo::new(stream)).await.map_err(|error| unreachable(chain(&error)))?;
        // It ends with its sender; what is wrong with it, the sender says.
        tokio::spawn(driver);
        Ok(sender)
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
        net::TcpListener,
    };

    use super::*;

    /// Answers two requests on each connection, and says on the how manieth it was.
    async fn serve(listener: TcpListener) {
        for connection in 1.. {
            let (stream, _) = listener.accept().await.unwrap();
            let mut stream = BufReader::new(stream);
            for last in [false, true] {
                let mut line = String::new();
                while line != "\r\n" {
                    line.clear();
                    stream.read_line(&mut line).await.unwrap();
                }
                let close = if last { "connection: close\r\n" } else { "" };
                let answer =
                    format!("HTTP/1.1 429 Busy\r\n{close}retry-after: 3\r\ncontent-length: 1\r\n\r\n{connection}");
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        }
    }

    #[tokio::test]
    async fn a_connection_is_kept_for_as_long_as_the_server_keeps_it() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let host = listener.local_addr().unwrap().to_string();
        tokio::spawn(serve(listener));
        let mut client = Client::new(host, Duration::from_secs(60));
        let mut connections = String::new();
        for _ in 0..5 {
            let request = Request { method: Method::GET, path: "/", headers: &[], body: String::new() };
            let answer = client.send(request).await.unwrap();
            assert_eq!((answer.status, answer.retry_after), (429, Some(Duration::from_secs(3))));
            connections.push_str(std::str::from_utf8(&answer.body).unwrap());
        }
        assert_eq!(connections, "11223");
    }
}
