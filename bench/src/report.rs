//! What a run found: rows judged against their bars, the loads behind them, one text table and one JSON document.

use std::fmt::Write;

use serde_json::{Value, json};

use crate::load::Load;

/// One figure of each round.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Series(pub(crate) Vec<f64>);

impl Series {
    /// The middle one; the mean of the middle two when they are even in number.
    pub(crate) fn median(&self) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        let middle = sorted.len() / 2;
        match sorted.len() {
            0 => f64::NAN,
            count if count % 2 == 1 => sorted[middle],
            _ => f64::midpoint(sorted[middle - 1], sorted[middle]),
        }
    }

    fn min(&self) -> f64 {
        self.0.iter().copied().fold(f64::INFINITY, f64::min)
    }

    fn max(&self) -> f64 {
        self.0.iter().copied().fold(f64::NEG_INFINITY, f64::max)
    }

    fn pairs(&self, other: &Self, combine: impl Fn(f64, f64) -> f64) -> Self {
        Self(self.0.iter().zip(&other.0).map(|(own, peer)| combine(*own, *peer)).collect())
    }

    fn text(&self, unit: Unit) -> String {
        let median = unit.text(self.median());
        if self.0.len() < 2 {
            median
        } else {
            format!("{median} ({}-{})", unit.number(self.min()), unit.text(self.max()))
        }
    }

    fn json(&self) -> Value {
        json!({ "median": self.median(), "min": self.min(), "max": self.max(), "rounds": self.0 })
    }
}

/// What a figure counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unit {
    PerSecond,
    Milliseconds,
    Microseconds,
    Seconds,
    Megabytes,
    MegabytesPerSecond,
    Times,
}

impl Unit {
    fn number(self, value: f64) -> String {
        match self {
            Self::PerSecond if value >= 10_000.0 => format!("{:.1}k", value / 1000.0),
            Self::PerSecond => format!("{value:.0}"),
            Self::Megabytes | Self::MegabytesPerSecond | Self::Microseconds => format!("{value:.1}"),
            Self::Times => format!("{value:.2}"),
            Self::Milliseconds | Self::Seconds => format!("{value:.3}"),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::PerSecond => "/s",
            Self::Milliseconds => " ms",
            Self::Microseconds => " us",
            Self::Seconds => " s",
            Self::Megabytes => " MB",
            Self::MegabytesPerSecond => " MB/s",
            Self::Times => "x",
        }
    }

    fn text(self, value: f64) -> String {
        format!("{}{}", self.number(value), self.name())
    }
}

/// How ours meets the peer's: round by round, because the disk's mood changes between rounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Compare {
    /// Ours divided by theirs.
    Ratio,
    /// Ours less theirs.
    Difference,
    /// Ours alone.
    Itself,
}

/// What the judged figure's median has to reach.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Bar {
    AtLeast(f64),
    AtMost(f64),
}

impl Bar {
    fn met(self, value: f64) -> bool {
        match self {
            Self::AtLeast(least) => value >= least,
            Self::AtMost(most) => value <= most,
        }
    }

    fn text(self, unit: Unit) -> String {
        match self {
            Self::AtLeast(least) => format!(">= {least}{}", unit.name()),
            Self::AtMost(most) => format!("<= {most}{}", unit.name()),
        }
    }
}

/// One line of the table.
pub(crate) struct Row {
    pub(crate) name: String,
    pub(crate) unit: Unit,
    pub(crate) ours: Series,
    /// Name and figures of what ours is held against.
    pub(crate) peer: Option<(String, Series)>,
    pub(crate) compare: Compare,
    pub(crate) bar: Option<Bar>,
}

impl Row {
    fn judged(&self) -> (Series, Unit) {
        let empty = Series::default();
        let peer = self.peer.as_ref().map_or(&empty, |(_, series)| series);
        match self.compare {
            Compare::Ratio => (self.ours.pairs(peer, |own, peer| own / peer), Unit::Times),
            Compare::Difference => (self.ours.pairs(peer, |own, peer| own - peer), self.unit),
            Compare::Itself => (self.ours.clone(), self.unit),
        }
    }

