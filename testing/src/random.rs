//! Random numbers that can be repeated.

use crate::machine::variable;

/// Numbers that look random and repeat for a seed (SplitMix64).
#[derive(Clone)]
pub struct Random(u64);

impl Random {
    /// Seeded by `PROGRESSDB_TEST_SEED`, or by the clock; the seed is printed, so that a failure can be repeated.
    pub fn seeded() -> Self {
        let seed = variable("PROGRESSDB_TEST_SEED").map(|text| text.parse().unwrap()).unwrap_or_else(|| {
            let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
            u64::try_from(now.as_nanos() % u128::from(u64::MAX)).unwrap()
        });
        println!("PROGRESSDB_TEST_SEED={seed}");
        Self(seed)
    }

    /// A generator of its own, for another thread.
    pub fn fork(&mut self) -> Self {
        Self(self.number())
    }

    /// The next number.
    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// Below `limit`.
    pub fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.number() % u64::try_from(limit).unwrap()).unwrap()
    }
}
