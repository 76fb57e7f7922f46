//! Whether to follow the machine's clock: decisions only, without reading a clock.
//!
//! The guard keeps a timeline: the wall clock when it was last trusted, continued by the time since the machine
//! started, which cannot be set. When the wall clock leaves the timeline:
//!
//! | The wall clock | Timestamps | Removals |
//! |---|---|---|
//! | steps ahead by no more than the limit, or back | follow at once | follow when that has lasted a minute |
//! | steps further, and was synchronised | follow at once | follow at once |
//! | steps further, for a minute, to less than 400 days past the newest row | follow then | follow then |
//! | was impossible since the start, and is possible now | follow at once | follow when that has lasted a minute |
//! | steps further | refused: the step is *held* | refused |
//! | shows an impossible time | go on along the timeline | go on along the timeline |
//!
//! Impossible is before the program was built, and after the year 2262. At a start there is no timeline yet: a clock is
//! trusted less than 400 days past the newest row or, in a store without rows, less than ten years past the build.

use std::time::Duration;

/// A change of less than this in the difference between the clocks is a small correction, not a step.
const SLEW_NS: i128 = 2_000_000_000;
/// How long a step has to last.
const STANDS_NS: u64 = 60_000_000_000;
const DAY_NS: i128 = 86_400_000_000_000;
/// How far past the newest row an unconfirmed step may lead.
const PLAUSIBLE_NS: i128 = 400 * DAY_NS;
/// How far past the build a clock is trusted where there are no rows to compare it with.
const PLAUSIBLE_PAST_BUILD_NS: i128 = 3_652 * DAY_NS;
/// The last time that fits into signed 64 bits of nanoseconds.
const LAST: u64 = i64::MAX as u64;

/// What both clocks show at one moment, in nanoseconds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reading {
    /// Since 1970; can be set.
    pub(super) wall: u64,
    /// Since the machine started; cannot be set.
    pub(super) boot: u64,
}

impl Reading {
    fn offset(self) -> i128 {
        i128::from(self.wall) - i128::from(self.boot)
    }
}

/// Why a step is followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// The time service says that the clock is synchronised.
    Synchronised,
    /// It leads from an impossible time to a possible one.
    Possible,
    /// It has lasted a minute.
    Stands,
    /// An administrator accepted it.
    Accepted,
}

impl Why {
    /// For logs and labels.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Synchronised => "synchronised",
            Self::Possible => "possible",
            Self::Stands => "stands",
            Self::Accepted => "accepted",
        }
    }
}

/// What changed with a reading; differences in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// A step within the limit, or back.
    Stepped(i128),
    /// A step beyond the limit that is followed.
    Taken(i128, Why),
    /// A step beyond the limit that is not.
    Held(i128),
    /// The clock went back before its step was followed.
    Returned,
    /// The clock shows an impossible time.
    Impossible,
}

/// A step that is not followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    /// How far it is ahead of the trusted time.
    pub ahead: Duration,
    /// When to try again.
    pub retry_after: Duration,
}

/// A difference between the clocks, and since when it has lasted, by the boot clock.
#[derive(Clone, Copy, Debug)]
struct Mark {
    offset: i128,
    since: u64,
}

impl Mark {
    fn is_at(&self, offset: i128) -> bool {
        (self.offset - offset).abs() <= SLEW_NS
    }

    fn stands(&self, boot: u64) -> bool {
        boot.saturating_sub(self.since) >= STANDS_NS
    }
}

/// Times that were given out while the clock was impossible, and how far they were behind the true time.
#[derive(Clone, Copy, Debug)]
struct Guessed {
    from: i128,
    to: i128,
    behind: i128,
}

/// The timeline.
#[derive(Debug)]
pub(super) struct Guard {
    max_jump: i128,
    /// The first possible time.
    built: u64,
    /// Wall clock minus boot clock, as trusted: for timestamps.
    offset: i128,
    /// The highest that it was.
    top: i128,
    /// The same for removals, never ahead of it.
    settled: i128,
    /// A step that removals do not follow yet.
    settling: Option<Mark>,
    /// A step that nothing follows.
    held: Option<Mark>,
    /// A wall clock was trusted since the start.
    believed: bool,
    impossible: bool,
    /// The first time that was given out while the clock was impossible.
    guessing: Option<i128>,
    guessed: Option<Guessed>,
}

