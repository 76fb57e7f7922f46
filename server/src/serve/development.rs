//! A server without configured keys: it makes its own, and says how to try them.

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

/// One key of each role, from the data directory, or made and kept there. A rehearsal makes none.
pub(super) fn keys(directory: &Directory, rehearsal: bool) -> Result<ApiKeys, StartupError> {
    let path = directory.path().join(FILE);
    let failed = |error: io::Error| StartupError::io(format!("cannot read or write {}", path.display()), error);
    let keys = match fs::read(&path) {
        Ok(bytes) => serde_json::from_slice(&bytes).map_err(|error| failed(error.into()))?,
        Err(error) if error.kind() == io::ErrorKind::NotFound && rehearsal => {
            let why = "no API keys are configured and a rehearsal makes none: configure security.api_keys";
            return Err(StartupError::Config(why.to_owned()));
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => create(directory, &path).map_err(failed)?,
        Err(error) => return Err(failed(error)),
    };
    let Keys { backend, frontend, admin, signing } = keys;
    let one = |key: String| vec![SecretString::from(key)];
    Ok(ApiKeys { backend: one(backend), frontend: one(frontend), admin: one(admin), signing: one(signing) })
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

/// What to try, on standard output; and a warning where others can reach the port.
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
    // Where standard output is closed nobody reads it; where its reader stands still only this thread waits.
    thread::spawn(move || io::stdout().write_all(welcome.as_bytes()));
}

/// Where this machine reaches a server that listens on `address`.
fn reachable(address: SocketAddr) -> SocketAddr {
    // Where every interface is listened on, so is this one of IPv4, which every machine has.
    let ip = if address.ip().is_unspecified() { Ipv4Addr::LOCALHOST.into() } else { address.ip() };
    SocketAddr::new(ip, address.port())
}
