//! The report of a command: printed, and written to a file if one is named.

use std::ffi::OsString;
use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::path::Path;
use std::process;

use serde_json::{Value, json};

use super::failure::Failure;
use super::print;
use crate::args::ReportArgs;
use crate::backup::Manifest;
use crate::files;

/// Writes the report to the file if one is named, and prints it: as JSON on one line, or in words.
pub(super) fn tell(report: &Value, in_words: impl FnOnce() -> String, how: &ReportArgs) -> Result<(), Failure> {
    write(report, how)?;
    print(&if how.json { report.to_string() } else { in_words() })
}

/// What a report says of a backup that was verified.
pub(super) fn of_manifest(manifest: &Manifest) -> Value {
    json!({
        "id": hex::encode(manifest.header.id),
        "created": manifest.header.created,
        "database_id": hex::encode(manifest.header.database_id),
        "sequence": manifest.sequence,
        "files": manifest.files.len(),
        "bytes": manifest.bytes(),
    })
}

/// Writes the report to the file if one is named, as one line of JSON.
///
/// A new file is created atomically and only its owner can read it. An existing one is overwritten in place and keeps
/// its mode: it may be a mount, such as `/dev/termination-log` of a container, which cannot be replaced.
pub(super) fn write(report: &Value, how: &ReportArgs) -> Result<(), Failure> {
    let Some(file) = &how.out else { return Ok(()) };
    let line = format!("{report}\n");
    let written = match OpenOptions::new().write(true).truncate(true).open(file) {
        Ok(mut there) => there.write_all(line.as_bytes()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => create(file, line.as_bytes()),
        Err(error) => Err(error),
    };
    written.map_err(|source| Failure::Report { path: file.clone(), source })
}

fn create(file: &Path, line: &[u8]) -> io::Result<()> {
    let mut name = OsString::from(file);
    name.push(format!(".tmp-{}", process::id()));
    let tmp = Path::new(&name);
    files::replace(file, tmp, line).inspect_err(|_| {
        // Fails only if the temporary file was not created.
        let _ = std::fs::remove_file(tmp);
    })
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn to(file: &Path) -> ReportArgs {
        ReportArgs { json: false, out: Some(file.to_owned()) }
    }

    #[test]
    fn a_new_file_is_for_its_owner_and_one_that_is_there_keeps_its_place() {
        let directory = tempfile::tempdir().unwrap();
        let (new, there) = (directory.path().join("new"), directory.path().join("there"));
        fs::write(&there, "longer than what comes").unwrap();
        fs::set_permissions(&there, fs::Permissions::from_mode(0o644)).unwrap();
        let second_name = directory.path().join("second-name");
        fs::hard_link(&there, &second_name).unwrap();
        for file in [&new, &there] {
            write(&json!({ "a": 1 }), &to(file)).unwrap();
            assert_eq!(fs::read_to_string(file).unwrap(), "{\"a\":1}\n");
        }
        assert_eq!(fs::read_to_string(second_name).unwrap(), "{\"a\":1}\n", "it is the same file");
        let mode = |file: &Path| fs::metadata(file).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&new), mode(&there)), (0o600, 0o644));
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 3, "nothing temporary is left");
    }

    #[test]
    fn a_report_that_cannot_be_written_is_a_failure_that_names_the_file() {
        let failure = write(&json!({}), &to(Path::new("/nowhere/report"))).unwrap_err();
        assert_eq!((failure.to_string().as_str(), failure.exit_code()), ("cannot write /nowhere/report", 1));
    }
}
