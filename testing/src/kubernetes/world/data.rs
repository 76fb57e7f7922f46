//! A small model of what lies on a volume, and of what programs of a version do to it. It goes as far as an upgrade can
//! tell: which database it is, how much was committed, in which format, and whether anything in it was altered.

use aws_lc_rs::digest::{SHA256, digest};
use serde_json::{Value, json};

use super::image::Image;

/// What the program that holds the data of one database left on a volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Data {
    /// Which database it is; every other one has another.
    pub database_id: String,
    /// How many commits it has taken.
    pub sequence: u64,
    /// The format of its rows.
    pub format: i32,
    /// Another one if a row was altered that should not have been.
    pub checksum: u64,
    /// The numbers of the writes of clients that it holds, the oldest first.
    pub writes: Vec<u64>,
    /// The format for which start migrations have run, if no older version has written since.
    pub prepared: i32,
    /// Copies that were made before its format was changed.
    pub checkpoints: Vec<String>,
}

/// How a program ends that cannot do what it was asked to: its exit code, and the line that it writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Failure {
    pub code: i64,
    pub line: String,
}

impl Data {
    /// A new database, of the newest format of the image that makes it.
    pub(super) fn new(number: u64, image: &Image) -> Self {
        Self {
            database_id: format!("{number:032x}"),
            sequence: 0,
            format: image.writes,
            checksum: 0,
            writes: Vec::new(),
            prepared: image.writes,
            checkpoints: Vec::new(),
        }
    }

    /// Which life of the database it is.
    pub(super) fn incarnation(&self) -> &str {
        &self.database_id[16..]
    }

    /// What `verify --digest` of this version makes of every row: formats make no difference to it.
    pub fn root(&self, version: i64) -> String {
        let rows = json!([version, self.database_id, self.checksum, self.writes]);
        hex::encode(digest(&SHA256, rows.to_string().as_bytes()))
    }

    /// Refuses a format that the image does not read.
    pub(super) fn check_format(&self, image: &Image) -> Result<(), Failure> {
        let (oldest, newest) = image.reads;
        let line = if self.format > newest {
            let back = self.checkpoints.last().map_or(String::new(), |checkpoint| {
                format!(", or go back to checkpoint {checkpoint} with `progressdb rollback`")
            });
            format!(
                "error: store format {} is too new: this version reads up to {newest}; start the version that wrote it{back}",
                self.format
            )
        } else if self.format < oldest {
            format!("error: store format {} is too old: this version reads {oldest} and newer", self.format)
        } else {
            return Ok(());
        };
        Err(Failure { code: 78, line })
    }

    /// Runs the start migrations of an image that are due; says whether there were any.
    pub(super) fn prepare(&mut self, image: &Image) -> bool {
        let is_due = self.is_start_due(image);
        if is_due {
            self.checksum += u64::from(image.corrupts);
            self.prepared = image.writes;
        }
        is_due
    }

    /// Raises the format to that of an image, after a checkpoint; says whether it was an older one.
    pub(super) fn raise(&mut self, image: &Image) -> bool {
        let is_due = self.format < image.writes;
        if is_due {
            self.checkpoints.push(format!("{}-{}", self.format, self.sequence));
            self.format = image.writes;
        }
        is_due
    }

    /// A server of this image commits: rows that it writes lack what start migrations of newer versions made.
    pub(super) fn commit(&mut self, image: &Image, count: u64) {
        self.sequence += count;
        self.prepared = self.prepared.min(image.writes.max(self.format));
    }

    /// What an image has before it on this data, as `inspect` and `migrate` tell.
    pub(super) fn pending(&self, image: &Image) -> Value {
        let raise_to = (self.format < image.writes).then_some(image.writes);
        let listed = |at: &str, is_due: bool| {
            let due = image.migrations().into_iter().filter(|migration| is_due && migration["at"] == at);
            due.collect::<Vec<Value>>()
        };
        json!({
            "begun": false, "raise_to": raise_to,
            "start": listed("start", self.is_start_due(image)),
            "finalize": listed("finalize", raise_to.is_some()),
        })
    }

    fn is_start_due(&self, image: &Image) -> bool {
        image.start_migration && self.prepared < image.writes
    }
}
