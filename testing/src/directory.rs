//! Directories of data, copied.

use std::fs;
use std::path::Path;

/// Copies a stopped data directory, or another tree of files, in place of what is there. A socket that a killed server has
/// left is not copied.
pub fn copy_directory(from: &Path, to: &Path) {
    let _ = fs::remove_dir_all(to);
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let copied = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy_directory(&path, &copied);
        } else if path.is_file() {
            fs::copy(&path, &copied).unwrap();
        }
    }
}
