//! A small HTTP server for servers of the tests' own: one request a connection, with TLS if asked.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::Value;

use crate::waiting::GENEROUS;

/// A request that arrived.
#[derive(Clone, Debug)]
pub struct Call {
    /// Such as `POST`.
    pub method: String,
    /// As it stands in the request line.
    pub target: String,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    /// As long as `Content-Length` said.
    pub body: Vec<u8>,
    /// From where it came.
    pub peer: IpAddr,
    /// When its headers had arrived.
    pub at: Instant,
}

impl Call {
    /// The first value of a header, by its name in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(have, _)| have == name).map(|(_, value)| value.as_str())
    }

    /// The body; null if it is not JSON.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// As it goes over the wire.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut out = format!("{} {} HTTP/1.1\r\n", self.method, self.target).into_bytes();
        for (name, value) in &self.headers {
            out.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
        }
        out.extend_from_slice(b"\r\n");
        out.extend_from_slice(&self.body);
        out
    }
}

/// How a request is answered.
#[derive(Clone, Debug)]
pub enum Reply {
    /// This is sent.
    Answer {
        /// The status code.
        status: u16,
        /// Besides those of the framing.
        headers: Vec<(String, String)>,
        /// The body.
        body: Vec<u8>,
    },
    /// The connection ends after so many bytes of the body.
    CutBody {
        /// The status code.
        status: u16,
        /// Besides those of the framing.
        headers: Vec<(String, String)>,
        /// The body, as long as it would be.
        body: Vec<u8>,
        /// What arrives of it.
        sent: usize,
    },
    /// The connection ends without an answer.
    Cut,
    /// No answer for as long as the server lives.
    Stall,
}

impl Reply {
    /// An answer of plain text.
    pub fn text(status: u16, text: &str) -> Self {
        let headers = vec![("content-type".to_owned(), "text/plain".to_owned())];
        Self::Answer { status, headers, body: text.as_bytes().to_vec() }
    }

    /// An answer of JSON.
    pub fn json(status: u16, body: &Value) -> Self {
        let headers = vec![("content-type".to_owned(), "application/json".to_owned())];
        Self::Answer { status, headers, body: body.to_string().into_bytes() }
    }

    /// The same with one header more.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        if let Self::Answer { headers, .. } = &mut self {
            headers.push((name.to_owned(), value.to_owned()));
        }
        self
    }
}

/// A listening server; its connections end when it is dropped.
pub struct Listener {
    /// Where it listens.
    pub addr: SocketAddr,
    stopped: Arc<AtomicBool>,
}

impl Listener {
    /// Listens on loopback, with TLS if given, and answers each request on a thread of its own.
    pub fn start(tls: Option<Arc<ServerConfig>>, answer: impl Fn(Call) -> Reply + Send + Sync + 'static) -> Self {
        Self::start_at(Ipv4Addr::LOCALHOST.into(), tls, answer)
    }

    /// The same at another address of this machine.
    pub fn start_at(
        address: IpAddr,
        tls: Option<Arc<ServerConfig>>,
        answer: impl Fn(Call) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let socket = TcpListener::bind((address, 0)).unwrap();
        let addr = socket.local_addr().unwrap();
        let stopped = Arc::new(AtomicBool::new(false));
        let listener = Self { addr, stopped: Arc::clone(&stopped) };
        let answer = Arc::new(answer);
        std::thread::spawn(move || {
            for stream in socket.incoming() {
                if stopped.load(Ordering::SeqCst) {
                    return;
                }
                let (tls, stopped, answer) = (tls.clone(), Arc::clone(&stopped), Arc::clone(&answer));
                // It fails when the client disconnects early, which is no fault of the server.
                std::thread::spawn(move || stream.and_then(|stream| converse(stream, tls, &stopped, &*answer)));
            }
        });
        listener
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.addr);
    }
}

fn converse(
    stream: TcpStream,
    tls: Option<Arc<ServerConfig>>,
    stopped: &AtomicBool,
    answer: &dyn Fn(Call) -> Reply,
) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(GENEROUS))?;
    let peer = stream.peer_addr()?.ip();
    let Some(tls) = tls else { return serve(stream, peer, stopped, answer).map(drop) };
    let connection = ServerConnection::new(tls).unwrap();
    let mut stream = serve(StreamOwned::new(connection, stream), peer, stopped, answer)?;
    stream.conn.send_close_notify();
    stream.flush()
}

fn serve<S: Read + Write>(
    stream: S,
    peer: IpAddr,
    stopped: &AtomicBool,
    answer: &dyn Fn(Call) -> Reply,
) -> std::io::Result<S> {
    let mut stream = BufReader::new(stream);
    let Some(call) = read_call(&mut stream, peer)? else { return Ok(stream.into_inner()) };
    match answer(call) {
        Reply::Answer { status, headers, body } => send(stream.get_mut(), status, &headers, &body, body.len())?,
        Reply::CutBody { status, headers, body, sent } => send(stream.get_mut(), status, &headers, &body, sent)?,
        Reply::Cut => {}
        Reply::Stall => {
            while !stopped.load(Ordering::SeqCst) {
                std::thread::sleep(Duration::from_millis(20));
            }
        }
    }
    Ok(stream.into_inner())
}

fn send(
    stream: &mut impl Write,
    status: u16,
    headers: &[(String, String)],
    body: &[u8],
    sent: usize,
) -> std::io::Result<()> {
    let mut out = format!("HTTP/1.1 {status} Status\r\nconnection: close\r\ncontent-length: {}\r\n", body.len());
    for (name, value) in headers {
        out.push_str(&format!("{name}: {value}\r\n"));
    }
    let mut out = (out + "\r\n").into_bytes();
    out.extend_from_slice(&body[..sent]);
    stream.write_all(&out)?;
    stream.flush()
}

/// `None` when the connection ends before a request.
fn read_call(stream: &mut impl BufRead, peer: IpAddr) -> std::io::Result<Option<Call>> {
    let mut line = String::new();
    if stream.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let mut words = line.split(' ').map(str::to_owned);
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        stream.read_line(&mut line)?;
        let Some((name, value)) = line.split_once(':') else { break };
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    let mut call = Call { method, target, headers, body: Vec::new(), peer, at: Instant::now() };
    let length = call.header("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
    call.body = vec![0; length];
    stream.read_exact(&mut call.body)?;
    Ok(Some(call))
}
