//! Writes the lines of an export.

use std::io::{self, Write};

use super::line::Line;
use super::{Header, Mark, Trailer};
use crate::db::{Content, Digest, Item};

/// An export that is being written.
#[derive(Debug)]
pub struct Writer<W> {
    to: W,
    mark: Mark,
}

impl<W: Write> Writer<W> {
    /// Begins with its first line.
    pub fn begin(to: W, header: &Header) -> io::Result<Self> {
        let mut writer = Self::behind(to, Mark::default());
        writer.line(&Line::Header(header.clone()))?;
        Ok(writer)
    }

    /// Goes on behind what is there.
    pub(super) fn behind(to: W, mark: Mark) -> Self {
        Self { to, mark }
    }

    /// Bytes so far.
    pub fn bytes(&self) -> u64 {
        self.mark.offset
    }

    /// Rows so far, as one digest.
    pub fn content(&self) -> Content {
        self.mark.content
    }

    /// A row.
    pub fn item(&mut self, item: Item) -> io::Result<()> {
        self.line(&Line::Item(item))
    }

    /// The last line, and how many bytes there are. Nothing is left in a buffer of this process.
    pub fn finish(mut self, digest: Option<Digest>) -> io::Result<(W, Trailer, u64)> {
        let trailer = Trailer::of(&self.mark.content, digest);
        self.line(&Line::Trailer(trailer.clone()))?;
        self.to.flush()?;
        Ok((self.to, trailer, self.mark.offset))
    }

    fn line(&mut self, line: &Line) -> io::Result<()> {
        let bytes = line.encode(self.mark.lines + 1);
        self.to.write_all(&bytes)?;
        let item = if let Line::Item(item) = line { Some(item) } else { None };
        self.mark.pass(bytes.len(), item);
        Ok(())
    }
}
