//! Changes to files that survive a crash. A small file is replaced as a whole: a crash leaves the old content or the new
//! one, never a part. Directories that are made for something that fails are removed again.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

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
    File::open(parent(path))?.sync_all()
}

/// The directory that `path` lies in.
pub(crate) fn parent(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Whether `path`, which need not exist, lies in `directory`.
pub(crate) fn is_inside(path: &Path, directory: &Path) -> bool {
    let there = parent(path).ancestors().find_map(|ancestor| match ancestor.as_os_str().is_empty() {
        true => fs::canonicalize(".").ok(),
        false => fs::canonicalize(ancestor).ok(),
    });
    let directory = fs::canonicalize(directory);
    matches!((there, directory), (Some(there), Ok(directory)) if there.starts_with(&directory))
}

/// Whether `path` still names the open `file`.
pub(crate) fn is_same_file(file: &File, path: &Path) -> bool {
    let identity = |metadata: &fs::Metadata| (metadata.dev(), metadata.ino());
    matches!((file.metadata(), fs::metadata(path)), (Ok(one), Ok(other)) if identity(&one) == identity(&other))
}

/// Bytes that are free for others than root on the file system of a directory.
pub(crate) fn free_bytes(directory: &Path) -> io::Result<u64> {
    let directory = if directory.as_os_str().is_empty() { Path::new(".") } else { directory };
    let stat = rustix::fs::statvfs(directory)?;
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
}

/// Directories that were made, outermost first. When this is dropped, those that are empty are removed.
#[derive(Debug, Default)]
pub(crate) struct Made(Vec<PathBuf>);

impl Made {
    /// They stay.
    pub(crate) fn keep(&mut self) {
        self.0.clear();
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        for path in self.0.iter().rev() {
            let _ = fs::remove_dir(path);
        }
    }
}

/// Creates the directory with this mode, and its parents, unless it is there. They are removed when the result is dropped,
/// unless it is told to keep them.
pub(crate) fn create_directories(path: &Path, mode: u32) -> io::Result<Made> {
    match fs::metadata(path) {
        Ok(metadata) if metadata.is_dir() => return Ok(Made::default()),
        Ok(_) => return Err(io::ErrorKind::NotADirectory.into()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let missing = |path: &&Path| !path.as_os_str().is_empty() && !path.exists();
    let mut missing: Vec<_> = path.ancestors().take_while(missing).collect();
    missing.reverse();
    let mut made = Made::default();
    for step in missing {
        // Its parents may serve others as well.
        let mode = if step == path { mode } else { 0o777 };
        match DirBuilder::new().mode(mode).create(step) {
            Ok(()) => {
                made.0.push(step.to_owned());
                sync_directory_of(step)?;
            }
            // Another process made it meanwhile.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
    // Also of one that another process has just made.
    sync_directory_of(path)?;
    Ok(made)
}
