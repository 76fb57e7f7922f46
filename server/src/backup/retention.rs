//! Which backups of a place may go. Pure: it sees what was listed, and the time.
//!
//! Each database is looked at for itself. Beyond the limits, these stay: the newest, the last one that is known to be right,
//! and whatever cannot be judged.

use std::collections::BTreeMap;
use std::time::Duration;

/// How many backups, and for how long. Where both are set, the stricter one counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Keep {
    /// The newest of each database.
    pub newest: Option<usize>,
    /// Since when it was made.
    pub max_age: Option<Duration>,
}

/// What is known of one backup.
#[derive(Clone, Copy, Debug)]
pub(super) struct Dated {
    /// None: it cannot be read.
    pub(super) database_id: Option<[u8; 16]>,
    /// When it was made, in Unix nanoseconds.
    pub(super) made_ns: u64,
    /// Of the database, if it is known. What it counts goes on from there and never goes back.
    pub(super) incarnation: Option<u64>,
    /// Client commits ever made; 0 where it is not known.
    pub(super) sequence: u64,
    /// All of it was read and is right.
    pub(super) verified: bool,
    /// Whoever decides has just made it.
    pub(super) just_made: bool,
}

/// What each backup sorts by, the newest last: the time when it was made. A clock may have been set back, but no commit is
/// counted twice: what holds more of one incarnation is never older than what holds less.
pub(super) fn order(backups: &[Dated]) -> Vec<(u64, u64)> {
    let mut by_sequence: Vec<_> = (0..backups.len()).collect();
    by_sequence.sort_by_key(|at| (backups[*at].sequence, backups[*at].made_ns));
    let mut latest = BTreeMap::new();
    let mut order = vec![(0, 0); backups.len()];
    for at in by_sequence {
        let Dated { database_id, made_ns, incarnation, sequence, .. } = backups[at];
        let time = match incarnation {
            None => made_ns,
            Some(_) => {
                let latest = latest.entry((database_id, incarnation)).or_insert(made_ns);
                *latest = made_ns.max(*latest);
                *latest
            }
        };
        order[at] = (time, sequence);
    }
    order
}

/// What becomes of a backup, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Within the limits.
    Kept,
    /// Beyond them, and the newest, or just made.
    KeptNewest,
    /// Beyond them, and the last one that is known to be right.
    KeptLastVerified,
    /// Made later than now: the clock was wrong once, so its age is not known. It is not counted either.
    KeptFuture,
    /// It cannot be read, so nothing is known of it. Remove it by hand if it is of no use.
    KeptUnreadable,
    /// There are enough newer ones.
    TooMany,
    /// It is too old.
    TooOld,
}

impl Verdict {
    /// Whether it may go.
    pub fn removes(self) -> bool {
        matches!(self, Self::TooMany | Self::TooOld)
    }
}

/// How far clocks may differ.
const SLACK: Duration = Duration::from_hours(1);

