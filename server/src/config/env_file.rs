//! The `.env` file: `NAME=value` lines in the syntax of the crate `dotenvy`.
//!
//! Values may stand in single or double quotes, over several lines too; `export` may stand in front of a name, a
//! comment behind a value, a byte order mark before all. Outside of single quotes `$NAME` is replaced. Lines of other
//! programs are ignored, unless one has a quote that is not closed and so takes in a line of ours.

use std::{fs, io, path::Path};

use super::{
    Problem, Source, Warning,
    settings::PREFIX,
    sources::{Environment, Merged},
};

const SYNTAX: &str = "NAME=value, with the value in single quotes if it has spaces, quotes, $, # or a backslash";

impl Merged {
    /// Our variables in the file; nothing if there is none.
    pub(super) fn read_env_file(&mut self, path: &Path, environment: &Environment) -> Environment {
        let text = match fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Environment::default(),
            Err(error) => {
                self.refuse_file(path, &format!("cannot be read ({error})"), "a readable file in UTF-8, or none");
                return Environment::default();
            }
        };
        let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
        let mut variables = Environment::default();
        for pair in dotenvy::from_read_iter(text.as_bytes()) {
            match pair {
                Ok((name, value)) if name.starts_with(PREFIX) => {
                    self.warn_of_replaced(&name, text, environment, &variables);
                    variables.insert(name, value);
                }
                Ok(_) => {}
                Err(dotenvy::Error::LineParse(unread, _)) => self.refuse_line(path, text, &unread),
                Err(error) => self.refuse_file(path, &format!("cannot be read ({error})"), SYNTAX),
            }
        }
        variables
    }

    /// `unread` is a line, several of them if a quote is not closed, or only the value; it may be secret.
    fn refuse_line(&mut self, path: &Path, text: &str, unread: &str) {
        let first = unread.lines().next().unwrap_or_default().trim();
        let found = text.lines().enumerate().find(|(_, line)| line.contains(first));
        let Some((index, line)) = found else { return };
        let name = name_of(line);
        if name.starts_with(PREFIX) || unread.contains(PREFIX) {
            let (line, source) = (index + 1, Source::File(path.to_owned()));
            let what = format!("line {line} of {} cannot be read", path.display());
            self.problems.push(Problem::new(name, None, &source, &what, SYNTAX));
        }
    }

    /// Warns of a `$NAME` that is not set: nothing takes its place, which would cut short a key that has a `$` in it.
    fn warn_of_replaced(&mut self, name: &str, text: &str, environment: &Environment, before: &Environment) {
        let mut lines = text.lines().filter(|line| name_of(line) == name);
        let Some(value) = lines.next_back().and_then(|line| line.split_once('=')).map(|(_, value)| value) else {
            return;
        };
        let known = |name: &str| environment.get(name).or_else(|| before.get(name)).is_some();
        if replaced(value).into_iter().any(|name| !known(name)) {
            let source = Source::EnvFile(name.to_owned()).to_string();
            let message = format!(
                "{source} has a $ whose variable is not set, so nothing stands in its place: write the value in single quotes to keep it as it is"
            );
            self.warnings.push(Warning { key: name.to_owned(), source, message, no_effect: false });
        }
    }
}

/// The name on a line, without the value, which may be secret.
fn name_of(line: &str) -> &str {
    let line = line.trim_start_matches('\u{feff}').trim();
    let line = line.strip_prefix("export").filter(|rest| rest.starts_with([' ', '\t'])).unwrap_or(line).trim_start();
    line.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).next().unwrap_or_default()
}

/// Names of variables in a value that are replaced; the first characters of what dotenvy takes for one.
fn replaced(value: &str) -> Vec<&str> {
    let (mut names, mut single, mut escaped) = (Vec::new(), false, false);
    for (at, c) in value.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' if !single => escaped = true,
            '\'' => single = !single,
            '#' if !single && value[..at].ends_with(char::is_whitespace) => break,
            '$' if !single => {
                let rest = &value[at + 1..];
                let braced = rest.strip_prefix('{').and_then(|rest| rest.split_once('}'));
                let end = rest.find(|c: char| !c.is_alphanumeric()).unwrap_or(rest.len());
                names.push(braced.map_or(&rest[..end], |(name, _)| name));
            }
            _ => {}
        }
    }
    names
}