    fn verdict(&self) -> &'static str {
        match self.bar {
            None => "-",
            Some(bar) if bar.met(self.judged().0.median()) => "ok",
            Some(_) => "SHORT",
        }
    }

    fn cells(&self) -> [String; 6] {
        let (judged, unit) = self.judged();
        let peer = self.peer.as_ref().map_or("-".into(), |(name, series)| format!("{name} {}", series.text(self.unit)));
        let judged = if self.compare == Compare::Itself { "-".into() } else { judged.text(unit) };
        let bar = self.bar.map_or("-".into(), |bar| bar.text(unit));
        [self.name.clone(), self.ours.text(self.unit), peer, judged, bar, self.verdict().into()]
    }

    fn json(&self) -> Value {
        let (judged, unit) = self.judged();
        json!({
            "name": self.name,
            "unit": self.unit.name().trim(),
            "ours": self.ours.json(),
            "peer": self.peer.as_ref().map(|(name, series)| json!({ "name": name, "figures": series.json() })),
            "judged": judged.json(),
            "bar": self.bar.map(|bar| bar.text(unit)),
            "verdict": self.verdict(),
        })
    }
}

/// Everything that a run found.
#[derive(Default)]
pub(crate) struct Report {
    rows: Vec<Row>,
    loads: Vec<(String, String, Load)>,
    skipped: Vec<String>,
    failed: Vec<String>,
    notes: Vec<String>,
}

impl Report {
    /// Adds a judged row.
    pub(crate) fn row(&mut self, row: Row) {
        self.rows.push(row);
    }

    /// Adds a load of `system` that belongs to the group of rows `group`.
    pub(crate) fn load(&mut self, group: &str, system: &str, load: Load) {
        self.loads.push((group.into(), system.into(), load));
    }

    /// Names what was left out, and what to do about it.
    pub(crate) fn skip(&mut self, text: String) {
        self.skipped.push(text);
    }

    /// Names a group that broke.
    pub(crate) fn fail(&mut self, text: String) {
        self.failed.push(text);
    }

    /// Names something that a reader of the figures should know.
    pub(crate) fn note(&mut self, text: String) {
        self.notes.push(text);
    }

    /// Whether everything asked for was measured or knowingly left out.
    pub(crate) fn is_whole(&self) -> bool {
        self.failed.is_empty()
    }

    /// The tables as text.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        let rows = self.rows.iter().map(Row::cells).map(Vec::from).collect();
        table(&mut text, &["row", "ours", "peer", "compared", "bar", "verdict"], rows);
        text.push('\n');
        let heads: Vec<_> = LOAD_HEADS.split(", ").collect();
        table(&mut text, &heads, self.loads.iter().map(load_cells).collect());
        for (kind, lines) in [("note", &self.notes), ("skipped", &self.skipped), ("FAILED", &self.failed)] {
            for line in lines {
                // A String takes everything.
                writeln!(text, "{kind}: {line}").ok();
            }
        }
        text
    }

    /// The same, with all rounds, for programs.
    pub(crate) fn json(&self, machine: &Value) -> Value {
        json!({
            "machine": machine,
            "rows": self.rows.iter().map(Row::json).collect::<Vec<_>>(),
            "loads": self.loads.iter().map(load_json).collect::<Vec<_>>(),
            "notes": self.notes,
            "skipped": self.skipped,
            "failed": self.failed,
        })
    }
}

const LOAD_HEADS: &str = "group, system, load, rate, p50 ms, p90, p99, p99.9, max, cpu us, own us, own late ms, unsent";
const PERCENTILES: [f64; 5] = [50.0, 90.0, 99.0, 99.9, 100.0];

fn load_cells((group, system, load): &(String, String, Load)) -> Vec<String> {
    let shape = format!("{} c={}", load.shape, load.connections);
    let mut cells = vec![group.clone(), system.clone(), shape, Unit::PerSecond.text(load.rate)];
    cells.extend(PERCENTILES.map(|percentile| Unit::Milliseconds.number(load.percentile_ms(percentile))));
    cells.extend([load.server_cpu_us, load.generator_cpu_us].map(|cpu| format!("{cpu:.0}")));
    let late = |percentile| Unit::Milliseconds.number(load.lateness.value_at_percentile(percentile) as f64 / 1e6);
    cells.push(if load.lateness.is_empty() { "-".into() } else { format!("{} {}", late(50.0), late(99.0)) });
    cells.push(load.unsent.to_string());
    cells
}

