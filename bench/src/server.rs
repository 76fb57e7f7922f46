//! Our server under load: started with keys and nothing else set, so every figure is one of the defaults.
//!
//! Every request carries what a browser would send: the frontend key, the user and the user's signature. All are
//! rendered before the run; checking them is the server's work.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use aws_lc_rs::hmac;
use rustix::process::Signal;

use crate::client::{Append, BODY_BYTES, Client, CreateThread, List, user};
use crate::clock;
use crate::http::Http;
use crate::load;
use crate::process::Process;
use crate::setup::{Workshop, free_address};

const FRONTEND_KEY: &str = "pk_bench_0123456789abcdef";
const ADMIN_KEY: &str = "admin_bench_0123456789abcdef";
const SIGNING_KEY: &str = "sign_bench_0123456789abcdef";

const START_LIMIT: Duration = Duration::from_secs(60);
const LOAD_LIMIT: Duration = Duration::from_secs(300);

/// A running server and its store; dropping it ends it.
pub(crate) struct Server {
    program: PathBuf,
    process: Process,
    address: SocketAddr,
    home: PathBuf,
}

/// A user and threads of that user.
#[derive(Clone)]
pub(crate) struct Owner {
    pub(crate) user: usize,
    pub(crate) threads: Vec<u64>,
}

impl Server {
    /// Starts `program` on an empty store; also returns how long it took to be ready.
    pub(crate) async fn start(program: &Path, workshop: &Workshop) -> Result<(Self, Duration)> {
        Self::start_with(program, workshop, "").await
    }

    /// The same with a store that is encrypted under a master key of its own.
    pub(crate) async fn start_sealed(program: &Path, workshop: &Workshop) -> Result<(Self, Duration)> {
        let mut key = [0; 32];
        aws_lc_rs::rand::fill(&mut key).map_err(|_| anyhow::anyhow!("the system's random source failed"))?;
        let more = format!("encryption:\n  enabled: true\n  kms:\n    master_key_hex: '{}'\n", hex::encode(key));
        Self::start_with(program, workshop, &more).await
    }

    /// Starts `program` on a store that other servers share, which `storage` names, and makes its tables before.
    pub(crate) async fn start_shared(program: &Path, workshop: &Workshop, storage: &str) -> Result<Self> {
        let home = workshop.directory("schema")?;
        fs::write(home.join("config.yaml"), configured(storage))?;
        let mut command = workshop.command(program);
        command.args(["schema", "apply", "--config"]).arg(home.join("config.yaml"));
        let made = tokio::task::spawn_blocking(move || command.output()).await??;
        ensure!(made.status.success(), "the tables were not made: {}", String::from_utf8_lossy(&made.stderr));
        Ok(Self::start_with(program, workshop, storage).await?.0)
    }

    async fn start_with(program: &Path, workshop: &Workshop, more: &str) -> Result<(Self, Duration)> {
        let home = workshop.directory("server")?;
        fs::write(home.join("config.yaml"), configured(more))?;
        let address = free_address()?;
        let begin = clock::now();
        let process = launch(program, workshop, &home, address)?;
        let mut server = Self { program: program.to_owned(), process, address, home };
        server.wait_until_ready().await?;
        Ok((server, clock::now() - begin))
    }

    /// Stops it in an orderly way and waits; its data directory stays.
    pub(crate) fn stop(&mut self) -> Result<()> {
        self.process.terminate()
    }

    /// Its data directory.
    pub(crate) fn db(&self) -> PathBuf {
        self.home.join("db")
    }

    /// `kill -9`.
    pub(crate) fn kill(&mut self) -> Result<()> {
        self.process.kill()
    }

    /// Starts the killed server on its store again; returns how long it took to be ready.
    pub(crate) async fn reopen(&mut self, workshop: &Workshop) -> Result<Duration> {
        let begin = clock::now();
        self.process = launch(&self.program, workshop, &self.home, self.address)?;
        self.wait_until_ready().await?;
        Ok(clock::now() - begin)
    }

