//! AWS KMS: `Encrypt` and `Decrypt` with the context as encryption context.
//!
//! Identities come from the default chain of the SDK (variables, shared files, web identity, container and machine
//! roles) or from one file of shared credentials, which is looked at before each call, so that a Secret that is rotated
//! is in use at once. The SDK's own retries are off: the guard retries.

mod meaning;

use aws_config::{BehaviorVersion, Region, profile::ProfileFileCredentialsProvider, retry::RetryConfig};
use aws_lc_rs::digest::{Digest, SHA256, digest};
use aws_runtime::env_config::file::{EnvConfigFileKind, EnvConfigFiles};
use aws_sdk_kms::{Client, operation::describe_key::DescribeKeyOutput, primitives::Blob, types::KeyState};
use tokio::sync::Mutex;

use self::meaning::meaning;
use super::{super::KeyBytes, Context, Error, Wrapped, context::to_key, files, settings};

/// One key of AWS KMS.
pub(crate) struct Aws {
    settings: settings::Aws,
    /// Made at the first call, and made anew when the credentials file changed; with the digest of that file.
    client: Mutex<Option<(Client, Option<Digest>)>>,
}

impl Aws {
    pub(crate) fn new(settings: settings::Aws) -> Self {
        Self { settings, client: Mutex::new(None) }
    }

    pub(crate) async fn wrap(&self, key: &KeyBytes, context: Context) -> Result<(String, Vec<u8>), Error> {
        let [database, epoch] = encryption_context(context);
        let reply = self
            .client()
            .await?
            .encrypt()
            .key_id(&self.settings.key_id)
            .plaintext(Blob::new(key.as_slice()))
            .encryption_context(database.0, database.1)
            .encryption_context(epoch.0, epoch.1)
            .send()
            .await
            .map_err(meaning)?;
        match (reply.key_id, reply.ciphertext_blob) {
            (Some(key_id), Some(blob)) => Ok((key_id, blob.into_inner())),
            _ => Err(Error::unavailable("the reply holds no ciphertext")),
        }
    }

    pub(crate) async fn unwrap(&self, wrapped: &Wrapped, context: Context) -> Result<KeyBytes, Error> {
        let [database, epoch] = encryption_context(context);
        let reply = self
            .client()
            .await?
            .decrypt()
            .key_id(&wrapped.key_id)
            .ciphertext_blob(Blob::new(wrapped.blob.as_slice()))
            .encryption_context(database.0, database.1)
            .encryption_context(epoch.0, epoch.1)
            .send()
            .await
            .map_err(meaning)?;
        let plaintext = reply.plaintext.ok_or_else(|| Error::unavailable("the reply holds no plaintext"))?;
        to_key(&zeroize::Zeroizing::new(plaintext.into_inner()))
    }

    /// Who may not describe the key learns its ARN by wrapping something without meaning.
    pub(crate) async fn describe(&self) -> Result<String, Error> {
        let request = self.client().await?.describe_key().key_id(&self.settings.key_id);
        match request.send().await.map_err(meaning) {
            Ok(reply) => arn_of_usable(reply),
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
        let mut loader = aws_config::defaults(BehaviorVersion::latest()).retry_config(RetryConfig::disabled());
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
            let words = "no AWS region: set encryption.kms.aws.region, or name the key by its ARN";
            return Err(Error::Settings(words.to_owned()));
        }
        Ok(Client::new(&config))
    }
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

fn arn_of_usable(reply: DescribeKeyOutput) -> Result<String, Error> {
    let metadata = reply.key_metadata.ok_or_else(|| Error::unavailable("the reply describes no key"))?;
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
        let words = "the state of arn:k is PendingDeletion";
        assert_eq!(describe(KeyState::PendingDeletion), Err(Error::key_unusable(words)));
    }
}
