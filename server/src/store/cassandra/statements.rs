//! The statements, prepared once.

use std::time::Duration;

use scylla::client::session::Session;
use scylla::errors::PrepareError;
use scylla::statement::Consistency;
use scylla::statement::prepared::PreparedStatement;

use super::layout::Table;
use super::schema::in_keyspace;
use crate::store::Direction;

/// Rows that a page brings at most, whatever a scan asks for.
pub(super) const PAGE_ROWS: i32 = 256;

/// What stands where the head of a removed thread was: no value has this first byte. A creation that a node carries out late, as
/// it was asked for a second time and acknowledged before the removal, expects no head and finds this one.
pub(super) const REMOVED: &[u8] = &[0];
/// For how long: a node that hangs longer has lost what it was asked for.
const REMOVED_FOR: Duration = Duration::from_hours(24);

/// What is said to one of the tables that hold rows.
pub(super) struct RowStatements {
    pub(super) get: PreparedStatement,
    /// The same, after what is in flight has come to its end.
    pub(super) get_settled: PreparedStatement,
    ascending: PreparedStatement,
    descending: PreparedStatement,
    pub(super) put: PreparedStatement,
    pub(super) put_if: PreparedStatement,
    pub(super) delete: PreparedStatement,
    pub(super) delete_if: PreparedStatement,
    pub(super) delete_range: PreparedStatement,
}

impl RowStatements {
    pub(super) fn scan(&self, direction: Direction) -> &PreparedStatement {
        match direction {
            Direction::Ascending => &self.ascending,
            Direction::Descending => &self.descending,
        }
    }
}

/// What is said to the heads of threads.
pub(super) struct HeadStatements {
    pub(super) get: PreparedStatement,
    pub(super) get_settled: PreparedStatement,
    /// The head beside rows of the thread, as one answer.
    pub(super) get_with: PreparedStatement,
    pub(super) put: PreparedStatement,
    pub(super) put_if: PreparedStatement,
    /// Leaves [`REMOVED`] for a while.
    pub(super) remove: PreparedStatement,
    pub(super) remove_if: PreparedStatement,
    /// Leaves a head that is not there as it is.
    pub(super) absent_if: PreparedStatement,
}

/// What is said to the slots and their counters.
pub(super) struct SlotStatements {
    pub(super) list: PreparedStatement,
    pub(super) take: PreparedStatement,
    pub(super) renew: PreparedStatement,
    pub(super) release: PreparedStatement,
    pub(super) counter_sum: PreparedStatement,
    pub(super) counter_of_slot: PreparedStatement,
    pub(super) put_counter: PreparedStatement,
}

/// What lists partitions.
pub(super) struct PartitionStatements {
    pub(super) first_threads: PreparedStatement,
    pub(super) threads_after: PreparedStatement,
    pub(super) first_users: PreparedStatement,
    pub(super) users_after: PreparedStatement,
    pub(super) days: PreparedStatement,
}

/// All of them.
pub(super) struct Statements {
    tables: [RowStatements; 4],
    pub(super) head: HeadStatements,
    pub(super) slots: SlotStatements,
    pub(super) partitions: PartitionStatements,
    /// Sets a number whose timestamp is its value, so that the highest one stays.
    pub(super) raise: PreparedStatement,
}

/// Prepares statements on one keyspace.
struct Preparer<'a> {
    session: &'a Session,
    keyspace: &'a str,
}