    async fn wait_until_ready(&mut self) -> Result<()> {
        let deadline = clock::now() + START_LIMIT;
        let request = render("GET", "/readyz", &[], 0);
        loop {
            self.process.check()?;
            if let Ok(mut http) = Http::connect(self.address).await
                && http.call(&request).await.is_ok_and(|reply| reply.status == 200)
            {
                return Ok(());
            }
            ensure!(clock::now() < deadline, "the server is not ready after {START_LIMIT:?}");
            clock::sleep_until(clock::now() + Duration::from_millis(1)).await;
        }
    }

    /// Its process id.
    pub(crate) fn id(&self) -> u32 {
        self.process.id()
    }

    /// Resident memory.
    pub(crate) fn resident_mb(&self) -> Result<f64> {
        self.process.resident_mb()
    }

    /// Messages ever created, as the server counts them.
    pub(crate) async fn messages(&self) -> Result<u64> {
        let mut http = Http::connect(self.address).await?;
        let reply = http.call(&render("GET", "/admin/stats", &[("X-API-Key", ADMIN_KEY)], 0)).await?;
        ensure!(reply.status == 200, "the statistics got {}", reply.status);
        let stats: serde_json::Value = serde_json::from_slice(reply.body)?;
        stats["messages"].as_u64().context("statistics without messages")
    }

    /// Fails unless exactly `acknowledged` messages are there.
    pub(crate) async fn verify(&self, acknowledged: u64) -> Result<()> {
        let count = self.messages().await?;
        ensure!(count == acknowledged, "the server acknowledged {acknowledged} messages and holds {count}");
        Ok(())
    }

    /// `each` threads for each of the users 0 to `users`.
    pub(crate) async fn create_threads(&self, users: usize, each: usize) -> Result<Vec<Owner>> {
        let mut clients = Vec::new();
        for user in 0..users {
            clients.push(self.creator(user).await?);
        }
        load::repeat(&mut clients, users * each, LOAD_LIMIT).await?;
        let mut owners: Vec<_> = clients.into_iter().filter_map(made).collect();
        owners.sort_by_key(|owner| owner.user);
        Ok(owners)
    }

    /// `total` threads, all of one user, made over many connections.
    pub(crate) async fn create_threads_of(&self, user: usize, total: usize) -> Result<()> {
        let mut clients = Vec::new();
        for _ in 0..total.min(64) {
            clients.push(self.creator(user).await?);
        }
        let made = load::repeat(&mut clients, total, LOAD_LIMIT).await?;
        ensure!(made == total as u64, "{made} of {total} threads were made");
        Ok(())
    }

    async fn creator(&self, user: usize) -> Result<Client> {
        let body = br#"{"title":"Benchmark"}"#;
        let mut request = signed("POST", "/frontend/v1/threads", user, body.len());
        request.extend(body);
        Ok(Client::CreateThread(CreateThread::new(Http::connect(self.address).await?, request, user)))
    }

    /// One connection for each of `owners`, each appending to its own threads.
    pub(crate) async fn appenders(&self, owners: &[Owner]) -> Result<Vec<Client>> {
        self.appenders_of(owners, BODY_BYTES).await
    }

    /// The same with texts of `body_bytes`.
    pub(crate) async fn appenders_of(&self, owners: &[Owner], body_bytes: usize) -> Result<Vec<Client>> {
        let bytes = Append::QUOTES.0.len() + body_bytes + Append::QUOTES.1.len();
        let mut clients = Vec::new();
        for (seed, owner) in owners.iter().enumerate() {
            let head = |thread: &u64| signed("POST", &messages_path(*thread), owner.user, bytes);
            let heads = owner.threads.iter().map(head).collect();
            clients.push(Client::Append(Append::new(Http::connect(self.address).await?, seed, heads, body_bytes)));
        }
        Ok(clients)
    }

