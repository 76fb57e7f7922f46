//! Servers that stand for key management services and for object stores, each on a free port of loopback and gone when dropped.
//!
//! | Provider | Stood for by | What it does not enforce, so that [`proxy`] answers it |
//! |---|---|---|
//! | local | files in a directory | |
//! | aws | moto, which plays AWS KMS and STS | key states, throttling, signatures, expiry of credentials |
//! | vault | a real Vault, in memory | throttling |
//! | http | [`service`], the protocol of `prgkms` | throttling |
//!
//! [`Provider`] is one of the four, ready to use, with a switch for an outage; tests that are the same for all of them
//! run over [`providers`]. Object stores are in [`object_store`], the database of a fleet in [`cassandra`].
//! A server that this machine cannot have skips its tests by name, and fails them under `CI=true`.

pub mod cassandra;
pub mod forward;
pub mod listen;
pub mod moto;
pub mod object_store;
mod process;
mod provider;
pub mod proxy;
pub mod review;
pub mod service;
mod settings;
pub mod tls;
pub mod vault;

use std::path::Path;

pub use provider::{Provider, providers};
pub use settings::Settings;

/// Writes a file that only its owner may read, and returns its path. Replaces it at once, as a mounted secret is.
pub fn secret_file(directory: &Path, name: &str, content: impl AsRef<[u8]>) -> String {
    use std::os::unix::fs::PermissionsExt as _;
    let (path, new) = (directory.join(name), directory.join(format!("{name}.new")));
    std::fs::write(&new, content).unwrap();
    std::fs::set_permissions(&new, std::fs::Permissions::from_mode(0o600)).unwrap();
    std::fs::rename(&new, &path).unwrap();
    path.to_str().unwrap().to_owned()
}
