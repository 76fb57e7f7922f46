//! `progressdb rollback`: goes back to the checkpoint that was made before a change of format.

use serde_json::json;

use super::failure::Failure;
use super::{begin_offline, print};
use crate::config::Loaded;
use crate::format::Formats;
use crate::serve::{RolledBack, rollback};

pub(super) fn run(
    loaded: Loaded,
    to: Option<&str>,
    confirmed: bool,
    as_json: bool,
    formats: &Formats,
) -> Result<(), Failure> {
    begin_offline(&loaded);
    let config = loaded.config?;
    let db = config.db_path.display();
    let Some(done) = rollback(&config, formats, to, confirmed)? else {
        tracing::info!(event = "cli.rollback_complete", %db, outcome = "noop");
        return match as_json {
            true => print(&json!({ "outcome": "noop" }).to_string()),
            false => print("rollback=noop: the store has the format of the checkpoint already"),
        };
    };
    let RolledBack { checkpoint, format, kept, writes_left_behind: writes, messages_left_behind: messages, .. } = &done;
    tracing::warn!(target: "audit", event = "cli.rollback_complete", %db, checkpoint, format, kept, writes, messages,
        outcome = "ok");
    if as_json {
        return print(&json!(done).to_string());
    }
    match (writes, messages) {
        (Some(0), _) => {}
        (Some(writes), Some(messages)) => {
            print(&format!("{writes} writes, {messages} of them new messages, are only in {kept}, which is kept"))?;
        }
        _ => print(&format!("what was written since is only in {kept}, which is kept"))?,
    }
    print(&format!("rollback=ok checkpoint={checkpoint} format={format} kept={kept}"))
}
