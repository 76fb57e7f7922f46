//! AWS KMS: `Encrypt` and `Decrypt` with the context as encryption context.
//!
//! Identities come from the default chain of the SDK (variables, shared files, web identity, container and machine
//! roles) or from one file of shared credentials, which is read before each call, so that a rotated Secret is in use at
//! once. The SDK's own retries are off: the guard retries.

mod classify;

use aws_config::{BehaviorVersion, Region, profile::ProfileFileCredentialsProvider, retry::RetryConfig};
use aws_lc_rs::digest::{Digest, SHA256, digest};
use aws_runtime::env_config::file::{EnvConfigFileKind, EnvConfigFiles};
use aws_sdk_kms::{
    Client, config::SharedHttpClient, operation::describe_key::DescribeKeyOutput, primitives::Blob, types::KeyState,
};
use aws_smithy_http_client::{Builder, ConnectorBuilder, proxy::ProxyConfig, tls};
use tokio::sync::Mutex;

use self::classify::classify;
use super::{super::KeyBytes, Context, Error, Wrapped, context::to_key, files, settings};
use crate::outgoing::Proxies;

/// One key of AWS KMS.
pub(crate) struct Aws {
    settings: settings::Aws,
    proxies: Proxies,
    /// Made at the first call, and made anew when the credentials file changed; with the digest of that file.
    client: Mutex<Option<(Client, Option<Digest>)>>,
}

impl Aws {
    pub(crate) fn new(settings: settings::Aws, proxies: Proxies) -> Self {
        Self { settings, proxies, client: Mutex::new(None) }
    }

    pub(crate) async fn wrap(&self, key: &KeyBytes, context: Context) -> Result<(String, Vec<u8>), Error> {
        let [database, epoch] = encryption_context(context);
        let response = self
            .client()
            .await?
            .encrypt()
            .key_id(&self.settings.key_id)
            .plaintext(Blob::new(key.as_slice()))
            .encryption_context(database.0, database.1)
            .encryption_context(epoch.0, epoch.1)
            .send()
            .await
            .map_err(classify)?;
        match (response.key_id, response.ciphertext_blob) {
            (Some(key_id), Some(blob)) => Ok((key_id, blob.into_inner())),
            _ => Err(Error::unavailable("the response holds no ciphertext")),
        }
    }

    pub(crate) async fn unwrap(&self, wrapped: &Wrapped, context: Context) -> Result<KeyBytes, Error> {
        let [database, epoch] = encryption_context(context);
        let client = self.client().await?;
        let key_id = replica_in(client.config().region().map_or("", Region::as_ref), &wrapped.key_id);
        let response = client
            .decrypt()
            .key_id(key_id)
            .ciphertext_blob(Blob::new(wrapped.blob.as_slice()))
            .encryption_context(database.0, database.1)
            .encryption_context(epoch.0, epoch.1)
            .send()
            .await
            .map_err(classify)?;
        let plaintext = response.plaintext.ok_or_else(|| Error::unavailable("the response holds no plaintext"))?;
        to_key(&zeroize::Zeroizing::new(plaintext.into_inner()))
    }

    /// Who may not describe the key learns its ARN by wrapping a dummy value.
    pub(crate) async fn describe(&self) -> Result<String, Error> {
        let request = self.client().await?.describe_key().key_id(&self.settings.key_id);
        match request.send().await.map_err(classify) {
            Ok(response) => arn_of_usable(response),
            Err(Error::Denied { .. }) => {
                let nobody = Context { database_id: [0; 16], epoch: 0 };
                Ok(self.wrap(&KeyBytes::default(), nobody).await?.0)
            }
            Err(error) => Err(error),
        }
    }

    async fn client(&self) -> Result<Client, Error> {
        let mut current = self.client.lock().await;
        let contents = self.settings.credentials_file.as_deref().map(files::read).transpose()?;
        let version = contents.as_ref().map(|contents| digest(&SHA256, contents));
        if let Some((client, made_for)) = &*current
            && made_for.as_ref().map(Digest::as_ref) == version.as_ref().map(Digest::as_ref)
        {
            return Ok(client.clone());
        }
        let client = Box::pin(self.connect()).await?;
        *current = Some((client.clone(), version));
        Ok(client)
    }

    async fn connect(&self) -> Result<Client, Error> {
        let settings = &self.settings;
        let mut loader = aws_config::defaults(BehaviorVersion::latest())
            .retry_config(RetryConfig::disabled())
            .http_client(http_client(self.proxies.to_aws(settings.endpoint.as_deref().is_some_and(is_plain))));
        if let Some(region) = settings.region.as_deref().or_else(|| region_of(&settings.key_id)) {
            loader = loader.region(Region::new(region.to_owned()));
        }
        if let Some(endpoint) = &settings.endpoint {
            loader = loader.endpoint_url(endpoint);
        }
        if let Some(path) = &settings.credentials_file {
            let file = EnvConfigFiles::builder().with_file(EnvConfigFileKind::Credentials, path).build();
            let mut provider = ProfileFileCredentialsProvider::builder().profile_files(file);
            if let Some(profile) = &settings.profile {
                provider = provider.profile_name(profile);
            }
            loader = loader.credentials_provider(provider.build());
        } else if let Some(profile) = &settings.profile {
            loader = loader.profile_name(profile);
        }
        let config = loader.load().await;
        if config.region().is_none() {
            let message = "no AWS region: set encryption.kms.aws.region, or name the key by its ARN";
            return Err(Error::Settings(message.to_owned()));
        }
        Ok(Client::new(&config))
    }
}

