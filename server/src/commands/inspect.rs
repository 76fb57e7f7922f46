//! `progressdb inspect`: reports what a stopped database holds.

use super::failure::Failure;
use super::{begin_offline, report};
use crate::args::ReportArgs;
use crate::config::Loaded;
use crate::format::Formats;
use crate::serve::offline;

pub(super) fn run(loaded: Loaded, how: &ReportArgs, formats: &Formats) -> Result<(), Failure> {
    begin_offline(&loaded);
    let found = offline::inspect(&loaded.config?, formats)?;
    report::tell(&found, || format!("{found:#}"), how)
}
