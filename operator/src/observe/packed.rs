//! Objects in few bytes. Objects of one kind are alike, so each is kept as what sets it apart from the first of its kind,
//! which is the dictionary of a deflate stream. What comes out is what went in.

use std::collections::HashMap;

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress};

use crate::kind::Kind;

/// One object's text.
#[derive(Debug)]
pub(super) struct Packed {
    bytes: Box<[u8]>,
    /// How long the text is.
    length: usize,
}

/// The one who packs and unpacks; the models never change.
#[derive(Debug)]
pub(super) struct Packer {
    /// A text of each kind; `None` is the resource itself.
    models: HashMap<Option<Kind>, Box<[u8]>>,
    deflate: Compress,
}

impl Default for Packer {
    fn default() -> Self {
        Self { models: HashMap::new(), deflate: Compress::new(Compression::default(), false) }
    }
}

impl Packer {
    pub(super) fn pack(&mut self, kind: Option<Kind>, text: &str) -> Packed {
        let model = self.models.entry(kind).or_insert_with(|| text.as_bytes().into());
        self.deflate.reset();
        self.deflate.set_dictionary(model).expect("a raw stream takes a dictionary at its start");
        let mut bytes = Vec::with_capacity(bound(text.len()));
        let packed = self.deflate.compress_vec(text.as_bytes(), &mut bytes, FlushCompress::Finish);
        packed.expect("the stream was just started");
        Packed { bytes: bytes.into_boxed_slice(), length: text.len() }
    }

    /// The texts of several objects, one after the other.
    pub(super) fn unpack<'a>(
        &'a self,
        objects: impl IntoIterator<Item = (Option<Kind>, &'a Packed)>,
    ) -> impl Iterator<Item = Vec<u8>> {
        let mut inflate = Decompress::new(false);
        objects.into_iter().map(move |(kind, packed)| {
            inflate.reset(false);
            inflate.set_dictionary(&self.models[&kind]).expect("a raw stream takes a dictionary at its start");
            let mut text = Vec::with_capacity(packed.length);
            let unpacked = inflate.decompress_vec(&packed.bytes, &mut text, FlushDecompress::Finish);
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
        let texts = ["{}", r#"{"metadata":{"name":"a"}}"#, "", &noise];
        let packed: Vec<Packed> = texts.iter().map(|text| packer.pack(Some(Kind::Pod), text)).collect();
        let unpacked: Vec<Vec<u8>> = packer.unpack(packed.iter().map(|packed| (Some(Kind::Pod), packed))).collect();
        assert_eq!(unpacked, texts.map(|text| text.as_bytes().to_vec()));
    }

    #[test]
    fn the_second_of_a_kind_takes_little() {
        let mut packer = Packer::default();
        let text =
            |name: &str| format!("{name}: {}", "labels and ports, selectors and more ".repeat(20).replace('e', name));
        packer.pack(Some(Kind::Service), &text("a"));
        let packed = packer.pack(Some(Kind::Service), &text("b"));
        assert!(packed.bytes.len() < packed.length / 4, "{} of {}", packed.bytes.len(), packed.length);
    }
}
