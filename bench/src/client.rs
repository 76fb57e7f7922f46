//! What one connection repeats: an append or a read of the newest messages, for each system.
//!
//! All appends that are compared carry 256 random bytes, new ones every time, and go to a random thread of the connection's own; all reads
//! ask for the newest messages of such a thread. Every answer is checked before it counts.

use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::clock;
use crate::http::Http;
use crate::noise::Noise;
use crate::pgwire::{Pg, Value};
use crate::redis::{Resp, render};

/// Bytes of every message's text.
pub(crate) const BODY_BYTES: usize = 256;

/// One connection and the request that it repeats.
pub(crate) enum Client {
    Append(Append),
    List(List),
    CreateThread(CreateThread),
    PgInsert(PgInsert),
    PgList(PgList),
    RedisAdd(RedisAdd),
    RedisList(RedisList),
}

impl Client {
    /// Appends that are told to come back do so, as every client of a fleet has to.
    pub(crate) fn come_back(&mut self) {
        if let Self::Append(client) = self {
            client.comes_back = true;
        }
    }

    /// How often that was.
    pub(crate) fn came_back(&self) -> u64 {
        if let Self::Append(client) = self { client.came_back } else { 0 }
    }

    /// One request; an answer that is not the wanted one is an error.
    pub(crate) async fn call(&mut self) -> Result<()> {
        match self {
            Self::Append(client) => client.call().await,
            Self::List(client) => client.call().await,
            Self::CreateThread(client) => client.call().await,
            Self::PgInsert(client) => client.call().await,
            Self::PgList(client) => client.call().await,
            Self::RedisAdd(client) => client.call().await,
            Self::RedisList(client) => client.call().await,
        }
    }
}

/// `POST …/messages`.
pub(crate) struct Append {
    http: Http,
    noise: Noise,
    /// One whole request for each thread; only its text changes.
    requests: Vec<Vec<u8>>,
    body_bytes: usize,
    comes_back: bool,
    came_back: u64,
}

/// Before a request is made again.
const PAUSE: Duration = Duration::from_millis(100);

impl Append {
    /// In front of and behind the text, in every request's body.
    pub(crate) const QUOTES: (&'static [u8], &'static [u8]) = (b"{\"body\":\"", b"\"}");

    /// `heads` end with an empty line and announce a text of `body_bytes` and its [`Self::QUOTES`].
    pub(crate) fn new(http: Http, seed: usize, heads: Vec<Vec<u8>>, body_bytes: usize) -> Self {
        let body = [Self::QUOTES.0, &vec![b'x'; body_bytes], Self::QUOTES.1].concat();
        let requests = heads.into_iter().map(|head| [head, body.clone()].concat()).collect();
        Self { http, noise: Noise::new(seed as u64), requests, body_bytes, comes_back: false, came_back: 0 }
    }

    async fn call(&mut self) -> Result<()> {
        let index = self.noise.below(self.requests.len());
        let request = &mut self.requests[index];
        let end = request.len() - Self::QUOTES.1.len();
        self.noise.fill(&mut request[end - self.body_bytes..end]);
        loop {
            let reply = self.http.call(request).await?;
            if self.comes_back && reply.status == 503 {
                self.came_back += 1;
                tokio::time::sleep(PAUSE).await;
                continue;
            }
            ensure!(reply.status == 202, "an append got {}: {}", reply.status, String::from_utf8_lossy(reply.body));
            return Ok(());
        }
    }
}

/// A `GET` of one page.
pub(crate) struct List {
    http: Http,
    noise: Noise,
    requests: Vec<Vec<u8>>,
    /// The field that holds the items, and how many there must be.
    items: (&'static str, usize),
    min_bytes: usize,
}

impl List {
    /// The first page is parsed and counted, the later ones must be about as long.
    pub(crate) fn new(http: Http, seed: usize, requests: Vec<Vec<u8>>, items: (&'static str, usize)) -> Self {
        Self { http, noise: Noise::new(seed as u64), requests, items, min_bytes: 0 }
    }

    async fn call(&mut self) -> Result<()> {
        let request = &self.requests[self.noise.below(self.requests.len())];
        let reply = self.http.call(request).await?;
        ensure!(reply.status == 200, "a list got {}: {}", reply.status, String::from_utf8_lossy(reply.body));
        if self.min_bytes == 0 {
            let page: serde_json::Value = serde_json::from_slice(reply.body)?;
            let (field, wanted) = self.items;
            let count = page[field].as_array().context("a page without items")?.len();
            ensure!(count == wanted, "a page holds {count} {field}, not {wanted}");
            self.min_bytes = reply.body.len() * 9 / 10;
        }
        ensure!(reply.body.len() >= self.min_bytes, "a page of {} bytes is too short", reply.body.len());
        Ok(())
    }
}

/// `POST /frontend/v1/threads`; remembers what it made.
pub(crate) struct CreateThread {
    http: Http,
    request: Vec<u8>,
    /// The user's number.
    pub(crate) user: usize,
    pub(crate) made: Vec<u64>,
}

impl CreateThread {
    /// `request` is a whole one, on behalf of user number `user`.
    pub(crate) fn new(http: Http, request: Vec<u8>, user: usize) -> Self {
        Self { http, request, user, made: Vec::new() }
    }

