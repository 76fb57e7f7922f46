//! The commands of the page on upgrades, typed as they stand there.

use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use testing::command::{NEXT_PROGRAM, binary_named, finish};

use crate::{Versions, inspect, root};

const PAGE: &str = include_str!("../../../../docs/operations.md");

/// The lines to type in the section on upgrades.
fn commands() -> Vec<&'static str> {
    let section = PAGE.split("\n## ").find(|section| section.starts_with("Upgrading a plain binary")).unwrap();
    let blocks = section.split("```sh").skip(1).map(|rest| rest.split("```").next().unwrap());
    blocks.flat_map(str::lines).map(str::trim).filter(|line| !line.is_empty()).collect()
}

#[test]
fn the_commands_of_the_page_lead_there_and_back() {
    let Versions { old, next } = Versions::new().manual().filled(3);
    let whole = root(&old);
    let bin = old.root().join("bin");
    std::fs::create_dir(&bin).unwrap();
    symlink(binary_named(NEXT_PROGRAM), bin.join("progressdb")).unwrap();
    let config = next.config_file();
    let typed: Vec<_> = commands().into_iter().map(|line| (line, typed(line, &bin, &config))).collect();
    let words: Vec<_> = typed.iter().map(|(line, _)| line.split(' ').nth(1).unwrap()).collect();
    assert_eq!(words, ["migrate", "inspect", "migrate", "rollback"]);
    typed[2].1.check_says(&["migrate=ok format=2 checkpoint=1-"]);
    typed[3].1.check_says(&["rollback=ok checkpoint=1-"]);
    assert_eq!((root(&old), inspect(&old)["format"].as_u64()), (whole, Some(1)));
    old.start().stop().check_code(0);
}

fn typed(line: &str, bin: &Path, config: &Path) -> testing::Finished {
    let mut shell = Command::new("sh");
    let path = format!("{}:{}", bin.display(), testing::variable("PATH").unwrap_or_default());
    shell.args(["-c", line]).env_clear().env("PATH", path).env("PROGRESSDB_CONFIG", config).current_dir(bin);
    let finished = finish(shell);
    finished.check_code(0);
    finished
}
