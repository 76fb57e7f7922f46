//! One question over HTTP, in plain text within the cluster: readiness, of a server and of an operator.

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpStream, ToSocketAddrs},
};

/// An answer is a few hundred bytes.
const LARGEST: u64 = 64 * 1024;

/// The response to `GET /readyz`, whole.
pub async fn readiness(address: impl ToSocketAddrs) -> std::io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(b"GET /readyz HTTP/1.0\r\nHost: progressdb\r\n\r\n").await?;
    let mut response = Vec::new();
    stream.take(LARGEST).read_to_end(&mut response).await?;
    Ok(response)
}

/// Whether a response is 200, and its body.
pub fn parts(response: &[u8]) -> Option<(bool, &str)> {
    let (head, body) = std::str::from_utf8(response).ok()?.split_once("\r\n\r\n")?;
    Some((head.split(' ').nth(1) == Some("200"), body))
}
