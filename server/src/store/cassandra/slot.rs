//! Slots: each running server has one, a number that no other has.
//!
//! Ids carry the number in their low bits, so no two servers make the same one, and counters are kept by slot. A slot is a
//! row that expires; its server renews it long before. One that cannot takes its slot for lost before anybody else can have
//! it, and commits nothing until it has one again. Two more rows are leased in the same way: the turn says whose jobs run, the
//! claim that a command works on the store alone.
//!
//! A command takes the claim and then looks for slots; a server takes a slot and then looks for a claim. Whichever comes second
//! sees the other and steps back.

use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aws_lc_rs::rand;
use scylla::client::session::Session;
use scylla::statement::prepared::PreparedStatement;
use scylla::value::CqlValue;
use tokio::task::AbortHandle;

use super::counters::Counters;
use super::layout::{Value, big, blob};
use super::read::{rows, unreadable};
use super::session::failed;
use super::statements::Statements;
use crate::clock::uptime;
use crate::keys::Key;
use crate::store::{Error, OpenError};

/// How many servers may share one store: as many as a byte has values.
pub(super) const SLOTS: i32 = 256;
/// The row of those who run jobs.
const TURN: i32 = -1;
/// The row of a command that works on the store alone.
pub(super) const CLAIM: i32 = -2;
/// After this long a row that was not renewed is gone.
const TTL: Duration = Duration::from_secs(30);
/// A server takes its slot for lost this long before.
const MARGIN: Duration = Duration::from_secs(8);
const RENEWED_EVERY: Duration = Duration::from_secs(5);
const RETRIED_EVERY: Duration = Duration::from_millis(500);
/// The epoch of a server that has not said yet with which it seals.
const UNKNOWN_EPOCH: i64 = -1;

/// The slot of this server, kept up by a task that ends with it.
pub(super) struct Lease {
    shared: Arc<Shared>,
    task: AbortHandle,
}

struct Shared {
    session: Arc<Session>,
    statements: Arc<Statements>,
    owner: [u8; 16],
    version: String,
    slot: AtomicI32,
    epoch: AtomicU64,
    has_epoch: AtomicBool,
    /// This is a command that has the store for itself.
    has_claim: AtomicBool,
    /// How often a slot was taken, and for which of those times it was said with which epoch this server seals. While the two
    /// differ, the others may have retired that epoch.
    taken: AtomicU64,
    confirmed: AtomicU64,
    /// Until when slot and turn are certainly this server's.
    slot_until: Deadline,
    turn_until: Deadline,
    /// Those of the slot that it has at the moment.
    counters: Mutex<Option<Arc<Counters>>>,
}

/// A moment, as the machine's uptime in nanoseconds: a machine that slept is late like one that was slow.
#[derive(Default)]
struct Deadline(AtomicU64);

impl Deadline {
    fn is_ahead(&self) -> bool {
        uptime().as_nanos() < u128::from(self.0.load(Ordering::Relaxed))
    }

    /// Of a lease that was asked for then.
    fn extend(&self, asked: Duration) {
        let until = u64::try_from((asked + TTL - MARGIN).as_nanos()).unwrap_or(u64::MAX);
        self.0.store(until, Ordering::Relaxed);
    }

    fn end(&self) {
        self.0.store(0, Ordering::Relaxed);
    }
}

impl Shared {
    fn epoch_value(&self) -> Value {
        let known = self.has_epoch.load(Ordering::Relaxed);
        big(if known { self.epoch.load(Ordering::Relaxed).cast_signed() } else { UNKNOWN_EPOCH })
    }

    async fn applied(&self, statement: &PreparedStatement, values: Vec<Value>) -> Result<bool, Error> {
        let answer = rows(&self.session, statement, values).await.map_err(|error| failed(&error))?;
        let row = answer.first_row::<scylla::value::Row>().map_err(unreadable)?;
        Ok(matches!(row.columns.first(), Some(Some(CqlValue::Boolean(true)))))
    }

    async fn take(&self, id: i32) -> Result<bool, Error> {
        let values = vec![
            Some(CqlValue::Int(id)),
            blob(self.owner),
            self.epoch_value(),
            Some(CqlValue::Text(self.version.clone())),
            Some(CqlValue::Int(ttl())),
        ];
        self.applied(&self.statements.slots.take, values).await
    }

    async fn renew(&self, id: i32) -> Result<bool, Error> {
        let values = vec![
            Some(CqlValue::Int(ttl())),
            blob(self.owner),
            self.epoch_value(),
            Some(CqlValue::Text(self.version.clone())),
            Some(CqlValue::Int(id)),
            blob(self.owner),
        ];
        self.applied(&self.statements.slots.renew, values).await
    }

