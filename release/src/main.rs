//! Writes the man pages and the completions of every program, from the definitions of their command lines:
//! `release-documents DIR` makes `DIR/PROGRAM/man/man1` and `DIR/PROGRAM/completions/SHELL`. A program of its own, so that
//! none that is shipped carries the generators.

use std::{fs, path::Path, path::PathBuf};

use anyhow::Context as _;
use clap::{Command, CommandFactory as _, Parser};
use clap_complete::{Generator, Shell};
use progressdb_operator::args::PLUGIN;

/// Write the man pages and the completions of every program.
#[derive(Debug, Parser)]
struct Args {
    /// The directory to fill; what is there stays
    directory: PathBuf,
}

fn main() -> anyhow::Result<()> {
    let directory = Args::parse().directory;
    for (name, command) in programs() {
        let of_program = directory.join(name);
        write_man_pages(name, command.clone(), &of_program.join("man/man1"))?;
        write_completions(name, command, &of_program.join("completions"))?;
    }
    Ok(())
}

/// Every program with its command line, under the name of its file.
fn programs() -> [(&'static str, Command); 3] {
    [
        ("progressdb", progressdb_server::args::Args::command()),
        ("progressdb-operator", progressdb_operator::args::Args::command()),
        (PLUGIN, progressdb_operator::args::PluginArgs::command()),
    ]
}

/// One page of the program and one of each command: `progressdb-serve.1`.
fn write_man_pages(name: &'static str, command: Command, directory: &Path) -> anyhow::Result<()> {
    create(directory)?;
    // The page is named after its file, also where people type `kubectl progressdb`.
    let command = command.name(name).bin_name(name);
    clap_mangen::generate_to(command, directory)
        .with_context(|| format!("writing man pages into {}", directory.display()))
}

/// Each below the name under which its shell looks for it.
fn write_completions(name: &str, mut command: Command, directory: &Path) -> anyhow::Result<()> {
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        let of_shell = directory.join(shell.to_string());
        create(&of_shell)?;
        let file = match shell {
            Shell::Bash => name.to_owned(),
            _ => shell.file_name(name),
        };
        let mut text = Vec::new();
        clap_complete::generate(shell, &mut command, name, &mut text);
        let path = of_shell.join(file);
        fs::write(&path, text).with_context(|| format!("writing {}", path.display()))?;
    }
    Ok(())
}

fn create(directory: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(directory).with_context(|| format!("creating {}", directory.display()))
}
