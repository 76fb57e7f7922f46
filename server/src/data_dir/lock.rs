//! The lock of a data directory: one process at a time, for as long as it lives.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use rustix::fs::OFlags;

use super::Error;
use crate::files::is_same_file;

pub(super) const LOCK: &str = "lock";

/// Takes the lock, or names who has it. Closing the file releases it.
pub(super) fn acquire(path: &Path) -> Result<File, Error> {
    let name = path.join(LOCK);
    let failed = |error| Error::io(format!("cannot lock {}", name.display()), error);
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags(OFlags::NOFOLLOW.bits() as i32)
        .open(&name)
        .map_err(failed)?;
    match file.try_lock() {
        // Its holder undid a creation and removed the file: the lock is on a file that nobody else will open.
        Ok(()) if !is_same_file(&file, &name) => acquire(path),
        Ok(()) => {
            // Only a hint for people: on a full disk the lock holds all the same.
            let _ = file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id()));
            Ok(file)
        }
        Err(TryLockError::WouldBlock) => Err(in_use(path, &mut file)),
        Err(TryLockError::Error(error)) => Err(failed(error)),
    }
}

/// Names who has the lock, if anybody has; makes and changes no file.
pub(super) fn check_free(path: &Path) -> Result<(), Error> {
    let name = path.join(LOCK);
    let failed = |error| Error::io(format!("cannot read {}", name.display()), error);
    let mut file = match OpenOptions::new().read(true).custom_flags(OFlags::NOFOLLOW.bits() as i32).open(&name) {
        // There is none, or a link, which is for the caller to refuse.
        Err(_) => return Ok(()),
        Ok(file) => file,
    };
    match file.try_lock_shared() {
        Ok(()) => Ok(()),
        Err(TryLockError::WouldBlock) => Err(in_use(path, &mut file)),
        Err(TryLockError::Error(error)) => Err(failed(error)),
    }
}

fn in_use(path: &Path, file: &mut File) -> Error {
    let mut text = String::new();
    let pid = file.read_to_string(&mut text).ok().and_then(|_| text.trim().parse().ok());
    Error::InUse { path: path.to_owned(), pid }
}