    async fn release(&self, id: i32) {
        // One that cannot be given back expires.
        let _ = self.applied(&self.statements.slots.release, vec![Some(CqlValue::Int(id)), blob(self.owner)]).await;
    }

    /// Takes a slot that nobody has, from a random one on, so that servers that start together do not try the same.
    async fn take_any(&self) -> Result<i32, Error> {
        let taken: Vec<i32> = self.slots().await?.into_iter().map(|slot| slot.id).collect();
        let first = i32::from(random::<1>()[0]);
        for id in (0..SLOTS).map(|step| (first + step) % SLOTS) {
            if !taken.contains(&id) && self.take(id).await? {
                return Ok(id);
            }
        }
        Err(Error::Unavailable(format!("all {SLOTS} slots are taken")))
    }

    async fn rows(&self) -> Result<Vec<Leased>, Error> {
        leased(&self.session, &self.statements).await
    }

    async fn is_claimed(&self) -> Result<bool, Error> {
        Ok(self.rows().await?.iter().any(|row| row.id == CLAIM))
    }

    async fn slots(&self) -> Result<Vec<Leased>, Error> {
        Ok(self.rows().await?.into_iter().filter(Leased::is_slot).collect())
    }

    /// Takes a slot and keeps its counters from then on.
    async fn move_in(&self) -> Result<i32, Error> {
        let asked = uptime();
        let slot = self.take_any().await?;
        if !self.has_claim.load(Ordering::Relaxed) && self.is_claimed().await? {
            self.release(slot).await;
            return Err(Error::Unavailable("a command works on the store alone".into()));
        }
        let counters = Counters::start(self.session.clone(), self.statements.clone(), slot);
        *self.counters.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(counters));
        self.slot.store(slot, Ordering::Relaxed);
        self.slot_until.extend(asked);
        Ok(slot)
    }

    /// Renews what it has, and takes another slot if that is gone.
    async fn keep(&self) -> Result<(), Error> {
        if self.has_claim.load(Ordering::Relaxed) && !self.renew(CLAIM).await? {
            // Servers may have started since, so nothing is committed any more.
            self.slot_until.end();
            return Err(Error::Unavailable("the store is not this command's alone any more".into()));
        }
        let (asked, slot) = (uptime(), self.slot.load(Ordering::Relaxed));
        if self.renew(slot).await? {
            self.slot_until.extend(asked);
        } else {
            // The epochs may have changed since: nothing is sealed before they were read again.
            self.taken.fetch_add(1, Ordering::Relaxed);
            self.has_epoch.store(false, Ordering::Relaxed);
            let slot = self.move_in().await?;
            tracing::warn!(
                event = "storage.slot_taken",
                slot,
                "the former one expired while the engine did not answer"
            );
        }
        self.keep_turn().await
    }

    async fn keep_turn(&self) -> Result<(), Error> {
        let (asked, had) = (uptime(), self.turn_until.is_ahead());
        let has = self.renew(TURN).await? || self.take(TURN).await?;
        match has {
            true => self.turn_until.extend(asked),
            false => self.turn_until.end(),
        }
        if has != had {
            tracing::info!(event = "jobs.turn", here = has);
        }
        Ok(())
    }
}

/// A slot that somebody has, or one of the other rows that are leased.
struct Leased {
    id: i32,
    epoch: i64,
}

impl Leased {
    fn is_slot(&self) -> bool {
        self.id >= 0
    }
}

async fn leased(session: &Session, statements: &Statements) -> Result<Vec<Leased>, Error> {
    let found = rows(session, &statements.slots.list, Vec::new()).await.map_err(|error| failed(&error))?;
    let mut leased = Vec::new();
    for row in found.rows::<(i32, Option<Vec<u8>>, Option<i64>)>().map_err(unreadable)? {
        let (id, owner, epoch) = row.map_err(unreadable)?;
        if owner.is_some() {
            leased.push(Leased { id, epoch: epoch.unwrap_or(UNKNOWN_EPOCH) });
        }
    }
    Ok(leased)
}

/// How many servers have a slot.
pub(super) async fn count(session: &Session, statements: &Statements) -> Result<usize, Error> {
    Ok(leased(session, statements).await?.iter().filter(|row| row.is_slot()).count())
}