fn load_json((group, system, load): &(String, String, Load)) -> Value {
    let percentiles = PERCENTILES.map(|percentile| (format!("p{percentile}"), json!(load.percentile_ms(percentile))));
    let buckets = load.latency.iter_recorded().map(|at| json!([at.value_iterated_to(), at.count_at_value()]));
    json!({
        "group": group, "system": system, "shape": load.shape, "connections": load.connections, "rate": load.rate,
        "latency_ms": serde_json::Map::from_iter(percentiles), "answered": load.answered, "unsent": load.unsent,
        "generator_late_ms": { "p50": load.lateness.value_at_percentile(50.0) as f64 / 1e6, "p99": load.lateness.value_at_percentile(99.0) as f64 / 1e6 },
        "server_cpu_us": load.server_cpu_us, "generator_cpu_us": load.generator_cpu_us,
        "histogram_ns": buckets.collect::<Vec<_>>(),
    })
}

/// Left-aligned columns, two spaces apart.
fn table(text: &mut String, heads: &[&str], rows: Vec<Vec<String>>) {
    if rows.is_empty() {
        return;
    }
    let mut lines = vec![heads.iter().map(|head| (*head).to_owned()).collect()];
    lines.extend(rows);
    let width = |column: usize| lines.iter().map(|line: &Vec<String>| line[column].len()).max().unwrap_or(0);
    let widths: Vec<_> = (0..heads.len()).map(width).collect();
    for line in &lines {
        let cells = line.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        let line = cells.collect::<Vec<_>>().join("  ");
        text.push_str(line.trim_end());
        text.push('\n');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle() {
        assert_eq!(Series(vec![3.0, 1.0, 9.0]).median(), 3.0);
        assert_eq!(Series(vec![4.0, 1.0, 9.0, 2.0]).median(), 3.0);
        assert!(Series::default().median().is_nan());
    }

    fn row(compare: Compare, bar: Bar) -> Row {
        let (ours, peer) = (Series(vec![20_000.0, 30_000.0, 26_000.0]), Series(vec![10_000.0, 20_000.0, 20_000.0]));
        let peer = Some(("Peer".into(), peer));
        Row { name: "append".into(), unit: Unit::PerSecond, ours, peer, compare, bar: Some(bar) }
    }

    #[test]
    fn ratios_are_taken_round_by_round() {
        let row = row(Compare::Ratio, Bar::AtLeast(1.3));
        assert_eq!(row.judged(), (Series(vec![2.0, 1.5, 1.3]), Unit::Times));
        assert_eq!(row.verdict(), "ok");
    }

    #[test]
    fn a_bar_is_met_or_short() {
        assert_eq!(row(Compare::Ratio, Bar::AtLeast(1.51)).verdict(), "SHORT");
        assert_eq!(row(Compare::Difference, Bar::AtMost(10_000.0)).verdict(), "ok");
        assert_eq!(row(Compare::Difference, Bar::AtMost(9_999.0)).verdict(), "SHORT");
        assert_eq!(row(Compare::Itself, Bar::AtMost(26_000.0)).verdict(), "ok");
        let unjudged = Row { ours: Series::default(), ..row(Compare::Ratio, Bar::AtLeast(0.1)) };
        assert_eq!(unjudged.verdict(), "SHORT", "no figure meets no bar");
    }

    #[test]
    fn the_table_lines_up_and_names_what_is_missing() {
        let mut report = Report::default();
        report.row(row(Compare::Ratio, Bar::AtLeast(1.3)));
        report.skip("Redis: apt-get install redis-server".into());
        let wanted = "\
row     ours                 peer                       compared           bar      verdict
append  26.0k/s (20.0k-30.0k/s)  Peer 20.0k/s (10.0k-20.0k/s)  1.50x (1.30-2.00x)  >= 1.3x  ok

skipped: Redis: apt-get install redis-server
";
        let squeeze = |text: &str| text.split(' ').filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" ");
        assert_eq!(squeeze(&report.text()), squeeze(wanted));
        let columns: Vec<_> =
            report.text().lines().take(2).map(|line| line.find("Peer").or(line.find("peer"))).collect();
        assert_eq!(columns[0], columns[1]);
        assert!(report.is_whole());
    }

    #[test]
    fn the_document_holds_every_round_and_the_verdict() {
        let mut report = Report::default();
        report.row(row(Compare::Ratio, Bar::AtLeast(1.3)));
        report.fail("append: lost".into());
        let document = report.json(&json!({ "kernel": "6" }));
        assert_eq!(document["rows"][0]["judged"]["rounds"], json!([2.0, 1.5, 1.3]));
        assert_eq!(document["rows"][0]["verdict"], "ok");
        assert_eq!(document["failed"], json!(["append: lost"]));
        assert_eq!(document["machine"]["kernel"], "6");
        assert!(!report.is_whole());
    }
}
