//! The four providers, each with its server, its settings and a switch for an outage.

use std::path::PathBuf;

use serde_json::json;
use tempfile::TempDir;

use super::listen::Reply;
use super::moto::{self, Moto};
use super::process::Process;
use super::proxy::Proxy;
use super::service::{self, Service};
use super::vault::{self, Vault};
use super::{Settings, secret_file};
use crate::machine::temporary_directory;

/// A token of the `http` provider; must never be seen in any output.
const SERVICE_TOKEN: &str = "service-token-of-the-tests";

/// A key management service that works; a server is behind a proxy.
pub struct Provider {
    /// As the server's configuration names it.
    pub name: &'static str,
    settings: Settings,
    /// In front of the server; `None` for local.
    pub proxy: Option<Proxy>,
    /// For its files.
    pub directory: TempDir,
    /// Texts that must not appear in any output.
    pub secrets: Vec<String>,
    server: Server,
}

enum Server {
    Local(PathBuf),
    Moto(Moto),
    Vault(Vault),
    Service(Service),
}

/// All four, without those that this machine cannot have.
pub fn providers(test: &str) -> Vec<Provider> {
    [Some(Provider::local()), Provider::aws(test), Provider::vault(test), Some(Provider::http())]
        .into_iter()
        .flatten()
        .collect()
}

impl Provider {
    /// A master key in a file.
    pub fn local() -> Self {
        let directory = temporary_directory();
        let key = "5f".repeat(32);
        let path = secret_file(directory.path(), "master.key", &key);
        let settings = Settings::of("local").set("master_key_file", &path);
        Self { name: "local", settings, proxy: None, directory, secrets: vec![key], server: Server::Local(path.into()) }
    }

    /// moto with one key; `None` where there is none, and `test` is then skipped.
    pub fn aws(test: &str) -> Option<Self> {
        let (server, directory) = (Moto::start(test)?, temporary_directory());
        let proxy = Proxy::before(server.addr);
        let credentials = secret_file(directory.path(), "credentials", moto::credentials("AKIAFIRST"));
        let settings = Settings::of("aws")
            .set("endpoint", proxy.url())
            .set("key_id", server.create_key())
            .set("aws.region", moto::REGION)
            .set("aws.credentials_file", credentials);
        let secrets = vec![moto::SECRET_ACCESS_KEY.to_owned()];
        Some(Self { name: "aws", settings, proxy: Some(proxy), directory, secrets, server: Server::Moto(server) })
    }

    /// With a token of the least privilege: it may not even look itself up.
    pub fn vault(test: &str) -> Option<Self> {
        let server = Vault::start(test)?;
        let proxy = Proxy::before(server.addr);
        let token = server.token(json!({ "ttl": "1h", "no_default_policy": true }));
        let settings =
            Settings::of("vault").set("endpoint", proxy.url()).set("key_id", vault::KEY).set("token", &token);
        let (secrets, directory) = (vec![token], temporary_directory());
        Some(Self { name: "vault", settings, proxy: Some(proxy), directory, secrets, server: Server::Vault(server) })
    }

    /// The protocol of `prgkms` with one key.
    pub fn http() -> Self {
        let server = Service::start(SERVICE_TOKEN);
        let proxy = Proxy::before(server.addr());
        let settings =
            Settings::of("http").set("endpoint", proxy.addr).set("key_id", service::KEY).set("token", SERVICE_TOKEN);
        let (secrets, directory) = (vec![SERVICE_TOKEN.to_owned()], temporary_directory());
        Self { name: "http", settings, proxy: Some(proxy), directory, secrets, server: Server::Service(server) }
    }

    /// Variables `PROGRESSDB_ENCRYPTION_KMS_...` under which `progressdb` uses it.
    pub fn settings(&self) -> Vec<(String, String)> {
        self.settings.pairs()
    }

    /// The same, to be changed.
    pub fn base(&self) -> Settings {
        self.settings.clone()
    }

    /// Where requests arrive.
    #[track_caller]
    pub fn proxy(&self) -> &Proxy {
        self.proxy.as_ref().expect("a provider with a server")
    }

    /// The server behind `aws`.
    #[track_caller]
    pub fn moto(&mut self) -> &mut Moto {
        let Server::Moto(server) = &mut self.server else { panic!("{} is not moto", self.name) };
        server
    }

    /// The server behind `vault`.
    #[track_caller]
    pub fn real_vault(&mut self) -> &mut Vault {
        let Server::Vault(server) = &mut self.server else { panic!("{} is not Vault", self.name) };
        server
    }

    /// The server behind `http`.
    #[track_caller]
    pub fn service(&self) -> &Service {
        let Server::Service(server) = &self.server else { panic!("{} is not the service", self.name) };
        server
    }

    /// The process of the server, where it has one of its own.
    fn process(&mut self) -> Option<&mut Process> {
        match &mut self.server {
            Server::Moto(server) => Some(&mut server.process),
            Server::Vault(server) => Some(&mut server.process),
            Server::Local(_) | Server::Service(_) => None,
        }
    }

    /// Requests are taken and not answered, until [`Self::go_on`].
    pub fn hang(&mut self) {
        match self.process() {
            Some(process) => process.hang(),
            None => self.proxy().always(Reply::Stall),
        }
    }

    /// Ends [`Self::hang`].
    pub fn go_on(&mut self) {
        match self.process() {
            Some(process) => process.go_on(),
            None => self.proxy().clear(),
        }
    }

    /// Ends the process of the server; everything in it is lost.
    #[track_caller]
    pub fn kill(&mut self) {
        self.process().expect("the server is a process").kill();
    }

    /// Nothing of it can be reached from now on: connections are cut, the key file is gone.
    pub fn go_away(&self) {
        match (&self.server, &self.proxy) {
            (Server::Local(path), _) => std::fs::rename(path, path.with_extension("away")).unwrap(),
            (_, Some(proxy)) => proxy.always(Reply::Cut),
            (_, None) => unreachable!("a server has a proxy"),
        }
    }

    /// Ends [`Self::go_away`].
    pub fn come_back(&self) {
        match (&self.server, &self.proxy) {
            (Server::Local(path), _) => std::fs::rename(path.with_extension("away"), path).unwrap(),
            (_, Some(proxy)) => proxy.clear(),
            (_, None) => unreachable!("a server has a proxy"),
        }
    }
}
