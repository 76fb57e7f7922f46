//! How object stores are reached: where, by whom, and how patiently.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};
use object_store::gcp::{GoogleCloudStorageBuilder, GoogleConfigKey};
use object_store::local::LocalFileSystem;
use object_store::{BackoffConfig, ClientOptions, ObjectStore, RetryConfig};
use secrecy::{ExposeSecret as _, SecretString};

use super::client::Connector;
use super::location::Scheme;
use super::{Error, Location};
use crate::outgoing::Proxies;

/// How object stores are reached.
#[derive(Clone, Debug)]
pub struct Access {
    /// In place of the cloud's own address.
    pub endpoint: Option<String>,
    /// Of the bucket, for S3.
    pub region: Option<String>,
    /// Plain HTTP is allowed.
    pub allow_http: bool,
    /// PEM certificates to trust in place of the system's.
    pub ca_file: Option<PathBuf>,
    /// For one try of one request.
    pub timeout: Duration,
    /// Between here and there.
    pub proxies: Proxies,
    /// The variables that the tools of the clouds read, by name: `AWS_*`, `AZURE_*`, `GOOGLE_*`. Credentials are among them.
    pub variables: Vec<(String, SecretString)>,
}

/// Tries of a request after the first.
const RETRIES: usize = 5;

impl Access {
    pub(super) fn open(&self, location: &Location) -> Result<Arc<dyn ObjectStore>, Error> {
        let opened = match location.scheme() {
            Scheme::S3 => self.s3(location)?,
            Scheme::Gcs => self.gcs(location)?,
            Scheme::Azure => self.azure(location)?,
            Scheme::File => {
                let directory = location.directory().unwrap_or_default();
                LocalFileSystem::new_with_prefix(directory).map(|store| Arc::new(store.with_fsync(true)) as _)
            }
        };
        opened.map_err(|error| Error::Settings { place: location.to_string(), why: super::error::last_cause(&error) })
    }

    fn s3(&self, location: &Location) -> Result<object_store::Result<Arc<dyn ObjectStore>>, Error> {
        let mut builder = AmazonS3Builder::new();
        for (key, value) in self.of_cloud::<AmazonS3ConfigKey>("AWS_") {
            builder = builder.with_config(key, value);
        }
        if let Some(endpoint) = &self.endpoint {
            builder = builder.with_config(AmazonS3ConfigKey::S3Endpoint, endpoint);
        }
        if let Some(region) = &self.region {
            builder = builder.with_region(region);
        }
        let builder = builder.with_bucket_name(location.bucket()).with_retry(self.retry());
        let builder = builder.with_client_options(self.options()).with_http_connector(self.connector()?);
        Ok(builder.build().map(|store| Arc::new(store) as _))
    }

    fn gcs(&self, location: &Location) -> Result<object_store::Result<Arc<dyn ObjectStore>>, Error> {
        let mut builder = GoogleCloudStorageBuilder::new();
        for (key, value) in self.of_cloud::<GoogleConfigKey>("GOOGLE_") {
            builder = builder.with_config(key, value);
        }
        if let Some(endpoint) = &self.endpoint {
            builder = builder.with_base_url(endpoint);
        }
        let builder = builder.with_bucket_name(location.bucket()).with_retry(self.retry());
        let builder = builder.with_client_options(self.options()).with_http_connector(self.connector()?);
        Ok(builder.build().map(|store| Arc::new(store) as _))
    }

    fn azure(&self, location: &Location) -> Result<object_store::Result<Arc<dyn ObjectStore>>, Error> {
        let mut builder = MicrosoftAzureBuilder::new();
        for (key, value) in self.of_cloud::<AzureConfigKey>("AZURE_") {
            builder = builder.with_config(key, value);
        }
        if let Some(endpoint) = &self.endpoint {
            builder = builder.with_endpoint(endpoint.clone());
        }
        let builder = builder.with_container_name(location.bucket()).with_retry(self.retry());
        let builder = builder.with_client_options(self.options()).with_http_connector(self.connector()?);
        Ok(builder.build().map(|store| Arc::new(store) as _))
    }

    /// What the variables with this prefix say, as the builder of a cloud knows them; it skips those of other programs.
    fn of_cloud<'a, K: std::str::FromStr>(&'a self, prefix: &'a str) -> impl Iterator<Item = (K, String)> + 'a {
        let ours = self.variables.iter().filter(move |(name, _)| name.starts_with(prefix));
        ours.filter_map(|(name, value)| Some((name.to_lowercase().parse().ok()?, value.expose_secret().to_owned())))
    }

    fn retry(&self) -> RetryConfig {
        let backoff =
            BackoffConfig { init_backoff: Duration::from_millis(100), max_backoff: Duration::from_secs(10), base: 2. };
        RetryConfig { backoff, max_retries: RETRIES, retry_timeout: self.timeout * 3 }
    }

    /// The client is our own, which takes these two from the options: metadata services of clouds are plain HTTP.
    fn options(&self) -> ClientOptions {
        ClientOptions::new().with_allow_http(self.allow_http).with_connect_timeout(Duration::from_secs(5))
    }

    fn connector(&self) -> Result<Connector, Error> {
        let certificates = match &self.ca_file {
            None => Vec::new(),
            Some(path) => {
                let pem = std::fs::read(path)
                    .map_err(|error| Error::io(format!("cannot read backup.ca_file {}", path.display()), error))?;
                reqwest::Certificate::from_pem_bundle(&pem).map_err(|error| Error::Settings {
                    place: format!("backup.ca_file {}", path.display()),
                    why: super::error::last_cause(&error),
                })?
            }
        };
        Ok(Connector { proxies: self.proxies.clone(), certificates, timeout: self.timeout })
    }
}
