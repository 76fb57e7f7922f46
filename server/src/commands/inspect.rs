//! `progressdb inspect`: what a database that nobody serves says of itself.

use super::failure::Failure;
use super::{begin_offline, print};
use crate::config::Loaded;
use crate::format::Formats;
use crate::serve::offline;

pub(super) fn run(loaded: Loaded, as_json: bool, formats: &Formats) -> Result<(), Failure> {
    begin_offline(&loaded);
    let report = offline::inspect(&loaded.config?, formats)?;
    print(&if as_json { report.to_string() } else { format!("{report:#}") })
}
