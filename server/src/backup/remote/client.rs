//! The HTTP client for object stores. It takes its proxies from the configuration, and not from the environment itself.

use std::time::Duration;

use object_store::client::{HttpClient, HttpConnector};
use object_store::{ClientConfigKey, ClientOptions};

use crate::outgoing::Proxies;

#[derive(Debug)]
pub(super) struct Connector {
    pub(super) proxies: Proxies,
    /// None: the system's.
    pub(super) certificates: Vec<reqwest::Certificate>,
    pub(super) timeout: Duration,
}

impl HttpConnector for Connector {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        let allow_http = options.get_config_value(&ClientConfigKey::AllowHttp).is_some_and(|value| value == "true");
        self.build(allow_http)
            .map(HttpClient::new)
            .map_err(|error| object_store::Error::Generic { store: "HTTP", source: Box::new(error) })
    }
}

impl Connector {
    fn build(&self, allow_http: bool) -> reqwest::Result<reqwest::Client> {
        let mut builder = reqwest::Client::builder()
            .user_agent(concat!("progressdb/", env!("CARGO_PKG_VERSION")))
            .no_proxy()
            .https_only(!allow_http)
            .connect_timeout(self.timeout.min(Duration::from_secs(5)))
            // Counts anew with each piece of a response, so that a long one is not cut.
            .read_timeout(self.timeout);
        for proxy in self.proxies.to_reqwest()? {
            builder = builder.proxy(proxy);
        }
        if !self.certificates.is_empty() {
            builder = builder.tls_certs_only(self.certificates.iter().cloned());
        }
        builder.build()
    }
}
