//! Puts an export into an empty store.
//!
//! 1. every line of the file is right (7), if it is a file, and this version reads the rows (78)
//! 2. nobody serves the store (75). It is empty, or holds the same import from before; anything else in it is refused (6)
//! 3. the rows go in: those of the keys first, and then the configured KMS opens them (78)
//! 4. what the store holds is compared with what the export says, row by row as stored, and, if a KMS is configured, by the
//!    digest of all threads (7)
//! 5. the store is a database like any other, in another incarnation
//!
//! Until step 5 no server serves it. Whatever ends it, the same command goes on.

use std::io::BufRead;
use std::path::Path;

use super::{MoveError, Outcome, Side, Whole};
use crate::backup::{Phase, Progress};
use crate::config::Config;
use crate::crypt::Crypt;
use crate::db::{Begun, Digest, ImportError, OpenError, Reading, WrappedKeys, Writing};
use crate::format::Formats;
use crate::model::Incarnation;
use crate::moving::{Header, Reader, Source, Trailer};
use crate::rows::Format;
use crate::serve::home::{AtHand, refuse_servers};
use crate::serve::open::open_kms;

/// What was put, and where.
#[derive(Debug)]
pub struct Imported {
    /// The store that it went to.
    pub to: String,
    /// What the export said of itself.
    pub header: Header,
    /// What it ended with.
    pub trailer: Trailer,
    /// Which copy of the database it is now.
    pub incarnation: Incarnation,
    /// The digest of all threads in the store; none if nobody could open the rows.
    pub digest: Option<Digest>,
    /// It went on with what another run had begun.
    pub resumed: bool,
    /// Whether anything was left to do.
    pub outcome: Outcome,
}

const NEXT: &str = "start the import again to go on with it";
/// The log and the bar learn of so many bytes at one time.
const TELL_EVERY: u64 = 64 << 10;

/// Puts an export from a file, or from standard input if `from` is `-`, into the store of the configuration.
pub fn import(from: &Path, config: &Config, formats: &Formats, progress: &Progress) -> Result<Imported, MoveError> {
    let source = Source::of(from);
    let (mut reader, mut total) = source.open()?;
    reader.check_format(formats)?;
    if matches!(source, Source::File(_)) {
        progress.begin(Phase::Checking, total);
        read_to_end(&mut reader, progress)?;
        (reader, total) = source.open()?;
    }
    let crypt = open_kms(config)?;
    let mut hand = AtHand::to_fill(config, formats, reader.header().database_id)?;
    progress.begin(Phase::Importing, total);
    let imported = fill(&mut hand, reader, config, formats, crypt.as_deref(), progress);
    let closed = hand.close();
    imported.and_then(|imported| closed.map(|()| imported).map_err(MoveError::from))
}

fn fill(
    hand: &mut AtHand,
    mut reader: Reader<impl BufRead>,
    config: &Config,
    formats: &Formats,
    crypt: Option<&Crypt>,
    progress: &Progress,
) -> Result<Imported, MoveError> {
    let AtHand { home, engine, runtime } = hand;
    let side = Side { home, engine, config, formats, progress, next: NEXT };
    let begun = runtime.block_on(Importing { side, crypt }.begin(reader.header()))?;
    if matches!(begun, Begun::Writing(_)) {
        home.mark_ready()?;
    }
    let side = Side { home, engine, config, formats, progress, next: NEXT };
    runtime.block_on(Box::pin(Importing { side, crypt }.run(begun, &mut reader)))
}

/// Reads the rest, which is compared with what the last line says.
fn read_to_end(reader: &mut Reader<impl BufRead>, progress: &Progress) -> Result<(), MoveError> {
    let mut told = reader.bytes();
    while reader.next_item()?.is_some() {
        tell(reader.bytes(), &mut told, progress)?;
    }
    Ok(())
}

fn tell(bytes: u64, told: &mut u64, progress: &Progress) -> Result<(), MoveError> {
    if bytes - *told >= TELL_EVERY {
        // Fails only after a signal.
        progress.advance(bytes - *told).map_err(|_| MoveError::Stopped { next: NEXT })?;
        *told = bytes;
    }
    Ok(())
}

pub(super) struct Importing<'a> {
    pub(super) side: Side<'a>,
    /// The keys, if a KMS is configured.
    pub(super) crypt: Option<&'a Crypt>,
}

