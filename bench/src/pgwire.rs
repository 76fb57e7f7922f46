//! PostgreSQL's protocol, as much of it as a prepared statement needs, by hand: the peer pays for no driver.
//!
//! One request at a time on one connection without a password. Statements are parsed once; each call is one
//! `Bind`, `Execute`, `Sync` and everything up to `ReadyForQuery`.

use std::net::SocketAddr;

use anyhow::{Context, Result, bail, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Object id of `bigint`.
pub(crate) const INT8: i32 = 20;
/// Object id of `text`.
pub(crate) const TEXT: i32 = 25;

/// A parameter of a prepared statement.
pub(crate) enum Value<'a> {
    Int8(i64),
    Text(&'a [u8]),
}

/// One connection.
pub(crate) struct Pg {
    stream: TcpStream,
    input: Vec<u8>,
    output: Vec<u8>,
}

/// What a call brought, apart from the rows themselves.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) rows: usize,
    /// The first column of the first row.
    pub(crate) first: Option<String>,
}

impl Pg {
    /// Connects as `user` to the database `postgres`.
    pub(crate) async fn connect(address: SocketAddr, user: &str) -> Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let mut pg = Self { stream, input: Vec::with_capacity(64 * 1024), output: Vec::new() };
        let mut start = Vec::from(196_608_i32.to_be_bytes());
        start.extend(format!("user\0{user}\0database\0postgres\0\0").bytes());
        pg.output.extend(length(start.len() + 4)?.to_be_bytes());
        pg.output.extend(start);
        pg.round_trip().await.context("PostgreSQL did not accept the connection")?;
        Ok(pg)
    }

    /// Runs `sql` without parameters.
    pub(crate) async fn query(&mut self, sql: &str) -> Result<Answer> {
        self.message(b'Q', |out| out.extend(sql.bytes().chain([0])))?;
        self.round_trip().await.with_context(|| format!("in {sql}"))
    }

    /// Prepares `sql` as this connection's only statement.
    pub(crate) async fn prepare(&mut self, sql: &str, types: &[i32]) -> Result<()> {
        let count = i16::try_from(types.len())?;
        self.message(b'P', |out| {
            out.extend(b"s\0".iter().chain(sql.as_bytes()).chain(&[0]));
            out.extend(count.to_be_bytes());
            out.extend(types.iter().flat_map(|id| id.to_be_bytes()));
        })?;
        self.message(b'S', |_| ())?;
        self.round_trip().await.with_context(|| format!("in {sql}"))?;
        Ok(())
    }

    /// Runs the prepared statement; numbers go and come in binary.
    pub(crate) async fn execute(&mut self, values: &[Value<'_>]) -> Result<Answer> {
        let count = i16::try_from(values.len())?.to_be_bytes();
        self.message(b'B', |out| {
            out.extend(b"\0s\0\0\x01\0\x01");
            out.extend(count);
            for value in values {
                match value {
                    Value::Int8(number) => {
                        out.extend(8_i32.to_be_bytes());
                        out.extend(number.to_be_bytes());
                    }
                    Value::Text(text) => {
                        out.extend((text.len() as u32).to_be_bytes());
                        out.extend(*text);
                    }
                }
            }
            out.extend(b"\0\x01\0\x01");
        })?;
        self.message(b'E', |out| out.extend([0; 5]))?;
        self.message(b'S', |_| ())?;
        self.round_trip().await
    }

    fn message(&mut self, kind: u8, write: impl FnOnce(&mut Vec<u8>)) -> Result<()> {
        let start = self.output.len();
        self.output.extend([kind, 0, 0, 0, 0]);
        write(&mut self.output);
        let bytes = length(self.output.len() - start - 1)?.to_be_bytes();
        self.output[start + 1..start + 5].copy_from_slice(&bytes);
        Ok(())
    }

    async fn round_trip(&mut self) -> Result<Answer> {
        self.stream.write_all(&self.output).await?;
        self.output.clear();
        self.input.clear();
        let (mut done, mut answer) = (0, Answer::default());
        loop {
            let read = self.stream.read_buf(&mut self.input).await?;
            ensure!(read > 0, "PostgreSQL closed the connection");
            if scan(&self.input, &mut done, &mut answer)? {
                return Ok(answer);
            }
        }
    }
}

fn length(bytes: usize) -> Result<i32> {
    i32::try_from(bytes).context("a message is too long for PostgreSQL")
}

/// Reads the whole messages behind `done` and moves it; `true` once the server is ready for the next request.
fn scan(input: &[u8], done: &mut usize, answer: &mut Answer) -> Result<bool> {
    while let Some(head) = input.get(*done..*done + 5) {
        let bytes = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
        ensure!(bytes >= 4, "a message of PostgreSQL is too short");
        let Some(content) = input.get(*done + 5..*done + 1 + bytes) else { return Ok(false) };
        *done += 1 + bytes;
        match head[0] {
            b'D' => {
                answer.rows += 1;
                if answer.rows == 1 {
                    answer.first = first_column(content);
                }
            }
            b'E' => bail!("PostgreSQL refused: {}", error_text(content)),
            b'R' => ensure!(content == [0; 4], "PostgreSQL wants a password"),
            b'Z' => return Ok(true),
            _ => {}
        }
    }
    Ok(false)
}

fn first_column(row: &[u8]) -> Option<String> {
    let bytes = u32::from_be_bytes(row.get(2..6)?.try_into().ok()?) as usize;
    String::from_utf8(row.get(6..6 + bytes)?.to_vec()).ok()
}

fn error_text(content: &[u8]) -> String {
    let message = content.split(|byte| *byte == 0).find_map(|field| field.strip_prefix(b"M"));
    String::from_utf8_lossy(message.unwrap_or(b"without a reason")).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROW: &[u8] = b"D\0\0\0\x0c\0\x01\0\0\0\x0242";
    const READY: &[u8] = b"Z\0\0\0\x05I";

    #[test]
    fn replies_are_whole_only_with_their_last_byte() {
        let bytes = [ROW, ROW, b"C\0\0\0\x06x\0", READY].concat();
        for cut in 0..bytes.len() {
            let (mut done, mut answer) = (0, Answer::default());
            assert!(!scan(&bytes[..cut], &mut done, &mut answer).expect("no damage"), "{cut}");
            assert!(scan(&bytes, &mut done, &mut answer).expect("no damage"), "{cut}");
            assert_eq!(answer, Answer { rows: 2, first: Some("42".into()) }, "{cut}");
        }
    }

    #[test]
    fn errors_carry_the_servers_words() {
        let error = scan(b"E\0\0\0\x0fSERROR\0Mno\0\0", &mut 0, &mut Answer::default()).expect_err("an error");
        assert_eq!(error.to_string(), "PostgreSQL refused: no");
        assert!(scan(b"D\0\0\0\x01", &mut 0, &mut Answer::default()).is_err());
        assert!(scan(b"R\0\0\0\x08\0\0\0\x05", &mut 0, &mut Answer::default()).is_err());
    }
}
