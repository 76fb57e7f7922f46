//! Which of several copies of one database this is.

use std::fmt;

/// Random, and another one after each restore: what tells copies of one database apart. It is shown as 16 hexadecimal
/// digits everywhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Incarnation(pub u64);

impl fmt::Display for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_always_has_16_digits() {
        let shown = [0, 0xab, u64::MAX].map(|number| Incarnation(number).to_string());
        assert_eq!(shown, ["0000000000000000", "00000000000000ab", "ffffffffffffffff"]);
    }
}
