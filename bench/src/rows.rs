//! The rows themselves: what each group does and which bar it has to reach.

mod backup;
mod backup_again;
mod backup_online;
mod fleet;
mod own;
mod peers;

use std::time::Duration;

use anyhow::Result;

use crate::bench::{Bench, Group, Measured};
use crate::load::Load;
use crate::report::{Bar, Compare, Row, Series, Unit};

pub(crate) const OURS: &str = "ProgressDB";
pub(crate) const SEALED: &str = "ProgressDB encrypted";
const POSTGRES: &str = "PostgreSQL";
const REDIS: &str = "Redis";
/// Ours in both ways, and what is added to the names of their rows.
const VARIANTS: [(&str, &str); 2] = [(OURS, ""), (SEALED, ", encrypted")];
const PAGE: usize = 50;
const THREADS_EACH: usize = 16;
const LOAD_LIMIT: Duration = Duration::from_secs(300);

/// What is read of a load.
#[derive(Clone, Copy)]
struct Figure {
    unit: Unit,
    of: fn(&Load) -> f64,
}

const RATE: Figure = Figure { unit: Unit::PerSecond, of: |load| load.rate };
const P50: Figure = Figure { unit: Unit::Milliseconds, of: |load| load.percentile_ms(50.0) };
const P99: Figure = Figure { unit: Unit::Milliseconds, of: |load| load.percentile_ms(99.0) };
/// Processor time of the measured program for each request.
const CPU: Figure = Figure { unit: Unit::Microseconds, of: |load| load.server_cpu_us };

/// Measures one group.
pub(crate) async fn measure(bench: &mut Bench, group: Group) -> Result<()> {
    match group {
        Group::Append => peers::append(bench).await,
        Group::Single => own::single(bench).await,
        Group::Newest => peers::newest(bench).await,
        Group::Hot => own::hot(bench).await,
        Group::LongThread => own::long_thread(bench).await,
        Group::ManyThreads => own::many_threads(bench).await,
        Group::Start => own::start(bench).await,
        Group::Reopen => own::reopen(bench).await,
        Group::Memory => own::memory(bench).await,
        Group::Backup => backup::backup(bench).await,
        Group::BackupOnline => backup_online::backup_online(bench).await,
        Group::Fleet => fleet::fleet(bench).await,
        Group::BackupAgain => backup_again::backup_again(bench).await,
    }
}

fn alone(name: impl Into<String>, unit: Unit, ours: Series, bar: Option<Bar>) -> Row {
    Row { name: name.into(), unit, ours, peer: None, compare: Compare::Itself, bar }
}

/// What the contender of this name did, if it was measured.
fn find<'a>(measured: &'a [Measured], name: &str) -> Option<&'a Measured> {
    measured.iter().find(|measured| measured.name == name)
}

/// A row of one contender against another, if both were measured.
fn compare(
    bench: &mut Bench,
    name: &str,
    measured: &[Measured],
    (own, other): (&str, &str),
    figure: Figure,
    bar: Option<Bar>,
) {
    if let (Some(own), Some(other)) = (find(measured, own), find(measured, other)) {
        bench.report.row(ratio(name, own, other, figure, bar));
    }
}

/// A row of the first contender against the second.
fn pair(bench: &mut Bench, name: &str, measured: &[Measured], figure: Figure, bar: Bar) {
    if let [own, other] = measured {
        bench.report.row(ratio(name, own, other, figure, Some(bar)));
    }
}

fn ratio(name: &str, own: &Measured, other: &Measured, figure: Figure, bar: Option<Bar>) -> Row {
    let peer = Some((other.name.clone(), other.series(figure.of)));
    Row { name: name.into(), unit: figure.unit, ours: own.series(figure.of), peer, compare: Compare::Ratio, bar }
}

/// Hands the loads over to the report.
fn keep(bench: &mut Bench, group: &str, measured: Vec<Measured>) {
    for Measured { name, loads } in measured {
        for load in loads {
            bench.report.load(group, &name, load);
        }
    }
}
