//! An engine in memory, for tests: it promises no more than the seam does, and a test can make it fail after any effect.
//!
//! It has no atomicity across partitions: secondary puts and raises are applied one by one, then the commit, then secondary
//! deletes and counters. [`Memory::die_after`] stops it after that many effects, as a crash would; [`Memory::restarted`] is
//! what the next process finds; [`Memory::meanwhile`] changes something between a read and the commit that follows it;
//! [`Memory::time_out`] fails commits the way that a distributed engine can, and [`Memory::reversed`] lists partitions in
//! another order, as one does.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};

use super::{Commit, Direction, Error, Op, Outcome, Room, Row, SCAN_BYTES, Scan, SecondaryWrite, page_of};
use crate::keys::{Key, KeyRange, Partition, PartitionKind};
use crate::rows::{CounterValue, EVERY_FORMAT, Number, Row as _};

#[derive(Clone, Default)]
pub(crate) struct Memory(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    rows: BTreeMap<Vec<u8>, Vec<u8>>,
    effects_left: Option<usize>,
    meanwhile: Option<(Partition, Meanwhile)>,
    /// How the next commits end, one each; those after them succeed.
    timeouts: VecDeque<Timeout>,
    /// What others have copied.
    copies: Vec<String>,
    /// A server works on it, as who looks so often learns.
    served_after: Option<usize>,
    /// What a server does that comes and goes before the next look.
    visit: Option<Meanwhile>,
    /// Partitions are listed the other way round.
    reversed: bool,
}

/// How a distributed engine may fail to answer a commit in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Timeout {
    /// It does not.
    Never,
    /// The commit was applied, and its caller is not told so.
    Applied,
    /// It was not applied, and its caller is not told so.
    Lost,
    /// It was refused before anything happened.
    Unavailable,
}

/// What another writer does to the store.
type Meanwhile = Box<dyn FnOnce(&Memory) + Send>;

impl State {
    /// Counts one effect; an error when the engine has died.
    fn effect(&mut self) -> Result<(), Error> {
        match &mut self.effects_left {
            None => Ok(()),
            Some(0) => Err(Error::Stopped("died, as the test asked".into())),
            Some(left) => {
                *left -= 1;
                Ok(())
            }
        }
    }

    fn delete_range(&mut self, range: &KeyRange) {
        self.rows.retain(|key, _| !range.contains(key));
    }
}

impl Memory {
    /// Dies after `effects` more effects.
    pub(crate) fn die_after(&self, effects: usize) {
        self.0.lock().expect("no panic under the lock").effects_left = Some(effects);
    }

    /// Does this just before the next commit to the partition: after its caller read what the commit is based on.
    pub(crate) fn meanwhile(&self, partition: Partition, work: impl FnOnce(&Self) + Send + 'static) {
        self.0.lock().expect("no panic under the lock").meanwhile = Some((partition, Box::new(work)));
    }

    /// The next commits end like this, one each. A commit whose precondition does not hold still ends as a conflict.
    pub(crate) fn time_out(&self, timeouts: impl IntoIterator<Item = Timeout>) {
        self.0.lock().expect("no panic under the lock").timeouts.extend(timeouts);
    }

    /// How many commits have yet to end as [`Self::time_out`] said.
    pub(crate) fn timeouts_left(&self) -> usize {
        self.0.lock().expect("no panic under the lock").timeouts.len()
    }

    /// It has a copy of this name.
    pub(crate) fn copy(&self, name: &str) {
        self.0.lock().expect("no panic under the lock").copies.push(name.to_owned());
    }

    /// A server works on it, which is seen by who has looked so many times before.
    pub(crate) fn serve_after(&self, looks: usize) {
        self.0.lock().expect("no panic under the lock").served_after = Some(looks);
    }

    /// A server comes, does this, and is gone before the next look at who works on it.
    pub(crate) fn visit(&self, work: impl FnOnce(&Self) + Send + 'static) {
        self.0.lock().expect("no panic under the lock").visit = Some(Box::new(work));
    }

    /// An empty one that lists partitions in another order, as engines may.
    pub(crate) fn reversed() -> Self {
        Self(Arc::new(Mutex::new(State { reversed: true, ..State::default() })))
    }

    pub(super) fn is_served(&self) -> bool {
        let visit = self.0.lock().expect("no panic under the lock").visit.take();
        if let Some(work) = visit {
            work(self);
        }
        match &mut self.0.lock().expect("no panic under the lock").served_after {
            None => false,
            Some(0) => true,
            Some(looks) => {
                *looks -= 1;
                false
            }
        }
    }

    pub(super) fn copies(&self) -> Vec<String> {
        self.0.lock().expect("no panic under the lock").copies.clone()
    }

    /// The same rows in a new engine.
    pub(crate) fn restarted(&self) -> Self {
        let state = self.0.lock().expect("no panic under the lock");
        let (rows, reversed) = (state.rows.clone(), state.reversed);
        Self(Arc::new(Mutex::new(State { rows, reversed, ..State::default() })))
    }

