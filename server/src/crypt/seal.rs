//! One sealed value: unreadable without its key, and refused in any other place.
//!
//! ```text
//! sealed value   E1  generation:4  nonce:12  ciphertext  tag:16
//! sealed with    AES-256-GCM, a random nonce
//! bound to       E1 ‖ place ‖ generation:4          place: the key of the row, partition and clustering
//! commitment     HKDF-SHA-256(no salt, key bytes, "progressdb key commitment"), 32 bytes
//! ```
//!
//! `generation` says which key of the place's owner opens the value; where the key is an epoch key it is the epoch.
//! A key that wraps another seals its 32 bytes as a value in the place of the wrapped key's row. AES-GCM alone does not
//! bind a ciphertext to one key, so every wrapped key stands beside its commitment.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::{constant_time, hkdf, rand};
use zeroize::Zeroizing;

use super::KeyBytes;
pub use crate::model::Commitment;

/// The first byte of every sealed value; plain ones start with a smaller one.
pub const ENVELOPE: u8 = 0xe1;
const HEADER: usize = 1 + 4 + NONCE_LEN;
const TAG: usize = 16;

/// How many values one key may seal: far below 2³², where random nonces begin to repeat.
pub const SEALS_A_KEY: u64 = 1 << 30;

/// The bytes were not sealed with this key in this place, or were changed since.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the sealed value does not open")]
pub struct NotSealedHere;

impl Commitment {
    /// The commitment of a key.
    pub fn of(key: &KeyBytes) -> Self {
        let secret = hkdf::Salt::new(hkdf::HKDF_SHA256, &[]).extract(key.as_slice());
        let mut bytes = [0; 32];
        let expanded = secret.expand(&[b"progressdb key commitment"], hkdf::HKDF_SHA256);
        expanded.and_then(|okm| okm.fill(&mut bytes)).expect("32 bytes are one block of SHA-256");
        Self(bytes)
    }

    /// Whether the key is the one committed to.
    pub fn is_of(&self, key: &KeyBytes) -> bool {
        constant_time::verify_slices_are_equal(&self.0, &Self::of(key).0).is_ok()
    }
}

/// A key that seals and opens. The library keeps it on the heap and wipes it.
pub struct Sealer(LessSafeKey);

impl Sealer {
    /// A sealer with this key.
    pub fn new(key: &KeyBytes) -> Self {
        let key = UnboundKey::new(&AES_256_GCM, key.as_slice()).expect("the key has 32 bytes");
        Self(LessSafeKey::new(key))
    }

    /// The value, sealed for a place.
    pub fn seal(&self, generation: u32, place: &[u8], value: &[u8]) -> Vec<u8> {
        let nonce = random::<NONCE_LEN>();
        let mut sealed = Vec::with_capacity(HEADER + value.len() + TAG);
        sealed.push(ENVELOPE);
        sealed.extend_from_slice(&generation.to_be_bytes());
        sealed.extend_from_slice(&nonce);
        sealed.extend_from_slice(value);
        let nonce = Nonce::assume_unique_for_key(nonce);
        let tag = self.0.seal_in_place_separate_tag(nonce, bound_to(place, generation), &mut sealed[HEADER..]);
        sealed.extend_from_slice(tag.expect("a value is far below the limit of 64 GiB").as_ref());
        sealed
    }

    /// The value that was sealed for this place.
    pub fn open(&self, place: &[u8], sealed: &[u8]) -> Result<Vec<u8>, NotSealedHere> {
        let generation = generation(sealed).ok_or(NotSealedHere)?;
        let (header, body) = sealed.split_at_checked(HEADER).ok_or(NotSealedHere)?;
        let nonce = Nonce::try_assume_unique_for_key(&header[HEADER - NONCE_LEN..]).map_err(|_| NotSealedHere)?;
        let mut value = body.to_vec();
        let length =
            self.0.open_in_place(nonce, bound_to(place, generation), &mut value).map_err(|_| NotSealedHere)?.len();
        value.truncate(length);
        Ok(value)
    }

    /// A key that was sealed for this place.
    pub fn open_key(&self, place: &[u8], sealed: &[u8], commitment: &Commitment) -> Result<KeyBytes, NotSealedHere> {
        let opened = Zeroizing::new(self.open(place, sealed)?);
        let key = KeyBytes::new(opened.as_slice().try_into().map_err(|_| NotSealedHere)?);
        if commitment.is_of(&key) { Ok(key) } else { Err(NotSealedHere) }
    }
}

/// The generation of the key that a value was sealed with; none if it is plain.
pub fn generation(value: &[u8]) -> Option<u32> {
    let (&first, rest) = value.split_first()?;
    let generation = rest.first_chunk().copied().map(u32::from_be_bytes);
    generation.filter(|_| first == ENVELOPE)
}

/// A new key.
pub fn random_key() -> KeyBytes {
    let mut key = KeyBytes::new([0; 32]);
    rand::fill(key.as_mut_slice()).expect("the system's random source works, or nothing here is safe");
    key
}

fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    rand::fill(&mut bytes).expect("the system's random source works, or nothing here is safe");
    bytes
}

