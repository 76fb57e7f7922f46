//! API keys and signing keys: those of the configuration itself, and those of key files, which are read again.
//!
//! A key file holds one key a line; blank lines and `#` comments are skipped. [`KeyFiles::look`] reads each again and
//! applies its keys once two reads in a row agree, because a file that is being written may be seen half done. While a
//! file is missing, empty or unreadable its former keys stay in force, so that a mistake in one does not lock everybody
//! out. A key that is taken out of a valid file is no longer accepted. No key appears in what is reported.

use std::fs::{self, File};
use std::io::Read as _;
use std::path::{Path, PathBuf};

use secrecy::{ExposeSecret as _, SecretString};
use zeroize::Zeroizing;

use super::{Error, Problem, Source, hints::is_quoted, value::is_secret};
use crate::http::ApiKeys;

/// The largest key file.
const MOST_BYTES: u64 = 1 << 20;

/// The names of the lists, in the order of [`KeyFiles`].
const NAMES: [&str; 4] = ["backend", "frontend", "admin", "signing"];

/// The four lists of keys, with their files.
#[derive(Clone, Debug, Default)]
pub struct KeyFiles {
    /// For `/backend` and `/frontend`.
    pub(super) backend: KeyList,
    /// For `/frontend`.
    pub(super) frontend: KeyList,
    /// For `/admin`.
    pub(super) admin: KeyList,
    /// Secrets that sign user ids.
    pub(super) signing: KeyList,
}

/// The keys of one list: those of the configuration, then those of its file.
#[derive(Clone, Debug, Default)]
pub(super) struct KeyList {
    pub(super) inline: Vec<SecretString>,
    pub(super) file: Option<KeyFile>,
}

/// A key file, with the keys of it that are in force.
#[derive(Clone, Debug)]
pub(super) struct KeyFile {
    path: PathBuf,
    keys: Vec<SecretString>,
    seen: Option<Content>,
    refused: Option<String>,
}

/// The keys of a file, or why there are none. The reason never quotes a line.
type Content = Result<Vec<SecretString>, String>;

/// What reading the files again found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// The keys have changed and are in force.
    Changed {
        /// The list: `backend`, `frontend`, `admin` or `signing`.
        list: &'static str,
        /// Keys that were not there before.
        added: usize,
        /// Keys that are no longer accepted.
        removed: usize,
    },
    /// The file cannot be used: its former keys stay in force.
    Refused {
        /// The list.
        list: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The file can be used again, and holds the keys in force.
    Mended {
        /// The list.
        list: &'static str,
        /// The file.
        path: PathBuf,
    },
}

impl KeyFiles {
    /// Reads every file again, and reports each change once.
    pub fn look(&mut self) -> Vec<Found> {
        let Self { backend, frontend, admin, signing } = self;
        let lists = NAMES.into_iter().zip([backend, frontend, admin, signing]);
        lists.filter_map(|(list, keys)| keys.file.as_mut()?.look(list)).collect()
    }

    /// All keys in force.
    pub fn keys(&self) -> ApiKeys {
        let [backend, frontend, admin, signing] = self.lists().map(KeyList::keys);
        ApiKeys { backend, frontend, admin, signing }
    }

    /// How many files cannot be used.
    pub fn refused(&self) -> usize {
        self.lists().iter().filter(|keys| keys.file.as_ref().is_some_and(|file| file.refused.is_some())).count()
    }

    /// The lists whose keys differ in `others`, and how many keys are added and removed.
    pub fn compare(&self, others: &KeyFiles) -> (Vec<&'static str>, usize, usize) {
        let (mut lists, mut added, mut removed) = (Vec::new(), 0, 0);
        for (list, (before, now)) in NAMES.into_iter().zip(self.lists().into_iter().zip(others.lists())) {
            let (before, now) = (before.keys(), now.keys());
            if !is_same_keys(&before, &now) {
                lists.push(list);
                added += missing_from(&before, &now);
                removed += missing_from(&now, &before);
            }
        }
        (lists, added, removed)
    }

    fn lists(&self) -> [&KeyList; 4] {
        [&self.backend, &self.frontend, &self.admin, &self.signing]
    }
}

impl KeyList {
    /// The first signing key is the one that signs, so the order counts.
    fn keys(&self) -> Vec<SecretString> {
        let file = self.file.as_ref().map(|file| file.keys.as_slice()).unwrap_or_default();
        self.inline.iter().chain(file).cloned().collect()
    }
}

