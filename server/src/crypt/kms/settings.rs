//! The settings of each provider, which the configuration makes.

use std::{path::PathBuf, time::Duration};

use secrecy::SecretString;

use super::ProviderKind;
use crate::outgoing::Proxies;

/// Which KMS, and for how long keys in memory are used without it.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The provider and what it alone needs.
    pub provider: Provider,
    /// For one try of one call.
    pub timeout: Duration,
    /// While the KMS fails, keys in memory open values this long after its last success.
    pub grace: Duration,
    /// While the KMS fails, keys in memory seal values this long after its last success.
    pub seal_grace: Duration,
    /// How other machines are reached.
    pub proxies: Proxies,
}

/// A provider and its settings.
#[derive(Clone, Debug)]
pub enum Provider {
    /// Master keys in files.
    Local(Local),
    /// AWS KMS.
    Aws(Aws),
    /// The transit engine of Vault or OpenBao.
    Vault(Vault),
    /// A service that speaks the protocol of `prgkms`.
    Http(Http),
}

/// Master keys: the first is the primary one, the others are escrow recipients, each of which opens everything alone.
#[derive(Clone, Debug)]
pub struct Local {
    /// Not empty.
    pub keys: Vec<MasterKey>,
}

/// Where a master key of 32 bytes is.
#[derive(Clone, Debug)]
pub enum MasterKey {
    /// A file of 32 bytes, or of 64 hexadecimal digits.
    File(PathBuf),
    /// 64 hexadecimal digits.
    Hex(SecretString),
}

/// AWS KMS.
#[derive(Clone, Debug)]
pub struct Aws {
    /// Id, ARN or alias of the key that wraps.
    pub key_id: String,
    /// If not set: from the environment, the profile or the machine.
    pub region: Option<String>,
    /// The address to use instead of the region's.
    pub endpoint: Option<String>,
    /// A file of shared credentials that is read again when it changes; else the default chain.
    pub credentials_file: Option<PathBuf>,
    /// The profile in that file, or in the usual ones.
    pub profile: Option<String>,
}

/// Vault or OpenBao.
#[derive(Clone, Debug)]
pub struct Vault {
    /// Its URL.
    pub address: String,
    /// The transit key.
    pub key: String,
    /// Where the transit engine is mounted.
    pub mount: String,
    /// Where there are namespaces.
    pub namespace: Option<String>,
    /// Certificates to trust in place of the system's.
    pub ca_file: Option<PathBuf>,
    /// How to log in.
    pub auth: VaultAuth,
}

/// How to log in to Vault.
#[derive(Clone, Debug)]
pub enum VaultAuth {
    /// With a token.
    Token(Secret),
    /// As an AppRole.
    AppRole {
        /// Where the method is mounted.
        mount: String,
        /// The role.
        role_id: String,
        /// Its secret.
        secret_id: Secret,
    },
    /// As a Kubernetes service account.
    Kubernetes {
        /// Where the method is mounted.
        mount: String,
        /// The role.
        role: String,
        /// The service account's token, read at each login.
        jwt_file: PathBuf,
    },
}

/// A secret, or the file that holds it, which is read at each use.
#[derive(Clone, Debug)]
pub enum Secret {
    /// The secret.
    Inline(SecretString),
    /// Where it is.
    File(PathBuf),
}

/// A `prgkms` service.
#[derive(Clone, Debug)]
pub struct Http {
    /// Its URL, or `HOST:PORT`.
    pub endpoint: String,
    /// The id of the key.
    pub key: String,
    /// Sent as a bearer token.
    pub token: Option<Secret>,
    /// Certificates to trust in place of the system's.
    pub ca_file: Option<PathBuf>,
}

impl Settings {
    /// What the provider is called.
    pub fn kind(&self) -> ProviderKind {
        match self.provider {
            Provider::Local(_) => ProviderKind::Local,
            Provider::Aws(_) => ProviderKind::Aws,
            Provider::Vault(_) => ProviderKind::Vault,
            Provider::Http(_) => ProviderKind::Http,
        }
    }

    /// Where it is, if the settings say so.
    pub fn endpoint(&self) -> Option<&str> {
        match &self.provider {
            Provider::Local(_) => None,
            Provider::Aws(aws) => aws.endpoint.as_deref(),
            Provider::Vault(vault) => Some(&vault.address),
            Provider::Http(http) => Some(&http.endpoint),
        }
    }
}

/// Refuses names with a slash or a colon, at which other code splits them.
pub(crate) fn check_key_name(name: &str) -> Result<(), super::Error> {
    let good = !name.is_empty() && !name.contains(['/', ':']) && !name.chars().any(char::is_control);
    let message = || format!("the KMS key id {name:?} has characters that do not belong there: want none of / and :");
    if good { Ok(()) } else { Err(super::Error::Settings(message())) }
}
