//! The second backup into an object store: how much of it is sent.

use anyhow::Result;

use super::backup::{backup_command, fill, filled_server, megabytes, messages, run};
use crate::bench::{Bench, settle};
use crate::report::{Bar, Compare, Row, Series, Unit};
use crate::server::Server;

/// Of a running server, into a directory that is laid out like an object store. Each round adds one percent of the messages
/// and sends another backup; all are held against the first one. The store rests before each, as it does between two
/// nights: what was compacted meanwhile is sent again.
pub(super) async fn backup_again(bench: &mut Bench) -> Result<()> {
    let (server, owners) = filled_server(bench).await?;
    let url = format!("file://{}", bench.workshop.directory("objects")?.display());
    let first = send(bench, &server, &url).await?;
    let (mut again, mut whole) = (Series::default(), Series::default());
    for _ in 0..bench.scale.rounds {
        fill(&server, &owners, messages(bench).div_ceil(100)).await?;
        again.0.push(send(bench, &server, &url).await?);
        whole.0.push(first);
    }
    bench.report.row(Row {
        name: format!("backup of {} MB again, 1 % more messages: sent", bench.scale.backup_mb),
        unit: Unit::Megabytes,
        ours: again,
        peer: Some(("the first".into(), whole)),
        compare: Compare::Ratio,
        bar: Some(Bar::AtMost(0.05)),
    });
    Ok(())
}

/// Megabytes that were sent.
async fn send(bench: &Bench, server: &Server, url: &str) -> Result<f64> {
    settle(&[server.id()]).await?;
    let report = run(backup_command(bench, &server.db(), url)?).await?.report()?;
    let [sent, shared] = ["bytes", "shared_bytes"].map(|field| megabytes(&report[field]));
    let (sent, shared) = (sent?, shared?);
    eprintln!("  {sent:.1} MB sent, {shared:.1} MB were there");
    Ok(sent)
}
