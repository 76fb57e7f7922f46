//! A pipe of blocks between two threads, so that one reads and hashes while the other compresses and writes.

use std::io::{self, BufRead, Read, Write};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

const BLOCK: usize = 1 << 20;
/// How many blocks may wait.
const BLOCKS: usize = 8;

/// Both ends of a new pipe.
pub(super) fn pipe() -> (Sink, Tap) {
    let (sender, receiver) = sync_channel(BLOCKS);
    (Sink { sender, block: Vec::with_capacity(BLOCK) }, Tap { receiver, block: Vec::new(), at: 0, ended: false })
}

/// Where one thread writes. Without [`Sink::finish`] the other end sees an error, not an end.
pub(super) struct Sink {
    sender: SyncSender<io::Result<Option<Vec<u8>>>>,
    block: Vec<u8>,
}

impl Sink {
    /// Sends what waits, and the end or the error that the other end shall see.
    pub(super) fn finish(mut self, end: io::Result<()>) -> io::Result<()> {
        self.send()?;
        self.sender.send(end.map(|()| None)).map_err(|_| closed())
    }

    fn send(&mut self) -> io::Result<()> {
        if self.block.is_empty() {
            return Ok(());
        }
        let block = std::mem::replace(&mut self.block, Vec::with_capacity(BLOCK));
        self.sender.send(Ok(Some(block))).map_err(|_| closed())
    }
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = bytes.len().min(BLOCK - self.block.len());
        self.block.extend_from_slice(&bytes[..taken]);
        if self.block.len() == BLOCK {
            self.send()?;
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.send()
    }
}

/// Where the other thread reads.
pub(super) struct Tap {
    receiver: Receiver<io::Result<Option<Vec<u8>>>>,
    block: Vec<u8>,
    at: usize,
    ended: bool,
}

impl BufRead for Tap {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.at == self.block.len() && !self.ended {
            match self.receiver.recv().unwrap_or_else(|_| Err(closed()))? {
                Some(block) => (self.block, self.at) = (block, 0),
                None => self.ended = true,
            }
        }
        Ok(&self.block[self.at..])
    }

    fn consume(&mut self, bytes: usize) {
        self.at += bytes;
    }
}

impl Read for Tap {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let read = self.fill_buf()?.read(bytes)?;
        self.consume(read);
        Ok(read)
    }
}

/// The other end went first, because it failed: its own error says why.
fn closed() -> io::Error {
    io::Error::from(io::ErrorKind::BrokenPipe)
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn what_goes_in_comes_out() {
        let bytes: Vec<u8> = (0..3 * BLOCK + 17).map(|at| (at % 251) as u8).collect();
        let (mut sink, mut tap) = pipe();
        let copy = thread::scope(|scope| {
            scope.spawn(|| {
                sink.write_all(&bytes).unwrap();
                sink.finish(Ok(())).unwrap();
            });
            let mut copy = Vec::new();
            tap.read_to_end(&mut copy).unwrap();
            copy
        });
        assert!(copy == bytes);
    }

    #[test]
    fn an_error_comes_behind_what_was_written_before_it() {
        let (mut sink, mut tap) = pipe();
        sink.write_all(b"begun").unwrap();
        sink.finish(Err(io::Error::other("broken"))).unwrap();
        let mut read = Vec::new();
        assert_eq!(tap.read_to_end(&mut read).unwrap_err().to_string(), "broken");
        assert_eq!(read, b"begun");
    }

    #[test]
    fn an_end_that_goes_early_is_an_error_at_the_other() {
        let (mut sink, mut tap) = pipe();
        sink.write_all(b"begun").unwrap();
        drop(sink);
        assert_eq!(tap.read_to_end(&mut Vec::new()).unwrap_err().kind(), io::ErrorKind::BrokenPipe);
        let (mut sink, tap) = pipe();
        drop(tap);
        assert_eq!(sink.write_all(&vec![0; BLOCK]).unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    }
}
