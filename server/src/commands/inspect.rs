//! `progressdb inspect`: reports what a stopped database holds.

use std::path::Path;

use super::failure::Failure;
use super::{begin_offline, report};
use crate::config::Loaded;
use crate::format::Formats;
use crate::serve::offline;

pub(super) fn run(loaded: Loaded, as_json: bool, out: Option<&Path>, formats: &Formats) -> Result<(), Failure> {
    begin_offline(&loaded);
    let found = offline::inspect(&loaded.config?, formats)?;
    report::tell(&found, as_json, out)
}
