//! The commands of the page on upgrades, typed as they stand there.

use testing::command::NEXT_PROGRAM;
use testing::page::{Shell, blocks};

use crate::{Versions, inspect, root};

const PAGE: &str = include_str!("../../../../docs/operations.md");

#[test]
fn the_commands_of_the_page_lead_there_and_back() {
    let Versions { old, next } = Versions::new().manual().filled(3);
    let whole = root(&old);
    let shell = Shell::new(NEXT_PROGRAM, old.root()).environment("PROGRESSDB_CONFIG", next.config_file());
    let typed: Vec<_> = blocks(PAGE, "Upgrading a plain binary")
        .into_iter()
        .map(|block| (block.split_whitespace().nth(1).unwrap().to_owned(), shell.run(&block, old.root())))
        .collect();
    let words: Vec<_> = typed.iter().map(|(word, _)| word.as_str()).collect();
    assert_eq!(words, ["migrate", "inspect", "migrate", "rollback"]);
    typed[2].1.check_says(&["migrate=ok format=2 checkpoint=1-"]);
    typed[3].1.check_says(&["rollback=ok checkpoint=1-"]);
    assert_eq!((root(&old), inspect(&old)["format"].as_u64()), (whole, Some(1)));
    old.start().stop().check_code(0);
}
