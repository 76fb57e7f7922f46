//! A small HTTP/1.1 client over a plain socket, so that tests may also send what no HTTP library would.
//!
//! It returns what arrived and checks nothing; the `check_*` functions of [`Answer`] do.

mod answer;

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use aws_lc_rs::hmac;
use serde_json::Value;

pub use self::answer::Answer;
use crate::waiting::GENEROUS;

/// A request; bytes go out exactly as they are put in.
#[derive(Clone, Debug)]
pub struct Request {
    /// Such as `GET`.
    pub method: String,
    /// Path and query, already encoded.
    pub target: String,
    /// Besides `Host` and `Content-Length`.
    pub headers: Vec<(String, Vec<u8>)>,
    /// Without one there is no `Content-Length` either.
    pub body: Option<Vec<u8>>,
}

impl Request {
    /// A request without headers or body.
    pub fn new(method: &str, target: &str) -> Self {
        Self { method: method.to_owned(), target: target.to_owned(), headers: Vec::new(), body: None }
    }

    /// A GET without headers.
    pub fn get(target: &str) -> Self {
        Self::new("GET", target)
    }

    /// Adds a header.
    pub fn header(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.headers.push((name.to_owned(), value.as_ref().to_vec()));
        self
    }

    /// The key of a role.
    pub fn key(self, key: &str) -> Self {
        self.header("X-API-Key", key)
    }

    /// A frontend caller: user id and signature.
    pub fn signed(self, user: &str) -> Self {
        self.key(crate::FRONTEND_KEY).header("X-User-ID", user).header("X-User-Signature", signature(user))
    }

    /// Sets a JSON body.
    pub fn json(self, body: &Value) -> Self {
        self.header("Content-Type", "application/json").body(body.to_string())
    }

    /// Sets a body.
    pub fn body(mut self, body: impl AsRef<[u8]>) -> Self {
        self.body = Some(body.as_ref().to_vec());
        self
    }

    /// As it goes over the wire.
    pub fn bytes(&self) -> Vec<u8> {
        let mut out = format!("{} {} HTTP/1.1\r\nHost: test\r\n", self.method, self.target).into_bytes();
        for (name, value) in &self.headers {
            out.extend_from_slice(name.as_bytes());
            out.extend_from_slice(b": ");
            out.extend_from_slice(value);
            out.extend_from_slice(b"\r\n");
        }
        if let Some(body) = &self.body {
            out.extend_from_slice(format!("Content-Length: {}\r\n", body.len()).as_bytes());
        }
        out.extend_from_slice(b"\r\n");
        out.extend_from_slice(self.body.as_deref().unwrap_or_default());
        out
    }
}

/// The signature of a user id under the example signing key.
pub fn signature(user: &str) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, crate::SIGNING_KEY.as_bytes());
    hex::encode(hmac::sign(&key, user.as_bytes()))
}

/// Percent-encodes everything but letters, digits and `-_.~`, as the clients do.
pub fn encode(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte);
    text.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

/// One connection, kept open between requests.
pub struct Connection {
    stream: BufReader<TcpStream>,
}

impl Connection {
    /// Connects; whatever is read or written may take [`GENEROUS`].
    pub fn open(addr: SocketAddr) -> io::Result<Self> {
        Self::open_within(addr, GENEROUS)
    }

    /// Connects; that, and whatever is read or written, may take this long.
    pub fn open_within(addr: SocketAddr, timeout: Duration) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(&addr, timeout)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(timeout))?;
        stream.set_write_timeout(Some(timeout))?;
        Ok(Self { stream: BufReader::new(stream) })
    }

    /// Sends a request and reads the answer to it.
    pub fn send(&mut self, request: &Request) -> io::Result<Answer> {
        // A server that refuses early may close before it has read everything; its answer counts.
        let sent = self.write(&request.bytes());
        match self.read_answer(request.method == "HEAD") {
            Ok(answer) => Ok(Answer { asked: format!("{} {}", request.method, request.target), ..answer }),
            Err(error) => Err(sent.err().unwrap_or(error)),
        }
    }

    /// Sends these bytes.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.get_mut().write_all(bytes)
    }

    /// Says that nothing more will be written.
    pub fn finish_writing(&mut self) -> io::Result<()> {
        self.stream.get_mut().shutdown(std::net::Shutdown::Write)
    }

    /// Whether the server closed the connection, with no further byte.
    pub fn closed(&mut self) -> bool {
        let mut rest = Vec::new();
        match self.stream.read_to_end(&mut rest) {
            Ok(_) => rest.is_empty(),
            Err(error) => error.kind() == io::ErrorKind::ConnectionReset,
        }
    }

    /// Reads one answer; `head` when the request was HEAD.
    pub fn read_answer(&mut self, head: bool) -> io::Result<Answer> {
        loop {
            let answer = self.read_head()?;
            if answer.status >= 200 {
                return self.read_body(answer, head);
            }
        }
    }

    fn read_head(&mut self) -> io::Result<Answer> {
        let status_line = self.read_line()?;
        let status = status_line.split(' ').nth(1).and_then(|code| code.parse().ok());
        let Some(status) = status.filter(|_| status_line.starts_with("HTTP/1.")) else {
            return Err(io::Error::new(io::ErrorKind::InvalidData, format!("no status line: {status_line:?}")));
        };
        let mut headers = Vec::new();
        loop {
            let line = self.read_line()?;
            if line.is_empty() {
                return Ok(Answer { asked: String::new(), status, headers, body: Vec::new() });
            }
            let (name, value) = line.split_once(':').ok_or(io::ErrorKind::InvalidData)?;
            headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
    }

    fn read_body(&mut self, mut answer: Answer, head: bool) -> io::Result<Answer> {
        if head || answer.status == 204 || answer.status == 304 {
            return Ok(answer);
        }
        if answer.header("transfer-encoding") == Some("chunked") {
            loop {
                let length = usize::from_str_radix(&self.read_line()?, 16).map_err(|_| io::ErrorKind::InvalidData)?;
                let mut chunk = vec![0; length + 2];
                self.stream.read_exact(&mut chunk)?;
                answer.body.extend_from_slice(&chunk[..length]);
                if length == 0 {
                    return Ok(answer);
                }
            }
        }
        match answer.header("content-length").and_then(|length| length.parse().ok()) {
            Some(length) => {
                answer.body = vec![0; length];
                self.stream.read_exact(&mut answer.body)?;
            }
            None => {
                self.stream.read_to_end(&mut answer.body)?;
            }
        }
        Ok(answer)
    }

    fn read_line(&mut self) -> io::Result<String> {
        let mut line = Vec::new();
        if self.stream.read_until(b'\n', &mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(String::from_utf8_lossy(&line).trim_end_matches(['\r', '\n']).to_owned())
    }
}
