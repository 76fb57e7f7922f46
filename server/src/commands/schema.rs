//! `progressdb schema`: makes or checks the tables of a store that servers share.

use serde_json::json;

use super::failure::Failure;
use super::{begin_offline, report};
use crate::args::SchemaCommand;
use crate::config::Loaded;
use crate::serve::offline;

pub(super) fn run(loaded: Loaded, command: &SchemaCommand) -> Result<(), Failure> {
    begin_offline(&loaded);
    let config = loaded.config?;
    match command {
        SchemaCommand::Apply(how) => {
            let applied = offline::apply_schema(&config)?;
            let (before, version) = (applied.before, applied.after);
            let changed = before != Some(version);
            let in_words = || match (before, changed) {
                (_, false) => format!("schema=ok version={version}: nothing to do"),
                (None, true) => format!("schema=ok version={version}: the tables were made"),
                (Some(before), true) => format!("schema=ok version={version}: raised from {before}"),
            };
            let told = json!({ "ok": true, "version": version, "before": before, "changed": changed });
            report::tell(&told, in_words, how)
        }
        SchemaCommand::Check(how) => {
            let version = offline::check_schema(&config)?;
            report::tell(&json!({ "ok": true, "version": version }), || format!("schema=ok version={version}"), how)
        }
    }
}
