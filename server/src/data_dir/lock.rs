//! The lock of a data directory: one process at a time, for as long as it lives.
//!
//! ```text
//! <db>/lock   42                       the process that holds it
//!             address=127.0.0.1:8080   where its API listens, once it does
//!             socket=server.sock       where it answers commands, below the directory, once it does
//! ```
//! The text says something only while the lock is held. Commands find the server of a directory by it.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read as _};
use std::net::SocketAddr;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

use super::Error;
use crate::files::is_same_file;

pub(super) const LOCK: &str = "lock";

/// The process that has a data directory, as far as the lock file says it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Holder {
    /// Its process id.
    pub pid: Option<u32>,
    /// Where its API listens; a command has none, and a server that is still starting.
    pub address: Option<SocketAddr>,
    /// The socket at which it answers commands; older versions have none either.
    pub socket: Option<PathBuf>,
}

impl Holder {
    fn parse(text: &str, directory: &Path) -> Self {
        let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
        Self {
            pid: text.lines().next().and_then(|line| line.trim().parse().ok()),
            address: field("address").and_then(|address| address.parse().ok()),
            socket: field("socket").map(|socket| directory.join(socket)),
        }
    }
}

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
            let _ = file.set_len(0).and_then(|()| announce(&file, None, None));
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
    // Whoever cannot read it knows at least that it is held.
    let _ = file.read_to_string(&mut text);
    Error::InUse { path: path.to_owned(), holder: Holder::parse(&text, path) }
}

/// Says in the locked file who this process is and where it is reached. One write, so that nobody reads a part of it.
pub(super) fn announce(file: &File, address: Option<SocketAddr>, socket: Option<&str>) -> io::Result<()> {
    let mut text = format!("{}\n", std::process::id());
    if let Some(address) = address {
        text += &format!("address={address}\n");
    }
    if let Some(socket) = socket {
        text += &format!("socket={socket}\n");
    }
    file.write_all_at(text.as_bytes(), 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_says_who_holds_it_and_where_it_is_reached() {
        let parse = |text| Holder::parse(text, Path::new("/db"));
        assert_eq!(parse(""), Holder::default());
        assert_eq!(parse("17\n"), Holder { pid: Some(17), ..Holder::default() });
        assert_eq!(parse("seventeen\naddress=nowhere\n"), Holder::default());
        let address = Some(([127, 0, 0, 1], 8080).into());
        let socket = Some("/db/server.sock".into());
        let told = parse("17\naddress=127.0.0.1:8080\nsocket=server.sock\nlater=x\n");
        assert_eq!(told, Holder { pid: Some(17), address, socket });
    }
}
