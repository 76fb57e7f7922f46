//! The marks that keep uploads and prunes apart: see [`super`].

use std::time::{Duration, Instant};

use super::objects::{JSON, Objects, RUNNING};
use super::{Error, LEASE};
use crate::clock::monotonic;

/// What is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Work {
    Upload,
    Prune,
}

impl Work {
    fn prefix(self) -> &'static str {
        match self {
            Self::Upload => "upload-",
            Self::Prune => "prune-",
        }
    }
}

/// A mark of this process. It stays when this is dropped, and stops to count after [`LEASE`].
pub(super) struct Mark {
    name: String,
    /// When it was last written, by the clock of the object store: Unix nanoseconds.
    written_ns: u64,
    /// Before it was last written, by the clock of this machine.
    renewed: Instant,
}

impl Mark {
    /// Writes a mark.
    pub(super) async fn begin(objects: &Objects, work: Work, id: &[u8; 16]) -> Result<Self, Error> {
        let name = format!("{}{}{JSON}", work.prefix(), hex::encode(id));
        let mut mark = Self { name, written_ns: 0, renewed: monotonic() };
        mark.renew(objects).await?;
        Ok(mark)
    }

    /// Writes it again.
    pub(super) async fn renew(&mut self, objects: &Objects) -> Result<(), Error> {
        let renewed = monotonic();
        objects.put(RUNNING, &self.name, "{}\n".into()).await?;
        self.written_ns = objects.modified_ns(RUNNING, &self.name).await?;
        self.renewed = renewed;
        Ok(())
    }

    /// The time of the object store when the mark was last written.
    pub(super) fn written_ns(&self) -> u64 {
        self.written_ns
    }

    /// Whether others may rely on it for as long as half of [`LEASE`].
    pub(super) fn is_fresh(&self) -> bool {
        monotonic().saturating_duration_since(self.renewed) < LEASE / 2
    }

    /// Whether work of this kind is under way beside this one.
    pub(super) async fn sees(&self, objects: &Objects, work: Work) -> Result<bool, Error> {
        let marks = objects.list(RUNNING).await?;
        let counts = |modified_ns: u64| modified_ns.saturating_add(nanos(LEASE)) > self.written_ns;
        let others = marks.iter().filter(|(name, _)| name.starts_with(work.prefix()) && **name != self.name);
        Ok(others.into_iter().any(|(_, found)| counts(found.modified_ns)))
    }

    /// Waits until no prune is under way, and is renewed then.
    pub(super) async fn wait_for_prunes(&mut self, objects: &Objects) -> Result<(), Error> {
        let began = monotonic();
        while self.sees(objects, Work::Prune).await? {
            let waited = monotonic().saturating_duration_since(began);
            if waited > LEASE * 2 {
                let place = objects.location().place().to_string();
                return Err(Error::Busy { place, minutes: waited.as_secs() / 60 });
            }
            tracing::info!(event = "backup.waits_for_prune", place = %objects.location().place());
            tokio::time::sleep(Duration::from_secs(1)).await;
            self.renew(objects).await?;
        }
        Ok(())
    }

    /// Removes it.
    pub(super) async fn end(self, objects: &Objects) -> Result<(), Error> {
        objects.delete(RUNNING, &[self.name]).await
    }
}

/// Names of marks that processes left which are gone for long.
pub(super) async fn forgotten(objects: &Objects, now_ns: u64) -> Result<Vec<String>, Error> {
    let marks = objects.list(RUNNING).await?;
    let long_ago = |modified_ns: u64| modified_ns.saturating_add(nanos(LEASE * 6)) < now_ns;
    Ok(marks.into_iter().filter(|(_, found)| long_ago(found.modified_ns)).map(|(name, _)| name).collect())
}

pub(super) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