/// One verdict for each backup.
pub(super) fn decide(backups: &[Dated], keep: Keep, now_ns: u64) -> Vec<Verdict> {
    let mut verdicts = vec![Verdict::KeptUnreadable; backups.len()];
    let mut databases: BTreeMap<[u8; 16], Vec<usize>> = BTreeMap::new();
    for (at, backup) in backups.iter().enumerate() {
        let Some(database_id) = backup.database_id else { continue };
        match backup.made_ns > now_ns.saturating_add(nanos(SLACK)) {
            true => verdicts[at] = Verdict::KeptFuture,
            false => databases.entry(database_id).or_default().push(at),
        }
    }
    let order = order(backups);
    for mut of_database in databases.into_values() {
        of_database.sort_by_key(|at| std::cmp::Reverse((backups[*at].just_made, order[*at], *at)));
        for (older_than, at) in of_database.iter().enumerate() {
            let age = now_ns.saturating_sub(backups[*at].made_ns);
            verdicts[*at] = match keep {
                Keep { max_age: Some(max_age), .. } if age > nanos(max_age) => Verdict::TooOld,
                Keep { newest: Some(newest), .. } if older_than >= newest => Verdict::TooMany,
                _ => Verdict::Kept,
            };
        }
        let newest = of_database[0];
        if verdicts[newest].removes() {
            verdicts[newest] = Verdict::KeptNewest;
        }
        if let Some(&last) = of_database.iter().find(|at| backups[**at].verified)
            && verdicts[last].removes()
        {
            verdicts[last] = Verdict::KeptLastVerified;
        }
    }
    verdicts
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::Verdict::{Kept, KeptFuture, KeptLastVerified, KeptNewest, KeptUnreadable, TooMany, TooOld};
    use super::*;

    const DAY: u64 = 24 * 3_600_000_000_000;
    const NOW: u64 = 20_000 * DAY;

    /// Backups of these ages in days; `v` for verified, `-` for not.
    fn backups(spec: &str) -> Vec<Dated> {
        let backup = |word: &str| {
            let (age, mark) = word.split_at(word.len() - 1);
            let made_ns = NOW.checked_add_signed(-age.parse::<i64>().unwrap() * DAY as i64).unwrap();
            let database_id = Some([1; 16]);
            Dated { database_id, made_ns, incarnation: None, sequence: 0, verified: mark == "v", just_made: false }
        };
        spec.split(' ').map(backup).collect()
    }

    #[track_caller]
    fn check(spec: &str, newest: Option<usize>, days: Option<u64>, expected: &[Verdict]) {
        let keep = Keep { newest, max_age: days.map(|days| Duration::from_hours(24 * days)) };
        assert_eq!(decide(&backups(spec), keep, NOW), expected, "{spec}");
    }

    #[test]
    fn the_stricter_limit_counts() {
        check("0v 1v 2v 9v", None, None, &[Kept; 4]);
        check("9v 2v 0v 1v", Some(2), None, &[TooMany, TooMany, Kept, Kept]);
        check("0v 1v 2v 9v", None, Some(2), &[Kept, Kept, Kept, TooOld]);
        check("0v 1v 2v 9v", Some(2), Some(2), &[Kept, Kept, TooMany, TooOld]);
        check("0v 1v 2v 9v", Some(4), Some(1), &[Kept, Kept, TooOld, TooOld]);
    }

    #[test]
    fn the_last_verified_one_stays_and_the_newest_too() {
        check("0- 1- 2v 3v", Some(1), None, &[Kept, TooMany, KeptLastVerified, TooMany]);
        check("0v 1- 2v", Some(1), None, &[Kept, TooMany, TooMany]);
        check("8- 9v", None, Some(2), &[KeptNewest, KeptLastVerified]);
        check("8v 9v", None, Some(2), &[KeptNewest, TooOld]);
        check("8- 9-", Some(0), None, &[KeptNewest, TooMany]);
        check("8v 9v", Some(0), Some(0), &[KeptNewest, TooOld]);
    }

    #[test]
    fn what_was_made_in_the_future_neither_goes_nor_counts() {
        check("-400v 0- 1v 2-", Some(1), Some(30), &[KeptFuture, Kept, KeptLastVerified, TooMany]);
    }

    /// One backup is kept of those that were made at these ages in days, by this incarnation, with this many commits.
    #[track_caller]
    fn check_newest(made: [(u64, u64, u64); 3], expected: [Verdict; 3]) {
        let dated = |(age, incarnation, sequence)| {
            let [backup] = backups(&format!("{age}-"))[..] else { unreachable!() };
            Dated { incarnation: Some(incarnation), sequence, ..backup }
        };
        let keep = Keep { newest: Some(1), max_age: None };
        assert_eq!(decide(&made.map(dated), keep, NOW), expected, "{made:?}");
    }

    #[test]
    fn where_a_clock_was_set_back_the_highest_sequence_is_the_newest() {
        check_newest([(3, 1, 10), (2, 1, 20), (1, 1, 30)], [TooMany, TooMany, Kept]);
        check_newest([(3, 1, 30), (2, 1, 10), (1, 1, 20)], [Kept, TooMany, TooMany]);
        check_newest([(3, 1, 10), (2, 1, 20), (1, 2, 15)], [TooMany, TooMany, Kept]);
    }

    #[test]
    fn what_was_just_made_stays() {
        let mut all = backups("0v 1v 9-");
        all[2].just_made = true;
        assert_eq!(decide(&all, Keep { newest: Some(1), max_age: None }, NOW), [KeptLastVerified, TooMany, Kept]);
        let keep = Keep { newest: None, max_age: Some(Duration::from_hours(48)) };
        assert_eq!(decide(&all, keep, NOW), [Kept, Kept, KeptNewest]);
    }

    #[test]
    fn databases_do_not_count_for_each_other_and_the_unreadable_stays() {
        let mut all = backups("0v 1v 2v 3v 900-");
        (all[1].database_id, all[2].database_id) = (Some([2; 16]), Some([2; 16]));
        all[4].database_id = None;
        let verdicts = decide(&all, Keep { newest: Some(1), max_age: None }, NOW);
        assert_eq!(verdicts, [Kept, Kept, TooMany, TooMany, KeptUnreadable]);
    }
}