    /// Puts a row that only a later version could: this one has no type for its key.
    pub(crate) fn plant(&self, key: Vec<u8>, value: Vec<u8>) {
        self.0.lock().expect("no panic under the lock").rows.insert(key, value);
    }

    /// Every row, for comparisons.
    pub(crate) fn rows(&self) -> BTreeMap<Vec<u8>, Vec<u8>> {
        self.0.lock().expect("no panic under the lock").rows.clone()
    }

    pub(crate) fn get(&self, key: &Key) -> Result<Option<Vec<u8>>, Error> {
        Ok(self.0.lock().expect("no panic under the lock").rows.get(&key.encode()).cloned())
    }

    pub(crate) fn scan(&self, range: &KeyRange, direction: Direction, limit: usize) -> Result<Scan, Error> {
        let mut scan = Scan::default();
        if range.is_empty() {
            return Ok(scan);
        }
        let state = self.0.lock().expect("no panic under the lock");
        let mut rows = state.rows.range(range.start.clone()..range.end.clone());
        let mut room = Room { rows: limit, bytes: SCAN_BYTES };
        loop {
            let next = if direction == Direction::Ascending { rows.next() } else { rows.next_back() };
            let Some((key, value)) = next else { return Ok(scan) };
            if room.is_used_up() {
                scan.more = true;
                return Ok(scan);
            }
            room.take(value.len());
            scan.rows.push(Row { key: key.clone(), value: value.clone() });
        }
    }

    /// It has no files. Fails where [`Self::time_out`] says that the engine is unavailable.
    pub(crate) fn compact(&self) -> Result<(), Error> {
        let mut state = self.0.lock().expect("no panic under the lock");
        match state.timeouts.pop_front_if(|timeout| *timeout == Timeout::Unavailable) {
            Some(_) => Err(Error::Compaction("failed, as the test asked".into())),
            None => Ok(()),
        }
    }

    pub(crate) fn commit(&self, commit: Commit) -> Result<Outcome, Error> {
        let meanwhile = {
            let mut state = self.0.lock().expect("no panic under the lock");
            state.meanwhile.take_if(|(partition, _)| *partition == commit.partition)
        };
        if let Some((_, work)) = meanwhile {
            work(self);
        }
        let mut state = self.0.lock().expect("no panic under the lock");
        if let Some(precondition) = &commit.precondition {
            let current = state.rows.get(&precondition.key.encode()).cloned();
            if current != precondition.value {
                return Ok(Outcome::Conflict { current });
            }
        }
        let timeout = state.timeouts.pop_front().unwrap_or(Timeout::Never);
        match timeout {
            Timeout::Lost => return Ok(Outcome::Unknown(Box::new(commit))),
            Timeout::Unavailable => return Err(Error::Unavailable("timed out, as the test asked".into())),
            Timeout::Never | Timeout::Applied => {}
        }
        for write in &commit.secondary {
            match write {
                SecondaryWrite::Put(key, value) => {
                    state.effect()?;
                    state.rows.insert(key.encode(), value.clone());
                }
                SecondaryWrite::Raise(key, to) => {
                    state.effect()?;
                    let current = state.rows.get(&key.encode());
                    let current = current.map(|value| Number::decode(value).expect("only numbers are raised").0);
                    state.rows.insert(key.encode(), Number(current.unwrap_or(0).max(*to)).encode(EVERY_FORMAT));
                }
                SecondaryWrite::Delete(_) | SecondaryWrite::Add(..) => {}
            }
        }
        state.effect()?;
        for op in commit.ops.clone() {
            match op {
                Op::Put(key, value) => drop(state.rows.insert(key.encode(), value)),
                Op::Delete(key) => drop(state.rows.remove(&key.encode())),
                Op::DeleteRange(range) => state.delete_range(&range),
            }
        }
        for write in commit.secondary.clone() {
            match write {
                SecondaryWrite::Put(..) | SecondaryWrite::Raise(..) => {}
                SecondaryWrite::Delete(key) => {
                    state.effect()?;
                    state.rows.remove(&key.encode());
                }
                SecondaryWrite::Add(key, delta) => {
                    state.effect()?;
                    let current = state.rows.get(&key.encode()).map_or(CounterValue(0), |value| {
                        CounterValue::decode(value).expect("only counters are added to")
                    });
                    state.rows.insert(key.encode(), CounterValue(current.0 + delta).encode(EVERY_FORMAT));
                }
            }
        }
        Ok(if timeout == Timeout::Applied { Outcome::Unknown(Box::new(commit)) } else { Outcome::Committed })
    }

    pub(crate) fn partitions(
        &self,
        kind: PartitionKind,
        from: Option<Partition>,
        direction: Direction,
        limit: usize,
    ) -> Result<Vec<Partition>, Error> {
        let state = self.0.lock().expect("no panic under the lock");
        let all = state.rows.keys().filter_map(|key| Partition::decode(key));
        let direction = match (state.reversed, direction) {
            (false, direction) => direction,
            (true, Direction::Ascending) => Direction::Descending,
            (true, Direction::Descending) => Direction::Ascending,
        };
        Ok(page_of(all.filter(|partition| partition.kind() == kind).collect(), from, direction, limit))
    }
}
