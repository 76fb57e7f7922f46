//! The rows of slots and of what else is leased, as they are read.

use scylla::client::session::Session;

use super::super::read::{rows, unreadable};
use super::super::session::failed;
use super::super::statements::Statements;
use super::said::UNKNOWN;
use super::{CLAIM, FORMAT_CLAIM};
use crate::store::{Error, Peer};

/// A slot that somebody has, or one of the other rows that are leased.
pub(super) struct Leased {
    pub(super) id: i32,
    pub(super) epoch: i64,
    version: String,
    /// The formats in which its server can work, first and last.
    formats: [i32; 2],
    /// The one that it follows or, of the claim to change it, the one to come.
    format: i32,
}

/// Why no slot may be taken.
pub(super) enum Refused {
    /// A command works on the store alone.
    Claimed,
    /// The store is being raised to a format in which this server cannot work.
    Raised(u32),
}

impl Leased {
    pub(super) fn is_slot(&self) -> bool {
        self.id >= 0
    }

    /// Whether this row keeps a server away that can work in these formats.
    pub(super) fn refuses(&self, formats: [u32; 2]) -> Option<Refused> {
        match self.id {
            CLAIM => Some(Refused::Claimed),
            FORMAT_CLAIM => {
                let to = u32::try_from(self.format).unwrap_or(u32::MAX);
                (!(formats[0]..=formats[1]).contains(&to)).then_some(Refused::Raised(to))
            }
            _ => None,
        }
    }

    /// As the others see it, if it is a slot.
    pub(super) fn peer(self) -> Option<Peer> {
        let number = |column: i32| u32::try_from(column).unwrap_or(0);
        Some(Peer {
            slot: u8::try_from(self.id).ok()?,
            formats: self.formats.map(number),
            follows: u32::try_from(self.format).ok(),
            version: self.version,
        })
    }
}

/// All rows that somebody has at the moment.
pub(super) async fn leased(session: &Session, statements: &Statements) -> Result<Vec<Leased>, Error> {
    type Columns = (i32, Option<Vec<u8>>, Option<i64>, Option<String>, Option<i32>, Option<i32>, Option<i32>);
    let found = rows(session, &statements.slots.list, Vec::new()).await.map_err(|error| failed(&error))?;
    let mut leased = Vec::new();
    for row in found.rows::<Columns>().map_err(unreadable)? {
        let (id, owner, epoch, version, oldest, newest, format) = row.map_err(unreadable)?;
        if owner.is_some() {
            leased.push(Leased {
                id,
                epoch: epoch.unwrap_or(UNKNOWN),
                version: version.unwrap_or_default(),
                formats: [oldest.unwrap_or(0), newest.unwrap_or(0)],
                format: format.unwrap_or(-1),
            });
        }
    }
    Ok(leased)
}
