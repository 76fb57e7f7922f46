//! What a wrapped key is bound to, and how it is bound where the KMS itself binds nothing.

use zeroize::Zeroizing;

use super::{super::KeyBytes, Error};

/// What a wrapped key is bound to; a blob that is presented under another context does not open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Context {
    /// The database's own id.
    pub database_id: [u8; 16],
    /// The number of the epoch key.
    pub epoch: u32,
}

/// Bytes of [`Context::to_bytes`].
const CONTEXT_LENGTH: usize = 20;

/// Bytes of [`Context::bind`].
const BOUND_LENGTH: usize = CONTEXT_LENGTH + 32;

impl Context {
    /// The id, then the epoch, big-endian.
    pub(crate) fn to_bytes(self) -> [u8; CONTEXT_LENGTH] {
        let mut bytes = [0; CONTEXT_LENGTH];
        bytes[..16].copy_from_slice(&self.database_id);
        bytes[16..].copy_from_slice(&self.epoch.to_be_bytes());
        bytes
    }

    /// Context ‖ key: the plaintext for a KMS that takes no associated data.
    pub(crate) fn bind(self, key: &KeyBytes) -> Zeroizing<Vec<u8>> {
        let mut bound = Zeroizing::new(Vec::with_capacity(BOUND_LENGTH));
        bound.extend_from_slice(&self.to_bytes());
        bound.extend_from_slice(key.as_slice());
        bound
    }

    /// The key of what [`Context::bind`] made for the same context.
    pub(crate) fn unbind(self, bound: &[u8]) -> Result<KeyBytes, Error> {
        let wrong = || Error::invalid("what the KMS unwrapped was made for another database or epoch");
        let key = bound.strip_prefix(self.to_bytes().as_slice()).ok_or_else(wrong)?;
        to_key(key)
    }
}

/// A key, if these are as many bytes as a key has.
pub(crate) fn to_key(bytes: &[u8]) -> Result<KeyBytes, Error> {
    let mut key = KeyBytes::default();
    if bytes.len() != key.len() {
        return Err(Error::invalid(format!("what the KMS unwrapped holds {} bytes where a key has 32", bytes.len())));
    }
    key.copy_from_slice(bytes);
    Ok(key)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const CONTEXT: Context = Context { database_id: [7; 16], epoch: 258 };

    #[test]
    fn a_bound_key_comes_back_in_its_context_only() {
        let key = KeyBytes::new([9; 32]);
        let bound = CONTEXT.bind(&key);
        assert_eq!(bound[..20], [[7; 16].as_slice(), &[0, 0, 1, 2]].concat());
        assert_eq!(CONTEXT.unbind(&bound), Ok(key));
        for other in [Context { epoch: 259, ..CONTEXT }, Context { database_id: [8; 16], ..CONTEXT }] {
            assert_eq!(other.unbind(&bound).expect_err("another context").code(), "invalid");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_but_a_bound_key_are_refused(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            let bound: Vec<u8> = [CONTEXT.to_bytes().as_slice(), &bytes].concat();
            prop_assert_eq!(CONTEXT.unbind(&bound).is_ok(), bytes.len() == 32);
            prop_assert!(CONTEXT.unbind(&bytes).is_err());
        }
    }
}
