//! Redis as a peer: streams, appended to with a disk sync before every acknowledgement, over its raw protocol.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use rustix::process::Signal;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::client::{Client, RedisAdd, RedisList};
use crate::clock;
use crate::process::Process;
use crate::setup::{Threads, Workshop, free_address};

/// How to get it.
pub(crate) const INSTALL: &str = "apt-get install --no-install-recommends redis-server";

const START_LIMIT: Duration = Duration::from_secs(10);
const SETTINGS: [(&str, &str); 4] =
    [("appendonly", "yes"), ("appendfsync", "always"), ("save", ""), ("auto-aof-rewrite-percentage", "0")];

/// A running server; dropping it ends it.
pub(crate) struct Redis {
    process: Process,
    address: SocketAddr,
}

impl Redis {
    /// The program, if it is installed.
    pub(crate) fn find() -> Option<PathBuf> {
        ["/usr/bin/redis-server", "/usr/local/bin/redis-server"]
            .map(PathBuf::from)
            .into_iter()
            .find(|path| path.exists())
    }

    /// Starts an empty server.
    pub(crate) async fn start(program: &Path, workshop: &Workshop) -> Result<Self> {
        let home = workshop.directory("redis")?;
        let address = free_address()?;
        let mut command = workshop.command(program);
        command.args(["--bind", "127.0.0.1", "--port", &address.port().to_string(), "--daemonize", "no"]);
        for (name, value) in SETTINGS {
            command.arg(format!("--{name}")).arg(value);
        }
        let log = workshop.root().join("redis.log");
        let process = Process::start("redis-server", command.arg("--dir").arg(&home), &log, Signal::KILL)?;
        let mut redis = Self { process, address };
        let mut connection = redis.first_connection().await?;
        for (name, value) in SETTINGS {
            let answer = connection.call(&render(&[b"CONFIG", b"GET", name.as_bytes()])).await?;
            let wanted = render(&[name.as_bytes(), value.as_bytes()]);
            ensure!(answer == wanted, "Redis runs with another {name} than {value:?}");
        }
        Ok(redis)
    }

    async fn first_connection(&mut self) -> Result<Resp> {
        let deadline = clock::now() + START_LIMIT;
        loop {
            self.process.check()?;
            match Resp::connect(self.address).await {
                Ok(connection) => return Ok(connection),
                Err(error) if clock::now() > deadline => return Err(error.context("Redis does not start")),
                Err(_) => clock::sleep_until(clock::now() + Duration::from_millis(20)).await,
            }
        }
    }

    /// The server.
    pub(crate) fn id(&self) -> u32 {
        self.process.id()
    }

    /// One connection for each of `threads`, each appending to its own ones.
    pub(crate) async fn adders(&self, threads: &Threads) -> Result<Vec<Client>> {
        let mut clients = Vec::new();
        for (index, owned) in threads.iter().enumerate() {
            clients.push(Client::RedisAdd(RedisAdd::new(Resp::connect(self.address).await?, index, owned)));
        }
        Ok(clients)
    }

    /// One connection for each of `threads`, each reading the newest `page` entries of its own ones.
    pub(crate) async fn listers(&self, threads: &Threads, page: usize) -> Result<Vec<Client>> {
        let mut clients = Vec::new();
        for (index, owned) in threads.iter().enumerate() {
            let connection = Resp::connect(self.address).await?;
            clients.push(Client::RedisList(RedisList::new(connection, index, owned, page)));
        }
        Ok(clients)
    }

    /// Fails unless `threads` together hold exactly `acknowledged` entries.
    pub(crate) async fn verify(&self, threads: &Threads, acknowledged: u64) -> Result<()> {
        let mut connection = Resp::connect(self.address).await?;
        let mut count = 0;
        for thread in threads.iter().flatten() {
            let answer = connection.call(&render(&[b"XLEN", thread.to_string().as_bytes()])).await?;
            let digits = answer.strip_prefix(b":").context("XLEN answers no number")?.trim_ascii_end();
            count += std::str::from_utf8(digits)?.parse::<u64>()?;
        }
        if count != acknowledged {
            bail!("Redis acknowledged {acknowledged} entries and holds {count}");
        }
        Ok(())
    }
}

/// A command or an answer made of bulk strings.
pub(crate) fn render(parts: &[&[u8]]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", parts.len()).into_bytes();
    for part in parts {
        bytes.extend(format!("${}\r\n", part.len()).bytes());
        bytes.extend(*part);
        bytes.extend(b"\r\n");
    }
    bytes
}

/// One connection.
pub(crate) struct Resp {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Resp {
    async fn connect(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, buffer: Vec::with_capacity(64 * 1024) })
    }

    /// Sends one rendered command and reads its whole answer.
    pub(crate) async fn call(&mut self, command: &[u8]) -> Result<&[u8]> {
        self.stream.write_all(command).await?;
        self.buffer.clear();
        loop {
            let read = self.stream.read_buf(&mut self.buffer).await?;
            ensure!(read > 0, "Redis closed the connection");
            if let Some(end) = answer_end(&self.buffer, 0)? {
                ensure!(end == self.buffer.len(), "Redis sent more than it was asked for");
                return Ok(&self.buffer);
            }
        }
    }
}

/// Where the answer that starts at `start` ends; `None` while it is incomplete.
fn answer_end(bytes: &[u8], start: usize) -> Result<Option<usize>> {
    let Some(line) = bytes.get(start..).and_then(|rest| rest.windows(2).position(|two| two == b"\r\n")) else {
        return Ok(None);
    };
    let (kind, text) = (bytes[start], &bytes[start + 1..start + line]);
    let mut end = start + line + 2;
    match kind {
        b'+' | b':' => {}
        b'-' => bail!("Redis refused: {}", String::from_utf8_lossy(text)),
        b'$' => end += usize::try_from(number(text)?).map_or(0, |length| length + 2),
        b'*' => {
            for _ in 0..number(text)? {
                let Some(next) = answer_end(bytes, end)? else { return Ok(None) };
                end = next;
            }
        }
        _ => bail!("Redis answers in an unknown way"),
    }
    Ok(if end <= bytes.len() { Some(end) } else { None })
}

fn number(text: &[u8]) -> Result<i64> {
    std::str::from_utf8(text)?.parse().context("Redis sent a strange length")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_whole_only_with_their_last_byte() {
        check(b"+OK\r\n");
        check(b":17\r\n");
        check(b"$5\r\na\r\nbc\r\n");
        check(b"$-1\r\n");
        check(b"*0\r\n");
        check(b"*2\r\n*2\r\n$3\r\n1-0\r\n*2\r\n$1\r\nb\r\n$2\r\nxy\r\n:1\r\n");
    }

    fn check(answer: &[u8]) {
        for end in 0..answer.len() {
            assert_eq!(answer_end(&answer[..end], 0).expect("no damage"), None, "{end}");
        }
        assert_eq!(answer_end(answer, 0).expect("no damage"), Some(answer.len()));
    }

    #[test]
    fn refusals_and_damage_are_errors() {
        for answer in [&b"-ERR no\r\n"[..], b"$x\r\n", b"?\r\n", b"*1\r\n-ERR no\r\n"] {
            assert!(answer_end(answer, 0).is_err(), "{}", String::from_utf8_lossy(answer));
        }
    }
}
