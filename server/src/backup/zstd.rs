//! A zstd stream as a writer and as a reader. It has no checksum of its own: the manifest has a digest of everything in it,
//! and with those an altered file can be named.

use std::io::{self, Read, Write};

use zstd_safe::{CCtx, CParameter, DCtx, ErrorCode, InBuffer, OutBuffer, get_error_name};

/// What the first bytes of every stream are.
pub(super) const MAGIC: [u8; 4] = 0xfd2f_b528_u32.to_le_bytes();

/// Tables of the store are compressed already, by lz4 and zstd: more effort takes time and saves next to nothing.
const LEVEL: i32 = 1;

/// Compresses what is written. [`Encoder::finish`] ends the stream.
pub(super) struct Encoder<W> {
    out: W,
    context: CCtx<'static>,
    buffer: Vec<u8>,
}

impl<W: Write> Encoder<W> {
    pub(super) fn new(out: W) -> io::Result<Self> {
        let mut context = CCtx::create();
        context.set_parameter(CParameter::CompressionLevel(LEVEL)).map_err(error)?;
        Ok(Self { out, context, buffer: vec![0; CCtx::out_size()] })
    }

    /// Ends the stream and gives back what it was written to.
    pub(super) fn finish(mut self) -> io::Result<W> {
        loop {
            let mut out = OutBuffer::around(self.buffer.as_mut_slice());
            let left = self.context.end_stream(&mut out).map_err(error)?;
            let written = out.pos();
            self.out.write_all(&self.buffer[..written])?;
            if left == 0 {
                return Ok(self.out);
            }
        }
    }
}

impl<W: Write> Write for Encoder<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut input = InBuffer::around(bytes);
        while input.pos() < bytes.len() {
            let mut out = OutBuffer::around(self.buffer.as_mut_slice());
            self.context.compress_stream(&mut out, &mut input).map_err(error)?;
            let written = out.pos();
            self.out.write_all(&self.buffer[..written])?;
        }
        Ok(bytes.len())
    }

    /// What is compressed so far stays with the compressor: blocks that are cut short cost space.
    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// Gives what was compressed. The end is an error unless the stream is whole.
pub(super) struct Decoder<R> {
    from: R,
    context: DCtx<'static>,
    buffer: Vec<u8>,
    /// What of the buffer is still to be read.
    unread: std::ops::Range<usize>,
    /// The stream ended here, as far as it was read.
    whole: bool,
}

impl<R: Read> Decoder<R> {
    pub(super) fn new(from: R) -> Self {
        Self { from, context: DCtx::create(), buffer: vec![0; DCtx::in_size()], unread: 0..0, whole: false }
    }
}

impl<R: Read> Read for Decoder<R> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        while !bytes.is_empty() {
            let mut ended = false;
            if self.unread.is_empty() {
                self.unread = 0..self.from.read(&mut self.buffer)?;
                ended = self.unread.is_empty();
                if ended && self.whole {
                    return Ok(0);
                }
            }
            let mut input = InBuffer::around(&self.buffer[self.unread.clone()]);
            let mut out = OutBuffer::around(&mut *bytes);
            let left = self.context.decompress_stream(&mut out, &mut input).map_err(error)?;
            self.whole = left == 0;
            self.unread.start += input.pos();
            match out.pos() {
                0 if ended => return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it ends in the middle")),
                0 => {}
                produced => return Ok(produced),
            }
        }
        Ok(0)
    }
}

fn error(code: ErrorCode) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, get_error_name(code))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn compressed(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = Encoder::new(Vec::new()).unwrap();
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn read(stream: &[u8]) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        Decoder::new(stream).read_to_end(&mut bytes).map(|_| bytes)
    }

    #[test]
    fn a_stream_that_is_cut_off_or_goes_on_is_an_error() {
        let bytes: Vec<u8> = (0..3_000_u32).flat_map(|number| (number * number).to_le_bytes()).collect();
        let stream = compressed(&bytes);
        assert_eq!(stream[..4], MAGIC);
        for at in 0..stream.len() {
            assert!(read(&stream[..at]).is_err(), "cut off at {at}");
        }
        assert!(read(&[stream, b"more".to_vec()].concat()).is_err());
        assert!(read(b"").is_err());
    }

    proptest! {
        #[test]
        fn what_is_compressed_is_read_back(parts in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..5_000), 0..60)) {
            let mut encoder = Encoder::new(Vec::new()).unwrap();
            parts.iter().for_each(|part| encoder.write_all(part).unwrap());
            prop_assert_eq!(read(&encoder.finish().unwrap()).unwrap(), parts.concat());
        }
    }
}
