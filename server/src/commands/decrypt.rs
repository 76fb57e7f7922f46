//! `progressdb decrypt`: writes everything plain and destroys the keys.

use super::failure::Failure;
use super::{begin_offline, print};
use crate::config::Loaded;
use crate::format::Formats;
use crate::serve::offline;

pub(super) fn run(loaded: Loaded, formats: &Formats) -> Result<(), Failure> {
    begin_offline(&loaded);
    print(&offline::decrypt(&loaded.config?, formats)?.to_string())
}