impl Guard {
    /// A timeline that begins at the newest row, or at the build, without a reading.
    pub(super) fn new(max_jump: Duration, built: u64, newest: u64, boot: u64) -> Self {
        let line = i128::from(newest.max(built)) - i128::from(boot);
        let settled = if newest == 0 { line } else { i128::from(newest) - i128::from(boot) };
        Self {
            max_jump: i128::try_from(max_jump.as_nanos()).unwrap_or(i128::MAX),
            built,
            offset: line,
            top: line,
            settled,
            settling: None,
            held: None,
            believed: false,
            impossible: false,
            guessing: None,
            guessed: None,
        }
    }

    /// Adds a reading. `newest` is the highest time ever given out, 0 if there is none; `synchronised` says whether
    /// this reading was compared with others, where that matters.
    pub(super) fn observe(
        &mut self,
        reading: Reading,
        newest: u64,
        synchronised: &dyn Fn(Reading) -> bool,
    ) -> Option<Event> {
        if reading.wall < self.built || reading.wall > LAST {
            return self.go_on(reading, newest);
        }
        let ahead = i128::from(reading.wall) - self.reference(reading.boot, newest);
        let (was_impossible, first) = (self.impossible, !self.believed);
        let verdict = self.evaluate(reading, newest, ahead, synchronised);
        if verdict != Verdict::Hold {
            self.impossible = false;
        }
        match verdict {
            Verdict::Follow if first && !was_impossible && self.held.is_none() => {
                self.follow(reading, newest, synchronised);
                None
            }
            Verdict::Follow => {
                let (was_held, by) = (self.held.is_some(), reading.offset() - self.offset);
                self.follow(reading, newest, synchronised);
                match (was_held, first && was_impossible) {
                    (true, _) => Some(Event::Returned),
                    (false, true) => Some(Event::Taken(by, Why::Possible)),
                    (false, false) => (by.abs() > SLEW_NS).then_some(Event::Stepped(by)),
                }
            }
            Verdict::Take(why) => {
                self.take(reading);
                Some(Event::Taken(ahead, why))
            }
            Verdict::Hold => {
                let offset = reading.offset();
                if self.held.is_some_and(|held| held.is_at(offset)) {
                    return None;
                }
                self.held = Some(Mark { offset, since: reading.boot });
                Some(Event::Held(ahead))
            }
        }
    }

    /// Trusts the clock because an administrator says so. None if it shows an impossible time.
    pub(super) fn accept(&mut self, reading: Reading) -> Option<Event> {
        if reading.wall > LAST || reading.wall == 0 {
            return None;
        }
        let by = reading.offset() - self.offset;
        self.built = self.built.min(reading.wall);
        self.impossible = false;
        self.take(reading);
        Some(Event::Taken(by, Why::Accepted))
    }

    /// The time for timestamps, whatever the wall clock shows.
    pub(super) fn time(&self, boot: u64) -> u64 {
        to_time(i128::from(boot) + self.offset)
    }

    /// The time that removals go by.
    pub(super) fn settled_time(&self, boot: u64) -> u64 {
        to_time(i128::from(boot) + self.settled)
    }

    /// Whether what was dated `dated` is older than `kept`, by the time that removals go by.
    pub(super) fn is_over(&self, dated: u64, kept: Duration, boot: u64) -> bool {
        let dated = i128::from(dated);
        let guessed = self.guessed.filter(|guessed| (guessed.from..=guessed.to).contains(&dated));
        let now = i128::from(boot) + self.settled - guessed.map_or(0, |guessed| guessed.behind);
        i128::try_from(kept.as_nanos()).is_ok_and(|kept| dated + kept <= now)
    }