fn bound_to(place: &[u8], generation: u32) -> Aad<Vec<u8>> {
    let mut bytes = Vec::with_capacity(1 + place.len() + 4);
    bytes.push(ENVELOPE);
    bytes.extend_from_slice(place);
    bytes.extend_from_slice(&generation.to_be_bytes());
    Aad::from(bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde::Deserialize;

    use super::*;

    proptest! {
        #[test]
        fn a_value_opens_in_its_place_and_nowhere_else(
            value in prop::collection::vec(any::<u8>(), 0..200), place in prop::collection::vec(any::<u8>(), 1..40),
            other in prop::collection::vec(any::<u8>(), 1..40), generation: u32, flip: prop::sample::Index, bit in 0..8u8,
        ) {
            let (key, place_of_another) = (Sealer::new(&random_key()), other != place);
            let sealed = key.seal(generation, &place, &value);
            prop_assert_eq!(super::generation(&sealed), Some(generation));
            prop_assert_eq!(key.open(&place, &sealed), Ok(value.clone()));
            prop_assert!(Sealer::new(&random_key()).open(&place, &sealed).is_err(), "another key");
            if place_of_another {
                prop_assert_eq!(key.open(&other, &sealed), Err(NotSealedHere));
            }
            let mut changed = sealed.clone();
            changed[flip.index(sealed.len())] ^= 1 << bit;
            prop_assert_eq!(key.open(&place, &changed), Err(NotSealedHere), "a flipped bit");
            prop_assert_eq!(key.open(&place, &sealed[..flip.index(sealed.len())]), Err(NotSealedHere), "truncated");
            prop_assert_ne!(&key.seal(generation, &place, &value)[5..17], &sealed[5..17], "a nonce repeats");
        }

        #[test]
        fn foreign_bytes_are_an_error_and_never_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..100), start in any::<bool>()) {
            let bytes = if start { [&[ENVELOPE], bytes.as_slice()].concat() } else { bytes };
            let key = Sealer::new(&random_key());
            prop_assert_eq!(key.open(b"place", &bytes), Err(NotSealedHere));
            prop_assert!(key.open_key(b"place", &bytes, &Commitment([0; 32])).is_err());
        }
    }

    #[test]
    fn a_wrapped_key_opens_only_with_its_commitment() {
        let (outer, inner, other) = (Sealer::new(&random_key()), random_key(), random_key());
        let sealed = outer.seal(1, b"place", inner.as_slice());
        let opened = outer.open_key(b"place", &sealed, &Commitment::of(&inner)).expect("its own commitment");
        assert_eq!(*opened, *inner);
        assert!(outer.open_key(b"place", &sealed, &Commitment::of(&other)).is_err());
        let short = outer.seal(1, b"place", &inner[..31]);
        assert!(outer.open_key(b"place", &short, &Commitment::of(&inner)).is_err());
    }

    /// Made by an independent implementation; see `tests/vectors/sealed.py`.
    #[derive(Deserialize)]
    struct Vector {
        #[serde(with = "hex")]
        key: [u8; 32],
        generation: u32,
        #[serde(with = "hex")]
        place: Vec<u8>,
        #[serde(with = "hex")]
        value: Vec<u8>,
        #[serde(with = "hex")]
        sealed: Vec<u8>,
        #[serde(with = "hex")]
        commitment: [u8; 32],
    }

    #[test]
    fn vectors_of_an_independent_implementation_open() {
        let vectors: Vec<Vector> =
            serde_json::from_str(include_str!("../../tests/vectors/sealed-by-python.json")).expect("valid vectors");
        assert!(vectors.len() >= 6, "the file has lost vectors");
        for vector in vectors {
            let key = KeyBytes::new(vector.key);
            assert_eq!(generation(&vector.sealed), Some(vector.generation));
            assert_eq!(Sealer::new(&key).open(&vector.place, &vector.sealed), Ok(vector.value));
            assert_eq!(Commitment::of(&key), Commitment(vector.commitment));
        }
    }

    /// The other direction: the values in this file were sealed here, and the independent implementation opens them.
    #[test]
    fn vectors_made_here_still_open() {
        const PATH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vectors/sealed-by-rust.json");
        if crate::config::Environment::of_process().get("UPDATE").is_some() {
            std::fs::write(PATH, serde_json::to_string_pretty(&make_vectors()).expect("JSON") + "\n").expect("written");
        }
        let vectors: Vec<Vector> = serde_json::from_str(&std::fs::read_to_string(PATH).expect("read")).expect("valid");
        assert!(vectors.len() >= 6, "the file has lost vectors");
        for vector in vectors {
            let key = KeyBytes::new(vector.key);
            assert_eq!(Sealer::new(&key).open(&vector.place, &vector.sealed), Ok(vector.value));
            assert_eq!(Commitment::of(&key), Commitment(vector.commitment));
        }
    }

    fn make_vectors() -> Vec<serde_json::Value> {
        let values = ["", "a", "{\"body\":\"hello\"}", "häß 😀", &"x".repeat(300), "\u{0}"];
        let places = ["5400000000000000070004", "550102", "53", "54ffffffffffffffff10", "4b00000001", "00"];
        let vector = |(index, (value, place)): (usize, (&&str, &&str))| {
            let (key, generation) = (random_key(), u32::try_from(index).expect("six") * 0x1234_5678 % 0xffff_fff1);
            let sealed = Sealer::new(&key).seal(generation, &hex::decode(place).expect("hex"), value.as_bytes());
            serde_json::json!({
                "key": hex::encode(key.as_slice()), "generation": generation, "place": place,
                "value": hex::encode(value), "sealed": hex::encode(sealed),
                "commitment": hex::encode(Commitment::of(&key).0),
            })
        };
        values.iter().zip(&places).enumerate().map(vector).collect()
    }
}
