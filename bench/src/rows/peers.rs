//! Rows against other systems: the same work, the same bytes, the same durability.

use anyhow::Result;

use super::{LOAD_LIMIT, OURS, PAGE, THREADS_EACH, alone, compare, keep, p99, rate};
use crate::bench::{Bench, CONNECTIONS, Contender};
use crate::postgres::Postgres;
use crate::redis::Redis;
use crate::report::{Bar, Unit};
use crate::server::{Owner, Server};
use crate::setup::numbered_threads;

const POSTGRES: &str = "PostgreSQL";
const REDIS: &str = "Redis";

/// Shares of the maximum that open runs offer, and which of them has bars.
const OPEN_PERCENT: [u32; 4] = [20, 50, 70, 90];
const JUDGED: usize = 2;

/// Durable appends.
pub(super) async fn append(bench: &mut Bench) -> Result<()> {
    let systems = Systems::start(bench, "append").await?;
    let (mut contenders, _) = systems.appenders().await?;
    bench.rounds(&mut contenders).await?;
    let open = open_runs(bench, &mut contenders).await?;
    systems.verify(&contenders).await?;
    let row = "append 256 B, 64 connections";
    compare(bench, row, &contenders, POSTGRES, Unit::PerSecond, rate, Some(Bar::AtLeast(1.3)));
    compare(bench, row, &contenders, REDIS, Unit::PerSecond, rate, Some(Bar::AtLeast(0.45)));
    let row = "append p99, 64 connections";
    compare(bench, row, &contenders, POSTGRES, Unit::Milliseconds, p99, Some(Bar::AtMost(1.0)));
    let row = "append p99, offered 70 % of own maximum";
    compare(bench, row, &open[JUDGED], POSTGRES, Unit::Milliseconds, p99, Some(Bar::AtMost(1.0)));
    keep(bench, "append", contenders);
    open.into_iter().for_each(|contenders| keep(bench, "append", contenders));
    Ok(())
}

/// The newest messages of a thread.
pub(super) async fn newest(bench: &mut Bench) -> Result<()> {
    let systems = Systems::start(bench, "newest").await?;
    let (mut loaders, owners) = systems.appenders().await?;
    for loader in &mut loaders {
        // Random threads: with twice the page on average, no thread stays below it.
        loader.load(CONNECTIONS * THREADS_EACH * PAGE * 2, LOAD_LIMIT).await?;
    }
    systems.verify(&loaders).await?;
    drop(loaders);
    if let Some(postgres) = &systems.postgres {
        postgres.vacuum().await?;
    }
    let mut contenders = systems.listers(&owners).await?;
    bench.rounds(&mut contenders).await?;
    let open = open_runs(bench, &mut contenders).await?;
    let row = "newest 50, 64 connections";
    compare(bench, row, &contenders, POSTGRES, Unit::PerSecond, rate, Some(Bar::AtLeast(1.3)));
    compare(bench, row, &contenders, REDIS, Unit::PerSecond, rate, None);
    for (row, side) in [("newest 50 p99, 64 connections", &contenders), ("newest 50 p99, offered 70 %", &open[JUDGED])]
    {
        if let Some(ours) = side.iter().find(|side| side.name == OURS) {
            bench.report.row(alone(row, Unit::Milliseconds, ours.series(p99), Some(Bar::AtMost(5.0))));
        }
    }
    keep(bench, "newest", contenders);
    open.into_iter().for_each(|contenders| keep(bench, "newest", contenders));
    Ok(())
}

/// A run at each of [`OPEN_PERCENT`]: in that order, all contenders with that run alone.
async fn open_runs(bench: &Bench, contenders: &mut [Contender]) -> Result<Vec<Vec<Contender>>> {
    let mut runs = Vec::new();
    for percent in OPEN_PERCENT {
        let loads = bench.open(contenders, percent).await?;
        runs.push(contenders.iter().zip(loads).map(|(contender, load)| contender.with_load(load)).collect());
    }
    Ok(runs)
}

/// The systems of a comparison; each lives as long as this does.
struct Systems {
    server: Option<Server>,
    postgres: Option<Postgres>,
    redis: Option<Redis>,
}

impl Systems {
    async fn start(bench: &mut Bench, group: &str) -> Result<Self> {
        let (postgres, redis) = (bench.postgres(group).await?, bench.redis(group).await?);
        Ok(Self { server: bench.server().await?, postgres, redis })
    }

    /// Appenders of all systems, and the threads of ours.
    async fn appenders(&self) -> Result<(Vec<Contender>, Vec<Owner>)> {
        let (mut contenders, mut owners) = (Vec::new(), Vec::new());
        let threads = numbered_threads(CONNECTIONS, THREADS_EACH);
        if let Some(server) = &self.server {
            owners = server.create_threads(CONNECTIONS, THREADS_EACH).await?;
            contenders.push(Contender::new(OURS, server.id(), server.appenders(&owners).await?));
        }
        if let Some(postgres) = &self.postgres {
            contenders.push(Contender::new(POSTGRES, postgres.id(), postgres.inserters(&threads).await?));
        }
        if let Some(redis) = &self.redis {
            contenders.push(Contender::new(REDIS, redis.id(), redis.adders(&threads).await?));
        }
        Ok((contenders, owners))
    }

    /// Readers of the newest page, of all systems.
    async fn listers(&self, owners: &[Owner]) -> Result<Vec<Contender>> {
        let mut contenders = Vec::new();
        let threads = numbered_threads(CONNECTIONS, THREADS_EACH);
        if let Some(server) = &self.server {
            contenders.push(Contender::new(OURS, server.id(), server.listers(owners, PAGE).await?));
        }
        if let Some(postgres) = &self.postgres {
            contenders.push(Contender::new(POSTGRES, postgres.id(), postgres.listers(&threads, PAGE).await?));
        }
        if let Some(redis) = &self.redis {
            contenders.push(Contender::new(REDIS, redis.id(), redis.listers(&threads, PAGE).await?));
        }
        Ok(contenders)
    }

    /// Every system must hold exactly what it acknowledged.
    async fn verify(&self, contenders: &[Contender]) -> Result<()> {
        let answered = |name| contenders.iter().find(|contender| contender.name == name).map_or(0, |own| own.answered);
        if let Some(server) = &self.server {
            server.verify(answered(OURS)).await?;
        }
        if let Some(postgres) = &self.postgres {
            postgres.verify(answered(POSTGRES)).await?;
        }
        if let Some(redis) = &self.redis {
            redis.verify(&numbered_threads(CONNECTIONS, THREADS_EACH), answered(REDIS)).await?;
        }
        Ok(())
    }
}
