//! Writes a stopped database as text.
//!
//! 1. nobody serves it (75), and this version reads it (78); if a KMS is configured, it opens the keys (78)
//! 2. the file is made, or gone on with if it is an export of the database as it is now (6)
//! 3. every row
//! 4. if it was gone on with: the store is read once more and holds what is in the file (6). Nobody serves it still, and no
//!    client wrote to it meanwhile (6)
//! 5. if the rows can be opened: the digest of all threads
//! 6. the last line, by which the export is whole

use std::fs::File;
use std::io::{self, BufWriter};
use std::path::Path;

use super::{MoveError, Outcome, Side, Whole};
use crate::backup::{Phase, Progress, Stamp, is_stop};
use crate::config::Config;
use crate::db::{Content, Db, Reading, Stand};
use crate::format::Formats;
use crate::moving::{Begun, Header, LAYOUT, Refused, Target, Trailer, Writer};
use crate::serve::home::{AtHand, refuse_servers};

/// What was written.
#[derive(Debug)]
pub struct Exported {
    /// The store that it came from.
    pub from: String,
    /// Where it went.
    pub to: Target,
    /// What it says of itself.
    pub header: Header,
    /// What it ends with.
    pub trailer: Trailer,
    /// Bytes of the export.
    pub bytes: u64,
    /// It went on with what another run had begun.
    pub resumed: bool,
    /// Whether anything was left to do.
    pub outcome: Outcome,
}

/// Of a file. What went to standard output is lost.
const NEXT: &str = "go on with `progressdb export --resume`";

/// Writes the stopped database of the configuration to a file, or to standard output if `to` is `-`.
pub fn export(
    to: &Path,
    resume: bool,
    config: &Config,
    formats: &Formats,
    progress: &Progress,
) -> Result<Exported, MoveError> {
    // A shared store has no directory that could take the file for its own.
    let data_dir = config.cassandra.is_none().then_some(config.db_path.as_path());
    let target = Target::of(to, data_dir)?;
    let AtHand { home, engine, runtime } = &AtHand::to_read(config, formats)?;
    let side = Side { home, engine, config, formats, progress, next: NEXT };
    runtime.block_on(async {
        refuse_servers(engine).await?;
        let db = side.open_database(Whole::Yes).await?;
        Box::pin(Exporting { side, db, target }.run(resume)).await
    })
}

pub(super) struct Exporting<'a> {
    pub(super) side: Side<'a>,
    /// None if nobody can open the rows.
    pub(super) db: Option<Db>,
    pub(super) target: Target,
}

impl Exporting<'_> {
    pub(super) async fn run(self, resume: bool) -> Result<Exported, MoveError> {
        let stand = self.stand().await?;
        let header = self.header(&stand);
        self.side.progress.begin(Phase::Checking, 0);
        let begun = self.target.begin(header, resume, |bytes| self.side.progress.advance(bytes));
        match begun.map_err(not_begun)? {
            Begun::Whole { header, trailer, bytes } => Ok(self.exported(header, trailer, bytes, true, Outcome::Noop)),
            Begun::Writing { header, writer, reading, resumed } => {
                let (trailer, bytes) = self.write(writer, *reading, resumed, &stand).await?;
                Ok(self.exported(header, trailer, bytes, resumed, Outcome::Ok))
            }
        }
    }

    fn exported(self, header: Header, trailer: Trailer, bytes: u64, resumed: bool, outcome: Outcome) -> Exported {
        Exported { from: self.side.home.name(), to: self.target, header, trailer, bytes, resumed, outcome }
    }

    async fn stand(&self) -> Result<Stand, MoveError> {
        let stand = Stand::of(&self.side.engine.store(), self.side.formats).await;
        stand.map_err(|error| self.side.home.open_error(error).into())
    }

    fn header(&self, stand: &Stand) -> Header {
        let (stamp, format) = (Stamp::now(), stand.format);
        Header {
            layout: LAYOUT,
            id: stamp.id,
            created: stamp.created(),
            version: self.side.formats.version.to_owned(),
            database_id: format.database_id,
            database_created_ns: format.created,
            incarnation: self.side.home.identity().incarnation.to_string(),
            store_format: format.format,
            sequence: stand.sequence,
        }
    }

    async fn write(
        &self,
        mut writer: Writer<BufWriter<File>>,
        reading: Reading,
        resumed: bool,
        stand: &Stand,
    ) -> Result<(Trailer, u64), MoveError> {
        self.rows(&mut writer, reading).await?;
        // A server that ran since the export was begun may have changed what is in the file already, also without a client: a
        // directory is locked while this reads it, a shared store is not.
        let reading = self.exact(Reading::behind(None), &Content::default());
        let changed = || MoveError::Changed { file: self.target.name() };
        let may_differ = resumed || self.side.engine.store().is_shared();
        if may_differ && self.side.content(reading, writer.content().bytes).await? != writer.content() {
            return Err(changed());
        }
        refuse_servers(self.side.engine).await?;
        // One that came and went meanwhile holds no slot any more.
        if self.stand().await? != *stand {
            return Err(changed());
        }
        let digest = match &self.db {
            Some(db) => Some(self.side.digest(db).await?),
            None => None,
        };
        let (file, trailer, bytes) = writer.finish(digest).map_err(|error| self.cannot_write(error))?;
        self.side.progress.begin(Phase::Syncing, 0);
        self.target.sync(file.get_ref())?;
        Ok((trailer, bytes))
    }

    /// What a shared store holds beside the truth stays there. `before` is what was read in front of it.
    fn exact(&self, reading: Reading, before: &Content) -> Reading {
        if self.side.engine.store().is_shared() { reading.exact(before) } else { reading }
    }

    async fn rows(&self, writer: &mut Writer<BufWriter<File>>, reading: Reading) -> Result<(), MoveError> {
        self.side.progress.begin(Phase::Writing, 0);
        let mut reading = self.exact(reading, &writer.content());
        let store = self.side.engine.store();
        let read_error = |error| self.side.read_error(error);
        while let Some(portion) = reading.next_portion(&store).await.map_err(read_error)? {
            let before = writer.bytes();
            for item in portion.items {
                writer.item(item).map_err(|error| self.cannot_write(error))?;
            }
            self.side.progress.advance(writer.bytes() - before).map_err(|error| self.cannot_write(error))?;
        }
        Ok(())
    }

    fn cannot_write(&self, error: io::Error) -> MoveError {
        self.side.error(&format!("cannot write {}", self.target.name()), error)
    }
}

/// A signal may have come while the file of an earlier run was read.
fn not_begun(refused: Refused) -> MoveError {
    match refused {
        Refused::Io { source, .. } if is_stop(&source) => MoveError::Stopped { next: NEXT },
        refused => refused.into(),
    }
}
