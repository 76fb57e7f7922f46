//! The tables: made when somebody asks for it, checked at every start, never changed by a server on its own.

use scylla::client::session::Session;

use super::Settings;
use super::read::unreadable;
use super::session::failed;
use super::slot::random;
use crate::store::{Error, OpenError};

/// The version of the tables, and the oldest that this program works with. A later version adds tables or columns and
/// leaves those that are there, so that old and new servers work side by side while a fleet is upgraded.
pub(super) const VERSION: i32 = 1;
const OLDEST: i32 = 1;
const TABLES: [&str; 6] = ["thread", "user", "expiry", "meta", "slot", "slot_counter"];

/// What `schema apply` found and did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    /// The version before; none if there were no tables.
    pub before: Option<i32>,
    /// The version now.
    pub after: i32,
}

/// Makes the keyspace and the tables that are missing. Repeating it changes nothing.
pub(super) async fn apply(session: &Session, settings: &Settings) -> Result<Applied, Error> {
    let before = version(session, &settings.keyspace).await?;
    if before.is_some_and(|before| before >= VERSION) {
        return Ok(Applied { before, after: before.unwrap_or(VERSION) });
    }
    // Only ScyllaDB has shards, and the two say otherwise that nothing is to be compressed.
    let is_scylla = session.get_cluster_state().get_nodes_info().iter().any(|node| node.sharder().is_some());
    for statement in statements(settings, is_scylla) {
        session.query_unpaged(statement, ()).await.map_err(|error| failed(&error))?;
        // The next one may run on another node, which has to know of it.
        session.await_schema_agreement().await.map_err(|error| Error::Unavailable(error.to_string()))?;
    }
    // Servers that start at once on a new store agree whose it is.
    let birth =
        in_keyspace("UPDATE ks.meta SET v = ? WHERE kind = 'schema' AND ck = 0x01 IF v = null", &settings.keyspace);
    session.query_unpaged(birth, (random::<16>().to_vec(),)).await.map_err(|error| failed(&error))?;
    // Last: who finds the version finds the tables.
    let note = in_keyspace("UPDATE ks.meta SET v = ? WHERE kind = 'schema' AND ck = 0x00", &settings.keyspace);
    session.query_unpaged(note, (VERSION.to_be_bytes().to_vec(),)).await.map_err(|error| failed(&error))?;
    tracing::info!(target: "audit", event = "schema.applied", keyspace = settings.keyspace, before, version = VERSION);
    Ok(Applied { before, after: VERSION })
}

/// Refuses tables that are missing or older than this program needs.
pub(super) async fn check(session: &Session, keyspace: &str) -> Result<i32, OpenError> {
    let found = version(session, keyspace).await.map_err(OpenError::Failed)?;
    match found {
        Some(version) if version >= OLDEST => Ok(version),
        Some(version) => Err(OpenError::Schema(format!(
            "the tables in the keyspace {keyspace} are of version {version}, and this version needs {OLDEST}"
        ))),
        None => Err(OpenError::Schema(format!("the keyspace {keyspace} does not have the tables"))),
    }
}

/// None if there is no keyspace, or not all of its tables.
async fn version(session: &Session, keyspace: &str) -> Result<Option<i32>, Error> {
    let tables = "SELECT table_name FROM system_schema.tables WHERE keyspace_name = ?";
    let found = session.query_unpaged(tables, (keyspace,)).await.map_err(|error| failed(&error))?;
    let found = found.into_rows_result().map_err(unreadable)?;
    let rows = found.rows::<(String,)>().map_err(unreadable)?;
    let found = rows.collect::<Result<Vec<_>, _>>().map_err(unreadable)?;
    if TABLES.iter().any(|table| !found.iter().any(|(name,)| name == table)) {
        return Ok(None);
    }
    let noted = in_keyspace("SELECT v FROM ks.meta WHERE kind = 'schema' AND ck = 0x00", keyspace);
    let noted = session.query_unpaged(noted, ()).await.map_err(|error| failed(&error))?;
    let noted = noted.into_rows_result().map_err(unreadable)?;
    let row = noted.maybe_first_row::<(Option<Vec<u8>>,)>().map_err(unreadable)?;
    let bytes = row.and_then(|(value,)| value).and_then(|value| <[u8; 4]>::try_from(value).ok());
    Ok(bytes.map(i32::from_be_bytes))
}

