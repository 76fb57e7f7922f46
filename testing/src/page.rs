//! The commands of a page of the documentation, typed as they stand there.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::command::{Finished, binary_named, finish};
use crate::machine::variable;

/// The blocks to type in a section, which ends at the next heading.
pub fn blocks(page: &str, section: &str) -> Vec<String> {
    let mut sections = page.split("\n## ").flat_map(|chapter| chapter.split("\n### "));
    let section = sections.find(|text| text.starts_with(section)).unwrap_or_else(|| panic!("no section {section:?}"));
    let blocks: Vec<_> =
        section.split("```sh\n").skip(1).map(|rest| unindented(rest.split("```").next().unwrap())).collect();
    assert!(!blocks.is_empty(), "the section has no block to type");
    blocks
}

/// The lines of a block, which may stand in an item of a list.
fn unindented(block: &str) -> String {
    let lines = block.lines().map(str::trim_start).filter(|line| !line.is_empty());
    lines.map(|line| format!("{line}\n")).collect()
}

/// Somebody who types blocks of a page where `progressdb` is one of our programs.
pub struct Shell {
    bin: PathBuf,
    environment: Vec<(String, String)>,
    replaced: Vec<(String, String)>,
}

impl Shell {
    /// For this program; `directory` is for its name.
    pub fn new(program: &str, directory: &Path) -> Self {
        let bin = directory.join("bin");
        std::fs::create_dir(&bin).unwrap();
        symlink(binary_named(program), bin.join("progressdb")).unwrap();
        Self { bin, environment: Vec::new(), replaced: Vec::new() }
    }

    /// Sets an environment variable; there are no others but `PATH`.
    pub fn environment(mut self, name: &str, value: impl AsRef<Path>) -> Self {
        self.environment.push((name.to_owned(), value.as_ref().to_str().unwrap().to_owned()));
        self
    }

    /// Types this in place of an example of the page.
    pub fn replace(mut self, example: &str, by: impl AsRef<Path>) -> Self {
        self.replaced.push((example.to_owned(), by.as_ref().to_str().unwrap().to_owned()));
        self
    }

    /// Types a block in this directory, which has to succeed.
    #[track_caller]
    pub fn run(&self, block: &str, directory: &Path) -> Finished {
        let typed = self.replaced.iter().fold(block.to_owned(), |text, (example, by)| text.replace(example, by));
        let mut shell = Command::new("bash");
        let path = format!("{}:{}", self.bin.display(), variable("PATH").unwrap_or_default());
        shell.args(["-e", "-c", &typed]).current_dir(directory).env_clear().env("PATH", path);
        shell.envs(self.environment.iter().map(|(name, value)| (name, value)));
        let finished = finish(shell);
        assert_eq!(finished.code, Some(0), "{typed}\n{}", finished.said());
        finished
    }
}
