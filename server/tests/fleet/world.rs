//! The nodes that the tests share, fleets on them, and what must hold after whatever was done.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use serde_json::json;
use testing::fleet::Fleet;
use testing::load::{Book, Control, listed_threads, run_on_fleet, shared_threads};
use testing::servers::cassandra::{Node, Options, Ring};
use testing::waiting::poll;
use testing::{Random, Setup, variable, wait_until};

const WRITERS: usize = 6;
const SHARED_THREADS: usize = 3;

/// Three nodes, and a keyspace of the test's own.
pub(crate) struct World {
    ring: &'static Ring,
    keyspace: String,
    _turn: MutexGuard<'static, ()>,
}

/// Tests of this suite run one at a time: what one does to its nodes takes the time of all.
pub(crate) fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

impl World {
    /// `None` where there is no Cassandra; then `test` was skipped.
    pub(crate) fn take(test: &str) -> Option<Self> {
        static RING: OnceLock<Option<Ring>> = OnceLock::new();
        static KEYSPACES: AtomicUsize = AtomicUsize::new(0);
        Ring::can_start(test).then_some(())?;
        let turn = turn();
        let ring = RING.get_or_init(|| Ring::start(test, &Options::default().nodes(3))).as_ref()?;
        // A test that failed may have left something undone.
        ring.mend();
        let keyspace = format!("fleet_{}", KEYSPACES.fetch_add(1, Ordering::Relaxed));
        Some(Self { ring, keyspace, _turn: turn })
    }

    pub(crate) fn ring(&self) -> &Ring {
        self.ring
    }

    pub(crate) fn keyspace(&self) -> &str {
        &self.keyspace
    }

    pub(crate) fn node(&self, number: usize) -> &Node {
        &self.ring.nodes()[number]
    }

    /// So many replicas.
    pub(crate) fn fleet(&self, replicas: usize) -> Fleet {
        self.fleet_of(replicas, |_, setup| setup)
    }

    /// So many replicas, each set up by its number.
    pub(crate) fn fleet_of(&self, replicas: usize, set_up: impl Fn(usize, Setup) -> Setup) -> Fleet {
        fleet_on(self.ring, &self.keyspace, replicas, set_up)
    }
}

/// So many replicas on these nodes.
pub(crate) fn fleet_on(ring: &Ring, keyspace: &str, replicas: usize, set_up: impl Fn(usize, Setup) -> Setup) -> Fleet {
    Setup::new().on_cassandra(ring, keyspace);
    let setups = (0..replicas).map(|number| set_up(number, Setup::new().with_keyspace(ring, keyspace)));
    Fleet::start(setups.collect())
}

/// Has writers write through all replicas while `fault` is done and undone, and checks what is there afterwards: so
/// many threads that live, and so many messages ever.
pub(crate) fn check_under_load(test: &str, ring: &Ring, fleet: &Fleet, fault: impl FnOnce(&Control)) -> (usize, usize) {
    let mut random = Random::seeded();
    let mut book = Book::default();
    let shared = shared_threads(&fleet.replica(0), &mut book, test, SHARED_THREADS);
    let (written, control) = run_on_fleet(fleet, test, WRITERS, &shared, &mut random, fault);
    book.absorb(written);
    println!("{test}: {control}");
    ring.mend();
    // The writers may have gone on at the others.
    (0..fleet.size()).for_each(|replica| wait_until_ready(fleet, replica));
    check(fleet, &mut book);
    book.counts()
}

/// Every replica shows exactly what was acknowledged.
pub(crate) fn check(fleet: &Fleet, book: &mut Book) {
    book.settle(&fleet.replica(0));
    let live: Vec<String> = book.live_threads().cloned().collect();
    let (threads, messages) = book.counts();
    for replica in 0..fleet.size() {
        let server = fleet.replica(replica);
        book.check(&server);
        assert_eq!(listed_threads(&server, ""), live, "replica {replica}");
        let mut by_activity = listed_threads(&server, "sort_by=updated_ts");
        by_activity.sort();
        assert_eq!(by_activity, live, "replica {replica}: by activity");
    }
    check_totals(fleet, threads, messages);
}

/// A commit whose outcome was not known in time may be missing in the totals until the next recount, which comes when the
/// turn to run jobs moves, as it does when servers are started again.
fn check_totals(fleet: &Fleet, threads: usize, messages: usize) {
    let right = json!({ "threads": threads, "messages": messages });
    let stats = |replica| fleet.replica(replica).admin("/admin/stats").check_status(200).json();
    let all_right = |limit| {
        let mut found = Vec::new();
        let right = poll(limit, || {
            found = (0..fleet.size()).map(stats).collect();
            found.iter().all(|stats| *stats == right).then_some(())
        });
        (right.is_some(), found)
    };
    let (at_once, found) = all_right(Duration::from_secs(5));
    if at_once {
        return;
    }
    println!("counted anew: {found:?}, and there are {right}");
    assert!(
        found.iter().all(|stats| stats["messages"].as_u64().unwrap() <= messages as u64),
        "counted twice: {found:?}"
    );
    for replica in 0..fleet.size() {
        fleet.stop(replica).check_code(0);
        fleet.restart(replica);
    }
    let (after_recount, found) = all_right(Duration::from_secs(60));
    assert!(after_recount, "{found:?}, and there are {right}");
}

/// Lets a state last.
pub(crate) fn hold(time: Duration) {
    poll(time, || None::<()>);
}

/// For how long a node hangs.
pub(crate) fn pause() -> Duration {
    Duration::from_secs(variable("PROGRESSDB_FLEET_PAUSE_S").map_or(15, |text| text.parse().unwrap()))
}

/// Waits until a replica says that it is ready again.
pub(crate) fn wait_until_ready(fleet: &Fleet, replica: usize) {
    let ready = testing::http::Request::get("/readyz");
    wait_until("the replica is ready", || fleet.replica(replica).send(&ready).status == 200);
}
