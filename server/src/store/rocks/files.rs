//! Of which files a store consists that nobody writes to.

use std::fs;
use std::path::Path;

use super::database::Database;
use crate::store::Error;

/// The tables that the manifest names, every log, and what RocksDB reads when it opens a store. A table that a crash left
/// behind is not one of them: it may hold what was erased.
pub(super) fn of(database: &Database) -> Result<Vec<String>, Error> {
    let tables = database.db.live_files().map_err(|error| Error::Read(error.into_string()))?;
    let mut files: Vec<String> =
        tables.into_iter().map(|table| table.name.trim_start_matches('/').to_owned()).collect();
    let path = database.path();
    let failed = |error| Error::Read(format!("cannot list {}: {error}", path.display()));
    files.extend(beside_tables(path).map_err(failed)?);
    files.sort();
    files.dedup();
    Ok(files)
}

fn beside_tables(path: &Path) -> std::io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(path)? {
        names.extend(entry?.file_name().into_string());
    }
    let manifest = fs::read_to_string(path.join("CURRENT"))?.trim().to_owned();
    // Their numbers have a fixed width.
    let options = names.iter().filter(|name| is_options(name)).max().cloned();
    names.retain(|name| *name == manifest || is_log(name) || ["CURRENT", "IDENTITY"].contains(&name.as_str()));
    names.extend(options);
    Ok(names)
}

fn is_log(name: &str) -> bool {
    name.strip_suffix(".log").is_some_and(|number| number.bytes().all(|byte| byte.is_ascii_digit()))
}

fn is_options(name: &str) -> bool {
    name.strip_prefix("OPTIONS-").is_some_and(|number| number.bytes().all(|byte| byte.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leftovers_are_no_files_of_the_store() {
        let directory = tempfile::tempdir().unwrap();
        let leftovers =
            ["MANIFEST-000001", "OPTIONS-000007", "000003.dbtmp", "LOCK", "LOG", "LOG.old.1", "x.log", "y.sst"];
        let files = ["CURRENT", "IDENTITY", "MANIFEST-000005", "OPTIONS-000009", "000008.log", "000011.log"];
        for name in leftovers.into_iter().chain(files) {
            fs::write(directory.path().join(name), "MANIFEST-000005\n").unwrap();
        }
        let mut found = beside_tables(directory.path()).unwrap();
        found.sort();
        let mut wanted = files.map(str::to_owned);
        wanted.sort();
        assert_eq!(found, wanted);
    }
}
