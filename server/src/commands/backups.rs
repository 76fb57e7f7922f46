//! `progressdb backup list|verify|prune`: backups that are there, in a directory or in an object store.

use std::sync::Arc;

use serde_json::json;

use super::failure::Failure;
use super::{begin_offline, print, progress, report};
use crate::args::{BackupCommand, PruneArgs};
use crate::backup::{Keep, Listed, Place, Progress, Pruned, Verdict};
use crate::config::Loaded;

pub(super) fn run(loaded: Loaded, command: &BackupCommand) -> Result<(), Failure> {
    begin_offline(&loaded);
    let access = loaded.config?.backup.access;
    let open = |place: &str| Place::open(place, &access);
    match command {
        BackupCommand::List { place, json } => list(&open(place)?, *json),
        BackupCommand::Verify { place, rate_limit, json } => verify(&open(place)?, *rate_limit, *json),
        BackupCommand::Prune(wanted) => prune(&open(&wanted.place)?, wanted),
    }
}

fn list(place: &Place, as_json: bool) -> Result<(), Failure> {
    let listed = place.list(&Progress::default())?;
    if as_json {
        return print(&json!(listed).to_string());
    }
    if listed.is_empty() {
        return print("no backups");
    }
    listed.iter().try_for_each(|backup| print(&line(backup)))
}

fn line(backup: &Listed) -> String {
    let Listed { at, problem: Some(problem), .. } = backup else {
        let created = backup.created.as_deref().unwrap_or_default();
        let sequence = backup.sequence.map_or_else(|| "-".to_owned(), |sequence| sequence.to_string());
        let verified = backup.verified.as_deref().unwrap_or("never");
        return format!(
            "{} created={created} sequence={sequence} bytes={} verified={verified}",
            backup.at, backup.bytes
        );
    };
    format!("{at} unreadable: {problem}")
}

fn verify(place: &Place, rate_limit: Option<u64>, as_json: bool) -> Result<(), Failure> {
    let progress = Arc::new(Progress::new(rate_limit));
    let (at, manifest) = progress::watch(&progress, || Ok(place.check(&progress)?))?;
    tracing::info!(event = "cli.backup_verified", src = at, bytes = manifest.bytes(), outcome = "ok");
    if !as_json {
        return print(&format!("verified={at}"));
    }
    let mut report = report::of_manifest(&manifest);
    report["verified"] = json!(at);
    print(&report.to_string())
}

fn prune(place: &Place, wanted: &PruneArgs) -> Result<(), Failure> {
    let progress = Arc::new(Progress::default());
    let keep = Keep { newest: wanted.keep, max_age: wanted.max_age };
    let pruned =
        progress::watch(&progress, || Ok(place.prune(keep, wanted.grace, None, wanted.dry_run, &progress)?))?;
    let Pruned { backups, objects, bytes, objects_kept_because } = &pruned;
    tracing::info!(
        event = "cli.backup_pruned",
        src = wanted.place,
        backups = pruned.removed(),
        objects,
        bytes,
        dry_run = wanted.dry_run,
    );
    if wanted.json {
        return print(&report(&pruned, wanted.dry_run).to_string());
    }
    let removed = if wanted.dry_run { "would remove" } else { "removed" };
    for (backup, verdict) in backups {
        let what = if verdict.removes() { removed } else { "kept" };
        print(&format!("{what} {}: {}", backup.at, why(*verdict)))?;
    }
    if let Some(why) = objects_kept_because {
        print(&format!("objects that no backup needs stay: {why}"))?;
    }
    print(&format!("{removed} {} backups, {objects} objects, {bytes} bytes", pruned.removed()))
}

fn report(pruned: &Pruned, dry_run: bool) -> serde_json::Value {
    let backup = |(backup, verdict): &(Listed, Verdict)| json!({ "at": backup.at, "created": backup.created, "removed": verdict.removes(), "why": verdict });
    json!({
        "dry_run": dry_run,
        "backups": pruned.backups.iter().map(backup).collect::<Vec<_>>(),
        "objects": pruned.objects,
        "bytes": pruned.bytes,
        "objects_kept_because": pruned.objects_kept_because,
    })
}

fn why(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Kept => "within the limits",
        Verdict::KeptNewest => "the newest one always stays",
        Verdict::KeptLastVerified => "the last one that was read and is right always stays",
        Verdict::KeptFuture => "made later than now: the clock was wrong once",
        Verdict::KeptUnreadable => "it cannot be read, so nothing is known of it",
        Verdict::TooMany => "there are enough newer ones",
        Verdict::TooOld => "too old",
    }
}
