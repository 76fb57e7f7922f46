//! A run: which groups of rows, over which systems, in which order.
//!
//! Systems take turns round by round (A, B, A, B), and a run starts only when the ones before it have come to rest:
//! neither the disk's mood nor a peer's background work falls on one side alone.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::client::Client;
use crate::load::{self, Load, Plan};
use crate::postgres::{self, Postgres};
use crate::process::tree_cpu;
use crate::redis::{self, Redis};
use crate::report::{Report, Series};
use crate::server::Server;
use crate::setup::Workshop;
use crate::{clock, rows};

/// Connections of every row that does not say otherwise.
pub(crate) const CONNECTIONS: usize = 64;

/// Rows that are measured together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Group {
    /// Durable appends at 64 connections, against PostgreSQL and Redis
    Append,
    /// Durable appends at one connection, against a raw write and sync
    Single,
    /// The newest 50 messages at 64 connections, against PostgreSQL and Redis
    Newest,
    /// 64 writers on one thread, against many threads
    Hot,
    /// The newest 50 of a very long thread, against a short one
    LongThread,
    /// The list of a user with very many threads, against a user with ten
    ManyThreads,
    /// Start on an empty store
    Start,
    /// Start after kill -9 at full load
    Reopen,
    /// Resident memory
    Memory,
    /// A backup of a stopped server, against cp, sha256sum and sync
    Backup,
    /// A backup of a running server: the cut at full load; at half of it the whole, and what clients notice
    BackupOnline,
    /// One to three servers over one and three nodes of Cassandra, against PostgreSQL
    Fleet,
    /// A second backup into an object store, after one percent more messages: what is sent
    BackupAgain,
}

/// How much of everything.
#[derive(Clone, Copy)]
pub(crate) struct Scale {
    pub(crate) rounds: usize,
    pub(crate) seconds: u64,
    pub(crate) long_thread: usize,
    pub(crate) many_threads: usize,
    /// Megabytes of messages in the store that is backed up.
    pub(crate) backup_mb: usize,
}

/// Everything that the groups share.
pub(crate) struct Bench {
    pub(crate) scale: Scale,
    pub(crate) workshop: Workshop,
    /// Without it only the peers are measured.
    pub(crate) program: Option<PathBuf>,
    pub(crate) report: Report,
}

/// One side of a comparison.
pub(crate) struct Contender {
    pub(crate) name: String,
    process: u32,
    clients: Vec<Client>,
    /// Requests answered well, in all runs together.
    pub(crate) answered: u64,
}

impl Contender {
    /// `process` is the program that answers `clients`.
    pub(crate) fn new(name: impl Into<String>, process: u32, clients: Vec<Client>) -> Self {
        Self { name: name.into(), process, clients, answered: 0 }
    }

    /// Answers `total` requests within `limit`, unmeasured.
    pub(crate) async fn load(&mut self, total: usize, limit: Duration) -> Result<()> {
        let answered = load::repeat(&mut self.clients, total, limit).await.with_context(|| self.name.clone())?;
        self.answered += answered;
        Ok(())
    }

    /// How often an append was told to come back.
    pub(crate) fn came_back(&self) -> u64 {
        self.clients.iter().map(Client::came_back).sum()
    }
}

/// How the requests of a run come.
#[derive(Clone, Copy)]
pub(crate) enum Shape {
    /// The next one when the last one is answered.
    Closed,
    /// At fixed instants: so many a second, which are so many percent of PostgreSQL's maximum.
    Offered { rate: f64, percent: u32 },
}

/// What a contender did, round by round.
pub(crate) struct Measured {
    pub(crate) name: String,
    pub(crate) loads: Vec<Load>,
}

impl Measured {
    /// Nothing yet, for each of `contenders`.
    pub(crate) fn of(contenders: &[Contender]) -> Vec<Self> {
        contenders.iter().map(|contender| Self { name: contender.name.clone(), loads: Vec::new() }).collect()
    }

    /// A figure of each round.
    pub(crate) fn series(&self, figure: impl Fn(&Load) -> f64) -> Series {
        Series(self.loads.iter().map(figure).collect())
    }
}

