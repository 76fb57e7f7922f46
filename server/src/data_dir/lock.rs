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
        Err(TryLockError::WouldBlock) => {
            let mut text = String::new();
            let pid = file.read_to_string(&mut text).ok().and_then(|_| text.trim().parse().ok());
            Err(Error::InUse { path: path.to_owned(), pid })
        }
        Err(TryLockError::Error(error)) => Err(failed(error)),
    }
}
