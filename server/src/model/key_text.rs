//! Keys as clients see them, written without the machinery of `fmt`: a page has more than a hundred of them.

use std::fmt;

use super::{MessageKey, ThreadId};

/// `t:`, a number, `:m:`, a number, `:`, a number.
const LONGEST: usize = 2 + 20 + 3 + 20 + 1 + 20;
/// Sequence numbers are padded to this length.
const DIGITS_OF_SEQUENCE: usize = 9;

/// The text of a key.
#[derive(Clone, Copy)]
pub struct KeyText {
    bytes: [u8; LONGEST],
    length: usize,
}

impl KeyText {
    /// The text.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.bytes[..self.length]).expect("letters, digits and colons are UTF-8")
    }

    fn push(&mut self, text: &str) {
        let end = self.length + text.len();
        self.bytes[self.length..end].copy_from_slice(text.as_bytes());
        self.length = end;
    }
}

impl From<ThreadId> for KeyText {
    fn from(thread: ThreadId) -> Self {
        let mut text = Self { bytes: [0; LONGEST], length: 0 };
        text.push("t:");
        text.push(itoa::Buffer::new().format(thread.0));
        text
    }
}

impl From<MessageKey> for KeyText {
    fn from(key: MessageKey) -> Self {
        let mut text = Self::from(key.thread);
        text.push(":m:");
        text.push(itoa::Buffer::new().format(key.ts));
        if let Some(seq) = key.seq {
            let mut digits = itoa::Buffer::new();
            let digits = digits.format(seq);
            text.push(":");
            text.push(&"000000000"[..DIGITS_OF_SEQUENCE.saturating_sub(digits.len())]);
            text.push(digits);
        }
        text
    }
}

impl fmt::Display for ThreadId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(KeyText::from(*self).as_str())
    }
}

impl fmt::Display for MessageKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(KeyText::from(*self).as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(thread: u64, ts: u64, seq: Option<u64>, text: &str) {
        let key = MessageKey { thread: ThreadId(thread), ts, seq };
        assert_eq!(key.to_string(), text);
        assert_eq!(text.parse(), Ok(key));
    }

    #[test]
    fn every_key_has_its_text() {
        assert_eq!(ThreadId(0).to_string(), "t:0");
        assert_eq!(ThreadId(u64::MAX).to_string(), "t:18446744073709551615");
        check(5, 6, None, "t:5:m:6");
        check(5, 6, Some(0), "t:5:m:6:000000000");
        check(5, 6, Some(999_999_999), "t:5:m:6:999999999");
        check(5, 6, Some(1_000_000_000), "t:5:m:6:1000000000");
        let longest = "t:18446744073709551615:m:18446744073709551615:18446744073709551615";
        check(u64::MAX, u64::MAX, Some(u64::MAX), longest);
        assert_eq!(longest.len(), LONGEST);
    }
}
