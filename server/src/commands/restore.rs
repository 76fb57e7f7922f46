//! `progressdb restore`: puts a backup in the place of a database. The steps are in `serve/restore.rs`.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::Arc;

use super::failure::Failure;
use super::fetched::Fetched;
use super::{begin_offline, print, progress, with_causes};
use crate::backup::{Manifest, Progress};
use crate::config::Loaded;
use crate::data_dir::Target;
use crate::format::Formats;
use crate::serve::{self, Restore, Restored, StartupError};

pub(super) fn run(loaded: Loaded, wanted: Restore, scratch: Option<&Path>, formats: &Formats) -> Result<(), Failure> {
    begin_offline(&loaded);
    let config = loaded.config?;
    let (src, dst) = (wanted.from.display(), config.db_path.display());
    let progress = Arc::new(Progress::default());
    let restored = progress::watch(&progress, || {
        let check = |place: &Path, manifest: &Manifest| {
            let target = &config.db_path;
            let replacement = wanted.replacement(manifest);
            Target::look(target, replacement, config.storage.allow_volatile_fs).map_err(StartupError::from)?;
            Ok(if wanted.dry_run || are_apart(place, target) { 1 } else { 2 })
        };
        let fetched = Fetched::get(&wanted.from, scratch, &config, formats, &progress, check)?;
        let wanted = Restore { from: fetched.path().to_owned(), ..wanted };
        Ok(serve::restore(&wanted, &config, formats, &progress)?)
    });
    let Restored { manifest, kept } = restored.inspect_err(|failure| {
        tracing::warn!(event = "cli.restore_failed", %src, %dst, error = with_causes(failure));
    })?;
    let (created, bytes) = (&manifest.header.created, manifest.bytes());
    if wanted.dry_run {
        let counts = manifest.counts;
        let (threads, messages) = (counts.threads, counts.messages);
        print(&format!("would restore: {src}, of {created}: {threads} threads, {messages} messages, {bytes} bytes"))?;
        return print("dry-run: leave out --dry-run to proceed");
    }
    tracing::info!(event = "cli.restore_complete", %src, %dst, outcome = "ok", created, bytes);
    if let Some(kept) = kept {
        print(&format!("kept={}", kept.display()))?;
    }
    print(&format!("restore=ok data_dir={dst}"))
}

/// Whether both are there, on different file systems.
fn are_apart(one: &Path, other: &Path) -> bool {
    matches!((fs::metadata(one), fs::metadata(other)), (Ok(one), Ok(other)) if one.dev() != other.dev())
}
