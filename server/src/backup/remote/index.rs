//! What backups there are.

use std::collections::{BTreeMap, BTreeSet};

use tokio::task::JoinSet;

use super::super::place::Listed;
use super::super::retention::Dated;
use super::super::{Manifest, Progress, Stamp};
use super::objects::{BACKUPS, Found, JSON, Objects, VERIFIED};
use super::receive::read_manifest;
use super::{Error, Remote};

/// Manifests that are read at one time.
const AT_ONCE: usize = 8;

/// A backup, and what a prune needs to know of it.
pub(super) struct Indexed {
    pub(super) listed: Listed,
    pub(super) dated: Dated,
    /// The objects that it needs.
    pub(super) objects: BTreeSet<[u8; 32]>,
}

impl Remote {
    /// Every backup, the oldest first.
    pub fn list(&self, progress: &Progress) -> Result<Vec<Listed>, Error> {
        let indexed = self.run(progress, Box::pin(index(&self.objects)))?;
        Ok(indexed.into_iter().map(|backup| backup.listed).collect())
    }
}

pub(super) async fn index(objects: &Objects) -> Result<Vec<Indexed>, Error> {
    let verified = objects.list(VERIFIED).await?;
    let backups = objects.list(BACKUPS).await?;
    let mut indexed = BTreeMap::new();
    let mut tasks = JoinSet::new();
    let mut wanted = backups.into_iter().filter_map(|(name, found)| Some((name.strip_suffix(JSON)?.to_owned(), found)));
    loop {
        while tasks.len() < AT_ONCE
            && let Some((name, found)) = wanted.next()
        {
            let objects = objects.clone();
            tasks.spawn(async move {
                let read = read_manifest(&objects, &name).await;
                (name, found, read.map(|(manifest, _)| manifest))
            });
        }
        let Some(done) = tasks.join_next().await else { break };
        let (name, found, read) =
            done.map_err(|error| Error::io("a part of the work ended early", std::io::Error::other(error)))?;
        let entry = match read {
            Ok(manifest) => readable(objects, &name, found, &manifest, verified.get(&format!("{name}{JSON}"))),
            // Removed since it was listed.
            Err(Error::Missing { .. }) => continue,
            Err(error @ (Error::Damaged { .. } | Error::Refused(_))) => unreadable(objects, &name, found, &error),
            Err(error) => return Err(error),
        };
        indexed.insert(name, entry);
    }
    let mut indexed: Vec<_> = indexed.into_values().collect();
    indexed.sort_by_key(|backup| backup.dated.order());
    Ok(indexed)
}

fn readable(objects: &Objects, name: &str, found: Found, manifest: &Manifest, verified: Option<&Found>) -> Indexed {
    let at = objects.location().of(name);
    let verified_at = verified.map(|mark| Stamp::time_of(mark.modified_ns));
    let listed = Listed::of_manifest(name, at, manifest, verified_at);
    // A copied bucket has later times, and a clock that was wrong an earlier or later one: the earlier is closer.
    let made_ns = manifest.header.created_ns().map_or(found.modified_ns, |made| made.min(found.modified_ns));
    let dated = Dated {
        database_id: Some(manifest.header.database_id),
        made_ns,
        sequence: manifest.sequence,
        verified: verified.is_some(),
    };
    Indexed { listed, dated, objects: manifest.files.iter().map(|file| file.sha256).collect() }
}

fn unreadable(objects: &Objects, name: &str, found: Found, error: &Error) -> Indexed {
    let listed = Listed::unreadable(name, objects.location().of(name), found.bytes, error.to_string());
    let dated = Dated { database_id: None, made_ns: found.modified_ns, sequence: 0, verified: false };
    Indexed { listed, dated, objects: BTreeSet::new() }
}
