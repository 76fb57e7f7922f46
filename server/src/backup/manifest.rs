//! What a backup says of itself.
//!
//! `manifest.json` is one line of JSON that ends with `"digest"`: the SHA-256 of the same line without that field. So a
//! manifest that was altered or cut off is noticed before anything in it is believed.

use std::collections::BTreeMap;

use aws_lc_rs::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};

use super::{Description, Stamp};

/// The layout of backups that this version writes, and the newest that it reads.
pub const LAYOUT: u32 = 1;
pub(super) const NAME: &str = "progressdb-backup";
/// The first entry of a backup.
pub(super) const HEADER: &str = "progressdb-backup.json";
/// The last entry.
pub(super) const MANIFEST: &str = "manifest.json";
/// What the entries of the store's files begin with.
pub(super) const STORE: &str = "store/";

/// What no backup holds; who restores needs it from elsewhere.
pub const NOT_INCLUDED: [&str; 5] = [
    "API keys and signing keys",
    "TLS certificates and their keys",
    "master keys of the KMS, and credentials for it",
    "dev-keys.json",
    "the configuration file and the environment; their settings are listed, with secrets masked",
];

/// What a reader must know first. Its fields are the same in every layout.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// `progressdb-backup`.
    pub name: String,
    /// Of this backup: see [`LAYOUT`].
    pub layout: u32,
    /// Random, of this backup.
    #[serde(with = "hex")]
    pub id: [u8; 16],
    /// The same for the life of a database and in everything that is restored from its backups.
    #[serde(with = "hex")]
    pub database_id: [u8; 16],
    /// When the backup was made: RFC 3339, in UTC, whole seconds.
    pub created: String,
    /// The version of the program that served or read the store.
    pub version: String,
    /// The format of the store.
    pub store_format: u32,
}

/// Everything that a backup says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// The same as in the first entry.
    #[serde(flatten)]
    pub header: Header,
    /// Of the store: 16 hexadecimal digits. What is restored gets another one.
    pub incarnation: String,
    /// What the files are for, as `/readyz` calls it.
    pub engine: String,
    /// Client commits ever made, as `/readyz` and `progressdb inspect` count them.
    pub sequence: u64,
    /// What else the store counts.
    pub counts: Counts,
    /// Every file of the store.
    pub files: Vec<FileEntry>,
    /// What opens the keys in the store; nothing where it never held one.
    pub kms: Option<KmsMetadata>,
    /// Each setting by its full name, with its source; secrets are masked.
    pub settings: serde_json::Value,
    /// See [`NOT_INCLUDED`].
    pub not_included: Vec<String>,
}

/// What a store counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Live threads.
    pub threads: i64,
    /// Messages ever created.
    pub messages: i64,
    /// Users ever seen.
    pub users: i64,
}

/// One file of the store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileEntry {
    /// Its name in the store's directory.
    pub path: String,
    /// Its length.
    pub bytes: u64,
    /// What is in it.
    #[serde(with = "hex")]
    pub sha256: [u8; 32],
}

/// Which KMS opens the keys in the store, and the keys as it wrapped them; never a key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KmsMetadata {
    /// Who wrapped the newest epoch key: `local`, `aws`, `vault` or `http`.
    pub provider: String,
    /// Where the configuration says that it is.
    pub endpoint: Option<String>,
    /// Every key that an epoch key was wrapped by.
    pub key_ids: Vec<String>,
    /// The fingerprints of the local master keys that open the newest epoch, joined by `+`.
    pub master_key: Option<String>,
    /// The document that `GET /admin/encryption/wrapped-keys` answers with.
    pub wrapped_keys: serde_json::Value,
}

impl Header {
    fn new(stamp: &Stamp, description: &Description) -> Self {
        Self {
            name: NAME.to_owned(),
            layout: LAYOUT,
            id: stamp.id,
            database_id: description.database_id,
            created: stamp.created(),
            version: description.version.clone(),
            store_format: description.store_format,
        }
    }

    /// When the backup was made, in Unix nanoseconds.
    pub(super) fn created_ns(&self) -> Option<u64> {
        let created: jiff::Timestamp = self.created.parse().ok()?;
        u64::try_from(created.as_nanosecond()).ok()
    }

    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let mut line = serde_json::to_vec(self).expect("texts and numbers are JSON");
        line.push(b'\n');
        line
    }
}

