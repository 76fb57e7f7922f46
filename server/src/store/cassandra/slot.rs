//! Slots: each running server has one, a number that no other has.
//!
//! Ids carry the number in their low bits, so no two servers make the same one, and counters are kept by slot. A slot is a
//! row that expires; its server renews it long before. One that cannot takes its slot for lost before anybody else can have
//! it, and commits nothing until it has one again. Three more rows are leased in the same way: the turn says whose jobs run, the
//! claim that a command works on the store alone, the claim to the format that a command raises the format of the store.
//!
//! A command takes a claim and then looks for slots; a server takes a slot and then looks for claims. Whichever comes second
//! sees the other and steps back: of a claim to the format, a server that could not work in the format to come.
//!
//! The row of a slot also says what its server follows of what changes for all: the epoch that it seals with, and the format
//! that it writes.

mod leased;
mod said;

use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aws_lc_rs::rand;
use scylla::client::session::Session;
use scylla::statement::prepared::PreparedStatement;
use scylla::value::CqlValue;
use tokio::task::AbortHandle;

use self::leased::{Leased, Refused, leased};
use self::said::{Deadline, Said};
use super::counters::Counters;
use super::layout::{Value, big, blob};
use super::read::{rows, unreadable};
use super::session::failed;
use super::statements::Statements;
use crate::clock::uptime;
use crate::keys::Key;
use crate::store::{Error, OpenError, Peer};

/// How many servers may share one store: as many as a byte has values.
pub(super) const SLOTS: i32 = 256;
/// The row of those who run jobs.
const TURN: i32 = -1;
/// The row of a command that works on the store alone.
pub(super) const CLAIM: i32 = -2;
/// The row of a command that raises the format of the store.
pub(super) const FORMAT_CLAIM: i32 = -3;
/// After this long a row that was not renewed is gone.
const TTL: Duration = Duration::from_secs(30);
/// A server takes its slot for lost this long before.
const MARGIN: Duration = Duration::from_secs(8);
const RENEWED_EVERY: Duration = Duration::from_secs(5);
const RETRIED_EVERY: Duration = Duration::from_millis(500);

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
    /// The formats in which this server can work, first and last.
    formats: [u32; 2],
    slot: AtomicI32,
    claim: Mutex<Option<Claim>>,
    /// How often a slot was taken. What was said before may have changed for all since.
    taken: AtomicU64,
    epoch: Said,
    format: Said,
    /// Until when slot and turn are certainly this server's.
    slot_until: Deadline,
    turn_until: Deadline,
    /// Those of the slot that it has at the moment.
    counters: Mutex<Option<Arc<Counters>>>,
}

/// What a command has beside its slot.
#[derive(Clone, Copy)]
enum Claim {
    /// The store, for itself alone.
    Store,
    /// The format, to raise it to this one.
    Format(u32),
}

impl Claim {
    fn id(self) -> i32 {
        match self {
            Self::Store => CLAIM,
            Self::Format(_) => FORMAT_CLAIM,
        }
    }
}

