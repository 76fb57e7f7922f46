//! What backups there are.

use std::collections::{BTreeMap, BTreeSet};

use tokio::task::JoinSet;

use super::super::place::Listed;
use super::super::retention::{Dated, order};
use super::super::{Manifest, Progress, Stamp};
use super::objects::{BACKUPS, DAMAGED, Found, JSON, Objects, VERIFIED};
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
    let damaged = objects.list(DAMAGED).await?;
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
            Ok(manifest) => {
                // Another backup that shares an object may have been read later, when the object was damaged.
                let is_damaged = manifest.files.iter().any(|file| damaged.contains_key(&hex::encode(file.sha256)));
                let mark = verified.get(&format!("{name}{JSON}")).filter(|_| !is_damaged);
                readable(objects, &name, found, &manifest, mark)
            }
            // Removed since it was listed.
            Err(Error::Missing { .. }) => continue,
            Err(error @ (Error::Damaged { .. } | Error::Refused(_))) => unreadable(objects, &name, found, &error),
            Err(error) => return Err(error),
        };
        indexed.insert(name, entry);
    }
    let dated: Vec<_> = indexed.values().map(|backup| backup.dated).collect();
    let mut indexed: Vec<_> = order(&dated).into_iter().zip(indexed.into_values()).collect();
    indexed.sort_by_key(|(order, _)| *order);
    Ok(indexed.into_iter().map(|(_, backup)| backup).collect())
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
        incarnation: u64::from_str_radix(&manifest.incarnation, 16).ok(),
        sequence: manifest.sequence,
        verified: verified.is_some(),
        just_made: false,
    };
    Indexed { listed, dated, objects: manifest.files.iter().map(|file| file.sha256).collect() }
}

fn unreadable(objects: &Objects, name: &str, found: Found, error: &Error) -> Indexed {
    let listed = Listed::unreadable(name, objects.location().of(name), found.bytes, error.to_string());
    let made_ns = found.modified_ns;
    let dated = Dated { database_id: None, made_ns, incarnation: None, sequence: 0, verified: false, just_made: false };
    Indexed { listed, dated, objects: BTreeSet::new() }
}
