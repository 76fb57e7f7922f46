//! A backup beside a copy that the system's own tools make and hash.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use super::{LOAD_LIMIT, THREADS_EACH};
use crate::bench::{Bench, CONNECTIONS, Contender};
use crate::clock;
use crate::report::{Bar, Compare, Row, Series, Unit};
use crate::server::{Owner, Server};

/// Long texts, so that loading does not take longer than what is measured.
const TEXT_BYTES: usize = 16 << 10;

const COPY: &str = "cp -r \"$1\" \"$2\" && find \"$2\" -type f -exec sha256sum {} + && sync";

/// Of a stopped server: nothing else reads or writes meanwhile. Both sides find the store in the page cache, and both end
/// when everything is on disk; the backup was read again by then.
pub(super) async fn backup(bench: &mut Bench) -> Result<()> {
    let program = bench.program.clone().context("these rows need the server")?;
    let (mut server, _) = filled_server(bench).await?;
    server.stop()?;
    let (db, out) = (server.db(), bench.workshop.directory("backup")?);
    let (mut ours, mut copied) = (Series::default(), Series::default());
    for _ in 0..bench.scale.rounds {
        let artefact = out.join("artefact.pdbk");
        let mut backup = bench.workshop.command(&program);
        backup.arg("backup").arg("--db").arg(&db).arg("--out").arg(&artefact).current_dir(&out);
        ours.0.push(time(backup, artefact).await?.as_secs_f64());
        // At the same priority.
        let mut copy = bench.workshop.command(Path::new("sh"));
        copy.args(["-c", COPY, "sh"]).args([&db, &out.join("copy")]);
        copied.0.push(time(copy, out.join("copy")).await?.as_secs_f64());
        let (backup, copy) = (ours.0[ours.0.len() - 1], copied.0[copied.0.len() - 1]);
        eprintln!("  backup {backup:.3} s, copy and hash {copy:.3} s");
    }
    bench.report.row(Row {
        name: format!("backup of {} MB, server stopped", bench.scale.backup_mb),
        unit: Unit::Seconds,
        ours,
        peer: Some(("cp -r; sha256sum; sync".into(), copied)),
        compare: Compare::Ratio,
        bar: Some(Bar::AtMost(1.2)),
    });
    Ok(())
}

/// A server with that many megabytes of messages, and the owners of its threads.
pub(super) async fn filled_server(bench: &Bench) -> Result<(Server, Vec<Owner>)> {
    let server = bench.own_server().await?;
    let owners = server.create_threads(CONNECTIONS, THREADS_EACH).await?;
    let messages = (bench.scale.backup_mb * 1_000_000).div_ceil(TEXT_BYTES);
    let mut loader = Contender::new("loading", server.id(), server.appenders_of(&owners, TEXT_BYTES).await?);
    loader.load(messages, LOAD_LIMIT).await?;
    server.verify(loader.answered).await?;
    Ok((server, owners))
}

/// How long the command takes, from a disk that is at rest; what it made is removed.
async fn time(mut command: Command, made: PathBuf) -> Result<Duration> {
    let measured = tokio::task::spawn_blocking(move || {
        rustix::fs::sync();
        let begin = clock::now();
        let ended = command.output()?;
        let took = clock::now() - begin;
        if !ended.status.success() {
            bail!("{command:?}: {}", String::from_utf8_lossy(&ended.stderr));
        }
        ensure!(made.exists(), "{command:?} made nothing");
        if made.is_dir() {
            fs::remove_dir_all(&made)?
        } else {
            fs::remove_file(&made)?
        }
        Ok(took)
    });
    measured.await?
}