impl Lease {
    /// Takes a slot and keeps it.
    pub(super) async fn take(
        session: Arc<Session>,
        statements: Arc<Statements>,
        version: &str,
    ) -> Result<Self, OpenError> {
        let shared = Arc::new(Shared {
            session,
            statements,
            owner: random(),
            version: version.to_owned(),
            slot: AtomicI32::new(-1),
            epoch: AtomicU64::new(0),
            has_epoch: AtomicBool::new(false),
            has_claim: AtomicBool::new(false),
            taken: AtomicU64::new(0),
            confirmed: AtomicU64::new(0),
            slot_until: Deadline::default(),
            turn_until: Deadline::default(),
            counters: Mutex::default(),
        });
        // One that waits takes no slot, or the command would take it for a server that runs.
        if shared.is_claimed().await.map_err(OpenError::Failed)? {
            return Err(OpenError::Claimed);
        }
        shared.move_in().await.map_err(OpenError::Failed)?;
        let task = tokio::spawn(keep_up(shared.clone())).abort_handle();
        Ok(Self { shared, task })
    }

    /// An error while the slot may be another's.
    pub(super) fn check(&self) -> Result<(), Error> {
        let shared = &self.shared;
        let is_confirmed = shared.confirmed.load(Ordering::Relaxed) == shared.taken.load(Ordering::Relaxed);
        match shared.slot_until.is_ahead() && is_confirmed {
            true => Ok(()),
            false => Err(Error::Unavailable("this server's slot expired while the engine did not answer".into())),
        }
    }

    /// Adds to counters of the slot that the server has at the moment.
    pub(super) async fn add(&self, by: Vec<(Key, i64)>) -> Result<(), Error> {
        let counters = self.shared.counters.lock().unwrap_or_else(PoisonError::into_inner).clone();
        counters.expect("a lease begins with a slot").add(by).await
    }

    /// The number of the slot.
    pub(super) fn slot(&self) -> u8 {
        u8::try_from(self.shared.slot.load(Ordering::Relaxed)).expect("slots are bytes")
    }

    /// Jobs run here.
    pub(super) fn has_turn(&self) -> bool {
        self.shared.turn_until.is_ahead() && self.shared.slot_until.is_ahead()
    }

    /// Takes the store for this process alone, or says how many others use it. While one has it, no server takes a slot.
    pub(super) async fn claim(&self) -> Result<usize, Error> {
        let shared = &self.shared;
        if !shared.take(CLAIM).await? {
            return Ok(1);
        }
        let own = shared.slot.load(Ordering::Relaxed);
        let others = shared.slots().await?.iter().filter(|slot| slot.id != own).count();
        match others {
            0 => shared.has_claim.store(true, Ordering::Relaxed),
            _ => shared.release(CLAIM).await,
        }
        Ok(others)
    }

    /// How often a slot was taken.
    pub(super) fn term(&self) -> u64 {
        self.shared.taken.load(Ordering::Relaxed)
    }

    /// Says that this server seals with that epoch from now on, as was read in that term.
    pub(super) async fn confirm(&self, epoch: u32, term: u64) -> Result<(), Error> {
        let known = self.shared.epoch.swap(u64::from(epoch), Ordering::Relaxed) == u64::from(epoch);
        let is_confirmed = self.shared.confirmed.load(Ordering::Relaxed) == term;
        if self.shared.has_epoch.swap(true, Ordering::Relaxed) && known && is_confirmed {
            return Ok(());
        }
        if self.shared.renew(self.shared.slot.load(Ordering::Relaxed)).await? {
            self.shared.confirmed.fetch_max(term, Ordering::Relaxed);
        }
        Ok(())
    }

    /// The oldest epoch that a server may still seal with; none while one has not said.
    pub(super) async fn oldest_epoch(&self) -> Result<Option<u32>, Error> {
        let oldest = self.shared.slots().await?.iter().map(|slot| slot.epoch).min();
        Ok(oldest.and_then(|epoch| u32::try_from(epoch).ok()))
    }

    /// Gives the slot back.
    pub(super) async fn release(&self) {
        self.task.abort();
        self.shared.slot_until.end();
        // What is another's stays.
        for id in [TURN, self.shared.slot.load(Ordering::Relaxed), CLAIM] {
            self.shared.release(id).await;
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn keep_up(shared: Arc<Shared>) {
    loop {
        let kept = shared.keep().await;
        if let Err(error) = &kept {
            tracing::warn!(event = "storage.slot_not_renewed", %error);
        }
        let pause = if kept.is_ok() { RENEWED_EVERY } else { RETRIED_EVERY };
        tokio::time::sleep(pause).await;
    }
}

fn ttl() -> i32 {
    i32::try_from(TTL.as_secs()).expect("a few seconds")
}

pub(super) fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    rand::fill(&mut bytes).expect("the system's random source works, or nothing here is safe");
    bytes
}
