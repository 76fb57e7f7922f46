//! Which server is tried, with which keys: what the command line says, or else the configuration.

use std::net::SocketAddr;

use reqwest::Url;
use secrecy::SecretString;

use super::client::Client;
use crate::args::SmokeArgs;
use crate::commands::failure::Failure;
use crate::config::{Config, read_key};
use crate::http::ApiKeys;
use crate::outgoing::Proxies;
use crate::serve::{StartupError, known_keys, reachable};

/// A server, and how it is called.
pub(super) struct Plan {
    /// Calls its API.
    pub(super) client: Client,
    /// For `/backend` and `/frontend`.
    pub(super) backend: SecretString,
    /// Who shows the metrics.
    pub(super) metrics: Metrics,
}

/// Who shows the metrics.
pub(super) enum Metrics {
    /// The API, to an admin key.
    Api(SecretString),
    /// The management listener, to everybody.
    Management(Client),
}

impl Plan {
    pub(super) fn new(config: &Config, wanted: &SmokeArgs, proxies: &Proxies) -> Result<Self, Failure> {
        let client = |url: &Url| Client::new(url, wanted.ca.as_deref(), proxies);
        let url = match &wanted.url {
            Some(url) => url.clone(),
            None => url_of(config.listen, "server.port is 0, so the address is not known: name it with --url")?,
        };
        let made = if config.development { known_keys(&config.db_path)? } else { None };
        let keys = made.as_ref().unwrap_or(&config.keys);
        let backend = match &wanted.key_file {
            Some(path) => Some(read_key(path)?),
            None => keys.backend.first().cloned(),
        };
        let backend = backend.ok_or_else(|| {
            let db = config.db_path.display();
            let want = "name a file with one (--key-file), a configuration (--config)";
            refuse(format!("no backend key is configured, and {db} has none: {want}, or a data directory (--db)"))
        })?;
        let metrics = match (&wanted.management_url, &wanted.admin_key_file) {
            (Some(url), _) => Metrics::Management(client(url)?),
            (None, Some(path)) => Metrics::Api(read_key(path)?),
            (None, None) => configured_metrics(config, keys, wanted, &client)?,
        };
        Ok(Self { client: client(&url)?, backend, metrics })
    }
}

/// The admin key, or else the management listener if it is that of the server that is tried.
fn configured_metrics(
    config: &Config,
    keys: &ApiKeys,
    wanted: &SmokeArgs,
    client: &dyn Fn(&Url) -> Result<Client, StartupError>,
) -> Result<Metrics, StartupError> {
    if let Some(key) = keys.admin.first() {
        return Ok(Metrics::Api(key.clone()));
    }
    let nobody = "no admin key is configured, so /metrics cannot be read: name a file with one (--admin-key-file), or the management listener (--management-url)";
    match config.management.filter(|_| wanted.url.is_none()) {
        Some(address) => Ok(Metrics::Management(client(&url_of(address, nobody)?)?)),
        None => Err(refuse(nobody.to_owned())),
    }
}

/// The URL under which this machine reaches a listener; `otherwise` says what to do where its port is not known.
fn url_of(address: SocketAddr, otherwise: &str) -> Result<Url, StartupError> {
    if address.port() == 0 {
        return Err(refuse(otherwise.to_owned()));
    }
    let url = format!("http://{}", reachable(address));
    Ok(url.parse().expect("an address is the host of a URL"))
}

fn refuse(why: String) -> StartupError {
    StartupError::Config(why)
}