impl Shared {
    fn claim(&self) -> Option<Claim> {
        *self.claim.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set_claim(&self, claim: Option<Claim>) {
        *self.claim.lock().unwrap_or_else(PoisonError::into_inner) = claim;
    }

    /// The format that stands in the row: the one that is followed or, of a claim to it, the one to come.
    fn format_in(&self, id: i32) -> i32 {
        match self.claim() {
            Some(Claim::Format(to)) if id == FORMAT_CLAIM => small(to),
            _ => i32::try_from(self.format.value()).unwrap_or(i32::MAX),
        }
    }

    /// What stands in a row beside its owner.
    fn columns(&self, format: i32) -> Vec<Value> {
        let [oldest, newest] = self.formats.map(|format| Some(CqlValue::Int(small(format))));
        let version = Some(CqlValue::Text(self.version.clone()));
        vec![big(self.epoch.value()), version, oldest, newest, Some(CqlValue::Int(format))]
    }

    async fn applied(&self, statement: &PreparedStatement, values: Vec<Value>) -> Result<bool, Error> {
        let answer = rows(&self.session, statement, values).await.map_err(|error| failed(&error))?;
        let row = answer.first_row::<scylla::value::Row>().map_err(unreadable)?;
        Ok(matches!(row.columns.first(), Some(Some(CqlValue::Boolean(true)))))
    }

    async fn take(&self, id: i32) -> Result<bool, Error> {
        self.take_with(id, self.format_in(id)).await
    }

    async fn take_with(&self, id: i32, format: i32) -> Result<bool, Error> {
        let [row, ttl] = [id, ttl()].map(|number| Some(CqlValue::Int(number)));
        let values = [vec![row, blob(self.owner)], self.columns(format), vec![ttl]].concat();
        self.applied(&self.statements.slots.take, values).await
    }

    async fn renew(&self, id: i32) -> Result<bool, Error> {
        let [row, ttl] = [id, ttl()].map(|number| Some(CqlValue::Int(number)));
        let columns = self.columns(self.format_in(id));
        let values = [vec![ttl, blob(self.owner)], columns, vec![row, blob(self.owner)]].concat();
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

    /// Why this process may not take a slot, if it has no claim itself.
    async fn refused(&self) -> Result<Option<Refused>, Error> {
        match self.claim() {
            Some(_) => Ok(None),
            None => Ok(self.rows().await?.iter().find_map(|row| row.refuses(self.formats))),
        }
    }

    async fn slots(&self) -> Result<Vec<Leased>, Error> {
        Ok(self.rows().await?.into_iter().filter(Leased::is_slot).collect())
    }

    /// Takes a slot and keeps its counters from then on.
    async fn move_in(&self) -> Result<i32, Error> {
        let asked = uptime();
        let slot = self.take_any().await?;
        if let Some(refused) = self.refused().await? {
            self.release(slot).await;
            return Err(Error::Unavailable(match refused {
                Refused::Claimed => "a command works on the store alone".into(),
                Refused::Raised(to) => format!("the store is raised to format {to}, which this version does not know"),
            }));
        }
        let counters = Counters::start(self.session.clone(), self.statements.clone(), slot);
        *self.counters.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(counters));
        self.slot.store(slot, Ordering::Relaxed);
        self.slot_until.extend(asked);
        Ok(slot)
    }

    /// Renews what it has, and takes another slot if that is gone.
    async fn keep(&self) -> Result<(), Error> {
        // Before the claim too: nothing is committed any more when that may have expired.
        let (asked, slot) = (uptime(), self.slot.load(Ordering::Relaxed));
        if let Some(claim) = self.claim()
            && !self.renew(claim.id()).await?
        {
            // Servers may have started since.
            self.slot_until.end();
            return Err(Error::Unavailable("what this command has claimed is not its own any more".into()));
        }
        if self.renew(slot).await? {
            self.slot_until.extend(asked);
        } else {
            // Epochs and format may have changed since: nothing is written before they were read again.
            self.taken.fetch_add(1, Ordering::Relaxed);
            [&self.epoch, &self.format].into_iter().for_each(Said::forget);
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
        formats: [u32; 2],
    ) -> Result<Self, OpenError> {
        let shared = Arc::new(Shared {
            session,
            statements,
            owner: random(),
            version: version.to_owned(),
            formats,
            slot: AtomicI32::new(-1),
            claim: Mutex::default(),
            taken: AtomicU64::new(0),
            epoch: Said::default(),
            format: Said::default(),
            slot_until: Deadline::default(),
            turn_until: Deadline::default(),
            counters: Mutex::default(),
        });
        // One that waits takes no slot, or the command would take it for a server that runs.
        match shared.refused().await.map_err(OpenError::Failed)? {
            Some(Refused::Claimed) => return Err(OpenError::Claimed),
            Some(Refused::Raised(to)) => return Err(OpenError::FormatRaised(to)),
            None => {}
        }
        shared.move_in().await.map_err(OpenError::Failed)?;
        let task = tokio::spawn(keep_up(shared.clone())).abort_handle();
        Ok(Self { shared, task })
    }

    /// An error while the slot may be another's.
    pub(super) fn check(&self) -> Result<(), Error> {
        let shared = &self.shared;
        let is_confirmed = [&shared.epoch, &shared.format].iter().all(|said| said.is_of(self.term()));
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
        let others = self.peers().await?.len();
        match others {
            0 => shared.set_claim(Some(Claim::Store)),
            _ => shared.release(CLAIM).await,
        }
        Ok(others)
    }

    /// Takes the format, to raise it to `to`; false if another command has it. While one has it, no server takes a slot that
    /// cannot work in that format.
    pub(super) async fn claim_format(&self, to: u32) -> Result<bool, Error> {
        let is_taken = self.shared.take_with(FORMAT_CLAIM, small(to)).await?;
        if is_taken {
            self.shared.set_claim(Some(Claim::Format(to)));
        }
        Ok(is_taken)
    }

    /// Gives the format back.
    pub(super) async fn release_format(&self) {
        self.shared.set_claim(None);
        self.shared.release(FORMAT_CLAIM).await;
    }

    /// The others that have a slot.
    pub(super) async fn peers(&self) -> Result<Vec<Peer>, Error> {
        let own = self.shared.slot.load(Ordering::Relaxed);
        Ok(self.shared.slots().await?.into_iter().filter(|slot| slot.id != own).filter_map(Leased::peer).collect())
    }

    /// How often a slot was taken.
    pub(super) fn term(&self) -> u64 {
        self.shared.taken.load(Ordering::Relaxed)
    }

    /// Says that this server seals with that epoch from now on, as was read in that term.
    pub(super) async fn confirm_epoch(&self, epoch: u32, term: u64) -> Result<(), Error> {
        self.confirm(&self.shared.epoch, epoch, term).await
    }

    /// Says that this server writes no other format than that from now on, as was read in that term.
    pub(super) async fn confirm_format(&self, format: u32, term: u64) -> Result<(), Error> {
        self.confirm(&self.shared.format, format, term).await
    }

    async fn confirm(&self, said: &Said, value: u32, term: u64) -> Result<(), Error> {
        if said.say(value, term) && self.shared.renew(self.shared.slot.load(Ordering::Relaxed)).await? {
            said.confirm(term);
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
        for id in [TURN, self.shared.slot.load(Ordering::Relaxed), CLAIM, FORMAT_CLAIM] {
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

fn small(number: u32) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}

fn ttl() -> i32 {
    i32::try_from(TTL.as_secs()).expect("a few seconds")
}

pub(super) fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    rand::fill(&mut bytes).expect("the system's random source works, or nothing here is safe");
    bytes
}
