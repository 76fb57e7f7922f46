//! Places that hold backups: a directory of artefacts, one artefact, or an object store. All are listed, checked and pruned
//! the same way.
//!
//! An artefact was read and compared before it got its name. In a directory a prune removes only artefacts with the dated
//! names that backups get there; what somebody gave another name to stays and does not count. Before it removes anything it
//! reads the newest again, so that one remains that is right.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use serde::Serialize;

use super::remote::{Access, Error, Location, Remote};
use super::retention::{Dated, Keep, Verdict, decide};
use super::{Artefact, Form, Header, Manifest, Progress, Refused, Stamp};
use crate::clock::Clock;
use crate::files;

/// A backup, as lists show it.
#[derive(Clone, Debug, Serialize)]
pub struct Listed {
    /// Its name in its place.
    pub name: String,
    /// What to give to `--in` to mean it.
    pub at: String,
    /// Why it cannot be read, if it cannot. Then most of the rest is unknown.
    pub problem: Option<String>,
    /// Random, of this backup.
    pub id: Option<String>,
    /// Of which database.
    pub database_id: Option<String>,
    /// When it was made.
    pub created: Option<String>,
    /// Which version of the program made it.
    pub version: Option<String>,
    /// The format of the store.
    pub store_format: Option<u32>,
    /// Client commits ever made; an archive is not read for it.
    pub sequence: Option<u64>,
    /// The files of the store all together, or the archive.
    pub bytes: u64,
    /// When all of it was last read and was right.
    pub verified: Option<String>,
}

impl Listed {
    pub(super) fn of_manifest(name: &str, at: String, manifest: &Manifest, verified: Option<String>) -> Self {
        let (sequence, bytes) = (Some(manifest.sequence), manifest.bytes());
        Self { sequence, ..Self::of_header(name, at, &manifest.header, bytes, verified) }
    }

    fn of_header(name: &str, at: String, header: &Header, bytes: u64, verified: Option<String>) -> Self {
        Self {
            name: name.to_owned(),
            at,
            problem: None,
            id: Some(hex::encode(header.id)),
            database_id: Some(hex::encode(header.database_id)),
            created: Some(header.created.clone()),
            version: Some(header.version.clone()),
            store_format: Some(header.store_format),
            sequence: None,
            bytes,
            verified,
        }
    }

    pub(super) fn unreadable(name: &str, at: String, bytes: u64, problem: String) -> Self {
        Self {
            name: name.to_owned(),
            at,
            problem: Some(problem),
            id: None,
            database_id: None,
            created: None,
            version: None,
            store_format: None,
            sequence: None,
            bytes,
            verified: None,
        }
    }
}

/// What a prune did, or would do.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Pruned {
    /// Each backup, the oldest first, and what becomes of it.
    pub backups: Vec<(Listed, Verdict)>,
    /// Objects that no backup needs any more and that were removed.
    pub objects: u64,
    /// Their bytes, or those of the artefacts.
    pub bytes: u64,
    /// Why no further objects were removed.
    pub objects_kept_because: Option<String>,
}

impl Pruned {
    /// How many backups go.
    pub fn removed(&self) -> usize {
        self.backups.iter().filter(|(_, verdict)| verdict.removes()).count()
    }
}

/// A place that holds backups.
pub enum Place {
    /// A directory of artefacts.
    Directory(PathBuf),
    /// One artefact.
    Artefact(PathBuf),
    /// An object store.
    Remote(Box<Remote>),
}

impl Place {
    /// What `--in` means: a URL, an artefact, or a directory of them.
    pub fn open(text: &str, access: &Access) -> Result<Self, Error> {
        if Location::is_url(text) {
            return Ok(Self::Remote(Box::new(Remote::open(&Location::parse(text)?, access, false)?)));
        }
        let path = PathBuf::from(text);
        match Artefact::open_any(&path) {
            Err(Refused::NotOurs { .. }) if path.is_dir() => Ok(Self::Directory(path)),
            Err(error @ Refused::Missing { .. }) => Err(error.into()),
            _ => Ok(Self::Artefact(path)),
        }
    }

