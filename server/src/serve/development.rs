//! A server without configured API keys: it generates its own and prints a command that tries them.

use std::fs;
use std::io::{self, Write as _};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::thread;

use aws_lc_rs::rand;
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize};

use super::StartupError;
use crate::data_dir::Directory;
use crate::files;
use crate::http::ApiKeys;

const FILE: &str = "dev-keys.json";

#[derive(Serialize, Deserialize)]
struct Keys {
    backend: String,
    frontend: String,
    admin: String,
    signing: String,
}

/// One key of each role, from the data directory; generated and stored there if there are none, but never by a rehearsal.
pub(super) fn keys(directory: &Directory, rehearsal: bool) -> Result<ApiKeys, StartupError> {
    if let Some(keys) = known_keys(directory.path())? {
        return Ok(keys);
    }
    if rehearsal {
        let why = "no API keys are configured and a rehearsal makes none: configure security.api_keys";
        return Err(StartupError::Config(why.to_owned()));
    }
    let path = directory.path().join(FILE);
    create(directory, &path).map(ApiKeys::from).map_err(|error| failed(&path, error))
}

/// The keys that a server without configured ones has made in the data directory `db`, if it has.
pub fn known_keys(db: &Path) -> Result<Option<ApiKeys>, StartupError> {
    let path = db.join(FILE);
    match fs::read(&path) {
        Ok(bytes) => {
            let keys: Keys = serde_json::from_slice(&bytes).map_err(|error| failed(&path, error.into()))?;
            Ok(Some(keys.into()))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed(&path, error)),
    }
}

fn failed(path: &Path, error: io::Error) -> StartupError {
    StartupError::io(format!("cannot read or write {}", path.display()), error)
}

impl From<Keys> for ApiKeys {
    fn from(Keys { backend, frontend, admin, signing }: Keys) -> Self {
        let one = |key: String| vec![SecretString::from(key)];
        Self { backend: one(backend), frontend: one(frontend), admin: one(admin), signing: one(signing) }
    }
}

fn create(directory: &Directory, path: &Path) -> io::Result<Keys> {
    let keys = Keys { backend: key("sk")?, frontend: key("pk")?, admin: key("admin")?, signing: key("sign")? };
    files::replace(path, &directory.tmp_path().join(FILE), serde_json::to_string_pretty(&keys)?.as_bytes())?;
    Ok(keys)
}

fn key(prefix: &str) -> io::Result<String> {
    let mut bytes = [0; 16];
    rand::fill(&mut bytes).map_err(io::Error::other)?;
    Ok(format!("{prefix}_{}", hex::encode(bytes)))
}

/// Prints a command to try, with a warning if the port can be reached from other machines.
pub(super) fn print_welcome(keys: &ApiKeys, address: SocketAddr, db: &Path) {
    let backend = keys.backend.first().map_or("", |key| key.expose_secret());
    let here = reachable(address);
    let mut welcome = format!(
        "ProgressDB serves {db} on http://{here} with keys of its own ({db}/{FILE}). Try:\n\n  \
         curl -s http://{here}/frontend/v1/threads -H 'Authorization: Bearer {backend}' -H 'X-User-ID: ann' \
         -d '{{\"title\":\"Hello\"}}'\n\n\
         The API is described at http://{here}/docs.\n",
        db = db.display(),
    );
    if !address.ip().is_loopback() {
        tracing::warn!(
            event = "server.open_to_others",
            addr = %address,
            "the port is open beyond this machine in plain HTTP, with generated keys: anybody on the way can read \
             both; use --addr 127.0.0.1:{} for this machine alone, or configure keys and put a TLS proxy in front",
            address.port()
        );
        welcome.push_str("WARNING: the port is open beyond this machine, in plain HTTP.\n");
    }
    // In a thread of its own: a reader of standard output that does not read must not hold up the server.
    thread::spawn(move || io::stdout().write_all(welcome.as_bytes()));
}

/// The address under which this machine reaches a server that listens on `address`.
pub fn reachable(address: SocketAddr) -> SocketAddr {
    // A server that listens on every interface listens on this one too.
    let ip = if address.ip().is_unspecified() { Ipv4Addr::LOCALHOST.into() } else { address.ip() };
    SocketAddr::new(ip, address.port())
}
