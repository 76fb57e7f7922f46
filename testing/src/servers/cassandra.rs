//! Real Cassandra, version 5.0: one node or a ring of three, each on an address of loopback of its own.
//!
//! Two rings, also of two test processes, never share an address. Every node is an ordinary process, so that a test can
//! kill it, stop it in the middle, or cut it from the others. Nothing is left when a ring is dropped or its process dies.

mod guard;
mod node;
mod session;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use guard::Guard;
pub use node::{Node, can_cut};
pub use session::{Consistency, Rows, Session};

use crate::machine::{missing, variable};
use crate::servers::tls::Authority;
use crate::waiting::{GENEROUS, poll, wait_until};

/// The data centre of every node.
pub const DATACENTER: &str = "datacenter1";
/// The account that a node with [`Options::accounts`] has from the start, and its password.
pub const SUPERUSER: &str = "cassandra";

/// How the nodes of a ring are configured.
#[derive(Clone)]
pub struct Options {
    nodes: usize,
    commitlog_sync: &'static str,
    accounts: bool,
    heap: &'static str,
    clients_at: Option<IpAddr>,
    directories: BTreeMap<usize, PathBuf>,
    tls: Option<Arc<Authority>>,
}

impl Default for Options {
    fn default() -> Self {
        let commitlog_sync = "commitlog_sync: batch";
        Self {
            nodes: 1,
            commitlog_sync,
            accounts: false,
            heap: "512M",
            clients_at: None,
            directories: BTreeMap::new(),
            tls: None,
        }
    }
}

impl Options {
    /// As many nodes as `PROGRESSDB_TEST_NODES` says, for what holds whatever their number; one if it is not set.
    pub fn of_any_number() -> Self {
        let nodes = variable("PROGRESSDB_TEST_NODES").map_or(1, |text| text.parse().unwrap());
        Self::default().nodes(nodes)
    }

    /// A ring of this many nodes, instead of one.
    pub fn nodes(self, nodes: usize) -> Self {
        Self { nodes, ..self }
    }

    /// Acknowledges before the log is on disk, which is Cassandra's own default. Without this it is on disk first.
    pub fn periodic_sync(self) -> Self {
        Self { commitlog_sync: "commitlog_sync: periodic\ncommitlog_sync_period: 10s", ..self }
    }

    /// Asks for a name and a password ([`SUPERUSER`] at first) and heeds what is granted to it.
    pub fn accounts(self) -> Self {
        Self { accounts: true, ..self }
    }

    /// The heap of each node, such as `1G`, instead of 512 MB.
    pub fn heap(self, heap: &'static str) -> Self {
        Self { heap, ..self }
    }

    /// Has a single node take clients at this address of the machine instead of loopback, for clients that are elsewhere. Such a
    /// node cannot be cut, and there is one at a time.
    pub fn clients_at(self, address: IpAddr) -> Self {
        assert_eq!(self.nodes, 1, "several nodes cannot take clients at one address");
        Self { clients_at: Some(address), ..self }
    }

    /// Takes clients that encrypt if both sides have a certificate under this authority. [`Session`] does not encrypt, and is taken
    /// as well.
    pub fn tls(self, authority: &Arc<Authority>) -> Self {
        Self { tls: Some(authority.clone()), ..self }
    }

    /// Has one node, counted from 0, keep its data and its log in this directory. It must outlive the ring.
    pub fn directory(mut self, node: usize, directory: &Path) -> Self {
        self.directories.insert(node, directory.to_owned());
        self
    }
}

/// Some nodes that know each other.
pub struct Ring {
    nodes: Vec<Node>,
    accounts: bool,
    // Dropped last: it ends what still runs.
    guard: Guard,
}

impl Ring {
    /// Starts the nodes and waits until each sees all others; `None` where there is no Cassandra, and `test` is then
    /// skipped.
    #[track_caller]
    pub fn start(test: &str, options: &Options) -> Option<Self> {
        let installed = Installed::find(test)?;
        let guard = Guard::set_up();
        let nodes = (0..options.nodes).map(|number| Node::prepare(&installed, &guard, options, number)).collect();
        let ring = Self { nodes, accounts: options.accounts, guard };
        ring.nodes.iter().for_each(Node::begin);
        ring.nodes.iter().for_each(Node::wait);
        ring.wait_until_whole();
        if options.accounts && options.nodes > 1 {
            ring.replicate_accounts();
        }
        Some(ring)
    }

