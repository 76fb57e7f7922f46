//! What the program in an image is and does.

use aws_lc_rs::digest::{SHA256, digest};
use serde_json::{Value, json};

/// The program in an image; the default is an ordinary release that does all that it should.
#[derive(Clone, Debug)]
pub struct Image {
    /// Its version.
    pub version: String,
    /// The oldest and the newest format that it reads.
    pub reads: (i32, i32),
    /// The format that it writes; new data has it.
    pub writes: i32,
    /// Whether it has a migration that runs at a start, after which older versions still read the data.
    pub start_migration: bool,
    /// Whether it has a migration that runs once the format was raised.
    pub finalize_migration: bool,
    /// Its start migration alters a row that it should not.
    pub corrupts: bool,
    /// Its server runs and is never ready.
    pub never_ready: bool,
    /// Its server ends as soon as it was started.
    pub never_starts: bool,
    /// What a user does goes wrong.
    pub fails_smoke: bool,
    /// How many of a thousand requests fail.
    pub errors: i64,
    /// It answers too few requests for a verdict.
    pub load_is_short: bool,
    /// All but one in a hundred requests take less, in microseconds.
    pub p99_micros: i64,
    /// The faults above, but for altered rows, show only where clients are served, and in no rehearsal.
    pub rehearses_well: bool,
    /// Seconds from the start of its server until that is ready.
    pub ready_after: i64,
    /// Its server ends and is started again each so many seconds; never if 0.
    pub restarts_after: i64,
    /// How many tables of a keyspace it needs.
    pub tables: u32,
    /// How it computes the digest of all rows.
    pub digest_version: i64,
    /// What it says of its release; nothing, as former ones, if null.
    pub release: Value,
    /// What its server logs.
    pub log: String,
    /// `sha256:…`, by which nodes name it; from its name if unset.
    pub digest: Option<String>,
}

impl Default for Image {
    fn default() -> Self {
        Self {
            version: "0.3.0".into(),
            reads: (1, 1),
            writes: 1,
            start_migration: false,
            finalize_migration: false,
            corrupts: false,
            never_ready: false,
            never_starts: false,
            fails_smoke: false,
            errors: 0,
            load_is_short: false,
            p99_micros: 1_000,
            rehearses_well: false,
            ready_after: 0,
            restarts_after: 0,
            tables: 1,
            digest_version: 2,
            release: Value::Null,
            log: String::new(),
            digest: None,
        }
    }
}

impl Image {
    /// Its migrations, as `version` lists them.
    pub(super) fn migrations(&self) -> Vec<Value> {
        let listed = [("start", 1, self.start_migration), ("finalize", 2, self.finalize_migration)];
        let there = listed.into_iter().filter(|(.., is_there)| *is_there);
        let described = there.map(|(at, number, _)| {
            let name = format!("{at}-of-format-{}", self.writes);
            json!({ "at": at, "from": self.writes - 1, "name": name, "number": number, "to": self.writes })
        });
        described.collect()
    }

    /// The same program as a rehearsal shows it.
    pub(super) fn in_rehearsal(&self) -> Self {
        let Self { p99_micros, .. } = Self::default();
        match self.rehearses_well {
            true => Self { fails_smoke: false, errors: 0, load_is_short: false, p99_micros, ..self.clone() },
            false => self.clone(),
        }
    }

    pub(super) fn formats(&self) -> Value {
        json!({ "reads": [self.reads.0, self.reads.1], "writes": self.writes })
    }
}

/// How a node names the image that it runs: the repository and the digest.
pub(super) fn id(name: &str, image: &Image) -> String {
    if let Some((tagged, digest)) = name.split_once('@') {
        return format!("{}@{digest}", repository(tagged));
    }
    let digest =
        image.digest.clone().unwrap_or_else(|| format!("sha256:{}", hex::encode(digest(&SHA256, name.as_bytes()))));
    format!("{}@{digest}", repository(name))
}

/// A name without its tag. A colon before the last slash is that of a port.
fn repository(name: &str) -> &str {
    match name.rsplit_once(':') {
        Some((repository, tag)) if !tag.contains('/') => repository,
        _ => name,
    }
}
