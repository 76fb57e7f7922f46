//! Encryption: seals and opens single values, keeps the keys for it, and has them wrapped by a KMS.
//!
//! ```text
//! KMS key          never leaves its KMS                                  kms
//!  └ epoch key     random, wrapped by the KMS, one row each              keyring
//!     └ data key   random, one or more to a thread or user, wrapped by an epoch key
//!        └ value   AES-256-GCM, random nonce, bound to its place        seal
//! ```
//!
//! This module knows no storage: the key of a row is nothing to it but bytes that a value is bound to.

pub mod keyring;
pub mod kms;
pub mod seal;

use zeroize::Zeroizing;

/// The bytes of a key; wiped when dropped.
pub type KeyBytes = Zeroizing<[u8; 32]>;

/// What a database encrypts with: the KMS that wraps its epoch keys, and the keys in memory.
#[derive(Debug)]
pub struct Crypt {
    /// The KMS that wraps epoch keys.
    pub kms: kms::Kms,
    /// The keys in memory.
    pub keyring: keyring::Keyring,
}

impl Crypt {
    /// Without keys yet; it will hold at most this many data keys.
    pub fn new(kms: kms::Kms, data_keys: usize) -> Self {
        Self { kms, keyring: keyring::Keyring::new(data_keys) }
    }
}
