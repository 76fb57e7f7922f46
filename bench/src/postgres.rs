//! PostgreSQL as a peer: a cluster of its own on loopback, with a disk sync before every acknowledgement.
//!
//! Everything not named here stays at PostgreSQL's defaults. Its password check is left out: it would be made once for
//! each connection and never again, so it costs no request anything.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use rustix::process::Signal;

use crate::client::{BODY_BYTES, Client, PgInsert, PgList};
use crate::clock;
use crate::pgwire::{INT8, Pg, TEXT};
use crate::process::Process;
use crate::setup::{Threads, Workshop, free_address};

/// How to get it.
pub(crate) const INSTALL: &str = "apt-get install --no-install-recommends postgresql-15";

const USER: &str = "bench";
const START_LIMIT: Duration = Duration::from_secs(30);
const SETTINGS: [(&str, &str); 7] = [
    ("fsync", "on"),
    ("synchronous_commit", "on"),
    ("wal_sync_method", "fdatasync"),
    ("full_page_writes", "on"),
    ("shared_buffers", "256MB"),
    ("max_wal_size", "4GB"),
    ("max_connections", "200"),
];

/// A running cluster; dropping it ends it.
pub(crate) struct Postgres {
    process: Process,
    address: SocketAddr,
}

impl Postgres {
    /// The directory of PostgreSQL 15's programs (or a newer one's), if it is installed.
    pub(crate) fn find() -> Option<PathBuf> {
        let directories = (15..20).map(|version| PathBuf::from(format!("/usr/lib/postgresql/{version}/bin")));
        directories.into_iter().find(|directory| directory.join("initdb").exists())
    }

    /// Creates and starts a cluster with the table that the rows use.
    pub(crate) async fn start(programs: &Path, workshop: &Workshop) -> Result<Self> {
        let home = workshop.directory("postgres")?;
        let account = Account::choose()?;
        fs::set_permissions(&home, fs::Permissions::from_mode(0o700))?;
        account.own(&home)?;
        let data = home.join("data");
        let mut initdb = account.command(Command::new(programs.join("initdb")));
        initdb.args(["--auth=trust", "--encoding=UTF8", "--no-locale", "--username", USER, "--pgdata"]).arg(&data);
        let made = initdb.current_dir(&home).output().context("cannot run initdb")?;
        ensure!(made.status.success(), "initdb: {}", String::from_utf8_lossy(&made.stderr));

        let address = free_address()?;
        let mut command = account.command(workshop.command(&programs.join("postgres")));
        command.arg("-D").arg(&data).args(["-h", "127.0.0.1", "-k", "", "-p", &address.port().to_string()]);
        for (name, value) in SETTINGS {
            command.arg("-c").arg(format!("{name}={value}"));
        }
        let log = workshop.root().join("postgres.log");
        let process = Process::start("postgres", command.current_dir(&home), &log, Signal::QUIT)?;
        let mut postgres = Self { process, address };
        let mut pg = postgres.first_connection().await?;
        for (name, value) in SETTINGS {
            let shown = pg.query(&format!("SHOW {name}")).await?.first;
            ensure!(shown.as_deref() == Some(value), "PostgreSQL runs with {name} = {shown:?}, not {value}");
        }
        pg.query(
            "CREATE TABLE messages (thread bigint, seq bigint, ts bigint, author text, body text, \
             PRIMARY KEY (thread, ts, seq)); CREATE INDEX ON messages (author, ts)",
        )
        .await?;
        Ok(postgres)
    }

    async fn first_connection(&mut self) -> Result<Pg> {
        let deadline = clock::now() + START_LIMIT;
        loop {
            self.process.check()?;
            match Pg::connect(self.address, USER).await {
                Ok(pg) => return Ok(pg),
                Err(error) if clock::now() > deadline => return Err(error.context("PostgreSQL does not start")),
                Err(_) => clock::sleep_until(clock::now() + Duration::from_millis(50)).await,
            }
        }
    }

    /// The postmaster.
    pub(crate) fn id(&self) -> u32 {
        self.process.id()
    }

    /// One connection for each of `threads`, each inserting into its own ones.
    pub(crate) async fn inserters(&self, threads: &Threads) -> Result<Vec<Client>> {
        let mut clients = Vec::new();
        for (index, owned) in threads.iter().enumerate() {
            let mut pg = Pg::connect(self.address, USER).await?;
            pg.prepare("INSERT INTO messages VALUES ($1, $2, $3, $4, $5)", &[INT8, INT8, INT8, TEXT, TEXT]).await?;
            clients.push(Client::PgInsert(PgInsert::new(pg, index, owned.clone())));
        }
        Ok(clients)
    }

    /// One connection for each of `threads`, each reading the newest `page` messages of its own ones.
    pub(crate) async fn listers(&self, threads: &Threads, page: usize) -> Result<Vec<Client>> {
        let mut clients = Vec::new();
        for (index, owned) in threads.iter().enumerate() {
            let mut pg = Pg::connect(self.address, USER).await?;
            let sql = format!(
                "SELECT thread, seq, ts, author, body FROM messages WHERE thread = $1 \
                 ORDER BY ts DESC, seq DESC LIMIT {page}"
            );
            pg.prepare(&sql, &[INT8]).await?;
            clients.push(Client::PgList(PgList::new(pg, index, owned.clone(), page)));
        }
        Ok(clients)
    }

    /// Fails unless exactly `acknowledged` rows are there, each with a whole body.
    pub(crate) async fn verify(&self, acknowledged: u64) -> Result<()> {
        let mut pg = Pg::connect(self.address, USER).await?;
        let sql = format!("SELECT count(*) FROM messages WHERE length(body) = {BODY_BYTES}");
        let count = pg.query(&sql).await?.first.unwrap_or_default();
        if count != acknowledged.to_string() {
            bail!("PostgreSQL acknowledged {acknowledged} inserts and holds {count} rows");
        }
        Ok(())
    }

    /// What its owner would do after a bulk load.
    pub(crate) async fn vacuum(&self) -> Result<()> {
        let mut pg = Pg::connect(self.address, USER).await?;
        pg.query("VACUUM ANALYZE messages").await?;
        pg.query("CHECKPOINT").await?;
        Ok(())
    }
}

/// PostgreSQL refuses to run as root, so root lends it the account that its package made.
struct Account(Option<(u32, u32)>);

impl Account {
    fn choose() -> Result<Self> {
        if !rustix::process::geteuid().is_root() {
            return Ok(Self(None));
        }
        let accounts = fs::read_to_string("/etc/passwd")?;
        for name in ["postgres", "nobody"] {
            let fields = accounts.lines().map(|line| line.split(':').collect::<Vec<_>>());
            let account = fields.into_iter().find(|fields| fields.first() == Some(&name));
            if let Some([_, _, user, group, ..]) = account.as_deref() {
                return Ok(Self(Some((user.parse()?, group.parse()?))));
            }
        }
        bail!("PostgreSQL refuses to run as root, and there is no account `postgres`")
    }

    fn own(&self, path: &Path) -> Result<()> {
        let Some((user, group)) = self.0 else { return Ok(()) };
        chown(path, Some(user), Some(group)).context("cannot give PostgreSQL its directory")
    }

    fn command(&self, mut command: Command) -> Command {
        if let Some((user, group)) = self.0 {
            command.uid(user).gid(group);
        }
        command
    }
}
