//! What to make of the machine's clock: decisions only, without reading one.
//!
//! The guard keeps a line of time: the wall clock when it was last believed, carried on by the time since the machine
//! started, which nobody sets. A wall clock that leaves the line takes one of these ways:
//!
//! | It | Dates | Removals |
//! |---|---|---|
//! | steps ahead by no more than the limit, or back | follow at once | follow when it has stood for a minute |
//! | steps further, and was synchronised | follow at once | follow at once |
//! | steps further, and stands for a minute, less than 400 days past the newest row | follow then | follow then |
//! | was impossible since the start, and is possible now | follow at once | follow when it has stood for a minute |
//! | steps further | refused: the step is *held* | refused |
//! | shows an impossible time | go on along the line | go on along the line |
//!
//! Impossible is before the program was built, and after the year 2262. A start has no line yet: it believes a clock
//! less than 400 days past the newest row or, in a store without rows, less than ten years past the build.

use std::time::Duration;

/// A difference between the two clocks that changes by less than this is the same one, kept right by small steps.
const SLEW_NS: i128 = 2_000_000_000;
/// How long a step has to stand.
const STANDS_NS: u64 = 60_000_000_000;
const DAY_NS: i128 = 86_400_000_000_000;
/// How far past the newest row a step may lead that nobody confirmed.
const PLAUSIBLE_NS: i128 = 400 * DAY_NS;
/// For how long after it was built a program runs on machines that do not know the time.
const SHELF_LIFE_NS: i128 = 3_652 * DAY_NS;
/// The last time that fits into signed 64 bits of nanoseconds.
const LAST: u64 = i64::MAX as u64;

/// What both clocks show at one moment, in nanoseconds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reading {
    /// Since 1970, as somebody set it.
    pub(super) wall: u64,
    /// Since the machine started.
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
    /// Whoever keeps the clock right says that it is.
    Synchronised,
    /// It leads from an impossible time to a possible one.
    Possible,
    /// It stands for a minute.
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
    /// The clock came back before its step was followed.
    Returned,
    /// The clock shows a time that cannot be.
    Impossible,
}

/// A step that is not followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    /// How far it is ahead of the time that is believed.
    pub ahead: Duration,
    /// When it makes sense to ask again.
    pub retry_after: Duration,
}

/// A difference between the clocks, and since when it stands, by the boot clock.
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

/// Times that were given out while the clock was impossible, and how far they were behind what turned out to be true.
#[derive(Clone, Copy, Debug)]
struct Guessed {
    from: i128,
    to: i128,
    behind: i128,
}

/// The line of time.
#[derive(Debug)]
pub(super) struct Guard {
    max_jump: i128,
    /// The first possible time.
    built: u64,
    /// Wall clock minus boot clock, as believed: what dates.
    offset: i128,
    /// The highest that it was.
    top: i128,
    /// The same for removals, never ahead of it.
    settled: i128,
    /// What removals do not follow yet.
    settling: Option<Mark>,
    /// What nothing follows.
    held: Option<Mark>,
    /// A wall clock was believed since the start.
    believed: bool,
    impossible: bool,
    /// Since when times are guessed, as they are given out.
    guessing: Option<i128>,
    guessed: Option<Guessed>,
}

impl Guard {
    /// A line that begins at the newest row, or at the build, and has not seen a clock.
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

    /// Takes in a reading. `newest` is the highest time ever given out, 0 if there is none; `synchronised` says
    /// whether this reading was compared with others, where that matters.
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
        let verdict = self.judge(reading, newest, ahead, synchronised);
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

    /// Believes the clock because somebody who knows says so. None if it shows what no clock can.
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

    /// The time that dates, whatever the wall clock shows.
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

    /// The clock shows a time that cannot be, and is not looked at.
    pub(super) fn is_impossible(&self) -> bool {
        self.impossible
    }

    /// What a step is measured from: a clock may come back to where it was, and to the newest row.
    fn reference(&self, boot: u64, newest: u64) -> i128 {
        (i128::from(boot) + self.top.max(self.offset)).max(i128::from(newest))
    }

    fn judge(&self, reading: Reading, newest: u64, ahead: i128, synchronised: &dyn Fn(Reading) -> bool) -> Verdict {
        let wall = i128::from(reading.wall);
        let follows = if self.believed {
            ahead <= self.max_jump
        } else if self.impossible {
            wall < i128::from(newest.max(self.built)) + SHELF_LIFE_NS
        } else if newest == 0 {
            wall < i128::from(self.built) + SHELF_LIFE_NS
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

    /// Dates follow the clock; removals when it has stood for a minute.
    fn follow(&mut self, reading: Reading, newest: u64, synchronised: &dyn Fn(Reading) -> bool) {
        let offset = reading.offset();
        self.believe(reading);
        let mark = self.settling.filter(|mark| mark.is_at(offset)).unwrap_or(Mark { offset, since: reading.boot });
        // Nothing was dated yet, so there is nothing to remove.
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

    /// The clock is of no use; time goes on along the line.
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
