//! The clock: Unix nanoseconds that never repeat and never go back within a process, behind a guard.
//!
//! One timestamp far in the future would stay above all later ones for ever, and by such a clock retention would remove
//! what must be kept. So a step of the machine's clock is checked before it is followed: see [`guard`]. While a step is
//! held, [`Clock::next`] refuses, [`Clock::now`] goes on with the time since the machine started, and nothing is
//! removed. Timestamps come from [`Clock::next`] or [`Clock::now`]; expiry and removal use [`Clock::is_over`].

mod guard;
#[cfg(test)]
mod tests;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, clock_gettime};

use guard::{Event, Guard, Reading};

pub use guard::{Held, Why};

/// When this program was built, in Unix nanoseconds: no clock that is right shows an earlier time.
pub const BUILT: u64 = seconds(env!("PROGRESSDB_BUILT")) * 1_000_000_000;

/// A source of unique, growing timestamps; decides what is old enough to expire.
#[derive(Debug)]
pub struct Clock {
    source: Source,
    guard: Mutex<Guard>,
    highest: AtomicU64,
}

#[derive(Debug)]
enum Source {
    Machine,
    #[cfg(test)]
    Manual(std::sync::Arc<Manual>),
}

/// The state of the clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct State {
    /// The trusted time, in Unix nanoseconds.
    pub now: u64,
    /// The time that removals go by.
    pub removals: u64,
    /// What the machine shows.
    pub machine: u64,
    /// The step that is not followed, if there is one.
    pub held: Option<Held>,
    /// The machine shows an impossible time, so time goes on without it.
    pub impossible: bool,
    /// How long until removals follow a step that timestamps follow already.
    pub settling: Option<Duration>,
    /// The machine's time service says that its clock is synchronised.
    pub synchronised: bool,
}

impl Clock {
    /// The machine's clock. `highest` is the highest timestamp ever used in the store, 0 if there is none; `max_jump`
    /// how far ahead an unconfirmed step may lead.
    pub fn system(highest: u64, max_jump: Duration) -> Self {
        Self::new(Source::Machine, highest, max_jump, BUILT)
    }

    /// A clock that shows what `time` holds.
    #[cfg(test)]
    pub(crate) fn manual(time: std::sync::Arc<Manual>, highest: u64) -> Self {
        let built = time.built;
        Self::new(Source::Manual(time), highest, Duration::from_hours(24), built)
    }

    fn new(source: Source, highest: u64, max_jump: Duration, built: u64) -> Self {
        let guard = Guard::new(max_jump, built, highest, source.read().boot);
        let clock = Self { source, guard: Mutex::new(guard), highest: AtomicU64::new(highest) };
        drop(clock.observe());
        clock
    }

    /// The machine's wall clock in Unix nanoseconds, unguarded: for where no database is open yet.
    pub fn wall() -> u64 {
        wall_ns()
    }

    /// The time now, for comparisons; not unique. While a step is held, the time without it.
    pub fn now(&self) -> u64 {
        let (guard, reading) = self.observe();
        guard.time(reading.boot)
    }

    /// A timestamp above every one given out before; refused while a step is held. With a `slot`, which no other process of
    /// the same store has, also one that none of them gives out: the slot is its low bits.
    pub fn next(&self, slot: Option<u8>) -> Result<u64, Held> {
        let (guard, reading) = self.observe();
        if let Some(held) = guard.held(reading.boot, self.highest()) {
            return Err(held);
        }
        let now = guard.time(reading.boot);
        drop(guard);
        let after = |highest: u64| in_slot(now.max(highest + 1), slot);
        let previous = self
            .highest
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |highest| Some(after(highest)))
            .expect("the update never declines");
        Ok(after(previous))
    }

    /// Whether something of the time `dated` is older than `kept`. Everything that expires or is removed uses this.
    pub fn is_over(&self, dated: u64, kept: Duration) -> bool {
        let (guard, reading) = self.observe();
        guard.is_over(dated, kept, reading.boot)
    }

    /// The time that removals go by: it follows a step later than timestamps do.
    pub fn settled(&self) -> u64 {
        let (guard, reading) = self.observe();
        guard.settled_time(reading.boot)
    }

    /// The state of the clock.
    pub fn state(&self) -> State {
        let (guard, reading) = self.observe();
        State {
            now: guard.time(reading.boot),
            removals: guard.settled_time(reading.boot),
            machine: reading.wall,
            held: guard.held(reading.boot, self.highest()),
            impossible: guard.is_impossible(),
            settling: guard.settling(reading.boot),
            synchronised: self.source.is_synchronised(reading),
        }
    }

    /// Trusts what the machine shows. False if that is an impossible time.
    pub fn accept(&self) -> bool {
        let (mut guard, reading) = self.observe();
        let event = guard.accept(reading);
        event.inspect(|event| report(*event)).is_some()
    }

    /// The highest timestamp given out.
    pub fn highest(&self) -> u64 {
        self.highest.load(Ordering::Relaxed)
    }

    /// Gives the guard a reading of both clocks.
    fn observe(&self) -> (MutexGuard<'_, Guard>, Reading) {
        // The guard is consistent between any two statements, so a panic elsewhere does not spoil it.
        let mut guard = self.guard.lock().unwrap_or_else(PoisonError::into_inner);
        let reading = self.source.read();
        if let Some(event) = guard.observe(reading, self.highest(), &|reading| self.source.is_synchronised(reading)) {
            report(event);
        }
        (guard, reading)
    }
}