    /// Every backup, the oldest first.
    pub fn list(&self, progress: &Progress) -> Result<Vec<Listed>, Error> {
        match self {
            Self::Remote(remote) => remote.list(progress),
            Self::Artefact(path) => Ok(vec![Local::read(path).listed]),
            Self::Directory(directory) => Ok(read_all(directory)?.into_iter().map(|local| local.listed).collect()),
        }
    }

    /// Reads the whole of one backup: the one that was named, or the newest.
    pub fn check(&self, progress: &Arc<Progress>) -> Result<(String, Manifest), Error> {
        match self {
            Self::Remote(remote) => {
                let checked = remote.check(&remote.resolve(progress)?, progress)?;
                if let Some(why) = checked.unmarked {
                    tracing::warn!(event = "backup.not_marked", url = checked.url, why, "prunes will not know of it");
                }
                Ok((checked.url, checked.manifest))
            }
            Self::Artefact(path) => check_artefact(path, progress),
            Self::Directory(directory) => {
                let newest = read_all(directory)?.pop().ok_or_else(|| nothing_in(directory))?;
                check_artefact(&newest.path, progress)
            }
        }
    }

    /// Removes what `keep` does not keep. See [`Remote::prune`] for `grace`. What was just `made` stays, as lists show where
    /// it is. A dry run changes nothing.
    pub fn prune(
        &self,
        keep: Keep,
        grace: Duration,
        made: Option<&str>,
        dry_run: bool,
        progress: &Arc<Progress>,
    ) -> Result<Pruned, Error> {
        match self {
            Self::Remote(remote) => remote.prune(keep, grace, made, dry_run, progress),
            Self::Directory(directory) => prune_directory(directory, keep, made, dry_run, progress),
            Self::Artefact(path) => {
                let why = "a prune takes a directory of backups, or the URL of an object store".to_owned();
                Err(Error::Url { url: path.display().to_string(), why })
            }
        }
    }
}

fn nothing_in(directory: &Path) -> Error {
    Error::Missing { what: format!("a backup in {}", directory.display()) }
}

fn check_artefact(path: &Path, progress: &Progress) -> Result<(String, Manifest), Error> {
    let manifest = Artefact::open_any(path)?.check(progress)?;
    Ok((path.display().to_string(), manifest))
}

/// An artefact in a directory.
struct Local {
    path: PathBuf,
    listed: Listed,
    dated: Dated,
}

impl Local {
    fn read(path: &Path) -> Self {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let at = path.display().to_string();
        let metadata = fs::metadata(path);
        let bytes = metadata.as_ref().map_or(0, fs::Metadata::len);
        let written = metadata.and_then(|metadata| metadata.modified()).ok();
        let written_ns = written.and_then(|written| written.duration_since(UNIX_EPOCH).ok()).unwrap_or_default();
        let written_ns = u64::try_from(written_ns.as_nanos()).unwrap_or(u64::MAX);
        let (listed, database_id, made_ns) = match Artefact::open_any(path) {
            Ok(artefact) => {
                let header = artefact.header();
                let bytes = if artefact.form() == Form::Dir { directory_bytes(path) } else { bytes };
                // It was read and compared before it got its name.
                let listed = Listed::of_header(&name, at, header, bytes, Some(header.created.clone()));
                (listed, Some(header.database_id), header.created_ns().unwrap_or(written_ns))
            }
            Err(error) => (Listed::unreadable(&name, at, bytes, error.to_string()), None, written_ns),
        };
        let dated = Dated { database_id, made_ns, incarnation: None, sequence: 0, verified: false, just_made: false };
        Self { path: path.to_owned(), listed, dated }
    }

