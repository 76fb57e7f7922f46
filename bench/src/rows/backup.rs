//! A backup beside a copy that the system's own tools make and hash, and how fast a backup is verified.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use super::{LOAD_LIMIT, THREADS_EACH, alone};
use crate::bench::{Bench, CONNECTIONS, Contender, settle};
use crate::clock;
use crate::report::{Bar, Compare, Row, Series, Unit};
use crate::server::{Owner, Server};

/// Long texts, so that loading does not take longer than what is measured.
const TEXT_BYTES: usize = 16 << 10;

/// What a copy is called that is measured beside a backup.
pub(super) const COPY_NAME: &str = "cp -r; sha256sum; sync";
const COPY: &str = "cp -r \"$1\" \"$2\" && find \"$2\" -type f -exec sha256sum {} + && sync";

/// Of a stopped server: nothing else reads or writes meanwhile. Both sides find the store in the page cache, and both end
/// when everything is on disk; the backup was read again by then. `verify` reads the artefact from the disk.
pub(super) async fn backup(bench: &mut Bench) -> Result<()> {
    let (mut server, _) = filled_server(bench).await?;
    server.stop()?;
    let (db, out) = (server.db(), bench.workshop.directory("backup")?);
    let (artefact, copy) = (out.join("artefact.pdbk"), out.join("copy"));
    let (mut ours, mut copied, mut verified) = (Series::default(), Series::default(), Series::default());
    for _ in 0..bench.scale.rounds {
        settle(&[]).await?;
        ours.0.push(run(backup_command(bench, &db, &artefact)?).await?.seconds());
        settle(&[]).await?;
        copied.0.push(run(copy_command(bench, &db, &copy)).await?.seconds());
        fs::remove_dir_all(&copy)?;
        settle(&[]).await?;
        verified.0.push(verify(bench, &db, &artefact).await?);
        fs::remove_file(&artefact)?;
        let last = |series: &Series| series.0[series.0.len() - 1];
        let (backup, copy, verify) = (last(&ours), last(&copied), last(&verified));
        eprintln!("  backup {backup:.3} s, copy and hash {copy:.3} s, verify {verify:.1} MB/s");
    }
    let megabytes = bench.scale.backup_mb;
    bench.report.row(Row {
        name: format!("backup of {megabytes} MB, server stopped"),
        unit: Unit::Seconds,
        ours,
        peer: Some((COPY_NAME.into(), copied)),
        compare: Compare::Ratio,
        bar: Some(Bar::AtMost(1.2)),
    });
    let name = format!("verify --in a backup of {megabytes} MB");
    bench.report.row(alone(name, Unit::MegabytesPerSecond, verified, Some(Bar::AtLeast(100.0))));
    Ok(())
}

/// Megabytes of stored data a second, from the first digest to the last row.
async fn verify(bench: &Bench, db: &Path, artefact: &Path) -> Result<f64> {
    let mut command = own_command(bench, "verify", db)?;
    command.arg("--in").arg(artefact);
    let ran = run(command).await?;
    let report = ran.report()?;
    ensure!(report["ok"] == true, "the backup is damaged: {report}");
    Ok(megabytes(&report["backup"]["bytes"])? / ran.seconds())
}

/// A server with that many megabytes of messages, and the owners of its threads.
pub(super) async fn filled_server(bench: &Bench) -> Result<(Server, Vec<Owner>)> {
    let server = bench.own_server().await?;
    let owners = server.create_threads(CONNECTIONS, THREADS_EACH).await?;
    fill(&server, &owners, messages(bench)).await?;
    Ok((server, owners))
}

/// How many long messages a server is filled with.
pub(super) fn messages(bench: &Bench) -> usize {
    (bench.scale.backup_mb * 1_000_000).div_ceil(TEXT_BYTES)
}

/// Appends so many long messages, unmeasured.
pub(super) async fn fill(server: &Server, owners: &[Owner], messages: usize) -> Result<()> {
    let before = server.messages().await?;
    let mut loader = Contender::new("loading", server.id(), server.appenders_of(owners, TEXT_BYTES).await?);
    loader.load(messages, LOAD_LIMIT).await?;
    server.verify(before + loader.answered).await
}

/// A backup of `db`, running or not, to a path or URL.
pub(super) fn backup_command(bench: &Bench, db: &Path, out: impl AsRef<Path>) -> Result<Command> {
    let mut command = own_command(bench, "backup", db)?;
    command.arg("--out").arg(out.as_ref());
    Ok(command)
}

fn own_command(bench: &Bench, name: &str, db: &Path) -> Result<Command> {
    let program = bench.program.as_ref().context("these rows need the server")?;
    let mut command = bench.workshop.command(program);
    command.args([name, "--json", "--db"]).arg(db).current_dir(bench.workshop.root());
    Ok(command)
}

/// The copy that a backup is held against, at the same priority.
pub(super) fn copy_command(bench: &Bench, from: &Path, to: &Path) -> Command {
    let mut command = bench.workshop.command(Path::new("sh"));
    command.args(["-c", COPY, "sh"]).args([from, to]);
    command
}

/// A command that ended well.
pub(super) struct Ran {
    took: Duration,
    printed: Vec<u8>,
}

impl Ran {
    pub(super) fn seconds(&self) -> f64 {
        self.took.as_secs_f64()
    }

    /// What it printed as JSON.
    pub(super) fn report(&self) -> Result<Value> {
        serde_json::from_slice(&self.printed).context("no report")
    }
}

/// Runs a command to its end.
pub(super) async fn run(mut command: Command) -> Result<Ran> {
    let ran = tokio::task::spawn_blocking(move || {
        let begin = clock::now();
        let ended = command.output()?;
        let took = clock::now() - begin;
        if !ended.status.success() {
            bail!("{command:?}: {}", String::from_utf8_lossy(&ended.stderr));
        }
        Ok(Ran { took, printed: ended.stdout })
    });
    ran.await?
}

/// Bytes in a report, as megabytes.
pub(super) fn megabytes(bytes: &Value) -> Result<f64> {
    Ok(bytes.as_u64().context("a report without bytes")? as f64 / 1e6)
}