    async fn call(&mut self) -> Result<()> {
        let mut reply = self.http.call(&self.request).await?;
        while reply.status == 503 {
            tokio::time::sleep(PAUSE).await;
            reply = self.http.call(&self.request).await?;
        }
        ensure!(reply.status == 202, "a new thread got {}: {}", reply.status, String::from_utf8_lossy(reply.body));
        let answer: serde_json::Value = serde_json::from_slice(reply.body)?;
        let key = answer["key"].as_str().and_then(|key| key.strip_prefix("t:")).context("a thread without a key")?;
        self.made.push(key.parse()?);
        Ok(())
    }
}

/// A prepared `INSERT`; numbers the messages itself, which spares PostgreSQL the work.
pub(crate) struct PgInsert {
    pg: Pg,
    noise: Noise,
    author: String,
    threads: Vec<(u64, i64)>,
    body: Vec<u8>,
}

impl PgInsert {
    /// Inserts into random ones of `threads`.
    pub(crate) fn new(pg: Pg, index: usize, threads: Vec<u64>) -> Self {
        let threads = threads.into_iter().map(|thread| (thread, 0)).collect();
        Self { pg, noise: Noise::new(index as u64), author: user(index), threads, body: vec![0; BODY_BYTES] }
    }

    async fn call(&mut self) -> Result<()> {
        let index = self.noise.below(self.threads.len());
        let (thread, seq) = &mut self.threads[index];
        self.noise.fill(&mut self.body);
        let (author, body) = (Value::Text(self.author.as_bytes()), Value::Text(&self.body));
        let numbers = [*thread as i64, *seq, clock::unix_nanos()].map(Value::Int8);
        let [thread, number, ts] = numbers;
        self.pg.execute(&[thread, number, ts, author, body]).await?;
        *seq += 1;
        Ok(())
    }
}

/// A prepared `SELECT` of the newest messages.
pub(crate) struct PgList {
    pg: Pg,
    noise: Noise,
    threads: Vec<u64>,
    page: usize,
}

impl PgList {
    /// Reads random ones of `threads`.
    pub(crate) fn new(pg: Pg, index: usize, threads: Vec<u64>, page: usize) -> Self {
        Self { pg, noise: Noise::new(index as u64), threads, page }
    }

    async fn call(&mut self) -> Result<()> {
        let thread = self.threads[self.noise.below(self.threads.len())];
        let answer = self.pg.execute(&[Value::Int8(thread as i64)]).await?;
        ensure!(answer.rows == self.page, "a page of PostgreSQL holds {} rows", answer.rows);
        Ok(())
    }
}

/// `XADD` of an author and a body.
pub(crate) struct RedisAdd {
    connection: Resp,
    noise: Noise,
    commands: Vec<Vec<u8>>,
}

impl RedisAdd {
    /// Appends to random ones of `threads`.
    pub(crate) fn new(connection: Resp, index: usize, threads: &[u64]) -> Self {
        let author = user(index);
        let command = |thread: &u64| {
            let key = thread.to_string();
            render(&[b"XADD", key.as_bytes(), b"*", b"a", author.as_bytes(), b"b", &[b'x'; BODY_BYTES]])
        };
        Self { connection, noise: Noise::new(index as u64), commands: threads.iter().map(command).collect() }
    }

    async fn call(&mut self) -> Result<()> {
        let index = self.noise.below(self.commands.len());
        let command = &mut self.commands[index];
        let end = command.len() - 2;
        self.noise.fill(&mut command[end - BODY_BYTES..end]);
        let answer = self.connection.call(command).await?;
        ensure!(answer.starts_with(b"$"), "Redis answers an append without an id");
        Ok(())
    }
}

/// `XREVRANGE … COUNT`.
pub(crate) struct RedisList {
    connection: Resp,
    noise: Noise,
    commands: Vec<Vec<u8>>,
    start: Vec<u8>,
}

impl RedisList {
    /// Reads random ones of `threads`.
    pub(crate) fn new(connection: Resp, index: usize, threads: &[u64], page: usize) -> Self {
        let count = page.to_string();
        let command = |thread: &u64| {
            render(&[b"XREVRANGE", thread.to_string().as_bytes(), b"+", b"-", b"COUNT", count.as_bytes()])
        };
        let commands = threads.iter().map(command).collect();
        Self { connection, noise: Noise::new(index as u64), commands, start: format!("*{page}\r\n").into_bytes() }
    }

    async fn call(&mut self) -> Result<()> {
        let command = &self.commands[self.noise.below(self.commands.len())];
        let answer = self.connection.call(command).await?;
        ensure!(answer.starts_with(&self.start), "a page of Redis is not full");
        Ok(())
    }
}

/// The user of connection `index`, everywhere.
pub(crate) fn user(index: usize) -> String {
    format!("bench-{index}")
}
