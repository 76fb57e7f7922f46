//! An HTTP/1.1 client that costs next to nothing: the generator shares the processors with what it measures.
//!
//! Requests are rendered beforehand; of a reply only the status and `Content-Length` are read. One request at a time on
//! one connection that stays open. Not a general client: no chunked bodies, no redirects, no TLS.

use std::net::SocketAddr;

use anyhow::{Context, Result, bail, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const MAX_HEAD_BYTES: usize = 16 * 1024;
const MAX_BODY_BYTES: usize = 64 * 1024 * 1024;

/// One keep-alive connection.
pub(crate) struct Http {
    stream: TcpStream,
    buffer: Vec<u8>,
}

/// What was answered; the body lives in the connection's buffer until the next call.
#[derive(Debug)]
pub(crate) struct Reply<'a> {
    pub(crate) status: u16,
    pub(crate) body: &'a [u8],
}

impl Http {
    /// Connects to `address`.
    pub(crate) async fn connect(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(address).await.with_context(|| format!("cannot connect to {address}"))?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, buffer: Vec::with_capacity(64 * 1024) })
    }

    /// Sends `request` as it stands and reads its whole reply.
    pub(crate) async fn call(&mut self, request: &[u8]) -> Result<Reply<'_>> {
        self.stream.write_all(request).await.context("cannot send the request")?;
        self.buffer.clear();
        let head = loop {
            self.read_more().await?;
            if let Some(head) = parse_head(&self.buffer)? {
                break head;
            }
        };
        let end = head.bytes + head.content_length;
        while self.buffer.len() < end {
            self.read_more().await?;
        }
        ensure!(self.buffer.len() == end, "the server sent more than it was asked for");
        Ok(Reply { status: head.status, body: &self.buffer[head.bytes..] })
    }

    async fn read_more(&mut self) -> Result<()> {
        let read = self.stream.read_buf(&mut self.buffer).await.context("cannot read the reply")?;
        ensure!(read > 0, "the server closed the connection");
        Ok(())
    }
}

/// The part of a reply in front of its body.
#[derive(Debug, PartialEq, Eq)]
struct Head {
    status: u16,
    bytes: usize,
    content_length: usize,
}

/// `None` while the head is incomplete.
fn parse_head(bytes: &[u8]) -> Result<Option<Head>> {
    let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else {
        ensure!(bytes.len() <= MAX_HEAD_BYTES, "the reply's head does not end");
        return Ok(None);
    };
    let mut lines = bytes[..end].split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii_end);
    let status = lines.next().and_then(parse_status).context("the reply does not start with an HTTP/1.1 status")?;
    let mut content_length = if status == 204 { Some(0) } else { None };
    for line in lines {
        let Some(colon) = line.iter().position(|byte| *byte == b':') else { bail!("a header line has no colon") };
        if line[..colon].eq_ignore_ascii_case(b"content-length") {
            content_length = parse_number(line[colon + 1..].trim_ascii());
        }
    }
    let content_length = content_length.context("the reply has no usable Content-Length")?;
    ensure!(content_length <= MAX_BODY_BYTES, "the reply is {content_length} bytes long");
    Ok(Some(Head { status, bytes: end + 4, content_length }))
}

fn parse_status(line: &[u8]) -> Option<u16> {
    let rest = line.strip_prefix(b"HTTP/1.1 ")?;
    parse_number(rest.get(..3)?)?.try_into().ok()
}

fn parse_number(text: &[u8]) -> Option<usize> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    const REPLY: &[u8] =
        b"HTTP/1.1 202 Accepted\r\ncontent-type: application/json\r\nContent-LENGTH: 13\r\n\r\n{\"key\":\"t:1\"}";

    #[test]
    fn a_head_is_read_only_when_it_is_whole() {
        let bytes = REPLY.len() - 13;
        for end in 0..bytes {
            assert_eq!(parse_head(&REPLY[..end]).expect("no damage"), None, "{end}");
        }
        for end in bytes..=REPLY.len() {
            let head = Head { status: 202, bytes, content_length: 13 };
            assert_eq!(parse_head(&REPLY[..end]).expect("no damage"), Some(head), "{end}");
        }
    }

    #[test]
    fn a_reply_without_content_must_say_so() {
        let head = parse_head(b"HTTP/1.1 204 No Content\r\n\r\n").expect("no damage");
        assert_eq!(head, Some(Head { status: 204, bytes: 27, content_length: 0 }));
    }

    #[test]
    fn what_is_no_such_reply_is_refused() {
        check_refused(b"HTTP/1.1 200 OK\r\n\r\n");
        check_refused(b"HTTP/1.1 200 OK\r\ncontent-length: many\r\n\r\n");
        check_refused(b"HTTP/1.1 200 OK\r\ncontent-length: 99999999999\r\n\r\n");
        check_refused(b"HTTP/1.0 200 OK\r\ncontent-length: 0\r\n\r\n");
        check_refused(b"HTTP/1.1 2\r\ncontent-length: 0\r\n\r\n");
        check_refused(b"HTTP/1.1 200 OK\r\nno colon\r\ncontent-length: 0\r\n\r\n");
        check_refused(&[b'x'; MAX_HEAD_BYTES + 1]);
    }

    fn check_refused(bytes: &[u8]) {
        assert!(parse_head(bytes).is_err(), "{}", String::from_utf8_lossy(bytes));
    }

    #[tokio::test]
    async fn replies_that_arrive_byte_by_byte_are_whole() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.expect("a client");
            stream.set_nodelay(true).expect("a socket");
            for _ in 0..2 {
                let mut request = [0; 4];
                stream.read_exact(&mut request).await.expect("a request");
                for byte in REPLY {
                    stream.write_all(&[*byte]).await.expect("a reader");
                    tokio::task::yield_now().await;
                }
            }
        });
        let mut http = Http::connect(address).await.expect("connected");
        for _ in 0..2 {
            let reply = http.call(b"ping").await.expect("a reply");
            assert_eq!((reply.status, reply.body), (202, &b"{\"key\":\"t:1\"}"[..]));
        }
        server.await.expect("served");
        assert!(http.call(b"ping").await.is_err(), "a closed connection is an error");
    }
}
