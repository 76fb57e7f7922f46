//! Files past the page cache, for what a backup writes and reads again beside a server. In the cache it would take the place
//! of what the server reads; and while the system writes it back, every sync of the server's log waits.
//!
//! Where the file system does not offer that, and for the end of a file, the cache is used.

use std::fs::File;
use std::io::{self, Read, Write};
use std::ops::Range;

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::io::Errno;

/// What a device may ask of addresses, lengths and offsets.
const ALIGNMENT: usize = 4 << 10;
/// As much as is written or read at once. The server's log waits for one that is under way.
const BLOCK: usize = 1 << 20;

/// Writes an empty file. [`Output::finish`] ends it.
pub(super) struct Output<'a> {
    file: &'a File,
    block: Block,
    filled: usize,
    direct: bool,
}

impl<'a> Output<'a> {
    /// Past the cache if that is wanted and possible.
    pub(super) fn new(file: &'a File, direct: bool) -> Self {
        Self { file, block: Block::new(), filled: 0, direct: direct && set_direct(file, true).is_ok() }
    }

    /// Writes what waits. It is not synced.
    pub(super) fn finish(mut self) -> io::Result<()> {
        if self.direct && !self.filled.is_multiple_of(ALIGNMENT) {
            self.leave_direct()?;
        }
        self.write_block()
    }

    fn write_block(&mut self) -> io::Result<()> {
        let mut written = 0;
        while written < self.filled {
            match self.file.write(&self.block.bytes()[written..self.filled]) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(bytes) => written += bytes,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // The device asks for more, or has taken a part.
                Err(error) if self.direct && is_misaligned(&error) => self.leave_direct()?,
                Err(error) => return Err(error),
            }
        }
        self.filled = 0;
        Ok(())
    }

    fn leave_direct(&mut self) -> io::Result<()> {
        self.direct = false;
        Ok(set_direct(self.file, false)?)
    }
}

impl Write for Output<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = bytes.len().min(BLOCK - self.filled);
        self.block.bytes_mut()[self.filled..][..taken].copy_from_slice(&bytes[..taken]);
        self.filled += taken;
        if self.filled == BLOCK {
            self.write_block()?;
        }
        Ok(taken)
    }

    /// A part of a block waits for the rest.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Reads a file from its beginning.
pub(super) struct Input {
    file: File,
    direct: Option<Direct>,
}

/// What was read past the cache.
struct Direct {
    block: Block,
    unread: Range<usize>,
}

impl Input {
    /// Past the cache if that is wanted and possible.
    pub(super) fn new(file: File, direct: bool) -> Self {
        let direct = direct && set_direct(&file, true).is_ok();
        Self { file, direct: direct.then(|| Direct { block: Block::new(), unread: 0..0 }) }
    }
}

impl Read for Input {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let Some(Direct { block, unread }) = &mut self.direct else { return self.file.read(bytes) };
        if Range::is_empty(unread) {
            match self.file.read(block.bytes_mut()) {
                Ok(read) => *unread = 0..read,
                Err(error) if is_misaligned(&error) => {
                    set_direct(&self.file, false)?;
                    self.direct = None;
                    return self.file.read(bytes);
                }
                Err(error) => return Err(error),
            }
        }
        let read = (&block.bytes()[unread.clone()]).read(bytes)?;
        unread.start += read;
        Ok(read)
    }
}

/// Memory where the system may read and write directly.
struct Block {
    memory: Vec<u8>,
    start: usize,
}

impl Block {
    fn new() -> Self {
        let memory = vec![0; BLOCK + ALIGNMENT];
        let start = memory.as_ptr().align_offset(ALIGNMENT);
        Self { memory, start }
    }

    fn bytes(&self) -> &[u8] {
        &self.memory[self.start..][..BLOCK]
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.memory[self.start..][..BLOCK]
    }
}

fn is_misaligned(error: &io::Error) -> bool {
    Errno::from_io_error(error) == Some(Errno::INVAL)
}

fn set_direct(file: &File, direct: bool) -> rustix::io::Result<()> {
    let mut flags = fcntl_getfl(file)?;
    flags.set(OFlags::DIRECT, direct);
    fcntl_setfl(file, flags)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_direct(file: &File) -> bool {
        fcntl_getfl(file).unwrap().contains(OFlags::DIRECT)
    }

    /// Writes so many bytes in uneven pieces, and says whether that began past the cache.
    fn check(length: usize, direct: bool) -> bool {
        let bytes: Vec<u8> = (0..length).map(|at| (at % 251) as u8).collect();
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        let file = File::create_new(&path).unwrap();
        let mut output = Output::new(&file, direct);
        let began_direct = is_direct(&file);
        bytes.chunks(77_777).for_each(|piece| output.write_all(piece).unwrap());
        output.finish().unwrap();
        assert!(std::fs::read(&path).unwrap() == bytes, "{length} bytes were written");
        let mut read = Vec::new();
        let mut input = Input::new(File::open(&path).unwrap(), direct);
        assert_eq!(is_direct(&input.file), began_direct);
        input.read_to_end(&mut read).unwrap();
        assert!(read == bytes, "{length} bytes were read");
        began_direct
    }

    #[test]
    fn what_is_written_past_the_cache_is_what_is_written_through_it() {
        let mut any = false;
        for length in [0, 1, ALIGNMENT - 1, ALIGNMENT, BLOCK - 1, BLOCK, BLOCK + ALIGNMENT, 3 * BLOCK + 17] {
            assert!(!check(length, false));
            any |= check(length, true);
        }
        assert!(any, "this file system writes past the cache: use another for the tests");
    }

    #[test]
    fn a_device_that_asks_for_more_than_was_thought_is_written_through_the_cache() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        let file = File::create_new(&path).unwrap();
        // Whatever comes next is at an odd offset.
        (&file).write_all(b"odd").unwrap();
        let mut output = Output::new(&file, true);
        let block = vec![7; BLOCK + 5];
        output.write_all(&block).unwrap();
        output.finish().unwrap();
        assert!(!is_direct(&file));
        assert!(std::fs::read(&path).unwrap() == [b"odd".as_slice(), &block].concat());

        let mut odd = File::open(&path).unwrap();
        odd.read_exact(&mut [0; 3]).unwrap();
        let mut read = Vec::new();
        Input::new(odd, true).read_to_end(&mut read).unwrap();
        assert!(read == block);
    }
}
