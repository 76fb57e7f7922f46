//! Removes backups that may go, and then the objects that no backup names any more.
//!
//! 1. the mark of a prune is written; from now on uploads wait
//! 2. if an upload is under way, objects stay: it may rely on any of them
//! 3. manifests of backups that may go are removed
//! 4. objects that no other manifest names and that are at least as old as the grace are removed
//!
//! It stops when its mark may soon count no more. What it leaves is removed by the next prune.

use std::collections::BTreeSet;
use std::time::Duration;

use aws_lc_rs::rand;

use super::super::Progress;
use super::super::place::Pruned;
use super::super::retention::{Dated, Keep, decide};
use super::index::{Indexed, index};
use super::marks::{Mark, Work, forgotten, nanos};
use super::objects::{BACKUPS, DAMAGED, JSON, OBJECTS, Objects, RUNNING, VERIFIED};
use super::{Error, Remote, staged};
use crate::clock::Clock;

/// Objects that are removed with one request, where that can be.
const BATCH: usize = 500;

impl Remote {
    /// Removes what `keep` does not keep, and objects at least as old as `grace` that no backup names: an upload that was killed may
    /// go on with younger ones. What was just `made` stays: its URL. A dry run changes nothing.
    pub fn prune(
        &self,
        keep: Keep,
        grace: Duration,
        made: Option<&str>,
        dry_run: bool,
        progress: &Progress,
    ) -> Result<Pruned, Error> {
        self.run(
            progress,
            Box::pin(async {
                if dry_run {
                    return prune(&self.objects, keep, grace, made, None).await;
                }
                let mut id = [0; 16];
                rand::fill(&mut id).expect("the system's random source works");
                let mark = Mark::begin(&self.objects, Work::Prune, &id).await?;
                let pruned = prune(&self.objects, keep, grace, made, Some(&mark)).await;
                let ended = mark.end(&self.objects).await;
                pruned.and_then(|pruned| ended.map(|()| pruned))
            }),
        )
    }
}

async fn prune(
    objects: &Objects,
    keep: Keep,
    grace: Duration,
    made: Option<&str>,
    mark: Option<&Mark>,
) -> Result<Pruned, Error> {
    // Before the backups are listed: an upload that ends in between has its manifest in the list.
    let upload = match mark {
        Some(mark) => mark.sees(objects, Work::Upload).await?,
        None => false,
    };
    let now_ns = mark.map_or_else(Clock::wall, Mark::written_ns);
    let backups = index(objects).await?;
    let dated = |backup: &Indexed| Dated { just_made: made == Some(&backup.listed.at), ..backup.dated };
    let dated: Vec<_> = backups.iter().map(dated).collect();
    let verdicts = decide(&dated, keep, now_ns);
    let mut pruned = Pruned::default();
    let mut needed = BTreeSet::new();
    let mut going = Vec::new();
    for (backup, verdict) in backups.into_iter().zip(verdicts) {
        match verdict.removes() {
            true => going.push(format!("{}{JSON}", backup.listed.name)),
            false => needed.extend(backup.objects),
        }
        if backup.listed.problem.is_some() {
            pruned.objects_kept_because =
                Some(format!("{} cannot be read, so what it needs is not known", backup.listed.at));
        }
        pruned.backups.push((backup.listed, verdict));
    }
    if mark.is_some() {
        remove_backups(objects, &going).await?;
        objects.delete(RUNNING, &forgotten(objects, now_ns).await?).await?;
    }
    if upload {
        pruned.objects_kept_because = Some("an upload is under way".to_owned());
    }
    if pruned.objects_kept_because.is_none() {
        remove_objects(objects, &needed, now_ns.saturating_sub(nanos(grace)), mark, &mut pruned).await?;
    }
    Ok(pruned)
}

/// Manifests first: a mark without its backup is nothing.
async fn remove_backups(objects: &Objects, names: &[String]) -> Result<(), Error> {
    objects.delete(BACKUPS, names).await?;
    let marks = objects.list(VERIFIED).await?;
    let there = objects.list(BACKUPS).await?;
    let orphans: Vec<_> = marks.into_keys().filter(|name| !there.contains_key(name)).collect();
    objects.delete(VERIFIED, &orphans).await
}

async fn remove_objects(
    objects: &Objects,
    needed: &BTreeSet<[u8; 32]>,
    before_ns: u64,
    mark: Option<&Mark>,
    pruned: &mut Pruned,
) -> Result<(), Error> {
    let is_needed = |name: &str| match hex::decode(name).ok().and_then(|sha256| sha256.try_into().ok()) {
        Some(sha256) => needed.contains::<[u8; 32]>(&sha256),
        // Nothing of ours.
        None => true,
    };
    if let Some(directory) = objects.location().directory() {
        (pruned.objects, pruned.bytes) = staged::remove(&directory, before_ns, mark.is_none())?;
    }
    let there = objects.list(OBJECTS).await?;
    let going: Vec<_> =
        there.into_iter().filter(|(name, found)| found.modified_ns <= before_ns && !is_needed(name)).collect();
    for batch in going.chunks(BATCH) {
        let names: Vec<_> = batch.iter().map(|(name, _)| name.clone()).collect();
        if let Some(mark) = mark {
            if !mark.is_fresh() {
                pruned.objects_kept_because = Some("it took too long: the next prune goes on".to_owned());
                break;
            }
            objects.delete(OBJECTS, &names).await?;
            objects.delete(DAMAGED, &names).await?;
        }
        pruned.objects += batch.len() as u64;
        pruned.bytes = batch.iter().fold(pruned.bytes, |bytes, (_, found)| bytes.saturating_add(found.bytes));
    }
    Ok(())
}
