//! Objects in few bytes. Objects of one kind are alike, so each is kept as what sets it apart from the first of its kind,
//! which is the dictionary of a deflate stream. What comes out is what went in.

use std::collections::HashMap;

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress};

use super::archive::Item;
use crate::kind::Kind;

/// The stream looks back this far, as a power of two: over the dictionary and the text before, which have some KiB each.
const WINDOW_BITS: u8 = 14;

/// The one who packs and unpacks; the models never change.
#[derive(Debug)]
pub(super) struct Packer {
    /// A text of each kind; `None` is the resource itself.
    models: HashMap<Option<Kind>, Box<[u8]>>,
    deflate: Compress,
    /// What was packed last.
    packed: Vec<u8>,
}

impl Default for Packer {
    fn default() -> Self {
        let deflate = Compress::new_with_window_bits(Compression::default(), false, WINDOW_BITS);
        Self { models: HashMap::new(), deflate, packed: Vec::new() }
    }
}

impl Packer {
    pub(super) fn pack(&mut self, kind: Option<Kind>, text: &str) -> &[u8] {
        let model = self.models.entry(kind).or_insert_with(|| text.as_bytes().into());
        self.deflate.reset();
        self.deflate.set_dictionary(model).expect("a raw stream takes a dictionary at its start");
        self.packed.clear();
        self.packed.reserve(bound(text.len()));
        let packed = self.deflate.compress_vec(text.as_bytes(), &mut self.packed, FlushCompress::Finish);
        packed.expect("the stream was just started");
        &self.packed
    }

    /// The texts of several objects, one after the other.
    pub(super) fn unpack<'a>(&'a self, items: impl IntoIterator<Item = Item<'a>>) -> impl Iterator<Item = Vec<u8>> {
        let mut inflate = Decompress::new_with_window_bits(false, WINDOW_BITS);
        items.into_iter().map(move |item| {
            inflate.reset(false);
            inflate.set_dictionary(&self.models[&item.kind]).expect("a raw stream takes a dictionary at its start");
            let mut text = Vec::with_capacity(item.length);
            let unpacked = inflate.decompress_vec(item.packed, &mut text, FlushDecompress::Finish);
            unpacked.expect("we packed it");
            text
        })
    }
}

/// No text becomes longer than this.
fn bound(length: usize) -> usize {
    length + length / 8 + 64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_unpacked_is_what_was_packed() {
        let mut packer = Packer::default();
        let noise: String =
            (0..5_000_u32).map(|n| char::from(b' ' + (n.wrapping_mul(2_654_435_761) >> 25) as u8 % 95)).collect();
        let long = noise.repeat(20);
        let texts = ["{}", r#"{"metadata":{"name":"a"}}"#, "", &noise, &long];
        let packed: Vec<Vec<u8>> = texts.iter().map(|text| packer.pack(Some(Kind::Pod), text).to_vec()).collect();
        let item =
            |(packed, length)| Item { kind: Some(Kind::Pod), name: "", version: 1, is_listed: false, packed, length };
        let items = packed.iter().zip(&texts).map(|(packed, text)| item((packed.as_slice(), text.len())));
        let unpacked: Vec<Vec<u8>> = packer.unpack(items).collect();
        assert_eq!(unpacked, texts.map(|text| text.as_bytes().to_vec()));
    }

    #[test]
    fn the_second_of_a_kind_takes_little() {
        let mut packer = Packer::default();
        let text =
            |name: &str| format!("{name}: {}", "labels and ports, selectors and more ".repeat(20).replace('e', name));
        packer.pack(Some(Kind::Service), &text("a"));
        let (length, packed) = (text("b").len(), packer.pack(Some(Kind::Service), &text("b")));
        assert!(packed.len() < length / 4, "{} of {length}", packed.len());
    }
}
