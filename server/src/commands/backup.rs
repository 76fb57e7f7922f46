//! `progressdb backup`: copies a database into one artefact or into an object store, whether a server runs or not.
//!
//! 1. the database is locked and opened read-only: 5, 7, 78. If a server has it, that cuts a checkpoint: 75
//! 2. the target is resolved: 2, 6
//! 3. the artefact is written, read again and named: see `backup/create.rs`; or files that the object store has not are sent,
//!    and the manifest last: see `backup/remote/send.rs`

use std::path::Path;
use std::sync::Arc;

use serde_json::{Value, json};

use super::failure::Failure;
use super::{begin_offline, print, progress};
use crate::args::BackupArgs;
use crate::backup::{Destination, Made, NOT_INCLUDED, Online, Progress};
use crate::clock::monotonic;
use crate::config::Loaded;
use crate::data_dir::{self, Holder};
use crate::format::Formats;
use crate::serve::{StartupError, offline};
use crate::telemetry;

pub(super) fn run(loaded: Loaded, wanted: &BackupArgs, formats: &Formats) -> Result<(), Failure> {
    begin_offline(&loaded);
    let settings = loaded.to_json();
    let config = loaded.config?;
    let out = wanted.out.as_deref().expect("the command line demands it");
    let destination = Destination::open(out, wanted.format, &config.db_path, &config.backup.access)?;
    let (started, progress) = (monotonic(), Arc::new(Progress::new(wanted.rate_limit)));
    let made = progress::watch(&progress, || match offline::source(&config, settings, formats) {
        Ok(stopped) => Ok(destination.write(&stopped.source, &progress)?),
        Err(StartupError::DataDir(data_dir::Error::InUse { path, holder })) => {
            copy_online(&path, &holder, &destination, &progress)
        }
        Err(refused) => Err(refused.into()),
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

/// Has the server that runs on the database cut a checkpoint, and copies that.
fn copy_online(
    directory: &Path,
    holder: &Holder,
    destination: &Destination,
    progress: &Arc<Progress>,
) -> Result<Made, Failure> {
    let to_stop = Arc::clone(progress);
    let online = Online::cut(directory, holder, move || to_stop.stop())?;
    let made = destination.write(&online.source()?, progress);
    // What fails then fails because of that.
    made.map_err(|error| online.lost().map_or(Failure::Place(error), Failure::Online))
}

fn report(made: &Made, seconds: f64) -> Value {
    let manifest = &made.manifest;
    json!({
        "backup": made.at,
        "bytes": made.bytes,
        "shared_bytes": made.shared_bytes,
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
