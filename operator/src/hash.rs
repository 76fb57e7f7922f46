//! The hash by which objects, settings and writes are told apart.

use aws_lc_rs::digest;

/// Sixteen hexadecimal digits of a SHA-256.
pub fn hash(bytes: &[u8]) -> String {
    hex::encode(&digest::digest(&digest::SHA256, bytes).as_ref()[..8])
}
