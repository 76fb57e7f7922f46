//! Whether a directory may be a database of ours, before anything is written to it.

use std::ffi::OsString;
use std::fs;
use std::path::Path;

use super::checkpoints::CHECKPOINTS;
use super::lock::LOCK;
use super::marker::{MARKER, MARKER_TMP, is_store_name};
use super::{Error, TMP};

/// What a new directory may hold: leftovers of a creation that crashed, and what a fresh ext4 volume comes with.
const HARMLESS: [&str; 3] = [LOCK, MARKER_TMP, "lost+found"];

/// Refuses a directory that something else has made.
pub(super) fn refuse(path: &Path) -> Result<(), Error> {
    let failed = |error| Error::io(format!("cannot list {}", path.display()), error);
    let mut names: Vec<OsString> = Vec::new();
    for entry in fs::read_dir(path).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let ours = [MARKER, MARKER_TMP, LOCK, TMP, CHECKPOINTS].iter().any(|name| entry.file_name() == *name)
            || entry.file_name().to_str().is_some_and(is_store_name);
        if ours && entry.file_type().map_err(failed)?.is_symlink() {
            return Err(Error::not_ours(path, format!("{} is a symbolic link", entry.file_name().display())));
        }
        names.push(entry.file_name());
    }
    let has = |name: &str| names.iter().any(|other| other == name);
    if has(MARKER) || names.iter().all(|name| HARMLESS.iter().any(|harmless| name == harmless)) {
        return Ok(());
    }
    let go = ["store", "index"].iter().all(|name| path.join(name).join("CURRENT").exists());
    if go {
        let reason = "it looks like a database of ProgressDB 0.2, which this version cannot open";
        return Err(Error::not_ours(path, reason));
    }
    names.sort();
    let shown: Vec<_> = names.iter().take(5).map(|name| name.display().to_string()).collect();
    let more = if names.len() > shown.len() { " and more" } else { "" };
    Err(Error::not_ours(path, format!("it has no {MARKER} file but holds {}{more}", shown.join(", "))))
}
