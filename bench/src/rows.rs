//! The rows themselves: what each group does and which bar it has to reach.

mod own;
mod peers;

use std::time::Duration;

use anyhow::Result;

use crate::bench::{Bench, Contender, Group};
use crate::load::Load;
use crate::report::{Bar, Compare, Row, Series, Unit};

const OURS: &str = "ProgressDB";
const PAGE: usize = 50;
const THREADS_EACH: usize = 16;
const LOAD_LIMIT: Duration = Duration::from_secs(300);

/// Measures one group.
pub(crate) async fn measure(bench: &mut Bench, group: Group) -> Result<()> {
    match group {
        Group::Append => peers::append(bench).await,
        Group::Single => own::single(bench).await,
        Group::Newest => peers::newest(bench).await,
        Group::Sealed => own::sealed(bench).await,
        Group::Hot => own::hot(bench).await,
        Group::LongThread => own::long_thread(bench).await,
        Group::ManyThreads => own::many_threads(bench).await,
        Group::Start => own::start(bench).await,
        Group::Reopen => own::reopen(bench).await,
        Group::Memory => own::memory(bench).await,
    }
}

fn rate(load: &Load) -> f64 {
    load.rate
}

fn p50(load: &Load) -> f64 {
    load.percentile_ms(50.0)
}

fn p99(load: &Load) -> f64 {
    load.percentile_ms(99.0)
}

fn alone(name: &str, unit: Unit, ours: Series, bar: Option<Bar>) -> Row {
    Row { name: name.into(), unit, ours, peer: None, compare: Compare::Itself, bar }
}

/// A row of ours against `peer`, if both were measured.
fn compare(
    bench: &mut Bench,
    name: &str,
    contenders: &[Contender],
    peer: &str,
    unit: Unit,
    figure: fn(&Load) -> f64,
    bar: Option<Bar>,
) {
    let series = |name| contenders.iter().find(|contender| contender.name == name).map(|found| found.series(figure));
    if let (Some(ours), Some(theirs)) = (series(OURS), series(peer)) {
        let peer = Some((peer.to_owned(), theirs));
        bench.report.row(Row { name: name.into(), unit, ours, peer, compare: Compare::Ratio, bar });
    }
}

/// A row of the first contender against the second.
fn pair(bench: &mut Bench, name: &str, contenders: &[Contender], unit: Unit, figure: fn(&Load) -> f64, bar: Bar) {
    if let [own, other] = contenders {
        let peer = Some((other.name.clone(), other.series(figure)));
        let (ours, bar) = (own.series(figure), Some(bar));
        bench.report.row(Row { name: name.into(), unit, ours, peer, compare: Compare::Ratio, bar });
    }
}

/// Hands the loads over to the report.
fn keep(bench: &mut Bench, group: &str, contenders: Vec<Contender>) {
    for contender in contenders {
        for load in contender.loads {
            bench.report.load(group, &contender.name, load);
        }
    }
}