    /// One connection for each of `owners`, each reading the newest `page` messages of its own threads.
    pub(crate) async fn listers(&self, owners: &[Owner], page: usize) -> Result<Vec<Client>> {
        let mut clients = Vec::new();
        for (seed, owner) in owners.iter().enumerate() {
            let path = |thread: &u64| format!("{}?limit={page}", messages_path(*thread));
            let requests = owner.threads.iter().map(|thread| signed("GET", &path(thread), owner.user, 0)).collect();
            let http = Http::connect(self.address).await?;
            clients.push(Client::List(List::new(http, seed, requests, ("messages", page))));
        }
        Ok(clients)
    }

    /// `connections` that read the newest `page` threads of `user`.
    pub(crate) async fn thread_listers(&self, user: usize, connections: usize, page: usize) -> Result<Vec<Client>> {
        let mut clients = Vec::new();
        for seed in 0..connections {
            let request = signed("GET", &format!("/frontend/v1/threads?limit={page}"), user, 0);
            let http = Http::connect(self.address).await?;
            clients.push(Client::List(List::new(http, seed, vec![request], ("threads", page))));
        }
        Ok(clients)
    }
}

fn configured(more: &str) -> String {
    format!(
        "server:\n  api_keys:\n    frontend: [{FRONTEND_KEY}]\n    backend: [sk_bench_0123456789abcdef]\n    \
         admin: [{ADMIN_KEY}]\n    signing: [{SIGNING_KEY}]\n{more}"
    )
}

fn launch(program: &Path, workshop: &Workshop, home: &Path, address: SocketAddr) -> Result<Process> {
    let mut command = workshop.command(program);
    command.arg("serve").arg("--db").arg(home.join("db")).args(["--addr", &address.to_string()]);
    command.arg("--config").arg(home.join("config.yaml")).current_dir(home);
    Process::start("progressdb", &mut command, &home.join("server.log"), Signal::KILL)
}

fn made(client: Client) -> Option<Owner> {
    match client {
        Client::CreateThread(client) => Some(Owner { user: client.user, threads: client.made }),
        _ => None,
    }
}

fn messages_path(thread: u64) -> String {
    format!("/frontend/v1/threads/t%3A{thread}/messages")
}

/// A request's head on behalf of user number `number`.
fn signed(method: &str, path: &str, number: usize, body_bytes: usize) -> Vec<u8> {
    let (user, signature) = (user(number), sign(SIGNING_KEY, &user(number)));
    let headers = [("X-API-Key", FRONTEND_KEY), ("X-User-ID", &user), ("X-User-Signature", &signature)];
    render(method, path, &headers, body_bytes)
}

fn sign(key: &str, user: &str) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, key.as_bytes());
    hex::encode(hmac::sign(&key, user.as_bytes()))
}

fn render(method: &str, path: &str, headers: &[(&str, &str)], body_bytes: usize) -> Vec<u8> {
    let mut head = format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\n");
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    if method == "POST" {
        head.push_str(&format!("Content-Type: application/json\r\nContent-Length: {body_bytes}\r\n"));
    }
    head.push_str("\r\n");
    head.into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signatures_are_those_of_the_contract() {
        let wanted = "1c0d39859b33b032c6a315790e70f92dc8738c4575026f89b0d5325e2e34920b";
        assert_eq!(sign("sign_example", "user1"), wanted);
    }

    #[test]
    fn requests_are_rendered_whole() {
        let head = String::from_utf8(render("POST", "/x", &[("A", "b")], 7)).expect("text");
        let wanted = "POST /x HTTP/1.1\r\nHost: localhost\r\nA: b\r\n\
                      Content-Type: application/json\r\nContent-Length: 7\r\n\r\n";
        assert_eq!(head, wanted);
        assert_eq!(render("GET", "/y", &[], 0), b"GET /y HTTP/1.1\r\nHost: localhost\r\n\r\n");
    }
}
