//! The syntax of `.env`.

use super::*;

#[track_caller]
fn path_in(env_file: &str) -> PathBuf {
    let given = Given::nothing().file(".env", env_file);
    given.warned(&[]);
    given.config().db_path
}

#[test]
fn values_stand_bare_or_in_quotes_with_comments_behind_them() {
    for (line, path) in [
        ("PROGRESSDB_DB_PATH=/data", "/data"),
        ("PROGRESSDB_DB_PATH=/data # where the disk is", "/data"),
        ("PROGRESSDB_DB_PATH = /data\t# tab", "/data"),
        ("PROGRESSDB_DB_PATH=\"/data\" # comment", "/data"),
        ("PROGRESSDB_DB_PATH='/da ta' # comment", "/da ta"),
        ("PROGRESSDB_DB_PATH=/data#1", "/data#1"),
        ("PROGRESSDB_DB_PATH='/data #1'", "/data #1"),
        ("  export PROGRESSDB_DB_PATH=/data  ", "/data"),
        ("export  PROGRESSDB_DB_PATH=\"/data\"\r", "/data"),
        ("\u{feff}PROGRESSDB_DB_PATH=/data\r\n", "/data"),
        ("PROGRESSDB_DB_PATH=/first\nPROGRESSDB_DB_PATH=/data", "/data"),
        ("PROGRESSDB_DB_PATH='/a$b'", "/a$b"),
        ("PROGRESSDB_DB_PATH=/a\\$b", "/a$b"),
        ("PROGRESSDB_ARTIFACT_ROOT=/top\nPROGRESSDB_DB_PATH=${PROGRESSDB_ARTIFACT_ROOT}/x", "/top/x"),
        ("PROGRESSDB_DB_PATH=", "./database"),
        ("PROGRESSDB_DB_PATH= # nothing", "./database"),
        ("# PROGRESSDB_DB_PATH=/no\nOTHER=1\nnot a line at all\nPROGRESSDB_DB_PATH=/data", "/data"),
    ] {
        assert_eq!(path_in(line), PathBuf::from(path), "{line:?}");
    }
}

#[test]
fn a_line_that_cannot_be_read_is_refused_without_quoting_it() {
    for (text, name, line) in [
        ("A=1\nPROGRESSDB_API_ADMIN_KEYS=hush hush", "PROGRESSDB_API_ADMIN_KEYS", 2),
        ("PROGRESSDB_API_ADMIN_KEYS=hush\\x", "PROGRESSDB_API_ADMIN_KEYS", 1),
        ("\n\nexport PROGRESSDB_API_ADMIN_KEYS hush", "PROGRESSDB_API_ADMIN_KEYS", 3),
        ("PROGRESSDB_API_ADMIN_KEYS=\"hush\nPORT=1", "PROGRESSDB_API_ADMIN_KEYS", 1),
        ("OTHER=\"open\nPROGRESSDB_API_ADMIN_KEYS=hush", "OTHER", 1),
    ] {
        let given = Given::nothing().file(".env", text);
        let error = given.load().config.expect_err(text).to_string();
        assert!(error.starts_with(&format!("{name}: line {line} of ")), "{text:?}: {error}");
        assert!(!error.contains("hush"), "{text:?}: {error}");
        assert!(error.contains("single quotes"), "{text:?}: {error}");
    }
}

#[test]
fn a_dollar_that_swallows_what_follows_is_warned_of() {
    let warning = "PROGRESSDB_API_ADMIN_KEYS in .env has a $ whose variable is not set, so nothing stands in its place: write the value in single quotes to keep it as it is";
    for line in ["PROGRESSDB_API_ADMIN_KEYS=adm$in", "PROGRESSDB_API_ADMIN_KEYS=\"adm${in}\""] {
        let given = Given::nothing().file(".env", &format!("{line}\nPROGRESSDB_API_SIGNING_KEYS=sign"));
        given.warned(&[warning]);
    }
}

#[test]
fn a_file_that_is_no_text_is_refused() {
    let given = Given::nothing();
    fs::write(given.path(".env"), b"\xff\xfeP\0R\0").unwrap();
    let error = given.load().config.unwrap_err().to_string();
    assert!(given.shorten(&error).starts_with("config: DIR/.env cannot be read ("), "{error}");
}