/// The id of the database that is to be made in these tables.
pub(super) async fn birth_id(session: &Session, keyspace: &str) -> Result<Option<[u8; 16]>, Error> {
    let query = in_keyspace("SELECT v FROM ks.meta WHERE kind = 'schema' AND ck = 0x01", keyspace);
    let found = session.query_unpaged(query, ()).await.map_err(|error| failed(&error))?;
    let found = found.into_rows_result().map_err(unreadable)?;
    let row = found.maybe_first_row::<(Option<Vec<u8>>,)>().map_err(unreadable)?;
    Ok(row.and_then(|(value,)| value).and_then(|value| value.try_into().ok()))
}

/// For how long what was deleted stays in the files of the engine: the time after which it may forget that it was.
pub(super) async fn gc_grace(session: &Session, keyspace: &str) -> Result<i32, Error> {
    let query = "SELECT gc_grace_seconds FROM system_schema.tables WHERE keyspace_name = ? AND table_name = 'thread'";
    let found = session.query_unpaged(query, (keyspace,)).await.map_err(|error| failed(&error))?;
    let found = found.into_rows_result().map_err(unreadable)?;
    let row = found.maybe_first_row::<(Option<i32>,)>().map_err(unreadable)?;
    Ok(row.and_then(|(seconds,)| seconds).unwrap_or(0))
}

/// A statement that calls the keyspace `ks`. Its name is checked by the configuration, and may be a word of the language.
pub(super) fn in_keyspace(statement: &str, keyspace: &str) -> String {
    statement.replace("ks.", &format!("\"{keyspace}\"."))
}

fn statements(settings: &Settings, is_scylla: bool) -> Vec<String> {
    let Settings { keyspace, replication_factor, datacenter, .. } = settings;
    let replicas = match datacenter {
        Some(datacenter) => format!("'{}': {replication_factor}", datacenter.replace('\'', "''")),
        None => format!("'replication_factor': {replication_factor}"),
    };
    // Values are sealed or small, and do not compress.
    let plain = match is_scylla {
        true => "compression = {'sstable_compression': ''}",
        false => "compression = {'enabled': 'false'}",
    };
    let newest_first = format!("{plain} AND CLUSTERING ORDER BY (ck DESC)");
    vec![
        format!(
            "CREATE KEYSPACE IF NOT EXISTS \"{keyspace}\" WITH replication = {{'class': 'NetworkTopologyStrategy', {replicas}}}"
        ),
        format!(
            "CREATE TABLE IF NOT EXISTS \"{keyspace}\".thread (id bigint, head blob STATIC, ck blob, v blob, PRIMARY KEY (id, ck)) WITH {newest_first}"
        ),
        format!(
            "CREATE TABLE IF NOT EXISTS \"{keyspace}\".user (id blob, ck blob, v blob, PRIMARY KEY (id, ck)) WITH {newest_first}"
        ),
        format!(
            "CREATE TABLE IF NOT EXISTS \"{keyspace}\".expiry (day int, bucket tinyint, ck blob, v blob, PRIMARY KEY ((day, bucket), ck)) WITH {plain}"
        ),
        format!(
            "CREATE TABLE IF NOT EXISTS \"{keyspace}\".slot_counter (counter blob, slot int, v bigint, PRIMARY KEY (counter, slot)) WITH {plain}"
        ),
        format!(
            "CREATE TABLE IF NOT EXISTS \"{keyspace}\".slot (id int PRIMARY KEY, owner blob, epoch bigint, version text, oldest int, newest int, format int) WITH {plain}"
        ),
        format!(
            "CREATE TABLE IF NOT EXISTS \"{keyspace}\".meta (kind text, ck blob, v blob, PRIMARY KEY (kind, ck)) WITH {plain}"
        ),
    ]
}
