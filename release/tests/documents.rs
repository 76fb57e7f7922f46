//! What accompanies the programs: a page for every command, completions that shells can read.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use clap::CommandFactory as _;
use testing::{finish, temporary_directory};

/// Runs the generator of man pages and completions.
fn write_documents(directory: &Path) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_release-documents"));
    command.arg(directory);
    finish(command).check_code(0);
}

/// The names of the pages that a command has, and those below it.
fn pages(command: &clap::Command, before: &str) -> Vec<String> {
    let name = format!("{before}{}", command.get_name());
    let below = command.get_subcommands().filter(|below| below.get_name() != "help");
    let below: Vec<_> = below.flat_map(|below| pages(below, &format!("{name}-"))).collect();
    [vec![format!("{name}.1")], below].concat()
}

fn names(directory: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn every_command_has_a_man_page_that_says_what_it_does() {
    let directory = temporary_directory();
    write_documents(directory.path());
    let programs = [
        ("progressdb", progressdb_server::args::Args::command()),
        ("progressdb-operator", progressdb_operator::args::Args::command()),
        ("kubectl-progressdb", progressdb_operator::args::PluginArgs::command()),
    ];
    for (name, command) in programs {
        let mut wanted = pages(&command, "");
        wanted.sort();
        let man = directory.path().join(name).join("man/man1");
        assert_eq!(names(&man), wanted);
        for page in wanted {
            let text = fs::read_to_string(man.join(&page)).unwrap();
            let title = page.trim_end_matches(".1");
            assert!(text.contains(&format!(".TH {title} 1")), "{page}: {text}");
            assert!(text.contains(".SH NAME") && text.contains(".SH OPTIONS"), "{page}: {text}");
        }
    }
    let serve = fs::read_to_string(directory.path().join("progressdb/man/man1/progressdb-serve.1")).unwrap();
    assert!(serve.contains("Run the server"), "{serve}");
}

#[test]
fn completions_are_where_each_shell_looks_and_can_be_read() {
    let directory = temporary_directory();
    write_documents(directory.path());
    for name in ["progressdb", "progressdb-operator", "kubectl-progressdb"] {
        let completions = directory.path().join(name).join("completions");
        let file = |shell: &str, file: String| completions.join(shell).join(file);
        check_syntax("bash", &file("bash", name.to_owned()));
        check_syntax("zsh", &file("zsh", format!("_{name}")));
        check_syntax("fish", &file("fish", format!("{name}.fish")));
    }
}

/// By the shell itself, where the machine has it.
fn check_syntax(shell: &str, file: &PathBuf) {
    assert!(fs::metadata(file).unwrap().len() > 500, "{} is empty", file.display());
    let Ok(output) = Command::new(shell).arg("-n").arg(file).output() else { return };
    assert!(output.status.success(), "{}: {}", file.display(), String::from_utf8_lossy(&output.stderr));
}
