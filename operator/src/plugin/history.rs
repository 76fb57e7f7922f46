//! `history`: the upgrades that have ended, and the one that is under way.

use std::io::Write;

use kube::Client;

use super::{get, sentence, short_image, status_of};
use crate::{crd::HistoryEntry, objects::for_people};

pub(super) async fn history(client: &Client, namespace: &str, name: &str, out: &mut impl Write) -> anyhow::Result<()> {
    let status = status_of(&get(client, namespace, name).await?);
    if let Some(record) = status.upgrade.as_ref().filter(|record| record.outcome.is_none()) {
        writeln!(out, "under way: {}\n", sentence(record))?;
    }
    if status.history.is_empty() {
        writeln!(out, "no upgrade of {name} has ended yet")?;
        return Ok(());
    }
    let head = ["ID", "FROM", "TO", "OUTCOME", "STARTED", "TOOK", "DOWNTIME", "WHY"].map(str::to_owned);
    let rows: Vec<[String; 8]> = [head].into_iter().chain(status.history.iter().map(row)).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..8).map(width).collect();
    for row in &rows {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        writeln!(out, "{}", cells.collect::<Vec<_>>().join("  ").trim_end())?;
    }
    writeln!(out, "\nmore about one of them: kubectl progressdb -n {namespace} report {name} --upgrade ID")?;
    Ok(())
}

fn row(entry: &HistoryEntry) -> [String; 8] {
    let known = |value: Option<String>| value.unwrap_or_else(|| "-".to_owned());
    let took = entry.ended_at.zip(entry.started_at).map(|(end, start)| for_people(end.duration_since(start)));
    [
        entry.id.clone(),
        short_image(&entry.from).to_owned(),
        short_image(&entry.to).to_owned(),
        known(entry.outcome.map(|outcome| format!("{outcome:?}"))),
        known(entry.started_at.map(|at| at.to_string())),
        known(took),
        known(entry.downtime_millis.map(|millis| format!("{}.{} s", millis / 1000, millis % 1000 / 100))),
        entry.message.clone().unwrap_or_default(),
    ]
}