impl KeyFile {
    /// The file as it is now.
    pub(super) fn read(path: PathBuf) -> Result<Self, String> {
        Ok(Self { keys: read_keys(&path)?, path, seen: None, refused: None })
    }

    /// Whether a key has quotes around it, which are part of it.
    pub(super) fn has_quotes(&self) -> bool {
        self.keys.iter().any(|key| is_quoted(key.expose_secret()))
    }

    fn look(&mut self, list: &'static str) -> Option<Found> {
        // A pipe can be read only once: another read might wait for ever.
        if fs::metadata(&self.path).is_ok_and(|file| !file.is_file() && !file.is_dir()) {
            return None;
        }
        let content = read_keys(&self.path);
        let settled = self.seen.as_ref().is_some_and(|seen| is_same(seen, &content));
        self.seen = Some(content.clone());
        match content {
            Ok(keys) if is_same_keys(&keys, &self.keys) => {
                self.refused.take().map(|_| Found::Mended { list, path: self.path.clone() })
            }
            _ if !settled => None,
            Ok(keys) => {
                let before = std::mem::replace(&mut self.keys, keys);
                self.refused = None;
                let (added, removed) = (missing_from(&before, &self.keys), missing_from(&self.keys, &before));
                Some(Found::Changed { list, added, removed })
            }
            Err(why) if self.refused.as_ref() == Some(&why) => None,
            Err(why) => {
                self.refused = Some(why.clone());
                Some(Found::Refused { list, path: self.path.clone(), why })
            }
        }
    }
}

fn is_same(left: &Content, right: &Content) -> bool {
    match (left, right) {
        (Ok(left), Ok(right)) => is_same_keys(left, right),
        (Err(left), Err(right)) => left == right,
        _ => false,
    }
}

fn is_same_keys(left: &[SecretString], right: &[SecretString]) -> bool {
    left.iter().map(|key| key.expose_secret()).eq(right.iter().map(|key| key.expose_secret()))
}

/// How many of `keys` are not in `others`.
fn missing_from(others: &[SecretString], keys: &[SecretString]) -> usize {
    let is_there = |key: &SecretString| others.iter().any(|other| other.expose_secret() == key.expose_secret());
    keys.iter().filter(|key| !is_there(key)).count()
}

/// The first key of a file that a command line names.
pub fn read_key(path: &Path) -> Result<SecretString, Error> {
    let refuse = |why: String| {
        let shown = path.display().to_string();
        let what = format!("{shown} {why}");
        let allowed = "a file with one key a line";
        Error(vec![Problem::new("key file", Some(shown), &Source::File(path.to_owned()), &what, allowed)])
    };
    read_keys(path).map_err(refuse)?.into_iter().next().ok_or_else(|| refuse("holds no key".to_owned()))
}