impl Preparer<'_> {
    /// `text` names tables as `ks.table`.
    async fn statement(&self, text: &str) -> Result<PreparedStatement, PrepareError> {
        let mut statement = self.session.prepare(in_keyspace(text, self.keyspace)).await?;
        statement.set_page_size(PAGE_ROWS);
        Ok(statement)
    }

    /// May be sent again when a node does not answer.
    async fn idempotent(&self, text: &str) -> Result<PreparedStatement, PrepareError> {
        let mut statement = self.statement(text).await?;
        statement.set_is_idempotent(true);
        Ok(statement)
    }

    /// Reads what a commit in flight has led to, and ends it.
    async fn settled(&self, text: &str) -> Result<PreparedStatement, PrepareError> {
        let mut statement = self.idempotent(text).await?;
        statement.set_consistency(Consistency::LocalSerial);
        Ok(statement)
    }

    async fn rows(&self, table: Table) -> Result<RowStatements, PrepareError> {
        let (table, partition) = (format!("ks.{}", table.name()), table.is_partition());
        let get = format!("SELECT v FROM {table} WHERE {partition} AND ck = ?");
        let scan = format!("SELECT ck, v FROM {table} WHERE {partition} AND ck >= ? AND ck < ? ORDER BY ck");
        let put = format!("UPDATE {table} SET v = ? WHERE {partition} AND ck = ?");
        let delete = format!("DELETE FROM {table} WHERE {partition} AND ck = ?");
        Ok(RowStatements {
            get: self.idempotent(&get).await?,
            get_settled: self.settled(&get).await?,
            ascending: self.idempotent(&format!("{scan} ASC LIMIT ?")).await?,
            descending: self.idempotent(&format!("{scan} DESC LIMIT ?")).await?,
            put: self.idempotent(&put).await?,
            put_if: self.statement(&format!("{put} IF v = ?")).await?,
            delete: self.idempotent(&delete).await?,
            delete_if: self.statement(&format!("{delete} IF v = ?")).await?,
            delete_range: self
                .idempotent(&format!("DELETE FROM {table} WHERE {partition} AND ck >= ? AND ck < ?"))
                .await?,
        })
    }

    async fn head(&self) -> Result<HeadStatements, PrepareError> {
        const GET: &str = "SELECT DISTINCT head FROM ks.thread WHERE id = ?";
        const PUT: &str = "UPDATE ks.thread SET head = ? WHERE id = ?";
        let remove = format!(
            "UPDATE ks.thread USING TTL {} SET head = 0x{} WHERE id = ?",
            REMOVED_FOR.as_secs(),
            hex::encode(REMOVED)
        );
        Ok(HeadStatements {
            get: self.idempotent(GET).await?,
            get_settled: self.settled(GET).await?,
            get_with: self.idempotent("SELECT head, ck, v FROM ks.thread WHERE id = ? AND ck IN ?").await?,
            put: self.idempotent(PUT).await?,
            put_if: self.statement(&format!("{PUT} IF head = ?")).await?,
            remove: self.idempotent(&remove).await?,
            remove_if: self.statement(&format!("{remove} IF head = ?")).await?,
            absent_if: self.statement("DELETE head FROM ks.thread WHERE id = ? IF head = ?").await?,
        })
    }

    async fn slots(&self) -> Result<SlotStatements, PrepareError> {
        Ok(SlotStatements {
            list: self.idempotent("SELECT id, owner, epoch, version, oldest, newest, format FROM ks.slot").await?,
            take: self
                .statement(
                    "INSERT INTO ks.slot (id, owner, epoch, version, oldest, newest, format) VALUES (?, ?, ?, ?, ?, ?, ?) IF NOT EXISTS USING TTL ?",
                )
                .await?,
            renew: self
                .statement("UPDATE ks.slot USING TTL ? SET owner = ?, epoch = ?, version = ?, oldest = ?, newest = ?, format = ? WHERE id = ? IF owner = ?")
                .await?,
            release: self.statement("DELETE FROM ks.slot WHERE id = ? IF owner = ?").await?,
            counter_sum: self.idempotent("SELECT v FROM ks.slot_counter WHERE counter = ?").await?,
            counter_of_slot: self
                .idempotent("SELECT v, WRITETIME(v) FROM ks.slot_counter WHERE counter = ? AND slot = ?")
                .await?,
            put_counter: self
                .idempotent("UPDATE ks.slot_counter USING TIMESTAMP ? SET v = ? WHERE counter = ? AND slot = ?")
                .await?,
        })
    }

    async fn partitions(&self) -> Result<PartitionStatements, PrepareError> {
        Ok(PartitionStatements {
            first_threads: self.idempotent("SELECT DISTINCT id, head FROM ks.thread LIMIT ?").await?,
            threads_after: self
                .idempotent("SELECT DISTINCT id, head FROM ks.thread WHERE token(id) > token(?) LIMIT ?")
                .await?,
            first_users: self.idempotent("SELECT DISTINCT id FROM ks.user LIMIT ?").await?,
            users_after: self.idempotent("SELECT DISTINCT id FROM ks.user WHERE token(id) > token(?) LIMIT ?").await?,
            days: self.idempotent("SELECT DISTINCT day, bucket FROM ks.expiry").await?,
        })
    }
}

impl Statements {
    pub(super) async fn prepare(session: &Session, keyspace: &str) -> Result<Self, PrepareError> {
        let of = Preparer { session, keyspace };
        let [thread, user, expiry, meta] = Table::ALL;
        let tables = [of.rows(thread).await?, of.rows(user).await?, of.rows(expiry).await?, of.rows(meta).await?];
        let raise = of.idempotent("UPDATE ks.meta USING TIMESTAMP ? SET v = ? WHERE kind = ? AND ck = ?").await?;
        let (head, slots, partitions) = (of.head().await?, of.slots().await?, of.partitions().await?);
        Ok(Self { tables, head, slots, partitions, raise })
    }

    pub(super) fn of(&self, table: Table) -> &RowStatements {
        &self.tables[table as usize]
    }
}