    /// Whether a backup gave it this name.
    fn has_dated_name(&self) -> bool {
        let digits = self.listed.name.strip_prefix("progressdb-").and_then(|rest| rest.strip_suffix("Z.pdbk"));
        digits.is_some_and(|digits| {
            digits.len() == 15 && digits.bytes().all(|byte| byte.is_ascii_digit() || byte == b'T')
        })
    }
}

fn directory_bytes(path: &Path) -> u64 {
    let files = fs::read_dir(path.join("store")).into_iter().flatten().flatten();
    files.filter_map(|entry| entry.metadata().ok()).map(|metadata| metadata.len()).sum()
}

/// What in a directory is a backup, or was one, the oldest first.
fn read_all(directory: &Path) -> Result<Vec<Local>, Error> {
    let cannot = |error| Error::io(format!("cannot list {}", directory.display()), error);
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).map_err(cannot)? {
        let path = entry.map_err(cannot)?.path();
        let extension = path.extension().and_then(|extension| extension.to_str());
        // A temporary of a backup that is under way, or of none any more.
        if extension == Some("tmp") {
            continue;
        }
        let is_foreign = || matches!(Artefact::open_any(&path), Err(Refused::NotOurs { .. }));
        if extension == Some("pdbk") || !is_foreign() {
            found.push(Local::read(&path));
        }
    }
    found.sort_by(|one, other| (one.dated.made_ns, &one.path).cmp(&(other.dated.made_ns, &other.path)));
    Ok(found)
}

fn prune_directory(
    directory: &Path,
    keep: Keep,
    made: Option<&str>,
    dry_run: bool,
    progress: &Arc<Progress>,
) -> Result<Pruned, Error> {
    let mut all = read_all(directory)?;
    all.retain(Local::has_dated_name);
    all.iter_mut().for_each(|local| local.dated.just_made = made == Some(&local.listed.at));
    let now_ns = Clock::wall();
    let dated = |all: &[Local]| all.iter().map(|local| local.dated).collect::<Vec<_>>();
    let first = decide(&dated(&all), keep, now_ns);
    if first.iter().any(|verdict| verdict.removes()) {
        find_right_ones(&mut all, progress)?;
    }
    let verdicts = decide(&dated(&all), keep, now_ns);
    let mut pruned = Pruned::default();
    for (local, verdict) in all.into_iter().zip(verdicts) {
        if verdict.removes() {
            pruned.bytes = pruned.bytes.saturating_add(local.listed.bytes);
            if !dry_run {
                remove(&local.path)?;
            }
        }
        pruned.backups.push((local.listed, verdict));
    }
    Ok(pruned)
}

/// Reads the backups of each database, the newest first, until one is right.
fn find_right_ones(all: &mut [Local], progress: &Arc<Progress>) -> Result<(), Error> {
    let mut done = Vec::new();
    for local in all.iter_mut().rev() {
        let Some(database_id) = local.dated.database_id.filter(|id| !done.contains(id)) else { continue };
        match check_artefact(&local.path, progress) {
            Ok(_) => {
                local.dated.verified = true;
                done.push(database_id);
            }
            Err(error @ Error::Refused(Refused::Damaged { .. })) => {
                tracing::error!(event = "backup.damaged", path = local.listed.at, %error);
                local.listed.problem = Some(error.to_string());
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Under the name of a temporary first: a crash leaves nothing that looks like a backup.
fn remove(path: &Path) -> Result<(), Error> {
    let cannot = |error| Error::io(format!("cannot remove {}", path.display()), error);
    let temporary = path.with_file_name(Stamp::now().temporary_name());
    fs::rename(path, &temporary).map_err(cannot)?;
    let removed = if temporary.is_dir() { fs::remove_dir_all(&temporary) } else { fs::remove_file(&temporary) };
    removed.and_then(|()| files::sync_directory_of(path)).map_err(cannot)
}