/// The first timestamp from `from` on that belongs to the slot.
pub fn in_slot(from: u64, slot: Option<u8>) -> u64 {
    let Some(slot) = slot.map(u64::from) else { return from };
    let in_block = (from & !0xff) | slot;
    if in_block < from { in_block + 0x100 } else { in_block }
}

/// Logs and counts the outcome of a step.
fn report(event: Event) {
    let seconds = |by: i128| i64::try_from(by / 1_000_000_000).unwrap_or(i64::MAX);
    let outcome = match event {
        Event::Stepped(by) => {
            tracing::info!(event = "clock.stepped", seconds = seconds(by), "the machine's clock was set");
            "stepped"
        }
        Event::Taken(by, why) => {
            tracing::warn!(event = "clock.taken", seconds = seconds(by), why = why.as_str(), "a step is followed");
            "taken"
        }
        Event::Held(ahead) => {
            tracing::error!(
                event = "clock.held",
                ahead_s = seconds(ahead),
                "the machine's clock is too far ahead: writes are refused and nothing is removed until it is right, synchronised or accepted (POST /admin/clock)"
            );
            "held"
        }
        Event::Returned => {
            tracing::info!(event = "clock.returned", "the machine's clock is right again: writes are taken");
            "returned"
        }
        Event::Impossible => {
            tracing::error!(
                event = "clock.impossible",
                "the machine's clock shows an impossible time: time goes on without it until it is set"
            );
            "impossible"
        }
    };
    metrics::counter!("progressdb_clock_steps_total", "outcome" => outcome).increment(1);
}

impl Source {
    fn read(&self) -> Reading {
        match self {
            Self::Machine => Reading { wall: wall_ns(), boot: boot_ns() },
            #[cfg(test)]
            Self::Manual(time) => time.read(),
        }
    }

    /// Whether this wall clock was compared with a time server.
    fn is_synchronised(&self, reading: Reading) -> bool {
        match self {
            Self::Machine => was_synchronised(SYNCHRONISED, reading.wall),
            #[cfg(test)]
            Self::Manual(time) => time.synchronised.load(Ordering::Relaxed),
        }
    }
}

/// A reading of the monotonic clock, for durations.
#[allow(clippy::disallowed_methods, reason = "this is the clock")]
pub fn monotonic() -> Instant {
    Instant::now()
}

/// How long the machine has been up, time asleep included: for what another machine counts on meanwhile.
pub fn uptime() -> Duration {
    Duration::from_nanos(boot_ns())
}

#[allow(clippy::disallowed_methods, reason = "this is the clock")]
fn wall_ns() -> u64 {
    ns(SystemTime::now())
}

/// Unix nanoseconds; the nearest there are for a time before 1970 or after 2554.
fn ns(time: SystemTime) -> u64 {
    u64::try_from(time.duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos()).unwrap_or(u64::MAX)
}

/// Nanoseconds since the machine started, time asleep included: a machine that slept did not jump.
fn boot_ns() -> u64 {
    let time = clock_gettime(ClockId::Boottime);
    time.tv_sec.unsigned_abs() * 1_000_000_000 + time.tv_nsec.unsigned_abs()
}

/// systemd-timesyncd renews this file each time that it has compared the clock with a server's. The kernel's own flag
/// is behind a system call that no library makes safely.
const SYNCHRONISED: &str = "/run/systemd/timesync/synchronized";

/// Whether the file was renewed within the longest time between two comparisons, by this clock: if the clock was set
/// since, its distance from the file's date shows it.
fn was_synchronised(file: &str, wall: u64) -> bool {
    const LONGEST_NS: u64 = 3_600_000_000_000;
    let renewed = std::fs::metadata(file).and_then(|file| file.modified());
    renewed.is_ok_and(|renewed| ns(renewed).abs_diff(wall) <= LONGEST_NS)
}

/// A decimal number, when it is compiled.
const fn seconds(digits: &str) -> u64 {
    match u64::from_str_radix(digits, 10) {
        Ok(seconds) => seconds,
        Err(_) => panic!("the build script writes digits"),
    }
}

/// Clocks that a test sets.
#[cfg(test)]
#[derive(Debug)]
pub(crate) struct Manual {
    wall: AtomicU64,
    boot: AtomicU64,
    pub(crate) synchronised: std::sync::atomic::AtomicBool,
    built: u64,
}

#[cfg(test)]
impl Manual {
    /// A machine that started a minute ago, when the program was ten days old.
    pub(crate) fn at(wall: u64) -> Self {
        let (boot, built) = (60_000_000_000, wall - 864_000_000_000_000);
        Self { wall: wall.into(), boot: boot.into(), synchronised: false.into(), built }
    }

    /// Time passes.
    pub(crate) fn pass(&self, nanoseconds: u64) {
        self.wall.fetch_add(nanoseconds, Ordering::Relaxed);
        self.boot.fetch_add(nanoseconds, Ordering::Relaxed);
    }

    /// Somebody sets the wall clock.
    pub(crate) fn set(&self, wall: u64) {
        self.wall.store(wall, Ordering::Relaxed);
    }

    /// Somebody sets the wall clock ahead.
    pub(crate) fn step(&self, nanoseconds: u64) {
        self.wall.fetch_add(nanoseconds, Ordering::Relaxed);
    }

    pub(crate) fn wall(&self) -> u64 {
        self.wall.load(Ordering::Relaxed)
    }

    fn read(&self) -> Reading {
        Reading { wall: self.wall(), boot: self.boot.load(Ordering::Relaxed) }
    }
}
