//! What lies in a directory.

use std::fs;
use std::path::Path;

/// Every entry below `root` by its path relative to it, with its bytes, or `None` for a directory.
pub(crate) fn tree(root: &Path) -> Vec<(String, Option<Vec<u8>>)> {
    let (mut found, mut open) = (Vec::new(), vec![root.to_owned()]);
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(root).unwrap().display().to_string();
            if path.is_dir() && !path.is_symlink() {
                found.push((name, None));
                open.push(path);
            } else {
                found.push((name, fs::read(&path).ok()));
            }
        }
    }
    found.sort();
    found
}

/// The same without what a refused command may write: who tried to lock the directory last.
pub(crate) fn tree_without_lock(root: &Path) -> Vec<(String, Option<Vec<u8>>)> {
    tree(root).into_iter().filter(|(name, _)| name != "lock").collect()
}

/// The names in a directory; none if it is not there.
pub(crate) fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).into_iter().flatten();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}
