//! A connection to a node, by version 4 of the CQL protocol: only what tests need to prepare a ring and to look at it.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};

use crate::waiting::GENEROUS;

/// Rows, each a list of the values of its columns as they go over the wire; `None` is null.
pub type Rows = Vec<Vec<Option<Vec<u8>>>>;

/// How many replicas must answer.
#[derive(Clone, Copy, Debug)]
pub enum Consistency {
    /// One.
    One = 1,
    /// More than half.
    Quorum = 4,
    /// All.
    All = 5,
    /// More than half, and after what is being committed.
    Serial = 8,
}

/// What a message is, as the protocol numbers it.
mod opcode {
    pub(super) const ERROR: u8 = 0x00;
    pub(super) const STARTUP: u8 = 0x01;
    pub(super) const AUTHENTICATE: u8 = 0x03;
    pub(super) const OPTIONS: u8 = 0x05;
    pub(super) const SUPPORTED: u8 = 0x06;
    pub(super) const QUERY: u8 = 0x07;
    pub(super) const AUTH_RESPONSE: u8 = 0x0F;
}

/// An open connection.
pub struct Session {
    stream: TcpStream,
}

impl Session {
    /// Connects, with a name and a password if they are asked for.
    pub fn open(addr: SocketAddr, account: Option<(&str, &str)>) -> Result<Self, String> {
        let mut session = Self { stream: connect(addr).map_err(|error| error.to_string())? };
        let mut options = 1_u16.to_be_bytes().to_vec();
        put_string(&mut options, "CQL_VERSION");
        put_string(&mut options, "3.0.0");
        let (opcode, _) = session.call(opcode::STARTUP, &options)?;
        if opcode == opcode::AUTHENTICATE {
            let (name, password) = account.ok_or("it asks for an account")?;
            let token = format!("\0{name}\0{password}");
            let mut body = u32::try_from(token.len()).unwrap().to_be_bytes().to_vec();
            body.extend_from_slice(token.as_bytes());
            session.call(opcode::AUTH_RESPONSE, &body)?;
        }
        Ok(session)
    }

    /// Whether something speaks the protocol there.
    pub(super) fn answers(addr: SocketAddr) -> bool {
        let Ok(stream) = connect(addr) else { return false };
        let answer = Self { stream }.call(opcode::OPTIONS, &[]);
        answer.is_ok_and(|(opcode, _)| opcode == opcode::SUPPORTED)
    }

    /// Runs a statement with one replica; what the node answers, or why it does not.
    pub fn execute(&mut self, statement: &str) -> Result<Rows, String> {
        self.execute_at(Consistency::One, statement)
    }

    /// Runs a statement with as many replicas.
    pub fn execute_at(&mut self, consistency: Consistency, statement: &str) -> Result<Rows, String> {
        let mut body = u32::try_from(statement.len()).unwrap().to_be_bytes().to_vec();
        body.extend_from_slice(statement.as_bytes());
        body.extend_from_slice(&(consistency as u16).to_be_bytes());
        body.push(0);
        let (_, answer) = self.call(opcode::QUERY, &body)?;
        Ok(Reader(&answer).rows())
    }

    /// Sends a message and reads the answer.
    fn call(&mut self, opcode: u8, body: &[u8]) -> Result<(u8, Vec<u8>), String> {
        let (flags, opcode, body) = self.exchange(opcode, body).map_err(|error| error.to_string())?;
        let mut reader = Reader(&body);
        // Warnings stand before everything else.
        if flags & 0x08 != 0 {
            let warnings = reader.short();
            reader.skip_strings(warnings);
        }
        match opcode {
            opcode::ERROR => Err(format!("{:#06x}: {}", reader.int(), reader.string())),
            _ => Ok((opcode, reader.0.to_vec())),
        }
    }

    fn exchange(&mut self, opcode: u8, body: &[u8]) -> io::Result<(u8, u8, Vec<u8>)> {
        let length = u32::try_from(body.len()).unwrap().to_be_bytes();
        self.stream.write_all(&[&[0x04, 0, 0, 0, opcode], &length[..], body].concat())?;
        let mut header = [0; 9];
        self.stream.read_exact(&mut header)?;
        let length = u32::from_be_bytes(*header.last_chunk().unwrap());
        let mut answer = vec![0; length.try_into().unwrap()];
        self.stream.read_exact(&mut answer)?;
        Ok((header[1], header[4], answer))
    }
}

fn connect(addr: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&addr, GENEROUS)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(GENEROUS))?;
    Ok(stream)
}

fn put_string(body: &mut Vec<u8>, text: &str) {
    body.extend_from_slice(&u16::try_from(text.len()).unwrap().to_be_bytes());
    body.extend_from_slice(text.as_bytes());
}

/// What is left of an answer.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(length);
        self.0 = rest;
        taken
    }

    fn short(&mut self) -> u16 {
        u16::from_be_bytes(self.take(2).try_into().unwrap())
    }

    fn int(&mut self) -> i32 {
        i32::from_be_bytes(self.take(4).try_into().unwrap())
    }

    fn string(&mut self) -> String {
        let length = self.short();
        String::from_utf8_lossy(self.take(length.into())).into_owned()
    }

    fn skip_strings(&mut self, count: u16) {
        (0..count).for_each(|_| drop(self.string()));
    }

    fn bytes(&mut self) -> Option<Vec<u8>> {
        let length = usize::try_from(self.int()).ok()?;
        Some(self.take(length).to_vec())
    }

    /// A result; one without rows is none.
    fn rows(&mut self) -> Rows {
        if self.int() != 0x0002 {
            return Rows::new();
        }
        let columns = self.columns();
        let rows = self.int();
        (0..rows).map(|_| (0..columns).map(|_| self.bytes()).collect()).collect()
    }

    /// Passes over the names and the types of the columns; how many there are.
    fn columns(&mut self) -> i32 {
        let (flags, columns) = (self.int(), self.int());
        assert_eq!(flags & 0x0002, 0, "more rows than one page");
        let one_table = flags & 0x0001 != 0;
        // Keyspace and table, once or with each column; then the column's own name.
        self.skip_strings(if one_table { 2 } else { 0 });
        for _ in 0..columns {
            self.skip_strings(if one_table { 1 } else { 3 });
            self.column_type();
        }
        columns
    }

    fn column_type(&mut self) {
        match self.short() {
            0x0000 => drop(self.string()),
            0x0020 | 0x0022 => self.column_type(),
            0x0021 => {
                self.column_type();
                self.column_type();
            }
            simple => assert!(simple < 0x0020, "type {simple:#x} of a column is none that tests read"),
        }
    }
}
