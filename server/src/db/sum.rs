//! A set as one number, in which the order of its members does not count: engines list partitions in orders of their own.
//!
//! Two sets have the same sum if they are the same, and by accident never otherwise. It is no proof against somebody who
//! makes up members in order to arrive at a sum.

use std::fmt;

use aws_lc_rs::digest::{Context, SHA256};

/// The SHA-256 digests of all members, added up as numbers of 256 bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sum {
    high: u128,
    low: u128,
}

impl Sum {
    /// Adds a member, which is these parts one behind the other.
    pub(super) fn add(&mut self, parts: &[&[u8]]) {
        let mut member = Context::new(&SHA256);
        parts.iter().for_each(|part| member.update(part));
        let digest = member.finish();
        let half = |at: usize| {
            let half = digest.as_ref()[at..].first_chunk().expect("a SHA-256 has 32 bytes");
            u128::from_be_bytes(*half)
        };
        *self = self.plus(Self { high: half(0), low: half(16) });
    }

    /// That of the members of both.
    pub(super) fn plus(self, other: Self) -> Self {
        let (low, carry) = self.low.overflowing_add(other.low);
        Self { high: self.high.wrapping_add(other.high).wrapping_add(carry.into()), low }
    }

    /// As bytes, the highest first.
    pub(super) fn bytes(self) -> [u8; 32] {
        let mut bytes = [0; 32];
        bytes[..16].copy_from_slice(&self.high.to_be_bytes());
        bytes[16..].copy_from_slice(&self.low.to_be_bytes());
        bytes
    }
}

impl fmt::Display for Sum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sum(members: &[&[u8]]) -> Sum {
        let mut sum = Sum::default();
        members.iter().for_each(|member| sum.add(&[member]));
        sum
    }

    #[test]
    fn members_count_and_their_order_does_not() {
        let [a, b] = [&b"a"[..], b"b"];
        assert_eq!(sum(&[a, b]), sum(&[b, a]));
        assert_eq!(sum(&[a]).plus(sum(&[b])), sum(&[a, b]));
        for others in [&[][..], &[a], &[b], &[a, a], &[a, b, b], &[b"ab"]] {
            assert_ne!(sum(others), sum(&[a, b]), "{others:?}");
        }
    }

    #[test]
    fn it_counts_in_256_bits() {
        let one = Sum { high: 0, low: 1 };
        let carried = Sum { high: 0, low: u128::MAX }.plus(one);
        assert_eq!(carried, Sum { high: 1, low: 0 });
        assert_eq!(Sum { high: u128::MAX, low: u128::MAX }.plus(one), Sum::default(), "and begins anew behind them");
        assert_eq!(carried.to_string(), format!("{}1{}", "0".repeat(31), "0".repeat(32)));
        // The digest of nothing, as everybody computes it.
        let nothing = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(sum(&[b""]).to_string(), nothing);
    }
}
