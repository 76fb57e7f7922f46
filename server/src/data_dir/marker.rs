//! The marker file: one JSON line that says whose directory it is.

use std::{fs, io, path::Path};

use serde::{Deserialize, Serialize};

use super::{Birth, Error};
use crate::files;

/// The directory layout that this version reads and writes.
pub const LAYOUT: u32 = 1;

pub(super) const MARKER: &str = "PROGRESSDB";
pub(super) const MARKER_TMP: &str = "PROGRESSDB.tmp";
const NAME: &str = "progressdb";

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Marker {
    name: String,
    layout: u32,
    #[serde(with = "hex")]
    pub(super) database_id: [u8; 16],
    pub(super) state: State,
    created: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum State {
    Creating,
    Ready,
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
        // A newer layout may have another shape: look at name and number first.
        let header: Header = serde_json::from_str(&text).map_err(|_| unreadable())?;
        if header.name != NAME {
            return Err(Error::not_ours(path, format!("its {MARKER} file belongs to something else")));
        }
        if header.layout > LAYOUT {
            return Err(Error::TooNew { found: header.layout, newest: LAYOUT });
        }
        serde_json::from_str(&text).map(Some).map_err(|_| unreadable())
    }

    /// Begins a creation.
    pub(super) fn create(path: &Path, birth: Birth) -> Result<Self, Error> {
        let created = jiff::Timestamp::from_nanosecond(birth.created_ns.into()).unwrap_or_default();
        let marker = Self {
            name: NAME.to_owned(),
            layout: LAYOUT,
            database_id: birth.database_id,
            state: State::Creating,
            created: format!("{created:.0}"),
        };
        marker.write(path)?;
        Ok(marker)
    }

    /// The same of a directory whose store counts.
    pub(super) fn to_ready(&self) -> Self {
        Self { state: State::Ready, ..self.clone() }
    }

    /// Replaces the marker as a whole: after a crash the old one or the new one is there.
    pub(super) fn write(&self, path: &Path) -> Result<(), Error> {
        let (tmp, name) = (path.join(MARKER_TMP), path.join(MARKER));
        let line = serde_json::to_string(self).map_err(|error| Error::io("cannot encode the marker", error))?;
        let written = files::replace(&name, &tmp, format!("{line}\n").as_bytes());
        written.map_err(|error| Error::io(format!("cannot write {}", name.display()), error))
    }
}
