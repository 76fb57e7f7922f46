//! Rows of our server alone: against the bare disk, against itself under another load, or against the clock.

use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::{LOAD_LIMIT, OURS, PAGE, THREADS_EACH, alone, keep, p50, pair, rate};
use crate::bench::{Bench, CONNECTIONS, Contender};
use crate::load::{self, Load};
use crate::report::{Bar, Compare, Row, Series, Unit};
use crate::server::{Owner, Server};
use crate::{clock, machine};

/// One connection's appends beside a bare write and sync.
pub(super) async fn single(bench: &mut Bench) -> Result<()> {
    let plan = bench.plan();
    let (mut raw, mut raw_p99) = (Series::default(), Series::default());
    let server = bench.server().await?;
    let mut ours = Vec::new();
    if let Some(server) = &server {
        let owners = server.create_threads(1, THREADS_EACH).await?;
        ours.push(Contender::new(OURS, server.id(), server.appenders(&owners).await?));
    }
    for _ in 0..bench.scale.rounds {
        let directory = bench.workshop.root().to_owned();
        let synced = tokio::task::spawn_blocking(move || machine::write_and_sync(&directory, plan.measured)).await??;
        raw.0.push(synced.value_at_quantile(0.5) as f64 / 1e6);
        raw_p99.0.push(synced.value_at_quantile(0.99) as f64 / 1e6);
        bench.round(&mut ours).await?;
    }
    let text = format!("write 256 B + fdatasync: p50 {:.3} ms, p99 {:.3} ms (medians)", raw.median(), raw_p99.median());
    bench.report.note(text);
    if let (Some(server), [contender]) = (&server, &ours[..]) {
        server.verify(contender.answered).await?;
        bench.report.row(Row {
            name: "append p50, 1 connection".into(),
            unit: Unit::Milliseconds,
            ours: contender.series(p50),
            peer: Some(("write + fdatasync".into(), raw)),
            compare: Compare::Difference,
            bar: Some(Bar::AtMost(0.15)),
        });
    }
    keep(bench, "single", ours);
    Ok(())
}

/// What encryption costs: the same loads on two stores, one of which is encrypted.
pub(super) async fn sealed(bench: &mut Bench) -> Result<()> {
    let servers = [("encrypted", bench.sealed_server().await?), ("plain", bench.own_server().await?)];
    let (mut appending, mut reading) = (Vec::new(), Vec::new());
    for (name, server) in &servers {
        let owners = server.create_threads(CONNECTIONS, THREADS_EACH).await?;
        appending.push(Contender::new(*name, server.id(), server.appenders(&owners).await?));
        reading.push(Contender::new(*name, server.id(), server.listers(&owners, PAGE).await?));
    }
    for contender in &mut appending {
        contender.load(CONNECTIONS * THREADS_EACH * PAGE, LOAD_LIMIT).await?;
    }
    bench.rounds(&mut appending).await?;
    for ((_, server), contender) in servers.iter().zip(&appending) {
        server.verify(contender.answered).await?;
    }
    bench.rounds(&mut reading).await?;
    let bar = || Bar::AtLeast(0.9);
    pair(bench, "append 256 B with encryption, 64 connections", &appending, Unit::PerSecond, rate, bar());
    pair(bench, "newest 50 with encryption, 64 connections", &reading, Unit::PerSecond, rate, bar());
    keep(bench, "sealed", appending);
    keep(bench, "sealed", reading);
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
    bench.rounds(&mut contenders).await?;
    server.verify(contenders.iter().map(|contender| contender.answered).sum()).await?;
    let row = "append to one thread, 64 writers";
    pair(bench, row, &contenders, Unit::PerSecond, rate, Bar::AtLeast(0.7));
    keep(bench, "hot", contenders.into());
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
    for (connections, unit, figure, bar) in bars(1.5) {
        let mut contenders = Vec::new();
        for (name, owner) in &sides {
            let clients = server.listers(&over(connections, owner), PAGE).await?;
            contenders.push(Contender::new(name, server.id(), clients));
        }
        bench.rounds(&mut contenders).await?;
        let row = format!("newest 50 of {long} messages, c={connections}");
        pair(bench, &row, &contenders, unit, figure, bar);
        keep(bench, "long-thread", contenders);
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
    for (connections, unit, figure, bar) in bars(2.0) {
        let mut contenders = Vec::new();
        for (user, threads) in sides {
            let clients = server.thread_listers(user, connections, FEW).await?;
            contenders.push(Contender::new(format!("{threads} threads"), server.id(), clients));
        }
        bench.rounds(&mut contenders).await?;
        let row = format!("newest {FEW} of {} threads, c={connections}", sides[0].1);
        pair(bench, &row, &contenders, unit, figure, bar);
        keep(bench, "many-threads", contenders);
    }
    Ok(())
}

/// Connections, what is read there, and its bar.
type Judged = (usize, Unit, fn(&Load) -> f64, Bar);

/// "Within `factor`": of the latency at one connection, and of the rate at many.
fn bars(factor: f64) -> [Judged; 2] {
    let share = (100.0 / factor).floor() / 100.0;
    [(1, Unit::Milliseconds, p50, Bar::AtMost(factor)), (CONNECTIONS, Unit::PerSecond, rate, Bar::AtLeast(share))]
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
    bench.rounds(&mut contenders).await?;
    server.verify(contenders[0].answered).await?;
    let loaded = Series(vec![server.resident_mb()?]);
    bench.report.row(alone("resident, after appends at full load", Unit::Megabytes, loaded, None));
    Ok(())
}

/// One owner for each of `connections`, in turn.
fn over(connections: usize, owners: &[Owner]) -> Vec<Owner> {
    owners.iter().cycle().take(connections).cloned().collect()
}