    /// A ring of any number of nodes without accounts, which all tests of this process share: each takes a keyspace of its own.
    #[track_caller]
    pub fn shared(test: &str) -> Option<&'static Self> {
        static SHARED: OnceLock<Option<Ring>> = OnceLock::new();
        Installed::find(test)?;
        SHARED.get_or_init(|| Self::start(test, &Options::of_any_number())).as_ref()
    }

    /// Whether there is a Cassandra; if not, `test` is skipped.
    #[track_caller]
    pub fn can_start(test: &str) -> bool {
        Installed::find(test).is_some()
    }

    /// The nodes.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// Whether it asks for a name and a password.
    pub fn has_accounts(&self) -> bool {
        self.accounts
    }

    /// Ends whatever a test has done to the nodes: all run and answer, and none is cut.
    #[track_caller]
    pub fn mend(&self) {
        self.nodes.iter().for_each(Node::mend);
        self.wait_until_whole();
    }

    /// Where all of them take clients, as `storage.cassandra.contact_points` has it: separated by commas.
    pub fn contact_points(&self) -> String {
        let points: Vec<String> = self.nodes.iter().map(|node| node.addr.to_string()).collect();
        points.join(",")
    }

    /// Where the nodes keep their configuration, their logs and, unless told otherwise, their data.
    pub fn directory(&self) -> &Path {
        self.guard.directory()
    }

    /// A connection to the first node that takes one, as [`SUPERUSER`] where there are accounts.
    #[track_caller]
    pub fn session(&self) -> Session {
        let mut sessions = self.nodes.iter().map(|node| self.open(node.addr));
        sessions.find_map(Result::ok).expect("a node takes a connection")
    }

    /// Runs one statement on it, with a majority of the replicas.
    #[track_caller]
    pub fn execute(&self, statement: &str) -> Rows {
        self.session().execute_at(Consistency::Quorum, statement).unwrap_or_else(|error| panic!("{statement}: {error}"))
    }

    /// Runs a statement that changes the schema, and waits until all nodes have it.
    #[track_caller]
    pub fn define(&self, statement: &str) {
        self.execute(statement);
        let version = |node: &Node| self.open(node.addr)?.execute("SELECT schema_version FROM system.local");
        let agreed = || self.nodes.iter().map(version).all(|found| found.is_ok() && found == version(&self.nodes[0]));
        wait_until("all nodes have the schema", agreed);
    }

    /// Waits until every node takes clients and finds every other alive.
    #[track_caller]
    pub fn wait_until_whole(&self) {
        // The keyspace of every Cassandra with three replicas; such a read is answered only when all of them do.
        let read = "SELECT * FROM system_distributed.parent_repair_history \
            WHERE parent_id = 00000000-0000-1000-8000-000000000000";
        for node in &self.nodes {
            let mut answer = Err("it was not asked".to_owned());
            let whole = poll(GENEROUS, || {
                let peers = "SELECT peer FROM system.peers_v2";
                answer = self.open(node.addr).and_then(|mut session| {
                    let known = session.execute(peers)?.len() + 1;
                    if known < self.nodes.len() {
                        return Err(format!("it knows {known} nodes"));
                    }
                    // With fewer nodes than replicas no read of all replicas can be answered.
                    let of = if self.nodes.len() < 3 { Consistency::One } else { Consistency::All };
                    session.execute_at(of, read)
                });
                answer.is_ok().then_some(())
            });
            assert!(whole.is_some(), "{} is not of a whole ring: {answer:?}\n{}", node.addr, node.log());
        }
    }

    fn open(&self, addr: SocketAddr) -> Result<Session, String> {
        Session::open(addr, self.accounts.then_some((SUPERUSER, SUPERUSER)))
    }

    /// Has every node keep the accounts, which only one does at first.
    fn replicate_accounts(&self) {
        let replicas = self.nodes.len();
        let replication = format!("{{'class': 'NetworkTopologyStrategy', '{DATACENTER}': {replicas}}}");
        self.define(&format!("ALTER KEYSPACE system_auth WITH replication = {replication}"));
        for node in &self.nodes {
            node.nodetool(&["repair", "--full", "system_auth"]).check_code(0);
        }
    }
}

/// The program and its Java.
struct Installed {
    java: PathBuf,
    jars: PathBuf,
}

impl Installed {
    #[track_caller]
    fn find(test: &str) -> Option<Self> {
        let Some(java) = java() else {
            missing(test, "there is no Java 17 in /usr/lib/jvm for Cassandra");
            return None;
        };
        let home = PathBuf::from(variable("HOME").unwrap_or_default());
        let jars = home.join(format!(".cache/progressdb/cassandra-{}", version()));
        if !jars.exists() {
            missing(test, "there is no Cassandra in ~/.cache/progressdb");
            return None;
        }
        Some(Self { java, jars })
    }
}

/// Cassandra 5 runs on Java 11 and 17, and Debian's `java` may be newer.
fn java() -> Option<PathBuf> {
    let machines = std::fs::read_dir("/usr/lib/jvm").ok()?.flatten();
    let of_17 = machines.filter(|entry| entry.file_name().to_string_lossy().starts_with("java-17"));
    of_17.map(|entry| entry.path().join("bin/java")).find(|java| java.exists())
}

/// The version that `scripts/test-servers` installs.
fn version() -> &'static str {
    let pom = include_str!("../../servers/cassandra/pom.xml");
    let line = pom.lines().find_map(|line| line.trim().strip_prefix("<cassandra.version>")).unwrap();
    line.strip_suffix("</cassandra.version>").unwrap()
}
