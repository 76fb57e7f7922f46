//! What a killed upload leaves in a directory: the library writes to `<name>#<number>` first, and lists no such file.

use std::fs;
use std::path::Path;
use std::time::UNIX_EPOCH;

use super::Error;
use super::objects::OBJECTS;

/// Removes what was last written at this time or before, and says how many files and bytes that were. A dry run only counts.
pub(super) fn remove(directory: &Path, before_ns: u64, dry_run: bool) -> Result<(u64, u64), Error> {
    let objects = directory.join(OBJECTS);
    let cannot = |error| Error::io(format!("cannot clean {}", objects.display()), error);
    let (mut files, mut bytes) = (0, 0);
    for entry in fs::read_dir(&objects).map_err(cannot)? {
        let entry = entry.map_err(cannot)?;
        let metadata = entry.metadata().map_err(cannot)?;
        let modified = metadata.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
        let is_old = modified.is_some_and(|modified| modified.as_nanos() <= before_ns.into());
        if !is_old || !metadata.is_file() || !entry.file_name().to_str().is_some_and(is_staged) {
            continue;
        }
        if !dry_run {
            fs::remove_file(entry.path()).map_err(cannot)?;
        }
        files += 1;
        bytes = metadata.len().saturating_add(bytes);
    }
    Ok((files, bytes))
}

fn is_staged(name: &str) -> bool {
    name.split_once('#').is_some_and(|(name, number)| {
        name.len() == 64
            && name.bytes().all(|byte| byte.is_ascii_hexdigit())
            && !number.is_empty()
            && number.bytes().all(|byte| byte.is_ascii_digit())
    })
}