/// The keys of a file, one a line.
fn read_keys(path: &Path) -> Content {
    let mut bytes = Zeroizing::new(Vec::new());
    let read = File::open(path).and_then(|file| file.take(MOST_BYTES + 1).read_to_end(&mut bytes));
    read.map_err(|error| format!("cannot be read ({error})"))?;
    if bytes.len() as u64 > MOST_BYTES {
        return Err("is larger than 1 MiB".to_owned());
    }
    let text = std::str::from_utf8(&bytes).map_err(|_| "is not text".to_owned())?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut keys = Vec::new();
    for (number, line) in text.lines().enumerate() {
        match line.trim() {
            "" => {}
            comment if comment.starts_with('#') => {}
            key if is_secret(key) => keys.push(SecretString::from(key)),
            _ => {
                let line = number + 1;
                return Err(format!("has something else than printable ASCII without white space in line {line}"));
            }
        }
    }
    if keys.is_empty() { Err("holds no key".to_owned()) } else { Ok(keys) }
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    struct Watched {
        directory: TempDir,
        files: KeyFiles,
    }

    impl Watched {
        fn new(text: &str) -> Self {
            let directory = TempDir::new().unwrap();
            let path = directory.path().join("keys");
            fs::write(&path, text).unwrap();
            let backend =
                KeyList { inline: vec![SecretString::from("sk_inline")], file: Some(KeyFile::read(path).unwrap()) };
            Self { directory, files: KeyFiles { backend, ..KeyFiles::default() } }
        }

        fn path(&self) -> PathBuf {
            self.directory.path().join("keys")
        }

        /// What looks at `text` find, one after the other, and the keys in force after them.
        #[track_caller]
        fn check(&mut self, found: &[Option<Found>], keys: &[&str]) {
            for want in found {
                assert_eq!(self.files.look(), want.iter().cloned().collect::<Vec<_>>());
            }
            let in_force = self.files.keys().backend;
            let in_force: Vec<&str> = in_force.iter().map(|key| key.expose_secret()).collect();
            assert_eq!(in_force, keys);
        }

        fn refused(&self, why: &str) -> Option<Found> {
            Some(Found::Refused { list: "backend", path: self.path(), why: why.to_owned() })
        }
    }

    fn changed(added: usize, removed: usize) -> Option<Found> {
        Some(Found::Changed { list: "backend", added, removed })
    }

    #[test]
    fn other_keys_are_taken_when_they_were_seen_twice() {
        let mut watched = Watched::new("sk_a\nsk_b\n");
        watched.check(&[None, None], &["sk_inline", "sk_a", "sk_b"]);
        fs::write(watched.path(), "sk_b\nsk_c\nsk_d\n").unwrap();
        watched.check(&[None], &["sk_inline", "sk_a", "sk_b"]);
        watched.check(&[changed(2, 1), None], &["sk_inline", "sk_b", "sk_c", "sk_d"]);
    }

    #[test]
    fn a_file_that_is_being_written_is_waited_for() {
        let mut watched = Watched::new("sk_a\n");
        for half in ["", "sk_", "sk_new", "sk_new\nsk_mo"] {
            fs::write(watched.path(), half).unwrap();
            watched.check(&[None], &["sk_inline", "sk_a"]);
        }
        fs::write(watched.path(), "sk_new\nsk_more\n").unwrap();
        watched.check(&[None, changed(2, 1)], &["sk_inline", "sk_new", "sk_more"]);
    }

    #[test]
    fn a_bad_file_keeps_the_former_keys_and_is_reported_once() {
        let bad = [
            ("", "holds no key"),
            ("# all gone\n", "holds no key"),
            ("sk_a\nsk b\n", "has something else than printable ASCII without white space in line 2"),
        ];
        for (text, why) in bad {
            let mut watched = Watched::new("sk_a\n");
            fs::write(watched.path(), text).unwrap();
            let refused = watched.refused(why);
            watched.check(&[None, refused, None, None], &["sk_inline", "sk_a"]);
            assert_eq!(watched.files.refused(), 1);
            fs::write(watched.path(), "sk_a\n").unwrap();
            let mended = Some(Found::Mended { list: "backend", path: watched.path() });
            watched.check(&[mended, None], &["sk_inline", "sk_a"]);
            assert_eq!(watched.files.refused(), 0);
        }
    }

    #[test]
    fn a_file_that_is_gone_keeps_its_keys_until_another_comes() {
        let mut watched = Watched::new("sk_a\n");
        fs::remove_file(watched.path()).unwrap();
        let gone = watched.refused("cannot be read (No such file or directory (os error 2))");
        watched.check(&[None, gone, None], &["sk_inline", "sk_a"]);
        fs::create_dir(watched.path()).unwrap();
        let directory = watched.refused("cannot be read (Is a directory (os error 21))");
        watched.check(&[None, directory, None], &["sk_inline", "sk_a"]);
        fs::remove_dir(watched.path()).unwrap();
        fs::write(watched.path(), "sk_b\n").unwrap();
        watched.check(&[None, changed(1, 1)], &["sk_inline", "sk_b"]);
    }

    #[test]
    fn a_pipe_is_read_once() {
        let directory = TempDir::new().unwrap();
        let path = directory.path().join("keys");
        assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success());
        let written = std::thread::spawn({
            let path = path.clone();
            move || fs::write(path, "sk_a\n").unwrap()
        });
        let file = Some(KeyFile::read(path).unwrap());
        written.join().unwrap();
        let files = KeyFiles { backend: KeyList { inline: Vec::new(), file }, ..KeyFiles::default() };
        Watched { directory, files }.check(&[None, None], &["sk_a"]);
    }

    #[test]
    fn what_is_not_a_key_file_is_refused() {
        let directory = TempDir::new().unwrap();
        let path = directory.path().join("keys");
        for (bytes, why) in [(vec![0xff], "is not text"), (vec![b'a'; (1 << 20) + 1], "is larger than 1 MiB")] {
            fs::write(&path, bytes).unwrap();
            assert_eq!(read_keys(&path).map(|_| ()), Err(why.to_owned()));
        }
    }
}
