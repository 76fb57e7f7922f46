//! Master keys of our own, in files or in the configuration.
//!
//! A key is wrapped for every configured master key, so that each of them opens it alone: the first is the one in use,
//! the others are for escrow.
//!
//! ```text
//! blob       1 ‖ recipient …
//! recipient  fingerprint (8) ‖ nonce (12) ‖ AES-256-GCM of the key (32 + 16), its associated data the context
//! ```

use std::fmt;

use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey},
    hmac, rand,
};

use super::{
    super::KeyBytes,
    Context, Error,
    context::to_key,
    files::{parse_hex_key, read_master_key},
    settings,
};

const VERSION: u8 = 1;
const SEALED_LENGTH: usize = 32 + 16;
const RECIPIENT_LENGTH: usize = 8 + 12 + SEALED_LENGTH;

/// The master keys.
#[derive(Debug)]
pub(crate) struct Local {
    settings: settings::Local,
    keys: Vec<MasterKey>,
}

struct MasterKey {
    fingerprint: Fingerprint,
    key: KeyBytes,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Fingerprint([u8; 8]);

/// What one master key can open.
struct Recipient<'a> {
    fingerprint: Fingerprint,
    nonce: [u8; 12],
    sealed: &'a [u8],
}

impl Local {
    /// Reads the key files.
    pub(crate) fn new(settings: settings::Local) -> Result<Self, Error> {
        let keys = read_keys(&settings)?;
        Ok(Self { settings, keys })
    }

    /// The fingerprints of all keys, the one in use first.
    pub(crate) fn key_id(&self) -> String {
        join(self.keys.iter().map(|key| key.fingerprint))
    }

    /// Wraps for every master key, if their files still hold them: nothing new is trusted to a key that may be lost.
    pub(crate) fn wrap(&self, key: &KeyBytes, context: Context) -> Result<Vec<u8>, Error> {
        self.check()?;
        let mut blob = Vec::with_capacity(1 + RECIPIENT_LENGTH * self.keys.len());
        blob.push(VERSION);
        for master in &self.keys {
            master.seal(key, context, &mut blob)?;
        }
        Ok(blob)
    }

    /// Reads no file: the keys in memory can be used for the life of the process.
    pub(crate) fn unwrap(&self, blob: &[u8], context: Context) -> Result<KeyBytes, Error> {
        let recipients = recipients(blob)?;
        let mut found = false;
        for master in &self.keys {
            for recipient in recipients.iter().filter(|recipient| recipient.fingerprint == master.fingerprint) {
                found = true;
                if let Some(key) = master.open(recipient, context) {
                    return Ok(key);
                }
            }
        }
        if found {
            return Err(Error::invalid("it was altered, or made for another database or epoch"));
        }
        let wanted = join(recipients.iter().map(|recipient| recipient.fingerprint));
        Err(Error::WrongKey { wanted: name(&wanted), have: name(&self.key_id()) })
    }

    /// Whether the key files still hold the keys that are in use.
    pub(crate) fn check(&self) -> Result<(), Error> {
        let (wanted, have) = (self.key_id(), join(read_keys(&self.settings)?.iter().map(|key| key.fingerprint)));
        if wanted == have { Ok(()) } else { Err(Error::WrongKey { wanted: name(&wanted), have: name(&have) }) }
    }
}

fn read_keys(settings: &settings::Local) -> Result<Vec<MasterKey>, Error> {
    if settings.keys.is_empty() {
        return Err(Error::Settings("no master key is set".to_owned()));
    }
    let read = |key: &settings::MasterKey| match key {
        settings::MasterKey::File(path) => read_master_key(path),
        settings::MasterKey::Hex(hex) => parse_hex_key(hex),
    };
    settings.keys.iter().map(|key| Ok(MasterKey::new(read(key)?))).collect()
}

/// The parts of a blob; at least one.
fn recipients(blob: &[u8]) -> Result<Vec<Recipient<'_>>, Error> {
    let (version, rest) = blob.split_first().ok_or_else(|| Error::invalid("it is empty"))?;
    if *version != VERSION {
        return Err(Error::invalid(format!("its version is {version}, and this release knows {VERSION} only")));
    }
    if rest.is_empty() || !rest.len().is_multiple_of(RECIPIENT_LENGTH) {
        return Err(Error::invalid(format!("{} bytes are no whole number of recipients", blob.len())));
    }
    Ok(rest.chunks_exact(RECIPIENT_LENGTH).map(Recipient::split).collect())
}

impl<'a> Recipient<'a> {
    fn split(bytes: &'a [u8]) -> Self {
        let (fingerprint, rest) = bytes.split_first_chunk().expect("a recipient is longer");
        let (nonce, sealed) = rest.split_first_chunk().expect("a recipient is longer");
        Self { fingerprint: Fingerprint(*fingerprint), nonce: *nonce, sealed }
    }
}

impl MasterKey {
    fn new(key: KeyBytes) -> Self {
        let mac = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key.as_slice()), b"progressdb master key");
        let first = mac.as_ref().first_chunk().expect("a SHA-256 is longer");
        Self { fingerprint: Fingerprint(*first), key }
    }

    fn cipher(&self) -> LessSafeKey {
        LessSafeKey::new(UnboundKey::new(&AES_256_GCM, self.key.as_slice()).expect("the key has 32 bytes"))
    }

    fn seal(&self, key: &KeyBytes, context: Context, blob: &mut Vec<u8>) -> Result<(), Error> {
        let mut nonce = [0; 12];
        rand::fill(&mut nonce).map_err(|_| Error::unavailable("the system gives no random bytes"))?;
        let mut sealed = key.clone();
        let tag = self
            .cipher()
            .seal_in_place_separate_tag(
                Nonce::assume_unique_for_key(nonce),
                Aad::from(context.to_bytes()),
                &mut *sealed,
            )
            .expect("32 bytes are not too many");
        blob.extend_from_slice(&self.fingerprint.0);
        blob.extend_from_slice(&nonce);
        blob.extend_from_slice(sealed.as_slice());
        blob.extend_from_slice(tag.as_ref());
        Ok(())
    }

    fn open(&self, recipient: &Recipient<'_>, context: Context) -> Option<KeyBytes> {
        let mut bytes = zeroize::Zeroizing::new(recipient.sealed.to_vec());
        let (nonce, aad) = (Nonce::assume_unique_for_key(recipient.nonce), Aad::from(context.to_bytes()));
        to_key(self.cipher().open_in_place(nonce, aad, &mut bytes).ok()?).ok()
    }
}

impl fmt::Debug for MasterKey {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "MasterKey({})", hex::encode(self.fingerprint.0))
    }
}

fn join(fingerprints: impl Iterator<Item = Fingerprint>) -> String {
    fingerprints.map(|fingerprint| hex::encode(fingerprint.0)).collect::<Vec<_>>().join("+")
}

fn name(fingerprints: &str) -> String {
    format!("master key {fingerprints}")
}

#[cfg(test)]
mod tests;
