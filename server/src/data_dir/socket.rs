//! The socket `<db>/server.sock`, at which a server answers commands of the user that it runs as.
//!
//! The address of a socket holds 107 bytes. A longer path is reached through the open directory: `/proc/self/fd/N/`.

use std::fs::{self, File, Permissions};
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

pub(super) const SOCKET: &str = "server.sock";
/// What the address of a socket holds, without the zero at its end.
const MAX_BYTES: usize = 107;

/// Listens at `<db>/server.sock` in place of whatever a former server left there. Only the owner may connect, from the first
/// moment on: the socket is made in `tmp`, which nobody else may enter, and moved.
pub(super) fn bind(directory: &Path, tmp: &Path) -> io::Result<UnixListener> {
    let made = tmp.join(SOCKET);
    let listener = UnixListener::bind(Reachable::new(&made)?.path())?;
    fs::set_permissions(&made, Permissions::from_mode(0o600))?;
    fs::rename(&made, directory.join(SOCKET))?;
    Ok(listener)
}

/// A path to a socket that is short enough for an address. It is valid as long as this lives.
#[derive(Debug)]
pub struct Reachable {
    path: PathBuf,
    _parent: Option<File>,
}

impl Reachable {
    /// A path to the same socket, which need not exist yet.
    pub fn new(socket: &Path) -> io::Result<Self> {
        let (Some(parent), Some(name)) = (socket.parent(), socket.file_name()) else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        if socket.as_os_str().len() <= MAX_BYTES {
            return Ok(Self { path: socket.to_owned(), _parent: None });
        }
        let parent = File::open(parent)?;
        let path = PathBuf::from(format!("/proc/self/fd/{}", parent.as_raw_fd())).join(name);
        Ok(Self { path, _parent: Some(parent) })
    }

    /// The path.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn a_socket_of_a_short_and_of_a_long_path_is_reached_by_its_owner_only() {
        let directory = tempfile::tempdir().unwrap();
        for name in ["short".to_owned(), "long".repeat(40)] {
            let path = directory.path().join(name);
            let tmp = path.join("tmp");
            fs::create_dir_all(&tmp).unwrap();
            // What a server left that was killed.
            fs::write(path.join(SOCKET), "old").unwrap();
            let listener = bind(&path, &tmp).unwrap();
            assert_eq!(fs::metadata(path.join(SOCKET)).unwrap().permissions().mode() & 0o777, 0o600);
            let reachable = Reachable::new(&path.join(SOCKET)).unwrap();
            UnixStream::connect(reachable.path()).unwrap().write_all(b"hello").unwrap();
            let mut text = String::new();
            listener.accept().unwrap().0.read_to_string(&mut text).unwrap();
            assert_eq!((text.as_str(), fs::read_dir(&tmp).unwrap().count()), ("hello", 0));
        }
    }
}
