//! The marker file: one JSON line that says whose directory it is and which store in it counts.
//!
//! ```text
//! name          progressdb
//! layout        2
//! database_id   random, 16 bytes in hex
//! incarnation   random, 8 bytes in hex; another one after each restore. Since layout 2
//! state         creating, ready, restoring, or resetting
//! store         the directory of the store: store-<n>. Since layout 2; before it was always `store`
//! kept          directories of former stores that are kept on purpose; absent if there are none
//! created       when the database was created
//! ```
//! The marker is replaced as a whole by one rename. That rename commits a change of the store that counts.

use std::{fs, io, path::Path};

use serde::{Deserialize, Serialize};

use super::{Birth, Error};
use crate::files;
use crate::format::Identity;
use crate::model::Incarnation;

/// The directory layout that this version writes; it reads all older ones.
pub const LAYOUT: u32 = 2;

pub(super) const MARKER: &str = "PROGRESSDB";
pub(super) const MARKER_TMP: &str = "PROGRESSDB.tmp";
const NAME: &str = "progressdb";
/// The store of a new database.
const FIRST_STORE: &str = "store-1";
/// The name of the store in layout 1; all others begin with it.
pub(super) const STORE: &str = "store";

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Marker {
    name: String,
    layout: u32,
    #[serde(with = "hex")]
    database_id: [u8; 16],
    #[serde(default = "incarnation_of_layout_1", with = "hex")]
    incarnation: [u8; 8],
    pub(super) state: State,
    #[serde(default = "store_of_layout_1")]
    store: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    kept: Vec<String>,
    created: String,
}

/// What the row in a store of layout 1 says.
fn incarnation_of_layout_1() -> [u8; 8] {
    1_u64.to_be_bytes()
}

fn store_of_layout_1() -> String {
    STORE.to_owned()
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum State {
    /// Nothing was acknowledged yet: the next start makes the store anew.
    Creating,
    /// The store counts.
    Ready,
    /// A restore began and did not end.
    Restoring,
    /// A reset began and did not end.
    Resetting,
}

impl Marker {
    /// The marker of a directory, if it has one.
    pub(super) fn read(path: &Path) -> Result<Option<Self>, Error> {
        #[derive(Deserialize)]
        struct Header {
            name: String,
            layout: u32,
        }
        let name = path.join(MARKER);
        let text = match fs::read_to_string(&name) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) if error.kind() == io::ErrorKind::InvalidData => String::new(),
            Err(error) => return Err(Error::io(format!("cannot read {}", name.display()), error)),
        };
        let unreadable = || Error::damaged(path, format!("its {MARKER} file cannot be understood"));
        // Name and layout first: a newer layout may have other fields.
        let header: Header = serde_json::from_str(&text).map_err(|_| unreadable())?;
        if header.name != NAME {
            return Err(Error::not_ours(path, format!("its {MARKER} file belongs to something else")));
        }
        if header.layout > LAYOUT {
            return Err(Error::TooNew { found: header.layout, newest: LAYOUT });
        }
        let marker: Self = serde_json::from_str(&text).map_err(|_| unreadable())?;
        let names = [&marker.store].into_iter().chain(&marker.kept);
        if names.into_iter().all(|name| is_store_name(name)) { Ok(Some(marker)) } else { Err(unreadable()) }
    }

    /// Begins a creation.
    pub(super) fn create(path: &Path, birth: Birth) -> Result<Self, Error> {
        let marker = Self::new(birth);
        marker.write(path)?;
        Ok(marker)
    }

    /// The same, not written yet.
    pub(super) fn new(birth: Birth) -> Self {
        let created = jiff::Timestamp::from_nanosecond(birth.created_ns.into()).unwrap_or_default();
        Self {
            name: NAME.to_owned(),
            layout: LAYOUT,
            database_id: birth.identity.database_id,
            incarnation: birth.identity.incarnation.0.to_be_bytes(),
            state: State::Creating,
            store: FIRST_STORE.to_owned(),
            kept: Vec::new(),
            created: format!("{created:.0}"),
        }
    }

    /// The same in the newest layout. Layout 1 said neither the store's name nor the incarnation; the store keeps its
    /// directory, so that the move is one rename, and no version ever finds a state in between.
    pub(super) fn move_up(self, path: &Path, birth: Birth) -> Result<Self, Error> {
        if self.layout == LAYOUT {
            return Ok(self);
        }
        let marker = Self { layout: LAYOUT, incarnation: birth.identity.incarnation.0.to_be_bytes(), ..self };
        marker.write(path)?;
        tracing::info!(event = "startup.layout_moved_up", layout = LAYOUT, path = %path.display());
        Ok(marker)
    }

    /// The same in another state.
    pub(super) fn in_state(&self, state: State) -> Self {
        Self { state, ..self.clone() }
    }

    /// The same with another store, which is another incarnation of the database; the former store is kept if `keep`.
    pub(super) fn with_store(&self, store: &str, incarnation: Incarnation, keep: bool) -> Self {
        let kept = self.kept.iter().chain(keep.then_some(&self.store)).filter(|name| *name != store);
        Self {
            store: store.to_owned(),
            kept: kept.cloned().collect(),
            incarnation: incarnation.0.to_be_bytes(),
            state: State::Ready,
            ..self.clone()
        }
    }

    /// Of a database that was restored, in place of the one that was there before. Former stores stay kept, and so does
    /// the one that counted, if `keep`.
    pub(super) fn restored(birth: Birth, store: &str, before: Option<&Self>, keep: bool) -> Self {
        let before = before.filter(|before| before.state == State::Ready);
        let kept = before.map(|before| before.with_store(store, birth.identity.incarnation, keep).kept);
        let kept = kept.unwrap_or_default();
        Self { store: store.to_owned(), kept, state: State::Ready, ..Self::new(birth) }
    }

    pub(super) fn identity(&self) -> Identity {
        Identity { database_id: self.database_id, incarnation: Incarnation(u64::from_be_bytes(self.incarnation)) }
    }

    /// The name of the store's directory.
    pub(super) fn store(&self) -> &str {
        &self.store
    }

    /// Former stores that are kept on purpose.
    pub(super) fn kept(&self) -> &[String] {
        &self.kept
    }

    /// Replaces the marker as a whole: a crash leaves the old one or the new one.
    pub(super) fn write(&self, path: &Path) -> Result<(), Error> {
        let (tmp, name) = (path.join(MARKER_TMP), path.join(MARKER));
        let line = serde_json::to_string(self).map_err(|error| Error::io("cannot encode the marker", error))?;
        let written = files::replace(&name, &tmp, format!("{line}\n").as_bytes());
        written.map_err(|error| Error::io(format!("cannot write {}", name.display()), error))
    }
}

/// Whether this is a name for a store's directory, and so not a path to somewhere else.
pub(super) fn is_store_name(name: &str) -> bool {
    store_number(name).is_some()
}

/// The number of the store of that name; 0 for that of layout 1, which had none.
pub(super) fn store_number(name: &str) -> Option<u32> {
    let digits = match name.strip_prefix(STORE)? {
        "" => return Some(0),
        rest => rest.strip_prefix('-')?,
    };
    digits.parse().ok().filter(|number: &u32| number.to_string() == digits)
}

/// The name of the store of that number.
pub(super) fn store_name(number: u32) -> String {
    format!("{STORE}-{number}")
}
