//! Changes to files that survive a crash. A small file is replaced as a whole: a crash leaves the old content or the new
//! one, never a part.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

/// Writes `content` to `tmp`, which must be on the same file system, and renames it to `path`. Only the owner may read the
/// file. It is on disk when this returns.
pub(crate) fn replace(path: &Path, tmp: &Path, content: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(tmp)?;
    file.write_all(content)?;
    file.sync_all()?;
    fs::rename(tmp, path)?;
    sync_directory_of(path)
}

/// Removes a file, if it is there. It is gone from the disk when this returns.
pub(crate) fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed.and_then(|()| sync_directory_of(path)),
    }
}

/// Syncs the directory that holds `path`, so that a name that was made, changed or removed in it survives a crash.
pub(crate) fn sync_directory_of(path: &Path) -> io::Result<()> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(parent)?.sync_all()
}
