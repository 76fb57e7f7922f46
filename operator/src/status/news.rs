//! What is new about an upgrade from one status to the next: each transition is told once, whoever is told.

use crate::crd::{Announcement, Hold, Outcome, StepStatus, UpgradeStatus};

/// What is new about an upgrade.
#[derive(Clone, Debug, PartialEq)]
pub struct News<'a> {
    /// The upgrade, as it is now.
    pub record: &'a UpgradeStatus,
    /// The steps that it has entered.
    pub steps: &'a [StepStatus],
    /// What a person wrote of it that cannot be understood.
    pub odd_override: Option<&'a str>,
    /// What it waits for since.
    pub hold: Option<&'a Hold>,
    /// How it ended.
    pub outcome: Option<Outcome>,
    /// What others are to be told of.
    pub announced: &'a [Announcement],
}

impl<'a> News<'a> {
    /// What is new in the second record; `None` if there is none.
    pub fn between(old: Option<&UpgradeStatus>, new: Option<&'a UpgradeStatus>) -> Option<Self> {
        let record = new?;
        let old = old.filter(|old| old.id == record.id);
        let known = |steps: &UpgradeStatus| steps.steps.last().cloned();
        let after = old.and_then(known).and_then(|last| record.steps.iter().position(|step| *step == last));
        let held_before = old.and_then(|old| old.hold.as_ref()).map(|hold| (&hold.reason, hold.is_stuck));
        let is_news = |hold: &&Hold| held_before != Some((&hold.reason, hold.is_stuck));
        Some(Self {
            record,
            steps: &record.steps[after.map_or(0, |after| after + 1)..],
            odd_override: record
                .odd_override
                .as_deref()
                .filter(|odd| old.and_then(|old| old.odd_override.as_deref()) != Some(odd)),
            hold: record.hold.as_ref().filter(is_news),
            outcome: record.outcome.filter(|_| old.is_none_or(|old| old.outcome.is_none())),
            announced: record.announced.get(old.map_or(0, |old| old.announced.len())..).unwrap_or_default(),
        })
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::crd::UpgradeStep;

    fn step(step: UpgradeStep, second: i64) -> StepStatus {
        StepStatus { step, at: Timestamp::from_second(second).ok() }
    }

    #[test]
    fn only_what_was_not_there_before_is_new() {
        let first =
            UpgradeStatus { id: "a".into(), steps: vec![step(UpgradeStep::Preflight, 1)], ..UpgradeStatus::default() };
        let news = News::between(None, Some(&first)).unwrap();
        assert_eq!((news.steps, news.hold, news.outcome), (&first.steps[..], None, None));
        assert_eq!(News::between(Some(&first), Some(&first)).unwrap().steps, []);

        let mut held = first.clone();
        held.steps.push(step(UpgradeStep::Rehearse, 2));
        held.hold = Some(Hold { reason: "RehearsalFailed".into(), ..Hold::default() });
        held.announced = vec![Announcement::Held];
        let news = News::between(Some(&first), Some(&held)).unwrap();
        assert_eq!((news.steps, news.hold), (&held.steps[1..], held.hold.as_ref()));
        assert_eq!(news.announced, [Announcement::Held]);
        let again = News::between(Some(&held), Some(&held)).unwrap();
        assert_eq!((again.steps, again.hold, again.announced), (&[][..], None, &[][..]));

        let mut ended = held.clone();
        (ended.hold, ended.outcome) = (None, Some(Outcome::Aborted));
        assert_eq!(News::between(Some(&held), Some(&ended)).unwrap().outcome, Some(Outcome::Aborted));
        assert_eq!(News::between(Some(&ended), Some(&ended)).unwrap().outcome, None);
        // Another upgrade is new as a whole.
        let next = UpgradeStatus { id: "b".into(), ..held.clone() };
        assert_eq!(News::between(Some(&held), Some(&next)).unwrap().steps.len(), 2);
        assert_eq!(News::between(Some(&held), None), None);
    }
}
