//! `progressdb reset`: shows what a stopped database consists of, or removes it.

use super::failure::Failure;
use super::{begin_offline, print};
use crate::config::Loaded;
use crate::data_dir::Reset;
use crate::serve::{StartupError, offline};
use crate::store::Engine;

pub(super) fn run(loaded: Loaded, confirm: bool) -> Result<(), Failure> {
    begin_offline(&loaded);
    let named = loaded.named_files();
    let config = loaded.config?;
    offline::needs_directory(&config)?;
    let path = config.db_path;
    if !confirm {
        let found = Reset::look(&path, &named, Engine::check_files).map_err(StartupError::from)?;
        found.iter().flat_map(Reset::paths).try_for_each(|part| print(&format!("would remove: {}", part.display())))?;
        return print("dry-run: pass --confirm to proceed");
    }
    let removed = offline::reset(&path, &named)?;
    let outcome = if removed { "ok" } else { "noop" };
    tracing::info!(event = "cli.reset_complete", data_dir = %path.display(), outcome);
    Ok(())
}
