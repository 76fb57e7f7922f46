//! Cassandra and ScyllaDB: the engine of servers without a disk of their own, many of which share one store.
//!
//! ```text
//! session     the connection: contact points, credentials, consistency, and what an error means
//! tls         certificates and keys, and why either side refuses the other
//! schema      the tables, made by `progressdb schema apply` and checked at the start
//! layout      in which table and row a key lies
//! statements  what is said to the engine, prepared once
//! read        reads of a majority
//! commit      one conditional batch in one partition, and the rows that go with it
//! counters    what this server has added to each counter
//! slot        the number that this server has and no other, and whose turn it is to run jobs
//! ```
//!
//! Any server may write any thread: what makes that safe is the condition of each commit, not who commits. A commit counts
//! when a majority of the replicas has it.

mod commit;
mod counters;
mod layout;
mod read;
mod schema;
mod session;
mod slot;
mod statements;
#[cfg(test)]
mod tests;
mod tls;

use std::sync::Arc;
use std::time::Duration;

use scylla::client::session::Session;

use self::slot::Lease;
use self::statements::Statements;
use super::{Error, OpenError, Peer};

pub use self::schema::Applied;
pub use self::session::{Credential, Credentials};
pub use self::tls::Tls;

/// How long a stop waits for the engine.
const PATIENCE: Duration = Duration::from_secs(3);

/// How a shared engine is reached.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `host:port` of some nodes; the others are learned from them.
    pub contact_points: Vec<String>,
    /// The data centre whose nodes are used; any, if there is only one.
    pub datacenter: Option<String>,
    /// Where the tables are.
    pub keyspace: String,
    /// How many nodes keep each row; for new tables only.
    pub replication_factor: u32,
    /// Who the server says it is, if it is asked.
    pub credentials: Option<Credentials>,
    /// How the connection is encrypted; not at all if `None`.
    pub tls: Option<Tls>,
    /// The version of the program, which stands beside its slot.
    pub version: String,
    /// The formats in which the program can work, first and last; they stand there as well.
    pub formats: [u32; 2],
    /// Change nothing; commits are refused.
    pub read_only: bool,
}

/// A handle on a shared store; clones share it.
#[derive(Clone)]
pub struct Cassandra(Arc<Inner>);

struct Inner {
    session: Arc<Session>,
    statements: Arc<Statements>,
    /// None if it is opened read-only.
    lease: Option<Lease>,
    gc_grace: Duration,
    birth_id: Option<[u8; 16]>,
}

/// Makes the tables that are missing.
pub(super) async fn apply_schema(settings: &Settings) -> Result<Applied, OpenError> {
    let session = session::connect(settings).await?;
    schema::apply(&session, settings).await.map_err(OpenError::Failed)
}

/// Says of which version the tables are, if this program can work with them.
pub(super) async fn check_schema(settings: &Settings) -> Result<i32, OpenError> {
    let session = session::connect(settings).await?;
    schema::check(&session, &settings.keyspace).await
}

impl Cassandra {
    /// Connects, checks the tables and takes a slot.
    pub(super) async fn open(settings: &Settings) -> Result<Self, OpenError> {
        let session = Arc::new(session::connect(settings).await?);
        schema::check(&session, &settings.keyspace).await?;
        let unprepared = |error: &dyn std::fmt::Display| OpenError::Failed(Error::Unavailable(error.to_string()));
        let statements = Box::pin(Statements::prepare(&session, &settings.keyspace)).await;
        let statements = Arc::new(statements.map_err(|error| unprepared(&error))?);
        let grace = schema::gc_grace(&session, &settings.keyspace).await.map_err(OpenError::Failed)?;
        let birth_id = schema::birth_id(&session, &settings.keyspace).await.map_err(OpenError::Failed)?;
        session::warn_of_late_syncs(&session).await;
        let lease = match settings.read_only {
            true => None,
            false => {
                let Settings { version, formats, .. } = settings;
                Some(Lease::take(session.clone(), statements.clone(), version, *formats).await?)
            }
        };
        let gc_grace = Duration::from_secs(u64::try_from(grace).unwrap_or(0));
        Ok(Self(Arc::new(Inner { session, statements, lease, gc_grace, birth_id })))
    }

