//! What a directory says of the backups in it, after some of it was damaged or the clock was set back.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::{Access, Error, Location, Remote};
use crate::backup::create::tests::source;
use crate::backup::{Keep, Listed, Progress, Stamp};

pub(in crate::backup) fn access() -> Access {
    Access {
        endpoint: None,
        region: None,
        allow_http: false,
        ca_file: None,
        timeout: Duration::from_secs(1),
        proxies: Default::default(),
        variables: Vec::new(),
    }
}

fn open(root: &Path) -> Remote {
    let location = Location::parse(&format!("file://{}/backups", root.display())).unwrap();
    Remote::open(&location, &access(), true).unwrap()
}

fn list(remote: &Remote) -> Vec<Listed> {
    remote.list(&Progress::default()).unwrap()
}

/// Sends a backup that was made so many seconds ago and holds this many commits; all share one object. Gives its URL.
fn send(remote: &Remote, root: &Path, seconds_ago: u64, sequence: u64) -> String {
    let mut source = source(root);
    let name = format!("{sequence}.sst");
    fs::write(source.directory.join(&name), &name).unwrap();
    source.files = vec!["CURRENT".to_owned(), name];
    source.description.sequence = sequence;
    let now = Stamp::now();
    let stamp = Stamp { created_ns: now.created_ns - seconds_ago * 1_000_000_000, ..now };
    remote.send(&source, &stamp, &Arc::default()).unwrap().url
}

fn check(remote: &Remote, url: &str) -> Result<(), Error> {
    let name = Location::parse(url).unwrap().backup().unwrap().to_owned();
    let checked = remote.check(&name, &Arc::default())?;
    assert_eq!(checked.unmarked, None);
    Ok(())
}

fn shared_object(root: &Path) -> PathBuf {
    let files = fs::read_dir(root.join("backups/objects")).unwrap().map(|entry| entry.unwrap().path());
    files.into_iter().find(|path| fs::metadata(path).unwrap().len() == 100_000).unwrap()
}

#[test]
fn an_object_that_is_found_damaged_leaves_none_of_its_backups_verified() {
    let root = tempfile::tempdir().unwrap();
    let remote = open(root.path());
    let urls = [send(&remote, root.path(), 20, 1), send(&remote, root.path(), 10, 2)];
    urls.iter().for_each(|url| check(&remote, url).unwrap());
    let verified = || list(&remote).iter().map(|backup| backup.verified.is_some()).collect::<Vec<_>>();
    assert_eq!(verified(), [true; 2]);
    let (object, right) = (shared_object(root.path()), vec![7; 100_000]);
    fs::write(&object, vec![8; 100_000]).unwrap();
    assert_eq!(check(&remote, &urls[1]).unwrap_err().exit_code(), 7);
    assert_eq!(verified(), [false; 2], "the other one was not read, and needs the same object");
    fs::write(&object, right).unwrap();
    check(&remote, &urls[0]).unwrap();
    assert_eq!(verified(), [true, false], "the object is there again");
}

#[test]
fn a_clock_that_was_set_back_does_not_cost_the_newest_backup() {
    let root = tempfile::tempdir().unwrap();
    let remote = open(root.path());
    let [before, after] = [(600, 10), (1200, 20)].map(|(ago, sequence)| send(&remote, root.path(), ago, sequence));
    let urls = || list(&remote).into_iter().map(|backup| backup.at).collect::<Vec<_>>();
    assert_eq!(urls(), [before.clone(), after.clone()], "the one with more commits is the newest");
    let prune = |made: Option<&str>| {
        let keep = Keep { newest: Some(1), max_age: None };
        remote.prune(keep, Duration::ZERO, made, false, &Progress::default()).unwrap().removed()
    };
    assert_eq!((prune(None), urls()), (1, vec![after.clone()]));
    let restored = send(&remote, root.path(), 1800, 15);
    assert_eq!((prune(Some(&restored)), urls()), (1, vec![restored.clone()]), "it was just made");
}
