//! Rows of our server alone: against the bare disk, against itself under another load, or against the clock.

use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::{
    Figure, LOAD_LIMIT, OURS, P50, PAGE, POSTGRES, RATE, THREADS_EACH, VARIANTS, alone, compare, find, keep, pair,
};
use crate::bench::{Bench, CONNECTIONS, Contender, Measured, Shape};
use crate::report::{Bar, Compare, Row, Series, Unit};
use crate::server::{Owner, Server};
use crate::setup::numbered_threads;
use crate::{clock, load, machine};

/// One connection's appends beside a bare write and sync, and beside PostgreSQL's inserts.
pub(super) async fn single(bench: &mut Bench) -> Result<()> {
    let (mut raw, mut raw_p99) = (Series::default(), Series::default());
    let servers = bench.servers().await?;
    let postgres = bench.postgres("single").await?;
    let mut contenders = Vec::new();
    for (name, server) in &servers {
        let owners = server.create_threads(1, THREADS_EACH).await?;
        contenders.push(Contender::new(*name, server.id(), server.appenders(&owners).await?));
    }
    if let Some(postgres) = &postgres {
        let clients = postgres.inserters(&numbered_threads(1, THREADS_EACH)).await?;
        contenders.push(Contender::new(POSTGRES, postgres.id(), clients));
    }
    let mut measured = Measured::of(&contenders);
    for _ in 0..bench.scale.rounds {
        let (directory, duration) = (bench.workshop.root().to_owned(), bench.plan().measured);
        let synced = tokio::task::spawn_blocking(move || machine::write_and_sync(&directory, duration)).await??;
        raw.0.push(synced.value_at_quantile(0.5) as f64 / 1e6);
        raw_p99.0.push(synced.value_at_quantile(0.99) as f64 / 1e6);
        bench.round(&mut contenders, Shape::Closed, &mut measured).await?;
    }
    let text = format!("write 256 B + fdatasync: p50 {:.3} ms, p99 {:.3} ms (medians)", raw.median(), raw_p99.median());
    bench.report.note(text);
    for ((_, server), contender) in servers.iter().zip(&contenders) {
        server.verify(contender.answered).await?;
    }
    for (ours, on) in VARIANTS {
        let row = format!("append p50, 1 connection{on}");
        if let Some(own) = find(&measured, ours) {
            bench.report.row(Row {
                name: row.clone(),
                unit: P50.unit,
                ours: own.series(P50.of),
                peer: Some(("write + fdatasync".into(), raw.clone())),
                compare: Compare::Difference,
                bar: Some(Bar::AtMost(0.15)),
            });
        }
        compare(bench, &row, &measured, (ours, POSTGRES), P50, None);
    }
    keep(bench, "single", measured);
    Ok(())
}

/// All writers on one thread.
pub(super) async fn hot(bench: &mut Bench) -> Result<()> {
    let server = bench.own_server().await?;
    let many = server.create_threads(CONNECTIONS, THREADS_EACH).await?;
    let one = over(CONNECTIONS, &server.create_threads(1, 1).await?);
    let mut contenders = [
        Contender::new("one thread", server.id(), server.appenders(&one).await?),
        Contender::new("many threads", server.id(), server.appenders(&many).await?),
    ];
    let measured = bench.rounds(&mut contenders, Shape::Closed).await?;
    server.verify(contenders.iter().map(|contender| contender.answered).sum()).await?;
    pair(bench, "append to one thread, 64 writers", &measured, RATE, Bar::AtLeast(0.7));
    keep(bench, "hot", measured);
    Ok(())
}

/// Reading the end of a very long thread.
pub(super) async fn long_thread(bench: &mut Bench) -> Result<()> {
    let server = bench.own_server().await?;
    let long = bench.scale.long_thread;
    let mut sides = Vec::new();
    for messages in [long, 1000] {
        let owner = server.create_threads(1, 1).await?;
        let appenders = server.appenders(&over(CONNECTIONS, &owner)).await?;
        let mut loader = Contender::new("loading", server.id(), appenders);
        loader.load(messages, LOAD_LIMIT).await?;
        sides.push((format!("{messages} messages"), owner));
    }
    server.verify(long as u64 + 1000).await?;
    for (connections, figure, bar) in bars(1.5) {
        let mut contenders = Vec::new();
        for (name, owner) in &sides {
            let clients = server.listers(&over(connections, owner), PAGE).await?;
            contenders.push(Contender::new(name, server.id(), clients));
        }
        let measured = bench.rounds(&mut contenders, Shape::Closed).await?;
        let row = format!("newest 50 of {long} messages, c={connections}");
        pair(bench, &row, &measured, figure, bar);
        keep(bench, "long-thread", measured);
    }
    Ok(())
}

