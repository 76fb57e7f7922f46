//! The commands of docs/moving.md, typed as they stand there.

use std::process::{Command, Stdio};

use testing::command::PROGRAM;
use testing::page::{Shell, blocks};
use testing::{Setup, missing};

use crate::world::{filled, root};

const PAGE: &str = include_str!("../../../docs/moving.md");

#[test]
fn the_commands_of_the_page_move_a_database() {
    let zstd = Command::new("zstd").arg("--version").stdout(Stdio::null()).status();
    if !zstd.is_ok_and(|ended| ended.success()) {
        return missing("the_commands_of_the_page_move_a_database", "zstd is not installed");
    }
    let source = filled();
    let [export, verify, through_zstd] = &blocks(PAGE, "The move\n")[..] else { panic!("other blocks") };
    for (way, block) in [export, through_zstd].into_iter().enumerate() {
        let (shell, target) = (source.root().join(way.to_string()), Setup::new());
        std::fs::create_dir(&shell).unwrap();
        let typing = Shell::new(PROGRAM, &shell).replace("from.yaml", source.config_file());
        let typing = typing.replace("to.yaml", target.config_file());
        typing.run(block, &shell).check_says(&["import=ok"]);
        typing.run(verify, &shell);
        assert_eq!(root(&target), root(&source));
    }
}