impl Manifest {
    pub(super) fn new(stamp: &Stamp, description: &Description, files: Vec<FileEntry>) -> Self {
        let Description { incarnation, engine, sequence, counts, kms, settings, .. } = description.clone();
        let not_included = NOT_INCLUDED.map(str::to_owned).into();
        let header = Header::new(stamp, description);
        Self { header, incarnation, engine, sequence, counts, files, kms, settings, not_included }
    }

    /// The bytes of all files together.
    pub fn bytes(&self) -> u64 {
        self.files.iter().fold(0, |bytes, file| bytes.saturating_add(file.bytes))
    }

    /// The line as it is written, with its digest.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut line = serde_json::to_vec(self).expect("texts and numbers are JSON");
        let ending = ending(&line);
        line.pop();
        line.extend_from_slice(ending.as_bytes());
        line
    }

    /// The SHA-256 of the line.
    pub fn sha256(&self) -> [u8; 32] {
        digest(&SHA256, &self.to_bytes()).as_ref().try_into().expect("a SHA-256 has 32 bytes")
    }

    /// Reads such a line; the error says what is wrong with it.
    pub fn from_bytes(line: &[u8]) -> Result<Self, String> {
        let begin = line.len().checked_sub(ENDING_LENGTH).ok_or("it is too short")?;
        let (body, found) = line.split_at(begin);
        let body = [body, b"}"].concat();
        let wanted = ending(&body);
        if found != wanted.as_bytes() {
            let digest = &wanted[ENDING.len()..ENDING.len() + 64];
            return Err(format!("its SHA-256 is {digest}, and it says something else"));
        }
        let manifest: Self = serde_json::from_slice(&body).map_err(|error| error.to_string())?;
        // Whoever can write a manifest can give it a right digest: its names become paths.
        if let Some(file) = manifest.files.iter().find(|file| !is_file_name(&file.path)) {
            return Err(format!("it names a file {:?}, which no store has", file.path));
        }
        let bytes = manifest.files.iter().try_fold(0_u64, |sum, file| sum.checked_add(file.bytes));
        bytes.map(|_| manifest).ok_or_else(|| "it names more bytes than there can be".to_owned())
    }

    /// Says where the files that were found differ from those that the manifest names, if they do.
    pub fn difference(&self, found: &[FileEntry]) -> Option<String> {
        let mut wanted = BTreeMap::new();
        for file in &self.files {
            if wanted.insert(&file.path, file).is_some() {
                return Some(format!("{MANIFEST} names {} twice", file.path));
            }
        }
        for file in found {
            match wanted.remove(&file.path) {
                None => return Some(format!("{STORE}{} is not in its manifest, or there twice", file.path)),
                Some(named) if named == file => {}
                Some(named) => return Some(named.difference(file)),
            }
        }
        wanted.pop_first().map(|(path, _)| format!("{STORE}{path} is missing"))
    }
}

impl FileEntry {
    fn difference(&self, found: &Self) -> String {
        let Self { path, bytes, sha256 } = self;
        if *bytes != found.bytes {
            return format!("{STORE}{path} has {} bytes, and its manifest says {bytes}", found.bytes);
        }
        let (wanted, found) = (hex::encode(sha256), hex::encode(found.sha256));
        format!("the SHA-256 of {STORE}{path} is {found}, and its manifest says {wanted}")
    }
}

const ENDING: &str = ",\"digest\":\"";
const ENDING_LENGTH: usize = ENDING.len() + 64 + "\"}\n".len();

/// What takes the place of the last brace of `line`.
fn ending(line: &[u8]) -> String {
    format!("{ENDING}{}\"}}\n", hex::encode(digest(&SHA256, line)))
}

/// Whether a file of a store may have this name: one part of a path, in plain characters.
pub(super) fn is_file_name(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    !name.is_empty() && name.len() <= 80 && !name.starts_with('.') && name.bytes().all(plain)
}

#[cfg(test)]
pub(super) mod tests {
    use serde_json::json;

    use super::*;

