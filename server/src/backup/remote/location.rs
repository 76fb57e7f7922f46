//! The URL of an object store: `s3://bucket/prefix`, `gs://…`, `az://container/prefix`, `file:///directory`.
//!
//! A URL that goes on with `/backups/<name>.json`, as `progressdb backup list` shows them, means that backup; another one
//! means the newest. Nothing in it is percent-decoded: a prefix is what stands there.

use std::fmt;
use std::path::PathBuf;

use super::Error;

/// Who serves the objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scheme {
    /// Amazon S3, and what speaks its protocol.
    S3,
    /// Google Cloud Storage.
    Gcs,
    /// Azure Blob Storage.
    Azure,
    /// A directory of this machine.
    File,
}

/// Where backups are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Location {
    scheme: Scheme,
    /// Or container; empty for a directory.
    bucket: String,
    /// Without slashes at its ends.
    prefix: String,
    backup: Option<String>,
}

const SCHEMES: [(&str, Scheme); 4] =
    [("s3", Scheme::S3), ("gs", Scheme::Gcs), ("az", Scheme::Azure), ("file", Scheme::File)];

impl Location {
    /// Whether this is meant as a URL, and not as a path.
    pub fn is_url(text: &str) -> bool {
        text.contains("://")
    }

    /// Reads a URL.
    pub fn parse(url: &str) -> Result<Self, Error> {
        let refuse = |why: &str| Error::Url { url: url.to_owned(), why: why.to_owned() };
        let (scheme, rest) = url.split_once("://").ok_or_else(|| refuse("it has no scheme"))?;
        let scheme = SCHEMES.iter().find(|(name, _)| *name == scheme);
        let (_, scheme) = *scheme.ok_or_else(|| refuse("its scheme is none of s3, gs, az, file"))?;
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        if scheme == Scheme::File && !bucket.is_empty() {
            return Err(refuse("a directory is given with its whole path: file:///var/backups"));
        }
        if scheme != Scheme::File && !is_bucket(bucket) {
            return Err(refuse("a bucket has lower-case letters, digits, dots and hyphens"));
        }
        let prefix = prefix.trim_matches('/');
        if !prefix.is_empty() && object_store::path::Path::parse(prefix).is_err() {
            return Err(refuse("its path has an empty part, or `.`, `..` or control characters"));
        }
        let (prefix, backup) = split_backup(prefix);
        if scheme == Scheme::File && prefix.is_empty() {
            return Err(refuse("a directory is needed: file:///var/backups"));
        }
        Ok(Self { scheme, bucket: bucket.to_owned(), prefix: prefix.to_owned(), backup })
    }

    /// The name of the one backup that is meant.
    pub fn backup(&self) -> Option<&str> {
        self.backup.as_deref()
    }

    /// Without the backup.
    pub fn place(&self) -> Self {
        Self { backup: None, ..self.clone() }
    }

    /// The URL of a backup that is kept there.
    pub fn of(&self, backup: &str) -> String {
        Self { backup: Some(backup.to_owned()), ..self.clone() }.to_string()
    }

    /// Of a `file://` URL.
    pub fn directory(&self) -> Option<PathBuf> {
        (self.scheme == Scheme::File).then(|| PathBuf::from(format!("/{}", self.prefix)))
    }

    pub(super) fn scheme(&self) -> Scheme {
        self.scheme
    }

    pub(super) fn bucket(&self) -> &str {
        &self.bucket
    }

    /// The key of an object. A directory is opened at its prefix.
    pub(super) fn key(&self, kind: &str, name: &str) -> object_store::path::Path {
        let prefix = if self.scheme == Scheme::File { "" } else { self.prefix.as_str() };
        let parts = [prefix, kind, name].into_iter().filter(|part| !part.is_empty());
        // A prefix was parsed before, and the other parts have plain characters.
        object_store::path::Path::parse(parts.collect::<Vec<_>>().join("/")).unwrap_or_default()
    }
}

/// Names that every cloud allows.
fn is_bucket(name: &str) -> bool {
    let plain =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'.' | b'-' | b'_' | b'$');
    !name.is_empty() && name.bytes().all(plain)
}

fn split_backup(path: &str) -> (&str, Option<String>) {
    let split = || {
        let (before, name) = path.rsplit_once('/')?;
        let name = name.strip_suffix(".json")?;
        let prefix = if before == "backups" { "" } else { before.strip_suffix("/backups")? };
        Some((prefix, Some(name.to_owned())))
    };
    split().unwrap_or((path, None))
}

impl fmt::Display for Location {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (scheme, _) = SCHEMES.iter().find(|(_, scheme)| *scheme == self.scheme).expect("all are listed");
        write!(out, "{scheme}://{}", self.bucket)?;
        if !self.prefix.is_empty() {
            write!(out, "/{}", self.prefix)?;
        }
        match &self.backup {
            Some(name) => write!(out, "/backups/{name}.json"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(url: &str, shown: &str, key: &str, backup: Option<&str>) {
        let location = Location::parse(url).unwrap();
        assert_eq!((location.to_string().as_str(), location.backup()), (shown, backup), "{url}");
        assert_eq!(location.key("objects", "ab").as_ref(), key, "{url}");
    }

    #[test]
    fn a_url_names_a_place_or_one_backup_in_it() {
        check("s3://bucket", "s3://bucket", "objects/ab", None);
        check("s3://bucket/", "s3://bucket", "objects/ab", None);
        check("gs://bucket/a/b/", "gs://bucket/a/b", "a/b/objects/ab", None);
        check("az://box/a b%20c", "az://box/a b%20c", "a b%20c/objects/ab", None);
        check("s3://bucket/a/backups/n.json", "s3://bucket/a/backups/n.json", "a/objects/ab", Some("n"));
        check("s3://bucket/backups/n.json", "s3://bucket/backups/n.json", "objects/ab", Some("n"));
        check("s3://bucket/my-backups/n.json", "s3://bucket/my-backups/n.json", "my-backups/n.json/objects/ab", None);
        check("file:///var/b", "file:///var/b", "objects/ab", None);
        assert_eq!(Location::parse("file:///var/b").unwrap().directory(), Some("/var/b".into()));
        assert_eq!(Location::parse("s3://b/x").unwrap().of("n"), "s3://b/x/backups/n.json");
    }

    #[test]
    fn a_url_that_names_no_place_is_refused_with_a_reason() {
        for (url, why) in [
            ("ftp://bucket", "its scheme is none of s3, gs, az, file"),
            ("s3:///prefix", "a bucket has"),
            ("s3://Bucket", "a bucket has"),
            ("s3://key:secret@bucket", "a bucket has"),
            ("s3://bucket/a//b", "its path has"),
            ("s3://bucket/../b", "its path has"),
            ("file://var/b", "file:///var/backups"),
            ("file:///", "file:///var/backups"),
        ] {
            let error = Location::parse(url).unwrap_err();
            assert!(error.to_string().contains(why), "{url}: {error}");
            assert_eq!(error.exit_code(), 2);
        }
    }
}
