//! A backup of a running server: how long the cut takes, how long the whole, and what clients notice.

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tokio::task::spawn_blocking;

use super::backup::{COPY_NAME, Ran, backup_command, copy_command, filled_server, run};
use super::{P99, alone};
use crate::bench::{Bench, settle};
use crate::clock;
use crate::load;
use crate::report::{Bar, Compare, Row, Series, Unit};
use crate::server::{Owner, Server};

const CUTS: u32 = 5;
const GROUP: &str = "backup-online";

/// The cut at full load; then appends at half of that rate, round by round: alone, while the store is backed up, and while
/// it is copied.
pub(super) async fn backup_online(bench: &mut Bench) -> Result<()> {
    let (server, owners) = filled_server(bench).await?;
    let full = cut_at_full_load(bench, &server, &owners).await?;
    let half = HalfLoad { server, owners, rate: full / 2.0 };
    let out = bench.workshop.directory("online")?;
    let (artefact, copy) = (out.join("artefact.pdbk"), out.join("copy"));
    let (mut without, mut during) = (Series::default(), Series::default());
    let (mut backups, mut copies) = (Series::default(), Series::default());
    for _ in 0..bench.scale.rounds {
        let nothing = load::pause(bench.plan().measured);
        without.0.push(half.offer(bench, "without a backup", nothing).await?.0);

        let frozen = frozen(bench, &half.server)?;
        let backup = run(backup_command(bench, &half.server.db(), &artefact)?);
        let (p99, ran) = half.offer(bench, "during a backup", backup).await?;
        during.0.push(p99);
        backups.0.push(told("backup", &ran));
        fs::remove_file(&artefact)?;

        let copying = run(copy_command(bench, &frozen, &copy));
        let (_, ran) = half.offer(bench, "during a copy", copying).await?;
        copies.0.push(told("copy and hash", &ran));
        fs::remove_dir_all(&copy)?;
        fs::remove_dir_all(&frozen)?;
    }
    let ratio = |name, unit, ours, peer, bar| Row {
        name,
        unit,
        ours,
        peer: Some(peer),
        compare: Compare::Ratio,
        bar: Some(Bar::AtMost(bar)),
    };
    let name = format!("backup of {} MB at half load", bench.scale.backup_mb);
    bench.report.row(ratio(name, Unit::Seconds, backups, (COPY_NAME.into(), copies), 1.2));
    let name = "append at half load during a backup: p99".into();
    bench.report.row(ratio(name, Unit::Milliseconds, during, ("without".into(), without), 2.0));
    Ok(())
}

fn told(what: &str, ran: &Ran) -> f64 {
    eprintln!("  {what} at half load: {:.3} s", ran.seconds());
    ran.seconds()
}

/// Appends at half of what the server can do.
struct HalfLoad {
    server: Server,
    owners: Vec<Owner>,
    /// Appends a second.
    rate: f64,
}

impl HalfLoad {
    /// Offers it from rest for as long as `work` takes; returns the 99th percentile of the latencies, and what `work` does.
    async fn offer<T>(&self, bench: &mut Bench, name: &str, work: impl Future<Output = Result<T>>) -> Result<(f64, T)> {
        const WARM_UP: Duration = Duration::from_secs(1);
        let Self { server, owners, rate } = self;
        settle(&[server.id()]).await?;
        let before = server.messages().await?;
        let mut clients = server.appenders(owners).await?;
        let shape = "open 50 %".into();
        let (load, done) = load::open_during(&mut clients, server.id(), WARM_UP, *rate, shape, work).await?;
        server.verify(before + load.answered).await?;
        let p99 = (P99.of)(&load);
        eprintln!("  {name}: p99 {p99:.3} ms");
        bench.report.load(GROUP, name, load);
        Ok((p99, done))
    }
}

/// Returns the rate of that load.
async fn cut_at_full_load(bench: &mut Bench, server: &Server, owners: &[Owner]) -> Result<f64> {
    let mut cuts = Series::default();
    let mut rate = 0.0;
    for _ in 0..bench.scale.rounds {
        let plan = bench.plan();
        let socket = server.db().join("server.sock");
        let begin = clock::now() + plan.warm_up;
        let cutting = spawn_blocking(move || {
            let mut longest = Duration::ZERO;
            for n in 0..CUTS {
                clock::sleep_thread_until(begin + plan.measured * n / CUTS);
                longest = longest.max(cut(&socket)?);
            }
            anyhow::Ok(longest)
        });
        let mut clients = server.appenders(owners).await?;
        let load = load::closed(&mut clients, server.id(), plan).await?;
        let longest = cutting.await??;
        eprintln!("  {:.0}/s, longest cut {:.3} s", load.rate, longest.as_secs_f64());
        cuts.0.push(longest.as_secs_f64());
        rate = load.rate;
        bench.report.load(GROUP, "cut", load);
    }
    let name = format!("cut of {} MB at full load, longest of {CUTS}", bench.scale.backup_mb);
    bench.report.row(alone(name, Unit::Seconds, cuts, Some(Bar::AtMost(0.5))));
    Ok(rate)
}

/// How long the server takes to cut a checkpoint, which is given back.
fn cut(socket: &Path) -> Result<Duration> {
    let begin = clock::now();
    let checkpoint = Checkpoint::cut(socket)?;
    let took = clock::now() - begin;
    checkpoint.give_back()?;
    Ok(took)
}

/// The store as it is now, in a directory of its own. A copy of the live directory would meet files that the server removes
/// and files that grow, so this is a checkpoint that the server cuts, under hard links: what a backup of this moment reads,
/// without a lease that ends.
fn frozen(bench: &Bench, server: &Server) -> Result<PathBuf> {
    let directory = bench.workshop.directory("frozen")?;
    let db = server.db();
    let socket = db.join("server.sock");
    let checkpoint = Checkpoint::cut(&socket)?;
    for entry in fs::read_dir(db.join("tmp").join(format!("backup-{}", checkpoint.id)))? {
        let entry = entry?;
        fs::hard_link(entry.path(), directory.join(entry.file_name()))?;
    }
    checkpoint.give_back()?;
    Ok(directory)
}

/// A checkpoint that the server holds until it is given back, or for a minute.
struct Checkpoint<'a> {
    socket: &'a Path,
    id: String,
}

impl<'a> Checkpoint<'a> {
    fn cut(socket: &'a Path) -> Result<Self> {
        let answer = ask(socket, "POST /checkpoints")?;
        ensure!(answer.starts_with("HTTP/1.1 201"), "no checkpoint: {answer}");
        let body = answer.split_once("\r\n\r\n").context("an answer without a body")?.1;
        let lease: serde_json::Value = serde_json::from_str(body)?;
        let id = lease["id"].as_str().context("a checkpoint without an id")?.to_owned();
        Ok(Self { socket, id })
    }

    fn give_back(self) -> Result<()> {
        let removed = ask(self.socket, &format!("DELETE /checkpoints/{}", self.id))?;
        ensure!(removed.starts_with("HTTP/1.1 204"), "the checkpoint was not removed: {removed}");
        Ok(())
    }
}

fn ask(socket: &Path, request: &str) -> Result<String> {
    let mut stream = UnixStream::connect(socket)?;
    write!(stream, "{request} HTTP/1.1\r\nHost: server\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}
