//! A GET over plain HTTP within the cluster: to a server, or to another operator; and how a user of a server is signed.

use aws_lc_rs::hmac;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpStream, ToSocketAddrs},
};

/// The longest response that is read, in bytes. The wrapped keys of some thousand epochs fit.
const MAX_RESPONSE: u64 = 1024 * 1024;

/// The response to `GET /readyz`: head and body.
pub async fn readiness(address: impl ToSocketAddrs) -> std::io::Result<Vec<u8>> {
    get(address, "/readyz", &[]).await
}

/// The response to a GET: head and body.
pub async fn get(address: impl ToSocketAddrs, path: &str, headers: &[(&str, &str)]) -> std::io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(address).await?;
    let mut request = format!("GET {path} HTTP/1.0\r\nHost: progressdb\r\n");
    headers.iter().for_each(|(name, value)| request.push_str(&format!("{name}: {value}\r\n")));
    request.push_str("\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut response = Vec::new();
    stream.take(MAX_RESPONSE).read_to_end(&mut response).await?;
    Ok(response)
}

/// The signature of a user id, by which a server takes a frontend key for that user.
pub fn signature(signing: &str, user: &str) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, signing.as_bytes());
    hex::encode(hmac::sign(&key, user.as_bytes()))
}

/// The status code of a response, and its body; `None` if it is not HTTP.
pub fn status_and_body(response: &[u8]) -> Option<(u16, &str)> {
    let (head, body) = std::str::from_utf8(response).ok()?.split_once("\r\n\r\n")?;
    Some((head.split(' ').nth(1)?.parse().ok()?, body))
}
