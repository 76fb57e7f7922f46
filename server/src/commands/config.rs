//! `progressdb config`: prints the effective configuration, or checks it.

use std::path::Path;

use super::failure::Failure;
use super::{print, print_warnings};
use crate::args::ConfigCommand;
use crate::config::Loaded;
use crate::termination;

pub(super) fn run(loaded: Loaded, command: Option<&ConfigCommand>) -> Result<(), Failure> {
    match command {
        None => print_config(loaded),
        Some(ConfigCommand::Check { json, .. }) => check_config(loaded, *json),
    }
}

fn print_config(loaded: Loaded) -> Result<(), Failure> {
    print_warnings(&loaded.warnings);
    let yaml = loaded.to_yaml();
    loaded.config?;
    print(yaml.trim_end())
}

fn check_config(loaded: Loaded, as_json: bool) -> Result<(), Failure> {
    if as_json {
        let report = loaded.to_report();
        termination::leave(Path::new(termination::FILE), &report);
        print(&report.to_string())?;
        return loaded.config.map(|_| ()).map_err(Failure::from);
    }
    print_warnings(&loaded.warnings);
    loaded.config?;
    print("the configuration is valid")
}
