//! What an image read of the copy (`verify --digest`), and whether two images read the same.
//!
//! A root says how it was computed by its version, and compares with those of the same version only. What was counted on the
//! way compares always, and shows less: a row that was altered counts as before.

use std::collections::BTreeMap;

use crate::{crd::Rehearsal, facts::EndedContainer};

/// What a report names that no row has any part in.
const OF_THE_RUN: [&str; 2] = ["version", "seconds"];

/// What an image read of the copy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Copy {
    pub(super) root: String,
    /// None if the image does not say it.
    version: Option<i64>,
    pub(super) counts: BTreeMap<String, i64>,
}

impl Copy {
    /// None if the report has no digest.
    pub(super) fn of(digest: &EndedContainer) -> Option<Self> {
        let report = digest.report();
        let root = report["root"].as_str().filter(|root| !root.is_empty())?.to_owned();
        let counts = report.as_object()?.iter().filter(|(name, _)| !OF_THE_RUN.contains(&name.as_str()));
        let counts = counts.filter_map(|(name, count)| Some((name.clone(), count.as_i64()?))).collect();
        Some(Self { root, version: report["version"].as_i64(), counts })
    }

    /// Keeps it as what the old image read.
    pub(super) fn keep_as_old(self, rehearsal: &mut Rehearsal) {
        rehearsal.old_digest = Some(self.root);
        rehearsal.old_digest_version = self.version;
        rehearsal.old_counts = self.counts;
    }

    /// That the old image read the same, and what of it cannot be told; or why it did not.
    pub(super) fn compare_with_old(&self, rehearsal: &Rehearsal) -> Result<Option<String>, String> {
        let Some(old_root) = &rehearsal.old_digest else { return Ok(None) };
        let (old, new) = match (rehearsal.old_digest_version, self.version) {
            (Some(old), Some(new)) if old != new => (old, new),
            _ if *old_root == self.root => return Ok(None),
            _ => {
                let root = &self.root;
                return Err(format!("the new image reads other data: digest {root}, and {old_root} by the old image"));
            }
        };
        let of_both =
            rehearsal.old_counts.iter().filter_map(|(name, count)| Some((name, count, self.counts.get(name)?)));
        let of_both: Vec<_> = of_both.collect();
        if let Some((name, before, after)) = of_both.iter().find(|(_, before, after)| before != after) {
            return Err(format!("the new image reads other data: {after} {name}, and {before} by the old image"));
        }
        if of_both.is_empty() {
            return Err(format!(
                "digests of version {old} and {new} do not compare, and the images count nothing alike"
            ));
        }
        let counts: Vec<String> = of_both.iter().map(|(name, count, _)| format!("{count} {name}")).collect();
        Ok(Some(format!(
            "digests of version {old} and {new} do not compare; what both images count is the same: {}",
            counts.join(", ")
        )))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn copy(report: &Value) -> Option<Copy> {
        let message = format!("noise\n{report}\n");
        Copy::of(&EndedContainer { passed: true, message, ..EndedContainer::default() })
    }

    fn report(version: i64, root: &str, messages: i64) -> Value {
        json!({ "version": version, "root": root, "threads": 2, "messages": messages, "seconds": 3 })
    }

    fn check(old: &Value, new: &Value, expected: Result<Option<&str>, &str>) {
        let mut rehearsal = Rehearsal::default();
        copy(old).unwrap().keep_as_old(&mut rehearsal);
        let found = copy(new).unwrap().compare_with_old(&rehearsal);
        assert_eq!(found.as_ref().map(Option::as_deref).map_err(String::as_str), expected, "{old} {new}");
    }

    #[test]
    fn a_digest_is_the_root_of_the_last_json_line() {
        let found = copy(&report(2, "ab", 3)).unwrap();
        assert_eq!((found.root.as_str(), found.version, &found.counts["messages"]), ("ab", Some(2), &3));
        assert_eq!(found.counts.keys().collect::<Vec<_>>(), ["messages", "threads"]);
        assert_eq!(copy(&json!({ "root": "" })), None);
        assert_eq!(copy(&json!({ "messages": 3 })), None);
    }

    #[test]
    fn roots_of_one_version_are_the_same() {
        check(&report(1, "ab", 3), &report(1, "ab", 3), Ok(None));
        let other = "the new image reads other data: digest cd, and ab by the old image";
        check(&report(1, "ab", 3), &report(1, "cd", 3), Err(other));
        // Who does not say the version has the other's.
        check(&json!({ "root": "ab" }), &report(2, "ab", 3), Ok(None));
        check(&json!({ "root": "ab" }), &report(2, "cd", 3), Err(other));
    }

    #[test]
    fn roots_of_two_versions_are_not_compared() {
        let same =
            "digests of version 1 and 2 do not compare; what both images count is the same: 3 messages, 2 threads";
        check(&report(1, "ab", 3), &report(2, "cd", 3), Ok(Some(same)));
        check(&report(1, "ab", 3), &report(2, "ab", 3), Ok(Some(same)));
        let fewer = "the new image reads other data: 2 messages, and 3 by the old image";
        check(&report(1, "ab", 3), &report(2, "cd", 2), Err(fewer));
        // What only one of them counts says nothing.
        let mut more = report(2, "cd", 3);
        more["reactions"] = json!(7);
        check(&report(1, "ab", 3), &more, Ok(Some(same)));
        let nothing = "digests of version 1 and 2 do not compare, and the images count nothing alike";
        check(&json!({ "version": 1, "root": "ab" }), &report(2, "cd", 3), Err(nothing));
    }
}
