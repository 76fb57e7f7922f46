//! Pages: the rows around a position in one index, whatever the index orders.

use super::error::Error;
use crate::keys::KeyRange;
use crate::store::{Direction, Row, Store};

/// Where a window lies in its range, in byte order. A position is the keys that would be it.
#[derive(Clone, Debug)]
pub(super) enum Position {
    /// At the upper end.
    Top,
    /// In front of the position.
    Below(KeyRange),
    /// Behind the position.
    Above(KeyRange),
    /// Up to the limit on either side, and the position itself.
    Around(KeyRange),
}

/// Rows in ascending order, and whether there are more on either side.
#[derive(Debug, Default)]
pub(super) struct Window {
    pub(super) rows: Vec<Row>,
    /// How many of them lie below the position: the page is kept from there outwards if it must be cut.
    pub(super) below: usize,
    pub(super) has_below: bool,
    pub(super) has_above: bool,
}

impl Window {
    /// Leaves the rows that are nearest to the position, up to the limit, on either side of it.
    pub(super) fn cut(&mut self, position: &Position, limit: usize) {
        let (from_below, from_above) = match position {
            Position::Top | Position::Below(_) => (self.rows.len().saturating_sub(limit), 0),
            Position::Above(_) => (0, self.rows.len().saturating_sub(limit)),
            Position::Around(at) => {
                let own = usize::from(self.rows.get(self.below).is_some_and(|row| at.contains(&row.key)));
                (self.below.saturating_sub(limit), (self.rows.len() - self.below - own).saturating_sub(limit))
            }
        };
        self.rows.truncate(self.rows.len() - from_above);
        self.rows.drain(..from_below);
        self.below = self.below.saturating_sub(from_below);
        self.has_above |= from_above > 0;
        self.has_below |= from_below > 0;
    }
}

/// Reads the window, which is shorter than its limit where rows are large. An empty one says that there is nothing on either side, wherever it lies.
pub(super) async fn window(store: &Store, range: &KeyRange, position: Position, limit: usize) -> Result<Window, Error> {
    let window = match position {
        Position::Top => {
            let (rows, has_below) = below(store, range.clone(), limit).await?;
            Window { below: rows.len(), rows, has_below, has_above: false }
        }
        Position::Below(at) => {
            let (rows, has_below) = below(store, range.below(&at), limit).await?;
            let rest = KeyRange { start: at.start, end: range.end.clone() };
            let has_above = !rows.is_empty() && any(store, rest).await?;
            Window { below: rows.len(), rows, has_below, has_above }
        }
        Position::Above(at) => {
            let (rows, has_above) = above(store, range.above(&at), limit).await?;
            let rest = KeyRange { start: range.start.clone(), end: at.end };
            let has_below = !rows.is_empty() && any(store, rest).await?;
            Window { below: 0, rows, has_below, has_above }
        }
        Position::Around(at) => {
            let (mut rows, has_below) = below(store, range.below(&at), limit).await?;
            let below = rows.len();
            rows.extend(store.scan(at.clone(), Direction::Ascending, 1).await?.rows);
            let (behind, has_above) = above(store, range.above(&at), limit).await?;
            rows.extend(behind);
            Window { rows, below, has_below, has_above }
        }
    };
    Ok(window)
}

/// The uppermost `limit` rows of the range, ascending, and whether there are more below.
async fn below(store: &Store, range: KeyRange, limit: usize) -> Result<(Vec<Row>, bool), Error> {
    let mut scan = store.scan(range, Direction::Descending, limit).await?;
    scan.rows.reverse();
    Ok((scan.rows, scan.more))
}

/// The lowermost `limit` rows of the range, and whether there are more above.
async fn above(store: &Store, range: KeyRange, limit: usize) -> Result<(Vec<Row>, bool), Error> {
    let scan = store.scan(range, Direction::Ascending, limit).await?;
    Ok((scan.rows, scan.more))
}

async fn any(store: &Store, range: KeyRange) -> Result<bool, Error> {
    let scan = store.scan(range, Direction::Ascending, 1).await?;
    Ok(!scan.rows.is_empty())
}
