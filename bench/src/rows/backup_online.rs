//! A backup of a running server: how long the cut takes, and what clients notice.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tokio::task::spawn_blocking;

use super::backup::filled_server;
use super::{P99, alone};
use crate::bench::Bench;
use crate::clock;
use crate::load::{self, Plan};
use crate::report::{Bar, Compare, Row, Series, Unit};
use crate::server::{Owner, Server};

const CUTS: u32 = 5;
const GROUP: &str = "backup-online";

/// The cut at full load; then appends at half of that rate, alone and while the store is backed up, round by round.
pub(super) async fn backup_online(bench: &mut Bench) -> Result<()> {
    let (server, owners) = filled_server(bench).await?;
    let full = cut_at_full_load(bench, &server, &owners).await?;
    let (mut during, mut without) = (Series::default(), Series::default());
    for _ in 0..bench.scale.rounds {
        without.0.push(half_load(bench, &server, &owners, full / 2.0, false).await?);
        during.0.push(half_load(bench, &server, &owners, full / 2.0, true).await?);
    }
    bench.report.row(Row {
        name: "append at half load during a backup: p99".into(),
        unit: Unit::Milliseconds,
        ours: during,
        peer: Some(("without".into(), without)),
        compare: Compare::Ratio,
        bar: Some(Bar::AtMost(2.0)),
    });
    Ok(())
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
    let answer = ask(socket, "POST /checkpoints")?;
    let took = clock::now() - begin;
    ensure!(answer.starts_with("HTTP/1.1 201"), "no checkpoint: {answer}");
    let body = answer.split_once("\r\n\r\n").context("an answer without a body")?.1;
    let lease: serde_json::Value = serde_json::from_str(body)?;
    let id = lease["id"].as_str().context("a checkpoint without an id")?;
    let removed = ask(socket, &format!("DELETE /checkpoints/{id}"))?;
    ensure!(removed.starts_with("HTTP/1.1 204"), "the checkpoint was not removed: {removed}");
    Ok(took)
}

fn ask(socket: &Path, request: &str) -> Result<String> {
    let mut stream = UnixStream::connect(socket)?;
    write!(stream, "{request} HTTP/1.1\r\nHost: server\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

/// The 99th percentile of appends at this rate, for as long as a backup takes or, without one, for one run.
async fn half_load(bench: &mut Bench, server: &Server, owners: &[Owner], rate: f64, backup: bool) -> Result<f64> {
    let out = bench.workshop.directory("online")?;
    let running = if backup { Some(start_backup(bench, server, &out)?) } else { None };
    let mut clients = server.appenders(owners).await?;
    let plan = Plan { warm_up: Duration::from_millis(100), ..bench.plan() };
    let begin = clock::now();
    let load = load::open(&mut clients, server.id(), plan, rate, "open 50 %".into()).await?;
    if let Some(running) = running {
        let ended = spawn_blocking(move || running.wait_with_output()).await??;
        ensure!(ended.status.success(), "the backup failed: {}", String::from_utf8_lossy(&ended.stderr));
        eprintln!("  backup at half load: {:.3} s", (clock::now() - begin).as_secs_f64());
    }
    std::fs::remove_dir_all(&out)?;
    let system = if backup { "during a backup" } else { "without a backup" };
    let p99 = (P99.of)(&load);
    eprintln!("  {system}: p99 {p99:.3} ms");
    bench.report.load(GROUP, system, load);
    Ok(p99)
}

fn start_backup(bench: &Bench, server: &Server, out: &Path) -> Result<std::process::Child> {
    let program = bench.program.as_ref().context("these rows need the server")?;
    let mut command = bench.workshop.command(program);
    command.arg("backup").arg("--db").arg(server.db()).arg("--out").arg(out.join("artefact.pdbk")).current_dir(out);
    Ok(command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn()?)
}