    pub(in crate::backup) fn manifest(files: Vec<FileEntry>) -> Manifest {
        let header = Header {
            name: NAME.to_owned(),
            layout: LAYOUT,
            id: [1; 16],
            database_id: [2; 16],
            created: "2026-01-02T03:04:05Z".to_owned(),
            version: "0.3.0".to_owned(),
            store_format: 1,
        };
        let kms = KmsMetadata {
            provider: "vault".to_owned(),
            endpoint: Some("https://vault".to_owned()),
            key_ids: vec!["progressdb:v1".to_owned()],
            master_key: None,
            wrapped_keys: json!({ "keys": [] }),
        };
        Manifest {
            header,
            incarnation: "00000000000000ab".to_owned(),
            engine: "memory".to_owned(),
            sequence: 7,
            counts: Counts { threads: 1, messages: 5, users: 2 },
            files,
            kms: Some(kms),
            settings: json!({ "server.port": { "value": 8080, "source": "default" } }),
            not_included: NOT_INCLUDED.map(str::to_owned).into(),
        }
    }

    fn file(path: &str, bytes: u64, sha256: u8) -> FileEntry {
        FileEntry { path: path.to_owned(), bytes, sha256: [sha256; 32] }
    }

    #[test]
    fn a_manifest_is_one_line_of_json_that_is_read_back() {
        let manifest = manifest(vec![file("CURRENT", 16, 3)]);
        let line = manifest.to_bytes();
        assert_eq!(Manifest::from_bytes(&line), Ok(manifest));
        let json: serde_json::Value = serde_json::from_slice(&line).unwrap();
        assert_eq!((&json["name"], &json["layout"]), (&json!("progressdb-backup"), &json!(1)));
        assert_eq!(json["database_id"], json!("02".repeat(16)));
        assert_eq!(json["digest"].as_str().map(str::len), Some(64));
        assert_eq!(line.iter().filter(|byte| **byte == b'\n').count(), 1);
    }

    #[test]
    fn a_manifest_that_was_altered_anywhere_is_refused() {
        let line = manifest(vec![file("CURRENT", 16, 3)]).to_bytes();
        for at in 0..line.len() {
            let mut altered = line.clone();
            altered[at] ^= 1;
            assert!(Manifest::from_bytes(&altered).is_err(), "byte {at}");
            assert!(Manifest::from_bytes(&line[..at]).is_err(), "cut off at {at}");
        }
        assert!(Manifest::from_bytes(&[line.clone(), b" ".to_vec()].concat()).is_err());
    }

    #[test]
    fn a_manifest_whose_names_lead_elsewhere_is_refused() {
        for path in ["../escaped", "/etc/passwd", "a/b", "", "."] {
            let refused = Manifest::from_bytes(&manifest(vec![file(path, 1, 3)]).to_bytes()).unwrap_err();
            assert!(refused.contains("which no store has"), "{path}: {refused}");
        }
        let endless = manifest(vec![file("CURRENT", u64::MAX, 3), file("000012.sst", 1, 3)]);
        let refused = Manifest::from_bytes(&endless.to_bytes()).unwrap_err();
        assert!(refused.contains("more bytes than there can be"), "{refused}");
    }

    #[test]
    fn a_difference_names_the_file_and_the_digest() {
        let manifest = manifest(vec![file("CURRENT", 16, 3), file("000012.sst", 100, 4)]);
        let difference = |found: &[FileEntry]| manifest.difference(found).unwrap_or_default();
        let (current, table) = (file("CURRENT", 16, 3), file("000012.sst", 100, 4));
        assert_eq!(difference(&[table.clone(), current.clone()]), "");
        assert_eq!(difference(std::slice::from_ref(&current)), "store/000012.sst is missing");
        let (four, five) = ("04".repeat(32), "05".repeat(32));
        assert_eq!(
            difference(&[current.clone(), file("000012.sst", 100, 5)]),
            format!("the SHA-256 of store/000012.sst is {five}, and its manifest says {four}")
        );
        assert_eq!(
            difference(&[current.clone(), file("000012.sst", 99, 4)]),
            "store/000012.sst has 99 bytes, and its manifest says 100"
        );
        assert_eq!(
            difference(&[current.clone(), table, current.clone()]),
            "store/CURRENT is not in its manifest, or there twice"
        );
        let twice = super::tests::manifest(vec![current.clone(), current]);
        assert_eq!(twice.difference(&[]).as_deref(), Some("manifest.json names CURRENT twice"));
    }

    #[test]
    fn only_plain_names_are_names_of_files() {
        for name in ["CURRENT", "MANIFEST-000005", "000012.sst", "OPTIONS-000007"] {
            assert!(is_file_name(name), "{name}");
        }
        for name in ["", ".", "..", ".hidden", "a/b", "/etc/passwd", "a\\b", "a b", "ä", "a\0", &"x".repeat(81)] {
            assert!(!is_file_name(name), "{name:?}");
        }
    }
}
