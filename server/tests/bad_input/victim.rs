//! The server under abuse, and the check that it took no harm.

use testing::http::{Connection, Request};
use testing::{Server, Setup, THREADS, User, message, messages, thread};

pub(crate) const MIB: u64 = 1 << 20;

/// A server with one thread of one message, to be found unchanged after the abuse.
pub(crate) struct Victim {
    pub(crate) server: Server,
    pub(crate) user: User,
    pub(crate) thread: String,
    pub(crate) message: String,
    before: String,
    pub(crate) resident: u64,
    _setup: Setup,
}

impl Victim {
    pub(crate) fn start(setup: Setup) -> Self {
        let server = setup.start();
        let user = server.user("user1");
        let thread = user.create_thread("kept");
        let message = user.append(&thread, "kept");
        let mut victim = Self { server, user, thread, message, before: String::new(), resident: 0, _setup: setup };
        victim.before = victim.state();
        victim.resident = victim.server.resident_bytes();
        victim
    }

    pub(crate) fn state(&self) -> String {
        let texts = [
            self.user.get(THREADS).check_status(200).text(),
            self.user.get(&messages(&self.thread)).check_status(200).text(),
            self.server.admin("/admin/stats").check_status(200).text(),
            self.server.admin("/admin/users").check_status(200).text(),
        ];
        texts.concat()
    }

    pub(crate) fn connect(&self) -> Connection {
        Connection::open(self.server.addr).unwrap()
    }

    /// Every route that takes a body.
    pub(crate) fn routes(&self) -> [Request; 4] {
        [
            self.user.request("POST", THREADS),
            self.user.request("PUT", &thread(&self.thread)),
            self.user.request("POST", &messages(&self.thread)),
            self.user.request("PUT", &message(&self.thread, &self.message)),
        ]
    }

    /// Sends bytes and expects one of `statuses`, or a closed connection without an answer.
    #[track_caller]
    pub(crate) fn check_refused(&self, bytes: &[u8], statuses: &[u16]) {
        let mut connection = self.connect();
        let _ = connection.write(bytes);
        let _ = connection.finish_writing();
        let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(200)]).into_owned();
        if let Ok(answer) = connection.read_answer(false) {
            assert!(statuses.contains(&answer.status), "{shown:?}: {answer}, want one of {statuses:?}");
        }
    }

    /// Healthy, nothing written, memory bounded, no panic.
    #[track_caller]
    pub(crate) fn check_unharmed(mut self) {
        self.server.send(&Request::get("/healthz")).check_status(200);
        self.server.send(&Request::get("/readyz")).check_status(200);
        assert!(self.server.runs());
        assert_eq!(self.state(), self.before, "something was written");
        let grown = self.server.resident_bytes().saturating_sub(self.resident);
        assert!(grown < 200 * MIB, "memory grew by {} MiB", grown / MIB);
        let next = self.user.append(&self.thread, "after");
        assert!(next.ends_with(":000000001"), "a refused write took a sequence number: {next}");
        let finished = self.server.stop();
        finished.check_code(0);
        assert!(!finished.said().contains("panic"), "{}", finished.said());
    }
}
