//! Random printable text: distinct every time, worth 6 bits a byte, so that no system gains by compressing it.

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// A small fast generator (splitmix64), one for each connection.
pub(crate) struct Noise(u64);

impl Noise {
    /// Different seeds give unrelated texts.
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0xd129_42be_d2a0_9e35).wrapping_add(0x2545_f491_4f6c_dd1d))
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `end`, which is small and not 0.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        ((self.next() >> 32) as usize) % end
    }

    /// Overwrites `text` with random letters, none of which needs escaping in JSON.
    pub(crate) fn fill(&mut self, text: &mut [u8]) {
        for chunk in text.chunks_mut(10) {
            let mut bits = self.next();
            for byte in chunk {
                *byte = ALPHABET[(bits & 63) as usize];
                bits >>= 6;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_printable_distinct_and_use_every_letter() {
        let (mut noise, mut seen) = (Noise::new(1), std::collections::HashSet::new());
        let mut letters = std::collections::HashSet::new();
        for _ in 0..1000 {
            let mut text = [0; 256];
            noise.fill(&mut text);
            letters.extend(text);
            assert!(seen.insert(text));
        }
        assert_eq!(letters.len(), 64);
        assert!(letters.iter().all(|byte| ALPHABET.contains(byte)));
    }

    #[test]
    fn seeds_give_different_texts() {
        let (mut a, mut b) = ([0; 64], [0; 64]);
        Noise::new(1).fill(&mut a);
        Noise::new(2).fill(&mut b);
        assert_ne!(a, b);
    }
}
