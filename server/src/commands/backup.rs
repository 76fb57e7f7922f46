//! `progressdb backup`: copies a stopped database into one artefact, or into an object store.
//!
//! 1. the database is locked and opened read-only: 5, 7, 75, 78
//! 2. the target is resolved: 2, 6
//! 3. the artefact is written, read again and named: see `backup/create.rs`; or files that the object store has not are sent,
//!    and the manifest last: see `backup/remote/send.rs`

use std::sync::Arc;

use serde_json::{Value, json};

use super::failure::Failure;
use super::{begin_offline, print, progress};
use crate::args::BackupArgs;
use crate::backup::{Destination, Made, NOT_INCLUDED, Progress};
use crate::clock::monotonic;
use crate::config::Loaded;
use crate::format::Formats;
use crate::serve::offline;
use crate::telemetry;

pub(super) fn run(loaded: Loaded, wanted: &BackupArgs, formats: &Formats) -> Result<(), Failure> {
    begin_offline(&loaded);
    let settings = loaded.to_json();
    let config = loaded.config?;
    let out = wanted.out.as_deref().expect("the command line demands it");
    let destination = Destination::open(out, wanted.format, &config.db_path, &config.backup.access)?;
    let (started, progress) = (monotonic(), Arc::new(Progress::new(wanted.rate_limit)));
    let made = progress::watch(&progress, || {
        let stopped = offline::source(&config, settings, formats)?;
        Ok(destination.write(&stopped.source, &progress)?)
    })?;
    let (src, dst) = (config.db_path.display(), &made.at);
    tracing::info!(event = "cli.backup_complete", %src, %dst, outcome = "ok", bytes = made.bytes);
    if wanted.json {
        return print(&report(&made, started.elapsed().as_secs_f64()).to_string());
    }
    for what in NOT_INCLUDED {
        telemetry::say(&format!("not included: {what}"));
    }
    print(&format!("backup={dst}"))
}

fn report(made: &Made, seconds: f64) -> Value {
    let manifest = &made.manifest;
    json!({
        "backup": made.at,
        "bytes": made.bytes,
        "id": hex::encode(manifest.header.id),
        "created": manifest.header.created,
        "database_id": hex::encode(manifest.header.database_id),
        "incarnation": manifest.incarnation,
        "store_format": manifest.header.store_format,
        "store_bytes": manifest.bytes(),
        "files": manifest.files.len(),
        "sequence": manifest.sequence,
        "counts": manifest.counts,
        "not_included": manifest.not_included,
        "seconds": seconds,
    })
}
