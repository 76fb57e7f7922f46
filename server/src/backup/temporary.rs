//! Temporaries of commands: locked while their process lives, and removed when they are dropped. What a killed process left
//! is removed by the next one that makes a temporary of that kind in the same directory.

use std::fs::{self, DirBuilder, File, TryLockError};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use super::artefact::create_file;
use super::{Form, Stamp};
use crate::files::is_same_file;

const SUFFIX: &str = ".tmp";

/// A file or a directory `<prefix><32 hexadecimal digits>.tmp`, for its owner alone.
pub struct Temporary {
    pub(super) path: PathBuf,
    /// Holds the lock.
    pub(super) file: File,
}

impl Temporary {
    /// An empty directory in `parent`, which exists.
    pub fn directory(parent: &Path, prefix: &str) -> io::Result<Self> {
        let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
        remove_leftovers(parent, prefix);
        Self::create(parent.join(name(prefix, &Stamp::now().id)), Form::Dir)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn create(path: PathBuf, form: Form) -> io::Result<Self> {
        let file = match form {
            Form::Tar => create_file(&path)?,
            Form::Dir => {
                DirBuilder::new().mode(0o700).create(&path)?;
                File::open(&path)?
            }
        };
        let temporary = Self { path, file };
        // A file system without locks has none that somebody else could see either.
        let _ = temporary.file.lock();
        match is_same_file(&temporary.file, &temporary.path) {
            true => Ok(temporary),
            // Another process took it for a leftover before it was locked.
            false => Self::create(temporary.path.clone(), form),
        }
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        // Nothing is there if it got another name. What cannot be removed is removed by the next process.
        remove(&self.path);
    }
}

/// What a temporary is called.
pub(super) fn name(prefix: &str, id: &[u8; 16]) -> String {
    format!("{prefix}{}{SUFFIX}", hex::encode(id))
}

/// Removes temporaries whose process is gone. What cannot be looked at stays.
pub(super) fn remove_leftovers(directory: &Path, prefix: &str) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let id = name.to_str().and_then(|name| name.strip_prefix(prefix)?.strip_suffix(SUFFIX));
        let is_one = id.is_some_and(|id| id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit()))
            && entry.file_type().is_ok_and(|kind| kind.is_file() || kind.is_dir());
        if !is_one {
            continue;
        }
        let path = entry.path();
        let Ok(file) = File::open(&path) else { continue };
        match file.try_lock() {
            Ok(()) => {
                remove(&path);
                tracing::info!(event = "backup.leftover_removed", path = %path.display());
            }
            Err(TryLockError::WouldBlock | TryLockError::Error(_)) => {}
        }
    }
}

fn remove(path: &Path) {
    let _ = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_killed_process_left_is_removed_and_nothing_else() {
        let parent = tempfile::tempdir().unwrap();
        let path = |name: &str| parent.path().join(name);
        let left = path(&format!("ours-{}.tmp", "0a".repeat(16)));
        let others = [path(&format!("theirs-{}.tmp", "0a".repeat(16))), path("ours-1.tmp")];
        for path in others.iter().chain([&left]) {
            fs::create_dir_all(path.join("store")).unwrap();
        }
        let living = Temporary::directory(parent.path(), "ours-").unwrap();
        let another = Temporary::directory(parent.path(), "ours-").unwrap();
        assert!(!left.exists(), "its process is gone");
        assert!(living.path().is_dir() && others.iter().all(|path| path.is_dir()));
        let gone = another.path().to_owned();
        drop(another);
        assert!(!gone.exists() && living.path().exists());
    }
}