    fn session(&self) -> &Session {
        &self.0.session
    }

    fn statements(&self) -> &Statements {
        &self.0.statements
    }

    fn lease(&self) -> Result<&Lease, Error> {
        self.0.lease.as_ref().ok_or_else(|| Error::Stopped("opened read-only".into()))
    }

    /// Why commits are refused at the moment, if they are.
    pub(super) fn refused(&self) -> Option<Error> {
        self.lease().ok()?.check().err()
    }

    /// The number that no other server has at this time.
    pub(super) fn slot(&self) -> Option<u8> {
        self.lease().ok().map(Lease::slot)
    }

    /// Jobs run in this process and in no other.
    pub(super) fn has_turn(&self) -> bool {
        self.lease().is_ok_and(Lease::has_turn)
    }

    /// See [`super::Store::term`].
    pub(super) fn term(&self) -> u64 {
        self.lease().map_or(0, Lease::term)
    }

    pub(super) async fn confirm_epoch(&self, epoch: u32, term: u64) -> Result<(), Error> {
        self.lease()?.confirm_epoch(epoch, term).await
    }

    pub(super) async fn confirm_format(&self, format: u32, term: u64) -> Result<(), Error> {
        self.lease()?.confirm_format(format, term).await
    }

    pub(super) async fn oldest_epoch(&self) -> Result<Option<u32>, Error> {
        self.lease()?.oldest_epoch().await
    }

    /// The id of a database that is made in it.
    pub(super) fn birth_id(&self) -> Option<[u8; 16]> {
        self.0.birth_id
    }

    /// How many servers use the store.
    pub(super) async fn servers(&self) -> Result<usize, Error> {
        slot::count(self.session(), self.statements()).await
    }

    /// See [`super::Engine::claim`].
    pub(super) async fn claim(&self) -> Result<usize, Error> {
        self.lease()?.claim().await
    }

    /// See [`super::Engine::claim_format`].
    pub(super) async fn claim_format(&self, to: u32) -> Result<bool, Error> {
        self.lease()?.claim_format(to).await
    }

    /// See [`super::Engine::release_format`].
    pub(super) async fn release_format(&self) -> Result<(), Error> {
        self.lease()?.release_format().await;
        Ok(())
    }

    /// See [`super::Engine::peers`].
    pub(super) async fn peers(&self) -> Result<Vec<Peer>, Error> {
        self.lease()?.peers().await
    }

    /// For how long the files of the engine hold what was deleted, snapshots of them apart.
    pub(super) fn gc_grace(&self) -> Duration {
        self.0.gc_grace
    }

    /// How many nodes are known, and with how many there is a connection.
    pub(super) fn figures(&self) -> Vec<(&'static str, u64)> {
        let state = self.session().get_cluster_state();
        let nodes = state.get_nodes_info();
        let connected = nodes.iter().filter(|node| node.is_connected()).count();
        let lost = u64::from(self.refused().is_some());
        vec![
            ("progressdb_cassandra_nodes", nodes.len() as u64),
            ("progressdb_cassandra_nodes_connected", connected as u64),
            ("progressdb_cassandra_slot_lost", lost),
        ]
    }

    /// Gives the slot back. Blocks.
    pub(super) fn close(&self) -> Result<(), Error> {
        if let Some(lease) = &self.0.lease {
            // One that cannot be given back in time expires.
            let released = async { tokio::time::timeout(PATIENCE, lease.release()).await };
            let _ = tokio::runtime::Handle::current().block_on(released);
        }
        Ok(())
    }
}
