//! Keys as they are stored: wrapped, with a commitment. Nothing here opens anything; that is done by `crypt`.
//!
//! Three layers share these types: `crypt` makes them, `rows` encodes them, and `http` shows administrators those of
//! epochs, which open nothing without the KMS.

use std::{fmt, str::FromStr};

/// A commitment to a key: identifies the key without revealing it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Commitment(pub [u8; 32]);

impl Commitment {
    /// The name of the key in receipts and logs.
    pub fn key_id(&self) -> String {
        hex::encode(&self.0[..8])
    }
}

/// A data key as it lies in the store: sealed by an epoch key in the place of its row.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct WrappedKey {
    /// What the key commits to.
    pub commitment: Commitment,
    /// Its 32 bytes, sealed.
    pub sealed: Vec<u8>,
}

/// An epoch key that a KMS wrapped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wrapped {
    /// Who wrapped it.
    pub provider: ProviderKind,
    /// By which key, with its version where the KMS has versions.
    pub key_id: String,
    /// What only the KMS can read.
    pub blob: Vec<u8>,
}

/// Kinds of providers, stored on disk by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ProviderKind {
    /// Master keys in files.
    Local,
    /// AWS KMS.
    Aws,
    /// The transit engine of Vault or OpenBao.
    Vault,
    /// A service that speaks the protocol of `prgkms`.
    Http,
}

impl ProviderKind {
    const ALL: [Self; 4] = [Self::Local, Self::Aws, Self::Vault, Self::Http];

    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Aws => "aws",
            Self::Vault => "vault",
            Self::Http => "http",
        }
    }
}

impl fmt::Display for ProviderKind {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.as_str())
    }
}

/// No provider has this name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no KMS provider: want local, aws, vault or http")]
pub struct UnknownProvider(pub String);

impl FromStr for ProviderKind {
    type Err = UnknownProvider;

    fn from_str(name: &str) -> Result<Self, UnknownProvider> {
        let found = Self::ALL.into_iter().find(|kind| kind.as_str() == name);
        found.ok_or_else(|| UnknownProvider(name.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_leads_back_to_its_kind() {
        let names = ProviderKind::ALL.map(ProviderKind::as_str);
        assert_eq!(names, ["local", "aws", "vault", "http"]);
        assert_eq!(names.map(str::parse), ProviderKind::ALL.map(Ok));
        assert_eq!("Local".parse::<ProviderKind>(), Err(UnknownProvider("Local".to_owned())));
    }
}