impl Bench {
    /// Measures `groups` one after the other; one that breaks is named in the report and the others go on.
    pub(crate) async fn run(&mut self, groups: &[Group]) {
        for group in groups {
            eprintln!("measuring: {group:?}");
            if let Err(error) = Box::pin(rows::measure(self, *group)).await {
                eprintln!("{group:?} failed: {error:#}");
                self.report.fail(format!("{group:?}: {error:#}"));
            }
        }
    }

    /// A run's times.
    pub(crate) fn plan(&self) -> Plan {
        Plan { warm_up: Duration::from_secs(1), measured: Duration::from_secs(self.scale.seconds) }
    }

    /// Our server on an empty store.
    pub(crate) async fn own_server(&self) -> Result<Server> {
        let program = self.program.as_ref().context("these rows need the server")?;
        Ok(Server::start(program, &self.workshop).await?.0)
    }

    /// Our server on an empty store and on one that it encrypts, by name; none if only the peers are measured.
    pub(crate) async fn servers(&self) -> Result<Vec<(&'static str, Server)>> {
        let Some(program) = &self.program else { return Ok(Vec::new()) };
        let (plain, _) = Server::start(program, &self.workshop).await?;
        let (sealed, _) = Server::start_sealed(program, &self.workshop).await?;
        Ok(vec![(rows::OURS, plain), (rows::SEALED, sealed)])
    }

    /// PostgreSQL, if it is installed; else the report says how to get it.
    pub(crate) async fn postgres(&mut self, group: &str) -> Result<Option<Postgres>> {
        let Some(programs) = Postgres::find() else {
            self.report.skip(format!("{group} against PostgreSQL, which is not installed: {}", postgres::INSTALL));
            return Ok(None);
        };
        Ok(Some(Postgres::start(&programs, &self.workshop).await?))
    }

    /// Redis, if it is installed; else the report says how to get it.
    pub(crate) async fn redis(&mut self, group: &str) -> Result<Option<Redis>> {
        let Some(program) = Redis::find() else {
            self.report.skip(format!("{group} against Redis, which is not installed: {}", redis::INSTALL));
            return Ok(None);
        };
        Ok(Some(Redis::start(&program, &self.workshop).await?))
    }

    /// All rounds of one shape; the result has the contenders' order.
    pub(crate) async fn rounds(&self, contenders: &mut [Contender], shape: Shape) -> Result<Vec<Measured>> {
        let mut measured = Measured::of(contenders);
        for _ in 0..self.scale.rounds {
            self.round(contenders, shape, &mut measured).await?;
        }
        Ok(measured)
    }

    /// One more round, in which all take their turns.
    pub(crate) async fn round(
        &self,
        contenders: &mut [Contender],
        shape: Shape,
        measured: &mut [Measured],
    ) -> Result<()> {
        for (index, measured) in measured.iter_mut().enumerate() {
            settle(&contenders.iter().map(|contender| contender.process).collect::<Vec<_>>()).await?;
            let contender = &mut contenders[index];
            let (clients, process) = (&mut contender.clients, contender.process);
            let load = match shape {
                Shape::Closed => load::closed(clients, process, self.plan()).await,
                Shape::Offered { rate, percent } => {
                    load::open(clients, process, self.plan(), rate, format!("offered {percent} %")).await
                }
            };
            let load = load.with_context(|| contender.name.clone())?;
            let (rate, p50, p99) = (load.rate, load.percentile_ms(50.0), load.percentile_ms(99.0));
            eprintln!("  {}, {}: {rate:.0}/s, p50 {p50:.3} ms, p99 {p99:.3} ms", contender.name, load.shape);
            contender.answered += load.answered;
            measured.loads.push(load);
        }
        Ok(())
    }
}

/// Waits until none of `processes` works any more and the disk has everything, for some seconds at most.
pub(crate) async fn settle(processes: &[u32]) -> Result<()> {
    const STEP: Duration = Duration::from_millis(300);
    tokio::task::spawn_blocking(rustix::fs::sync).await?;
    let used = || processes.iter().map(|process| tree_cpu(*process)).sum::<Result<Duration>>();
    let mut before = used()?;
    for _ in 0..40 {
        clock::sleep_until(clock::now() + STEP).await;
        let after = used()?;
        if after.saturating_sub(before) <= STEP / 20 {
            break;
        }
        before = after;
    }
    Ok(())
}
