//! A database that is worth a backup, and what a client knows to be in it.

use testing::{Random, Server, Setup, User};

/// What a client was told is on disk.
pub(crate) struct Kept {
    pub(crate) thread: String,
    pub(crate) messages: Vec<String>,
}

/// A thread with `messages` messages of `bytes` bytes that do not compress well.
pub(crate) fn fill(user: &User, messages: usize, bytes: usize) -> Kept {
    let thread = user.create_thread("kept");
    let mut random = Random::seeded();
    let keys = (0..messages).map(|_| user.append(&thread, noise(&mut random, bytes))).collect();
    Kept { thread, messages: keys }
}

fn noise(random: &mut Random, bytes: usize) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    (0..bytes).map(|_| char::from(LETTERS[random.below(LETTERS.len())])).collect()
}

impl Kept {
    /// The server has exactly this.
    #[track_caller]
    pub(crate) fn check(&self, server: &Server) {
        assert_eq!(server.user("user1").message_keys(&self.thread, "limit=100"), self.messages);
    }
}

/// A stopped database of about `bytes` bytes.
pub(crate) fn stopped(setup: &Setup, bytes: usize) -> Kept {
    let server = setup.start();
    let size = 40_000;
    let kept = fill(&server.user("user1"), bytes.div_ceil(size), size);
    server.stop().check_code(0);
    kept
}