impl Importing<'_> {
    /// Has the store say that it is not whole. A server that started meanwhile either sees that, or is seen here.
    pub(super) async fn begin(&self, header: &Header) -> Result<Begun, MoveError> {
        refuse_servers(self.side.engine).await?;
        let begun = Writing::begin(&self.side.engine.store(), header.database_id, header.id).await;
        let begun = begun.map_err(|error| self.not_begun(error))?;
        refuse_servers(self.side.engine).await?;
        Ok(begun)
    }

    pub(super) async fn run(&self, begun: Begun, reader: &mut Reader<impl BufRead>) -> Result<Imported, MoveError> {
        let writing = match begun {
            Begun::Writing(writing) => writing,
            Begun::There(format) => return self.compare_again(reader, format).await,
        };
        let resumed = writing.goes_on();
        let (trailer, digest) = self.put(*writing, reader).await?;
        let (to, incarnation) = (self.side.home.name(), self.side.home.identity().incarnation);
        let (header, outcome) = (reader.header().clone(), Outcome::Ok);
        Ok(Imported { to, header, trailer, incarnation, digest, resumed, outcome })
    }

    /// Every step from the first row to the last.
    async fn put(
        &self,
        mut writing: Writing,
        reader: &mut Reader<impl BufRead>,
    ) -> Result<(Trailer, Option<Digest>), MoveError> {
        let (mut told, mut keys_checked) = (reader.bytes(), false);
        while let Some(item) = reader.next_item()? {
            if !keys_checked && !item.is_epoch_key() {
                keys_checked = true;
                writing.flush().await?;
                self.check_keys(reader.header().database_id).await?;
            }
            writing.put(item).await?;
            tell(reader.bytes(), &mut told, self.side.progress)?;
        }
        let trailer = reader.trailer().cloned().expect("it was read to its end");
        writing.finish(self.format(reader.header())).await?;
        match self.compare(reader.path(), &trailer).await {
            Ok(digest) => {
                writing.complete().await?;
                Ok((trailer, digest))
            }
            Err(error) => {
                if matches!(error, MoveError::Differs { .. }) {
                    writing.start_over().await?;
                }
                Err(error)
            }
        }
    }

    fn format(&self, header: &Header) -> Format {
        let (format, created, database_id) = (header.store_format, header.database_created_ns, header.database_id);
        Format { format, incarnation: self.side.home.identity().incarnation, created, database_id }
    }

    /// Who lacks the KMS learns it before the rows are there that it opens.
    async fn check_keys(&self, database_id: [u8; 16]) -> Result<(), MoveError> {
        let Some(crypt) = self.crypt else { return Ok(()) };
        let keys = WrappedKeys::of(&self.side.engine.store(), database_id).await?;
        match keys.open_with(&crypt.kms).await.into_iter().next() {
            None => Ok(()),
            Some((_, error)) => Err(self.side.home.open_error(OpenError::Keys(error)).into()),
        }
    }

    /// The store holds what the export says. The digest of all threads, if somebody can open them.
    async fn compare(&self, file: &Path, trailer: &Trailer) -> Result<Option<Digest>, MoveError> {
        let differs = |what: String| {
            let (place, file) = (self.side.home.name(), file.to_owned());
            MoveError::Differs { place, file, what }
        };
        let there = self.side.content(Reading::behind(None), trailer.bytes).await?;
        if !trailer.is_of(&there) {
            return Err(differs(format!("it has {} rows, their digest is {}", there.rows, there.sum)));
        }
        let Some(db) = self.side.open_database(Whole::AlmostImported).await? else { return Ok(None) };
        let digest = self.side.digest(&db).await?;
        match trailer.digest.as_ref().filter(|sent| sent.version == digest.version && sent.root != digest.root) {
            Some(sent) => Err(differs(format!("its root is {}, and {} is expected", digest.root, sent.root))),
            None => Ok(Some(digest)),
        }
    }

    /// The database is there. If it is as the export says, there is nothing to do.
    async fn compare_again(&self, reader: &mut Reader<impl BufRead>, format: Format) -> Result<Imported, MoveError> {
        read_to_end(reader, self.side.progress)?;
        let trailer = reader.trailer().cloned().expect("it was read to its end");
        if !trailer.is_of(&self.side.content(Reading::behind(None), trailer.bytes).await?) {
            return Err(self.occupied("holds this database, and other content than the export".to_owned()));
        }
        let (header, incarnation) = (reader.header().clone(), format.incarnation);
        let (to, outcome) = (self.side.home.name(), Outcome::Noop);
        Ok(Imported { to, header, trailer, incarnation, digest: None, resumed: false, outcome })
    }

    fn not_begun(&self, error: ImportError) -> MoveError {
        self.occupied(match error {
            ImportError::Occupied { database_id: Some(id) } => format!("holds database {}", hex::encode(id)),
            ImportError::Occupied { database_id: None } => "holds rows of a database that it does not name".to_owned(),
            ImportError::OtherExport { database_id, export } => {
                let [database, export] = [database_id, export].map(hex::encode);
                format!("holds a part of export {export} of database {database}, which only that one ends")
            }
            ImportError::Store(error) => return error.into(),
        })
    }

    fn occupied(&self, holds: String) -> MoveError {
        let (place, elsewhere) = (self.side.home.name(), self.side.home.elsewhere());
        MoveError::Occupied { place, holds, elsewhere }
    }
}
