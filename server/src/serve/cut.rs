//! Cuts the store of a running server for a backup: a checkpoint below `tmp/`, and what is said of it.

use std::fs;
use std::path::{Path, PathBuf};

use aws_lc_rs::rand;
use serde_json::Value;
use tokio::runtime::Handle;

use super::description::describe;
use crate::backup::{Counts, Source};
use crate::config::Config;
use crate::db::Inspected;
use crate::error_chain::with_causes;
use crate::format::{Formats, Identity};
use crate::store::Engine;

/// What it takes to cut a store.
pub(super) struct Cutter {
    pub(super) engine: Engine,
    pub(super) identity: Identity,
    pub(super) formats: Formats,
    pub(super) config: Config,
    /// Those that the backup lists.
    pub(super) settings: Value,
    /// On the same file system as the store, and emptied at every start.
    pub(super) tmp: PathBuf,
}

/// A store as it was at one moment; removed when it is dropped.
pub(super) struct Cut {
    pub(super) source: Source,
}

impl Drop for Cut {
    fn drop(&mut self) {
        // What cannot be removed is removed at the next start.
        let _ = fs::remove_dir_all(&self.source.directory);
    }
}

impl Cutter {
    /// Every commit that was acknowledged before the call is in it. Blocks, and is for threads of a runtime that may. The
    /// error says why it cannot.
    pub(super) fn cut(&self) -> Result<Cut, String> {
        let mut id = [0; 16];
        rand::fill(&mut id).expect("the system's random source works");
        let path = self.tmp.join(format!("backup-{}", hex::encode(id)));
        let values = self.engine.checkpoint(&path, &Inspected::COUNTERS).map_err(|error| with_causes(&error))?;
        self.describe(&path, &values).inspect_err(|_| {
            let _ = fs::remove_dir_all(&path);
        })
    }

    /// Keys are read after the cut, so that those which it needs are among them; what was counted is that of the cut.
    fn describe(&self, path: &Path, values: &[Option<Vec<u8>>]) -> Result<Cut, String> {
        let Self { engine, identity, formats, config, settings, .. } = self;
        let described = Handle::current().block_on(describe(engine, *identity, formats, config, settings.clone()));
        let mut description = described.map_err(|error| with_causes(&error))?;
        let [sequence, threads, messages, users] = Inspected::count(values).map_err(|error| with_causes(&error))?;
        description.sequence = u64::try_from(sequence).unwrap_or(0);
        description.counts = Counts { threads, messages, users };
        let source = Source::of_directory(path, description);
        Ok(Cut { source: source.map_err(|error| format!("cannot read {}: {error}", path.display()))? })
    }
}