/// Listing very many threads.
pub(super) async fn many_threads(bench: &mut Bench) -> Result<()> {
    const FEW: usize = 10;
    let server = bench.own_server().await?;
    let sides = [(0, bench.scale.many_threads), (1, FEW)];
    for (user, threads) in sides {
        server.create_threads_of(user, threads).await?;
    }
    for (connections, figure, bar) in bars(2.0) {
        let mut contenders = Vec::new();
        for (user, threads) in sides {
            let clients = server.thread_listers(user, connections, FEW).await?;
            contenders.push(Contender::new(format!("{threads} threads"), server.id(), clients));
        }
        let measured = bench.rounds(&mut contenders, Shape::Closed).await?;
        let row = format!("newest {FEW} of {} threads, c={connections}", sides[0].1);
        pair(bench, &row, &measured, figure, bar);
        keep(bench, "many-threads", measured);
    }
    Ok(())
}

/// "Within `factor`": of the latency at one connection, and of the rate at many.
fn bars(factor: f64) -> [(usize, Figure, Bar); 2] {
    let share = (100.0 / factor).floor() / 100.0;
    [(1, P50, Bar::AtMost(factor)), (CONNECTIONS, RATE, Bar::AtLeast(share))]
}

/// From nothing to ready.
pub(super) async fn start(bench: &mut Bench) -> Result<()> {
    let mut times = Series::default();
    for _ in 0..bench.scale.rounds.max(3) {
        let program = bench.program.as_ref().context("these rows need the server")?;
        let (_server, time) = Server::start(program, &bench.workshop).await?;
        times.0.push(time.as_secs_f64());
    }
    bench.report.row(alone("empty start to ready", Unit::Seconds, times, Some(Bar::AtMost(0.2))));
    Ok(())
}

/// From `kill -9` to ready, and nothing acknowledged is gone.
pub(super) async fn reopen(bench: &mut Bench) -> Result<()> {
    let mut times = Series::default();
    for _ in 0..bench.scale.rounds {
        let mut server = bench.own_server().await?;
        let owners = server.create_threads(CONNECTIONS, THREADS_EACH).await?;
        let mut tasks = load::until_broken(server.appenders(&owners).await?);
        // Long enough for the log to grow to its limit.
        clock::sleep_until(clock::now() + Duration::from_secs(bench.scale.seconds * 3)).await;
        ensure!(tasks.try_join_next().is_none(), "a connection broke before the kill");
        server.kill()?;
        let acknowledged: u64 = tasks.join_all().await.into_iter().sum();
        times.0.push(server.reopen(&bench.workshop).await?.as_secs_f64());
        let kept = server.messages().await?;
        let unanswered = acknowledged + CONNECTIONS as u64;
        let expected = acknowledged..=unanswered;
        ensure!(expected.contains(&kept), "acknowledged {acknowledged} messages before kill -9, found {kept} after it");
        eprintln!("  {acknowledged} acknowledged, {kept} found, ready after {:.3} s", times.0[times.0.len() - 1]);
    }
    bench.report.row(alone("ready after kill -9 at full load", Unit::Seconds, times, Some(Bar::AtMost(2.0))));
    Ok(())
}

/// Resident memory.
pub(super) async fn memory(bench: &mut Bench) -> Result<()> {
    let server = bench.own_server().await?;
    clock::sleep_until(clock::now() + Duration::from_secs(2)).await;
    let idle = Series(vec![server.resident_mb()?]);
    bench.report.row(alone("resident, idle", Unit::Megabytes, idle, Some(Bar::AtMost(40.0))));
    let owners = server.create_threads(CONNECTIONS, THREADS_EACH).await?;
    let mut contenders = [Contender::new(OURS, server.id(), server.appenders(&owners).await?)];
    let measured = bench.rounds(&mut contenders, Shape::Closed).await?;
    keep(bench, "memory", measured);
    server.verify(contenders[0].answered).await?;
    let loaded = Series(vec![server.resident_mb()?]);
    bench.report.row(alone("resident, after appends at full load", Unit::Megabytes, loaded, None));
    Ok(())
}

/// One owner for each of `connections`, in turn.
fn over(connections: usize, owners: &[Owner]) -> Vec<Owner> {
    owners.iter().cycle().take(connections).cloned().collect()
}
