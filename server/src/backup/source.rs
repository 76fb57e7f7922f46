//! Where a backup comes from: the files of one store as they were at one moment, and what is said of them.
//!
//! Who makes a source sees to it that its files stay as they are while it lives: by the lock of a stopped data directory, or
//! by a checkpoint that nothing writes to.

use std::path::{Path, PathBuf};
use std::{fs, io};

use serde::{Deserialize, Serialize};

use super::manifest::is_file_name;
use super::{Counts, KmsMetadata};

/// The files of a store, and what is said of them.
#[derive(Clone, Debug)]
pub struct Source {
    /// Where the files are.
    pub directory: PathBuf,
    /// Their names.
    pub files: Vec<String>,
    /// A server serves the store meanwhile: its clients come first.
    pub live: bool,
    /// What is said of them.
    pub description: Description,
}

/// What is said of a store: the part of a manifest that does not follow from the files.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Description {
    /// The same for the life of the database.
    #[serde(with = "hex")]
    pub database_id: [u8; 16],
    /// 16 hexadecimal digits.
    pub incarnation: String,
    /// The version of the program that serves or reads the store.
    pub version: String,
    /// The format of the store.
    pub store_format: u32,
    /// What the files are for, as `/readyz` calls it.
    pub engine: String,
    /// Client commits ever made.
    pub sequence: u64,
    /// What else the store counts.
    pub counts: Counts,
    /// What opens the keys in the store; nothing where it never held one.
    pub kms: Option<KmsMetadata>,
    /// Each setting by its full name, with its source; secrets are masked.
    pub settings: serde_json::Value,
}

impl Source {
    /// Every file of a checkpoint of a server, which holds a store and nothing else.
    pub fn of_checkpoint(directory: &Path, description: Description) -> io::Result<Self> {
        let mut files = Vec::new();
        for entry in fs::read_dir(directory)? {
            let entry = entry?;
            let name = entry.file_name().into_string().ok().filter(|name| is_file_name(name));
            match name.filter(|_| entry.file_type().is_ok_and(|kind| kind.is_file())) {
                Some(name) => files.push(name),
                None => return Err(io::Error::other(format!("{} is no file of a store", entry.path().display()))),
            }
        }
        files.sort();
        Ok(Self { directory: directory.to_owned(), files, live: true, description })
    }

    /// The bytes of all files.
    pub(super) fn bytes(&self) -> io::Result<u64> {
        self.files.iter().map(|name| Ok(fs::metadata(self.directory.join(name))?.len())).sum()
    }
}
