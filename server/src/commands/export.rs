//! `progressdb export`: writes a stopped database as text. The steps are in `serve/moving/export.rs`.

use serde_json::{Value, json};

use super::failure::Failure;
use super::{begin_offline, print, progress};
use crate::args::ExportArgs;
use crate::backup::Progress;
use crate::clock::monotonic;
use crate::config::Loaded;
use crate::format::Formats;
use crate::moving::Target;
use crate::serve::{self, Exported};
use crate::telemetry;

pub(super) fn run(loaded: Loaded, wanted: &ExportArgs, formats: &Formats) -> Result<(), Failure> {
    begin_offline(&loaded);
    let config = loaded.config?;
    let (started, progress) = (monotonic(), Progress::default());
    let exported = progress::watch(&progress, || {
        serve::export(&wanted.to, wanted.resume, &config, formats, &progress).map_err(Failure::Export)
    })?;
    let (src, dst) = (&exported.from, exported.to.name());
    let (rows, outcome) = (exported.trailer.rows, exported.outcome.as_str());
    tracing::info!(target: "audit", event = "cli.export_complete", src, dst, outcome, rows);
    if exported.trailer.digest.is_none() {
        telemetry::say("no digest of all threads: the rows are sealed, and no KMS is configured");
    }
    let told = match wanted.json {
        true => report(&exported, &dst, started.elapsed().as_secs_f64()).to_string(),
        false => format!("export={dst} outcome={outcome} rows={rows} content={}", exported.trailer.content),
    };
    match exported.to {
        Target::File(_) => print(&told),
        Target::Stdout => {
            telemetry::say(&told);
            Ok(())
        }
    }
}

fn report(exported: &Exported, to: &str, seconds: f64) -> Value {
    let Exported { header, trailer, bytes, resumed, outcome, .. } = exported;
    json!({
        "export": to,
        "outcome": outcome.as_str(),
        "resumed": resumed,
        "bytes": bytes,
        "id": hex::encode(header.id),
        "created": header.created,
        "database_id": hex::encode(header.database_id),
        "incarnation": header.incarnation,
        "store_format": header.store_format,
        "sequence": header.sequence,
        "rows": trailer.rows,
        "content": trailer.content,
        "digest": trailer.digest,
        "seconds": seconds,
    })
}
