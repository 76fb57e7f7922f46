//! Which backup a command restores that was given a place and no name.

use std::collections::BTreeMap;

use super::super::Progress;
use super::super::place::Listed;
use super::{Error, Location, Remote};
use crate::format::Formats;

impl Remote {
    /// The name of the backup that the URL names; else of the newest that this version reads, if all are of one database.
    pub fn choose(&self, formats: &Formats, progress: &Progress) -> Result<String, Error> {
        match self.location().backup() {
            Some(name) => Ok(name.to_owned()),
            None => choose(self.list(progress)?, formats, self.location()),
        }
    }
}

/// Of those that are listed, the oldest first.
fn choose(listed: Vec<Listed>, formats: &Formats, place: &Location) -> Result<String, Error> {
    let last = listed.last().map(|backup| backup.name.clone());
    let last = last.ok_or_else(|| Error::Missing { what: format!("a backup in {place}") })?;
    let mut newest = BTreeMap::new();
    let mut passed_over = Vec::new();
    for backup in listed {
        match why_unreadable(&backup, formats) {
            Some(why) => passed_over.push((backup, why)),
            None => {
                passed_over.clear();
                newest.insert(backup.database_id.clone(), backup);
            }
        }
    }
    if newest.len() > 1 {
        return Err(Error::Several { place: place.to_string(), newest: newest.into_values().collect() });
    }
    // If none can be read, reading the newest says why.
    let Some((_, chosen)) = newest.pop_first() else { return Ok(last) };
    for (backup, why) in passed_over {
        tracing::warn!(event = "backup.passed_over", url = backup.at, why, "an older one is taken: {}", chosen.at);
    }
    Ok(chosen.name)
}

fn why_unreadable(backup: &Listed, formats: &Formats) -> Option<String> {
    let too_new = || formats.check(backup.store_format?).err().map(|unreadable| unreadable.to_string());
    backup.problem.clone().or_else(too_new)
}

#[cfg(test)]
mod tests {
    use super::super::super::manifest::tests::manifest;
    use super::*;

    /// Backups with these names, the oldest first. A name begins with the digit of its database; one that ends with `!`
    /// cannot be read, and one that ends with `+` is of a later format.
    #[track_caller]
    fn chosen(names: &str) -> Result<String, Error> {
        let listed = |name: &str| {
            let mut manifest = manifest(Vec::new());
            manifest.header.database_id = [name.as_bytes()[0] - b'0'; 16];
            manifest.header.store_format += if name.ends_with('+') { 1000 } else { 0 };
            match name.ends_with('!') {
                true => Listed::unreadable(name, name.to_owned(), 0, "cut off".to_owned()),
                false => Listed::of_manifest(name, name.to_owned(), &manifest, None),
            }
        };
        let listed = names.split_whitespace().map(listed).collect();
        choose(listed, &Formats::CURRENT, &Location::parse("s3://bucket/p").unwrap())
    }

    #[test]
    fn the_newest_that_can_be_read_is_taken() {
        for (names, taken) in
            [("1a 1b", "1b"), ("1a 1b!", "1a"), ("1a 1b+ 1c!", "1a"), ("1a! 1b+", "1b+"), ("1a!", "1a!")]
        {
            assert_eq!(chosen(names).unwrap(), taken, "{names}");
        }
        assert_eq!(chosen("").unwrap_err().exit_code(), 5);
    }

    #[test]
    fn one_of_several_databases_is_not_guessed() {
        let refused = chosen("1a 2a 1b 3a+ 1c!").unwrap_err();
        assert_eq!(refused.exit_code(), 2);
        let text = refused.to_string();
        for said in ["s3://bucket/p", "1b", &"01".repeat(16), "2a", &"02".repeat(16), "2026-01-02T03:04:05Z"] {
            assert!(text.contains(said), "{text}");
        }
        assert!(!text.contains("1a") && !text.contains("3a"), "{text}");
    }
}
