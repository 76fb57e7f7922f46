//! A keyspace with data of this version, and servers of both versions on it.

use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};
use testing::fleet::Fleet;
use testing::http::Request;
use testing::load::{Book, Control, USER, listed_threads, run_on_fleet, shared_threads};
use testing::servers::cassandra::Ring;
use testing::{Random, Server, Setup};

pub(crate) const FINALIZE: [&str; 2] = ["migrate", "--finalize"];
/// The migrations of the next version: the first adds rows at the start, the second rewrites every thread.
pub(crate) const MIGRATIONS: [&str; 2] = ["index-of-replies", "heads-of-format-2"];
/// The kind of the rows that the first makes.
const REPLY: u8 = 0x13;
const WRITERS: usize = 4;
const SHARED_THREADS: usize = 3;

pub(crate) struct World {
    ring: &'static Ring,
    keyspace: String,
    test: &'static str,
    shared: Vec<String>,
    /// What was written and acknowledged.
    pub(crate) book: Book,
}

impl World {
    /// A store of format 1 with so many threads, and nobody serving it. `None` where there is no Cassandra.
    pub(crate) fn filled(test: &'static str, threads: usize) -> Option<Self> {
        static KEYSPACES: AtomicUsize = AtomicUsize::new(0);
        let ring = Ring::shared(test)?;
        let keyspace = format!("formats_{}", KEYSPACES.fetch_add(1, Ordering::Relaxed));
        let mut book = Book::default();
        let server = Setup::new().on_cassandra(ring, &keyspace).start();
        let shared = shared_threads(&server, &mut book, test, SHARED_THREADS);
        shared_threads(&server, &mut book, "old", threads);
        server.stop().check_code(0);
        Some(Self { ring, keyspace, test, shared, book })
    }

    /// The same store, to be looked at while writers write to it.
    pub(crate) fn view(&self) -> Self {
        let Self { ring, keyspace, test, shared, .. } = self;
        Self { ring, keyspace: keyspace.clone(), test, shared: shared.clone(), book: Book::default() }
    }

    /// The version that is released: it reads and writes format 1.
    pub(crate) fn old(&self) -> Setup {
        Setup::new().with_keyspace(self.ring, &self.keyspace)
    }

    /// The version after it: it reads 1 and 2, and writes 2.
    pub(crate) fn next(&self) -> Setup {
        self.old().next_version("next")
    }

    /// So many servers of the next version.
    pub(crate) fn fleet(&self, replicas: usize) -> Fleet {
        Fleet::start((0..replicas).map(|_| self.next()).collect())
    }

    /// Has writers write through all replicas while `change` goes on.
    pub(crate) fn under_load(&mut self, fleet: &Fleet, change: impl FnOnce(&Control)) {
        let mut random = Random::seeded();
        let (written, control) = run_on_fleet(fleet, self.test, WRITERS, &self.shared, &mut random, change);
        println!("{}: {control}", self.test);
        self.book.absorb(written);
    }

    /// Every replica serves format 2 and shows exactly what was acknowledged, and every thread is of the new form.
    #[track_caller]
    pub(crate) fn check_raised(&mut self, fleet: &Fleet) {
        self.book.settle(&fleet.replica(0));
        let live: Vec<String> = self.book.live_threads().cloned().collect();
        for replica in 0..fleet.size() {
            let server = fleet.replica(replica);
            assert_eq!(formats(&server), json!({ "data": 2, "reads": [1, 2], "writes": 2, "pending": [] }));
            self.book.check(&server);
            assert_eq!(listed_threads(&server, ""), live, "replica {replica}");
        }
        let forms = self.forms();
        assert!(forms.len() > live.len() && forms.iter().all(|form| *form == 2), "{forms:?}");
        self.next().run(&["verify"]).check_code(0);
        let pending = &self.inspect()["pending"];
        assert_eq!(*pending, json!({ "raise_to": null, "start": [], "finalize": [], "begun": false }));
        self.check_old_is_refused();
    }

    /// The format in which the head of each thread was written last.
    pub(crate) fn forms(&self) -> Vec<u8> {
        let heads = self.ring.execute(&format!("SELECT DISTINCT id, head FROM {}.thread", self.keyspace));
        // A mark where a thread was is no head.
        let heads = heads.into_iter().filter_map(|mut row| row.pop()?.filter(|head| head.len() > 1));
        heads.map(|head| head[0]).collect()
    }

    /// How many answers are in the index that format 2 has.
    pub(crate) fn indexed_replies(&self) -> usize {
        let rows = self.ring.execute(&format!("SELECT ck FROM {}.thread", self.keyspace));
        let names = rows.into_iter().filter_map(|mut row| row.pop()?);
        names.filter(|name| name.first() == Some(&REPLY)).count()
    }

    #[track_caller]
    pub(crate) fn check_old_is_refused(&self) {
        let refused = self.old().refused_start();
        refused.check_code(78).check_says(&["startup.schema_version_too_new", "store format 2 is too new"]);
    }

    #[track_caller]
    pub(crate) fn inspect(&self) -> Value {
        let inspected = self.next().run(&["inspect", "--json"]);
        serde_json::from_str(&inspected.check_code(0).stdout).unwrap()
    }
}

/// What `/readyz` says of formats.
#[track_caller]
pub(crate) fn formats(server: &Server) -> Value {
    server.send(&Request::get("/readyz")).check_status(200).json()["format"].clone()
}

/// The names of migrations in a list of a report.
pub(crate) fn names(list: &Value) -> Vec<&str> {
    list.as_array().unwrap().iter().map(|migration| migration["name"].as_str().unwrap()).collect()
}

/// A thread with a message and an answer to it.
pub(crate) fn write_reply(server: &Server) {
    let user = server.user("ann");
    let thread = user.create_thread("answered");
    let first = user.append(&thread, "first");
    user.post(&testing::messages(&thread), &json!({ "body": "answer", "reply_to": first })).written();
}

/// It answers, and takes a write.
#[track_caller]
pub(crate) fn write_through(server: &Server) {
    server.user(USER).thread_keys("limit=1");
    server.user("bob").create_thread("by each");
}
