//! `progressdb import`: puts an export into an empty store. The steps are in `serve/moving/import.rs`.

use std::path::Path;

use serde_json::{Value, json};

use super::failure::Failure;
use super::{begin_offline, print, progress};
use crate::backup::Progress;
use crate::clock::monotonic;
use crate::config::Loaded;
use crate::format::Formats;
use crate::serve::{self, Imported, Outcome};
use crate::telemetry;

pub(super) fn run(loaded: Loaded, from: &Path, as_json: bool, formats: &Formats) -> Result<(), Failure> {
    begin_offline(&loaded);
    let config = loaded.config?;
    let (started, progress) = (monotonic(), Progress::default());
    let imported =
        progress::watch(&progress, || serve::import(from, &config, formats, &progress).map_err(Failure::Import))?;
    let (src, dst) = (from.display(), &imported.to);
    let (rows, outcome) = (imported.trailer.rows, imported.outcome.as_str());
    tracing::info!(target: "audit", event = "cli.import_complete", %src, dst, outcome, rows);
    if imported.outcome == Outcome::Ok && imported.digest.is_none() {
        telemetry::say("rows were compared as they are stored, and not opened: no KMS is configured");
    }
    print(&match as_json {
        true => report(&imported, started.elapsed().as_secs_f64()).to_string(),
        false => format!("import={outcome} rows={rows} content={} to={dst}", imported.trailer.content),
    })
}

fn report(imported: &Imported, seconds: f64) -> Value {
    let Imported { to, header, trailer, incarnation, digest, resumed, outcome } = imported;
    json!({
        "to": to,
        "outcome": outcome.as_str(),
        "resumed": resumed,
        "id": hex::encode(header.id),
        "created": header.created,
        "database_id": hex::encode(header.database_id),
        "incarnation": incarnation.to_string(),
        "store_format": header.store_format,
        "rows": trailer.rows,
        "content": trailer.content,
        "digest": digest,
        "seconds": seconds,
    })
}
