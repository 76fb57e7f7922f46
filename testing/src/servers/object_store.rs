//! Servers of objects, each with one bucket that is empty: S3 by versitygw, which keeps objects as files, and by moto; Azure
//! Blob Storage by azurite.

use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::Command;

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

use super::moto::Moto;
use super::process::Process;
use crate::http::{Connection, Request};
use crate::machine::{missing, skip, temporary_directory, variable};

/// The bucket, or container, of every server.
pub const BUCKET: &str = "backups";
const ACCESS_KEY: &str = "AKIDEXAMPLE";
/// Must never be seen in any output.
pub const SECRET_KEY: &str = "wJalrXUtnFEMI-K7MDENG-EXAMPLE";
/// The account of every azurite, and its key, as its documentation gives them.
const ACCOUNT: &str = "devstoreaccount1";
const ACCOUNT_KEY: &str = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";

/// A running server.
pub struct ObjectStore {
    /// Its name.
    pub name: &'static str,
    /// Where it listens.
    pub addr: SocketAddr,
    /// What a URL begins with: `s3` or `az`.
    pub scheme: &'static str,
    /// The directory that holds its objects as files, by their keys, where there is one.
    pub files: Option<PathBuf>,
    _process: Box<dyn Send>,
    _directory: tempfile::TempDir,
}

impl ObjectStore {
    /// versitygw: what S3 does, and files to look at. `None` where there is none; `test` is then skipped.
    pub fn versitygw(test: &str) -> Option<Self> {
        let home = variable("HOME").unwrap_or_default();
        let binary = PathBuf::from(home).join(format!(".cache/progressdb/bin/versitygw-{}", pinned("versitygw")));
        if !binary.exists() {
            missing(test, "there is no versitygw in ~/.cache/progressdb/bin");
            return None;
        }
        let directory = temporary_directory();
        let files = directory.path().join(BUCKET);
        std::fs::create_dir(&files).unwrap();
        let (process, addr) = start(|addr| {
            let mut command = Command::new(&binary);
            command.env_clear().env("ROOT_ACCESS_KEY", ACCESS_KEY).env("ROOT_SECRET_KEY", SECRET_KEY);
            command.args(["--port", &addr.to_string(), "--quiet", "posix"]).arg(directory.path());
            command
        });
        let process = Box::new(process);
        Some(Self {
            name: "versitygw",
            addr,
            scheme: "s3",
            files: Some(files),
            _process: process,
            _directory: directory,
        })
    }

    /// moto, which plays S3 and enforces no credentials.
    pub fn moto(test: &str) -> Option<Self> {
        let moto = Moto::start(test)?;
        let credential = format!("{ACCESS_KEY}/20200101/us-east-1/s3/aws4_request");
        let authorization = format!("AWS4-HMAC-SHA256 Credential={credential}, SignedHeaders=host, Signature=00");
        let request = Request::new("PUT", &format!("/{BUCKET}")).header("Authorization", authorization).body("");
        Connection::open(moto.addr).unwrap().send(&request).unwrap().check_status(200);
        let (addr, process, directory) = (moto.addr, Box::new(moto), temporary_directory());
        Some(Self { name: "moto", addr, scheme: "s3", files: None, _process: process, _directory: directory })
    }

    /// azurite.
    pub fn azurite(test: &str) -> Option<Self> {
        let home = variable("HOME").unwrap_or_default();
        let modules = PathBuf::from(home).join(format!(".cache/progressdb/azurite-{}/node_modules", pinned("azurite")));
        if Command::new("npm").arg("--version").output().is_err() {
            skip(test, "npm is not installed, so there is no azurite");
            return None;
        }
        if !modules.exists() {
            missing(test, "there is no azurite in ~/.cache/progressdb");
            return None;
        }
        let directory = temporary_directory();
        let (process, addr) = start(|addr| {
            let mut command = Command::new("node");
            command.arg(modules.join("azurite/dist/src/blob/main.js"));
            command.args(["--silent", "--skipApiVersionCheck", "--location"]).arg(directory.path());
            command.args(["--blobHost", "127.0.0.1", "--blobPort", &addr.port().to_string()]);
            command
        });
        create_container(addr);
        let process = Box::new(process);
        Some(Self { name: "azurite", addr, scheme: "az", files: None, _process: process, _directory: directory })
    }

    /// The URL of a prefix in the bucket.
    pub fn url(&self, prefix: &str) -> String {
        format!("{}://{BUCKET}/{prefix}", self.scheme)
    }

    /// The variables with its credentials.
    pub fn credentials(&self) -> [(&'static str, &'static str); 2] {
        match self.scheme {
            "az" => [("AZURE_STORAGE_ACCOUNT_NAME", ACCOUNT), ("AZURE_STORAGE_ACCOUNT_KEY", ACCOUNT_KEY)],
            _ => [("AWS_ACCESS_KEY_ID", ACCESS_KEY), ("AWS_SECRET_ACCESS_KEY", SECRET_KEY)],
        }
    }

    /// What `backup.endpoint` is to reach it at this address: its own, or that of a proxy.
    pub fn endpoint(&self, addr: SocketAddr) -> String {
        let account = if self.scheme == "az" { format!("/{ACCOUNT}") } else { String::new() };
        format!("http://{addr}{account}")
    }
}

/// The version that `scripts/test-servers` installs.
fn pinned(name: &str) -> &'static str {
    let lines = include_str!("../../servers/object-stores").lines();
    lines.filter_map(|line| line.split_once(' ')).find(|(have, _)| *have == name).unwrap().1
}

/// Starts a server on a free port. Another process may take the port in between; then it gets another one.
fn start(command: impl Fn(SocketAddr) -> Command) -> (Process, SocketAddr) {
    let started = (0..20).find_map(|_| {
        let addr = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        Process::start_listening(command(addr), addr).map(|process| (process, addr))
    });
    started.expect("the server starts")
}

fn create_container(addr: SocketAddr) {
    let date = "Thu, 01 Jan 2026 00:00:00 GMT";
    let resource = format!("/{ACCOUNT}/{ACCOUNT}/{BUCKET}\nrestype:container");
    let text = format!("PUT\n\n\n\n\n\n\n\n\n\n\n\nx-ms-date:{date}\nx-ms-version:2021-12-02\n{resource}");
    let key = hmac::Key::new(hmac::HMAC_SHA256, &BASE64_STANDARD.decode(ACCOUNT_KEY).unwrap());
    let signature = BASE64_STANDARD.encode(hmac::sign(&key, text.as_bytes()));
    let request = Request::new("PUT", &format!("/{ACCOUNT}/{BUCKET}?restype=container"))
        .header("x-ms-date", date)
        .header("x-ms-version", "2021-12-02")
        .header("Authorization", format!("SharedKey {ACCOUNT}:{signature}"))
        .body("");
    Connection::open(addr).unwrap().send(&request).unwrap().check_status(201);
}