/// The SDK's own client, with the configured proxies in place of those that it would read from the environment.
fn http_client(proxies: ProxyConfig) -> SharedHttpClient {
    Builder::new().build_with_connector_fn(move |settings, components| {
        let mut connector = ConnectorBuilder::default()
            .tls_provider(tls::Provider::Rustls(tls::rustls_provider::CryptoMode::AwsLc))
            .proxy_config(proxies.clone());
        connector.set_connector_settings(settings.cloned());
        if let Some(components) = components {
            connector.set_sleep_impl(components.sleep_impl());
        }
        connector.build()
    })
}

fn is_plain(endpoint: &str) -> bool {
    endpoint.starts_with("http://")
}

impl std::fmt::Debug for Aws {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.settings.fmt(out)
    }
}

fn encryption_context(context: Context) -> [(&'static str, String); 2] {
    [("progressdb:database", hex::encode(context.database_id)), ("progressdb:epoch", context.epoch.to_string())]
}

/// The region of `arn:aws:kms:REGION:ACCOUNT:key/ID`.
fn region_of(key_id: &str) -> Option<&str> {
    let mut parts = key_id.strip_prefix("arn:")?.split(':');
    parts.nth(2).filter(|region| !region.is_empty())
}

/// The same key as it is named in `region`: a multi-Region key, whose id begins with `mrk-`, has a replica of the same
/// material there. Every other key lives in its own region alone.
fn replica_in(region: &str, key_id: &str) -> String {
    let parts: Vec<&str> = key_id.splitn(6, ':').collect();
    match parts.as_slice() {
        ["arn", partition, "kms", _, account, key] if key.starts_with("key/mrk-") && !region.is_empty() => {
            format!("arn:{partition}:kms:{region}:{account}:{key}")
        }
        _ => key_id.to_owned(),
    }
}

fn arn_of_usable(response: DescribeKeyOutput) -> Result<String, Error> {
    let metadata = response.key_metadata.ok_or_else(|| Error::unavailable("the response describes no key"))?;
    let arn = metadata.arn.unwrap_or(metadata.key_id);
    match metadata.key_state {
        None | Some(KeyState::Enabled | KeyState::Updating) => Ok(arn),
        Some(state) => Err(Error::key_unusable(format!("the state of {arn} is {}", state.as_str()))),
    }
}

#[cfg(test)]
mod tests {
    use aws_sdk_kms::types::KeyMetadata;

    use super::*;

    #[test]
    fn an_arn_names_its_region() {
        let arn = "arn:aws:kms:eu-central-1:111122223333:key/1234abcd";
        assert_eq!(
            [arn, "alias/chat", "1234abcd", "arn:aws:kms"].map(region_of),
            [Some("eu-central-1"), None, None, None]
        );
    }

    #[test]
    fn only_a_multi_region_key_has_a_name_in_another_region() {
        let arn = |region: &str, id: &str| format!("arn:aws-cn:kms:{region}:111122223333:key/{id}");
        for (region, key_id, wanted) in [
            ("us-east-1", arn("eu-central-1", "mrk-12"), arn("us-east-1", "mrk-12")),
            ("us-east-1", arn("us-east-1", "mrk-12"), arn("us-east-1", "mrk-12")),
            ("us-east-1", arn("eu-central-1", "12"), arn("eu-central-1", "12")),
            ("", arn("eu-central-1", "mrk-12"), arn("eu-central-1", "mrk-12")),
            ("us-east-1", "mrk-12".to_owned(), "mrk-12".to_owned()),
            ("us-east-1", "arn:aws:kms".to_owned(), "arn:aws:kms".to_owned()),
        ] {
            assert_eq!(replica_in(region, &key_id), wanted);
        }
    }

    #[test]
    fn the_encryption_context_names_database_and_epoch() {
        let context = Context { database_id: [0xab; 16], epoch: 12 };
        let wanted = [("progressdb:database", "ab".repeat(16)), ("progressdb:epoch", "12".to_owned())];
        assert_eq!(encryption_context(context), wanted);
    }

    #[test]
    fn only_an_enabled_key_is_usable() {
        let describe = |state| {
            let metadata = KeyMetadata::builder().key_id("k").arn("arn:k").key_state(state).build().expect("complete");
            arn_of_usable(DescribeKeyOutput::builder().key_metadata(metadata).build())
        };
        assert_eq!(describe(KeyState::Enabled), Ok("arn:k".to_owned()));
        let message = "the state of arn:k is PendingDeletion";
        assert_eq!(describe(KeyState::PendingDeletion), Err(Error::key_unusable(message)));
    }
}
