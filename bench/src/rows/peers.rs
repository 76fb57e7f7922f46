//! Rows against other systems: the same work, the same bytes, the same durability.

use anyhow::Result;

use super::{
    CPU, LOAD_LIMIT, OURS, P50, P99, PAGE, POSTGRES, RATE, REDIS, SEALED, THREADS_EACH, VARIANTS, alone, compare, find,
    keep,
};
use crate::bench::{Bench, CONNECTIONS, Contender, Measured, Shape};
use crate::postgres::Postgres;
use crate::redis::Redis;
use crate::report::Bar;
use crate::server::{Owner, Server};
use crate::setup::numbered_threads;

/// Shares of PostgreSQL's maximum that every system is offered.
const OFFERED_PERCENT: [u32; 3] = [25, 50, 75];

/// Durable appends.
pub(super) async fn append(bench: &mut Bench) -> Result<()> {
    let systems = Systems::start(bench, "append").await?;
    let (mut contenders, _) = systems.appenders().await?;
    let closed = bench.rounds(&mut contenders, Shape::Closed).await?;
    for (ours, on) in VARIANTS {
        let row = format!("append 256 B, 64 connections{on}");
        compare(bench, &row, &closed, (ours, POSTGRES), RATE, Some(Bar::AtLeast(2.0)));
        compare(bench, &row, &closed, (ours, REDIS), RATE, Some(Bar::AtLeast(0.7)));
        let row = format!("append p99, 64 connections{on}");
        compare(bench, &row, &closed, (ours, POSTGRES), P99, Some(Bar::AtMost(1.0)));
        if let Some(ours) = find(&closed, ours) {
            let row = format!("append processor time a message, 64 connections{on}");
            bench.report.row(alone(row, CPU.unit, ours.series(CPU.of), Some(Bar::AtMost(30.0))));
        }
    }
    compare(bench, "append, encrypted or not", &closed, (SEALED, OURS), RATE, Some(Bar::AtLeast(0.9)));
    offer(bench, &mut contenders, &closed, "append").await?;
    systems.verify(&contenders).await?;
    keep(bench, "append", closed);
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
    let closed = bench.rounds(&mut contenders, Shape::Closed).await?;
    for (ours, on) in VARIANTS {
        let row = format!("newest 50, 64 connections{on}");
        compare(bench, &row, &closed, (ours, POSTGRES), RATE, Some(Bar::AtLeast(1.8)));
        compare(bench, &row, &closed, (ours, REDIS), RATE, None);
        if let Some(ours) = find(&closed, ours) {
            let row = format!("newest 50 p99, 64 connections{on}");
            bench.report.row(alone(row, P99.unit, ours.series(P99.of), Some(Bar::AtMost(5.0))));
        }
    }
    compare(bench, "newest 50, encrypted or not", &closed, (SEALED, OURS), RATE, Some(Bar::AtLeast(0.9)));
    offer(bench, &mut contenders, &closed, "newest").await?;
    keep(bench, "newest", closed);
    Ok(())
}

/// The same rates for all, as shares of what PostgreSQL can do at most: where production lives.
async fn offer(bench: &mut Bench, contenders: &mut [Contender], closed: &[Measured], group: &str) -> Result<()> {
    let Some(most) = find(closed, POSTGRES).map(|postgres| postgres.series(RATE.of).median()) else { return Ok(()) };
    for percent in OFFERED_PERCENT {
        let rate = most * f64::from(percent) / 100.0;
        let measured = bench.rounds(contenders, Shape::Offered { rate, percent }).await?;
        for (ours, on) in VARIANTS {
            for (what, figure, bar) in [("p50", P50, 1.1), ("p99", P99, 1.0), ("processor time", CPU, 1.0)] {
                let row = format!("{group} {what}, offered {percent} %{on}");
                compare(bench, &row, &measured, (ours, POSTGRES), figure, Some(Bar::AtMost(bar)));
            }
        }
        keep(bench, group, measured);
    }
    Ok(())
}

/// The systems of a comparison; each lives as long as this does.
struct Systems {
    /// Ours, by name: none if only the peers are measured.
    servers: Vec<(&'static str, Server)>,
    postgres: Option<Postgres>,
    redis: Option<Redis>,
}

impl Systems {
    async fn start(bench: &mut Bench, group: &str) -> Result<Self> {
        let (postgres, redis) = (bench.postgres(group).await?, bench.redis(group).await?);
        Ok(Self { servers: bench.servers().await?, postgres, redis })
    }

    /// Appenders of all systems, and the threads of each of ours.
    async fn appenders(&self) -> Result<(Vec<Contender>, Vec<Vec<Owner>>)> {
        let (mut contenders, mut owners) = (Vec::new(), Vec::new());
        let threads = numbered_threads(CONNECTIONS, THREADS_EACH);
        for (name, server) in &self.servers {
            let own = server.create_threads(CONNECTIONS, THREADS_EACH).await?;
            contenders.push(Contender::new(*name, server.id(), server.appenders(&own).await?));
            owners.push(own);
        }
        if let Some(postgres) = &self.postgres {
            contenders.push(Contender::new(POSTGRES, postgres.id(), postgres.inserters(&threads).await?));
        }
        if let Some(redis) = &self.redis {
            contenders.push(Contender::new(REDIS, redis.id(), redis.adders(&threads).await?));
        }
        Ok((contenders, owners))
    }

    /// Readers of the newest page, of all systems; `owners` are the threads of each of ours.
    async fn listers(&self, owners: &[Vec<Owner>]) -> Result<Vec<Contender>> {
        let mut contenders = Vec::new();
        let threads = numbered_threads(CONNECTIONS, THREADS_EACH);
        for ((name, server), own) in self.servers.iter().zip(owners) {
            contenders.push(Contender::new(*name, server.id(), server.listers(own, PAGE).await?));
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
        let answered = |name: &str| contenders.iter().find(|own| own.name == name).map_or(0, |own| own.answered);
        for (name, server) in &self.servers {
            server.verify(answered(name)).await?;
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