    /// The step that is not followed, if there is one.
    pub(super) fn held(&self, boot: u64, newest: u64) -> Option<Held> {
        let held = self.held?;
        let ahead = i128::from(boot) + held.offset - self.reference(boot, newest);
        let left = if ahead < PLAUSIBLE_NS { left_of_minute(held, boot) } else { STANDS_NS };
        let ahead = Duration::from_nanos(u64::try_from(ahead).unwrap_or(0));
        Some(Held { ahead, retry_after: Duration::from_nanos(left) })
    }

    /// How long it takes until removals follow the clock, if they do not yet.
    pub(super) fn settling(&self, boot: u64) -> Option<Duration> {
        self.settling.map(|mark| Duration::from_nanos(left_of_minute(mark, boot)))
    }

    /// The clock shows an impossible time and is not used.
    pub(super) fn is_impossible(&self) -> bool {
        self.impossible
    }

    /// What a step is measured from: a clock may go back to where it was, and to the newest row.
    fn reference(&self, boot: u64, newest: u64) -> i128 {
        (i128::from(boot) + self.top.max(self.offset)).max(i128::from(newest))
    }

    fn evaluate(&self, reading: Reading, newest: u64, ahead: i128, synchronised: &dyn Fn(Reading) -> bool) -> Verdict {
        let wall = i128::from(reading.wall);
        let follows = if self.believed {
            ahead <= self.max_jump
        } else if self.impossible {
            wall < i128::from(newest.max(self.built)) + PLAUSIBLE_PAST_BUILD_NS
        } else if newest == 0 {
            wall < i128::from(self.built) + PLAUSIBLE_PAST_BUILD_NS
        } else {
            wall < i128::from(newest) + PLAUSIBLE_NS
        };
        let stands = || self.held.is_some_and(|held| held.is_at(reading.offset()) && held.stands(reading.boot));
        if follows {
            Verdict::Follow
        } else if synchronised(reading) {
            Verdict::Take(Why::Synchronised)
        } else if ahead < PLAUSIBLE_NS && stands() {
            Verdict::Take(Why::Stands)
        } else {
            Verdict::Hold
        }
    }

    /// Timestamps follow the clock; removals when that has lasted a minute.
    fn follow(&mut self, reading: Reading, newest: u64, synchronised: &dyn Fn(Reading) -> bool) {
        let offset = reading.offset();
        self.believe(reading);
        let mark = self.settling.filter(|mark| mark.is_at(offset)).unwrap_or(Mark { offset, since: reading.boot });
        // There are no timestamps yet, so there is nothing to remove.
        let is_first = newest == 0;
        if offset <= self.settled + SLEW_NS || is_first || mark.stands(reading.boot) || synchronised(reading) {
            (self.settled, self.settling) = (offset, None);
        } else {
            self.settling = Some(mark);
        }
    }

    /// Everything follows the clock.
    fn take(&mut self, reading: Reading) {
        self.believe(reading);
        (self.settled, self.settling) = (reading.offset(), None);
    }

    fn believe(&mut self, reading: Reading) {
        let (before, offset) = (self.offset, reading.offset());
        if let Some(from) = self.guessing.take() {
            let behind = (offset - before).max(0);
            self.guessed = Some(Guessed { from, to: i128::from(reading.boot) + before, behind });
        }
        (self.offset, self.top) = (offset, self.top.max(offset));
        (self.held, self.believed) = (None, true);
    }

    /// The clock cannot be used; time goes on along the timeline.
    fn go_on(&mut self, reading: Reading, newest: u64) -> Option<Event> {
        self.held = None;
        if !self.believed && self.guessing.is_none() {
            self.guessing = Some((i128::from(reading.boot) + self.offset).max(i128::from(newest) + 1));
        }
        let was_impossible = std::mem::replace(&mut self.impossible, true);
        (!was_impossible).then_some(Event::Impossible)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Follow,
    Take(Why),
    Hold,
}

fn left_of_minute(mark: Mark, boot: u64) -> u64 {
    STANDS_NS.saturating_sub(boot.saturating_sub(mark.since)).max(1)
}

fn to_time(line: i128) -> u64 {
    u64::try_from(line.max(0)).unwrap_or(LAST)
}
