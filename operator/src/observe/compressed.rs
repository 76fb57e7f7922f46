//! Compressed texts of objects. Objects of one kind are alike, so the first of each kind is the dictionary of a deflate
//! stream for all the others. What is decompressed is byte for byte what was compressed.

use std::collections::HashMap;

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress};

use super::archive::Item;
use crate::kind::Kind;

/// The binary logarithm of the window in bytes. A dictionary and a text of some KiB each fit.
const WINDOW_BITS: u8 = 14;

/// Compresses and decompresses. A dictionary never changes, because what was compressed with it needs it.
#[derive(Debug)]
pub(super) struct Compressor {
    /// The first text of each kind; `None` is the resource itself.
    dictionaries: HashMap<Option<Kind>, Box<[u8]>>,
    deflate: Compress,
    /// The last output; its room is used again.
    output: Vec<u8>,
}

impl Default for Compressor {
    fn default() -> Self {
        let deflate = Compress::new_with_window_bits(Compression::default(), false, WINDOW_BITS);
        Self { dictionaries: HashMap::new(), deflate, output: Vec::new() }
    }
}

impl Compressor {
    pub(super) fn compress(&mut self, kind: Option<Kind>, text: &str) -> &[u8] {
        let dictionary = self.dictionaries.entry(kind).or_insert_with(|| text.as_bytes().into());
        self.deflate.reset();
        self.deflate.set_dictionary(dictionary).expect("a raw stream takes a dictionary at its start");
        self.output.clear();
        self.output.reserve(max_compressed(text.len()));
        let compressed = self.deflate.compress_vec(text.as_bytes(), &mut self.output, FlushCompress::Finish);
        compressed.expect("the stream was just started");
        &self.output
    }

    /// The texts of several objects, in their order.
    pub(super) fn decompress<'a>(&'a self, items: impl IntoIterator<Item = Item<'a>>) -> impl Iterator<Item = Vec<u8>> {
        let mut inflate = Decompress::new_with_window_bits(false, WINDOW_BITS);
        items.into_iter().map(move |item| {
            inflate.reset(false);
            inflate
                .set_dictionary(&self.dictionaries[&item.kind])
                .expect("a raw stream takes a dictionary at its start");
            let mut text = Vec::with_capacity(item.length);
            let decompressed = inflate.decompress_vec(item.compressed, &mut text, FlushDecompress::Finish);
            decompressed.expect("it was compressed with this dictionary");
            text
        })
    }
}

/// No text of this length becomes longer when it is compressed.
fn max_compressed(length: usize) -> usize {
    length + length / 8 + 64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_decompressed_is_what_was_compressed() {
        let mut compressor = Compressor::default();
        let noise: String =
            (0..5_000_u32).map(|n| char::from(b' ' + (n.wrapping_mul(2_654_435_761) >> 25) as u8 % 95)).collect();
        let long = noise.repeat(20);
        let texts = ["{}", r#"{"metadata":{"name":"a"}}"#, "", &noise, &long];
        let compressed: Vec<Vec<u8>> =
            texts.iter().map(|text| compressor.compress(Some(Kind::Pod), text).to_vec()).collect();
        let item = |(compressed, length)| Item {
            kind: Some(Kind::Pod),
            name: "",
            version: 1,
            is_listed: false,
            compressed,
            length,
        };
        let items = compressed.iter().zip(&texts).map(|(compressed, text)| item((compressed.as_slice(), text.len())));
        let decompressed: Vec<Vec<u8>> = compressor.decompress(items).collect();
        assert_eq!(decompressed, texts.map(|text| text.as_bytes().to_vec()));
    }

    #[test]
    fn the_second_of_a_kind_takes_little() {
        let mut compressor = Compressor::default();
        let text =
            |name: &str| format!("{name}: {}", "labels and ports, selectors and more ".repeat(20).replace('e', name));
        compressor.compress(Some(Kind::Service), &text("a"));
        let (length, compressed) = (text("b").len(), compressor.compress(Some(Kind::Service), &text("b")));
        assert!(compressed.len() < length / 4, "{} of {length}", compressed.len());
    }
}
