//! One operator leads, by a Lease that it renews; the others wait.
//!
//! Whoever leads knows until when it surely does, and every write asks that first. It counts from the moment before the
//! renewal was sent and stops earlier than others may take over, so two never write at one time as long as their clocks
//! run equally fast. Others watch how long the Lease has not changed, and believe a clock only when it has not been renewed
//! for twice as long: else operators that end before they have watched for long enough would leave it to nobody.

use std::time::Duration;

use jiff::SignedDuration;
use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::MicroTime,
};
use kube::{
    Api, Client,
    api::{ObjectMeta, PostParams},
};
use tokio::{sync::watch, time::Instant};

use crate::{
    MANAGER,
    clock::Clock,
    error::{Error, chain},
};

/// A Lease that nobody renewed for this long may be taken.
const DURATION: Duration = Duration::from_secs(15);
/// A Lease that by our clock was not renewed for this long was not, even if clocks differ by [`DURATION`].
const LONG_SILENCE: SignedDuration = SignedDuration::from_secs(30);
/// The leader stops this long after its last renewal.
const RENEW_DEADLINE: Duration = Duration::from_secs(10);
/// Between two looks at the Lease.
const INTERVAL: Duration = Duration::from_secs(3);

/// Whether this process may write; clones see the same.
#[derive(Clone, Debug)]
pub struct Leadership(watch::Receiver<Until>);

#[derive(Clone, Copy, Debug)]
enum Until {
    Never,
    Time(Instant),
    ForEver,
}

impl Until {
    fn holds(self) -> bool {
        match self {
            Self::Never => false,
            Self::Time(time) => Instant::now() < time,
            Self::ForEver => true,
        }
    }
}

impl Leadership {
    /// For one who is alone: there is no Lease.
    pub fn alone() -> Self {
        Self(watch::channel(Until::ForEver).1)
    }

    /// Whether this process surely leads at this moment.
    pub fn holds(&self) -> bool {
        self.0.borrow().holds()
    }

    /// Returns once this process leads.
    pub async fn gained(&mut self) {
        // The sender is gone only when the process ends.
        let _ = self.0.wait_for(|until| until.holds()).await;
    }

    /// Returns once this process no longer leads.
    pub async fn lost(&self) {
        while self.holds() {
            let until = *self.0.borrow();
            match until {
                Until::ForEver => std::future::pending().await,
                Until::Time(time) => tokio::time::sleep_until(time).await,
                Until::Never => {}
            }
        }
    }
}

/// One who wants to lead.
pub struct Candidate {
    leases: Api<Lease>,
    name: String,
    identity: String,
    clock: Clock,
    until: watch::Sender<Until>,
    /// The version of the Lease that another holds, and since when it is that one.
    seen: Option<(String, Instant)>,
}

impl Candidate {
    /// One of this identity, which is unique, for the Lease of this name; it does not lead yet.
    pub fn new(client: Client, namespace: &str, name: &str, identity: &str, clock: Clock) -> (Self, Leadership) {
        let (until, leadership) = watch::channel(Until::Never);
        let leases = Api::namespaced(client, namespace);
        let candidate = Self { leases, name: name.into(), identity: identity.into(), clock, until, seen: None };
        (candidate, Leadership(leadership))
    }

    /// Takes and renews the Lease until `stop` resolves, then gives it back.
    pub async fn run(mut self, stop: impl Future<Output = ()>) {
        let mut stop = std::pin::pin!(stop);
        loop {
            if let Err(error) = self.step().await {
                tracing::warn!(
                    event = "lease.failed",
                    error = chain(&error),
                    "the lease could not be taken or renewed"
                );
            }
            tokio::select! {
                () = tokio::time::sleep(INTERVAL) => {}
                () = &mut stop => break,
            }
        }
        self.release().await;
    }

    /// Looks at the Lease once, and takes or renews it if it may.
    pub async fn step(&mut self) -> Result<(), Error> {
        let before = Instant::now();
        let doing = format!("taking the lease {}", self.name);
        let failed = |error| Error::new(doing.clone(), error);
        let Some(lease) = self.leases.get_opt(&self.name).await.map_err(failed)? else {
            self.leases.create(&params(), &self.claim(None)).await.map_err(failed)?;
            self.lead(before);
            return Ok(());
        };
        if !self.may_take(&lease) {
            self.until.send_replace(Until::Never);
            return Ok(());
        }
        let claim = self.claim(Some(&lease));
        self.leases.replace(&self.name, &params(), &claim).await.map_err(failed)?;
        self.lead(before);
        Ok(())
    }

    fn lead(&mut self, since: Instant) {
        if !self.until.borrow().holds() {
            tracing::info!(event = "lease.taken", identity = self.identity, "this operator leads");
        }
        self.seen = None;
        self.until.send_replace(Until::Time(since + RENEW_DEADLINE));
    }

    /// Ours, nobody's, or one that has not changed for as long as its holder may be silent.
    fn may_take(&mut self, lease: &Lease) -> bool {
        let holder = lease.spec.as_ref().and_then(|spec| spec.holder_identity.as_deref()).unwrap_or_default();
        if holder.is_empty() || holder == self.identity {
            return true;
        }
        let renewed = lease.spec.as_ref().and_then(|spec| spec.renew_time.as_ref());
        if renewed.is_some_and(|renewed| self.clock.now().duration_since(renewed.0) > LONG_SILENCE) {
            return true;
        }
        let version = lease.metadata.resource_version.clone().unwrap_or_default();
        match &self.seen {
            Some((seen, since)) if *seen == version => since.elapsed() >= DURATION,
            _ => {
                self.seen = Some((version, Instant::now()));
                false
            }
        }
    }

    /// The Lease with us as its holder; it keeps the version, so that a rival's write in between wins.
    fn claim(&self, lease: Option<&Lease>) -> Lease {
        let old = lease.and_then(|lease| lease.spec.clone()).unwrap_or_default();
        let is_ours = old.holder_identity.as_deref() == Some(&self.identity);
        let now = Some(MicroTime(self.clock.now()));
        let metadata = lease.map(|lease| lease.metadata.clone());
        Lease {
            metadata: metadata.unwrap_or_else(|| ObjectMeta { name: Some(self.name.clone()), ..ObjectMeta::default() }),
            spec: Some(LeaseSpec {
                holder_identity: Some(self.identity.clone()),
                lease_duration_seconds: i32::try_from(DURATION.as_secs()).ok(),
                acquire_time: if is_ours { old.acquire_time } else { now.clone() },
                renew_time: now,
                lease_transitions: Some(old.lease_transitions.unwrap_or(0) + i32::from(!is_ours && lease.is_some())),
                ..LeaseSpec::default()
            }),
        }
    }

    /// Gives the Lease back, so that the next one need not wait. Failing is no harm: it runs out.
    pub async fn release(&mut self) {
        if !self.until.send_replace(Until::Never).holds() {
            return;
        }
        let Ok(mut lease) = self.leases.get(&self.name).await else { return };
        let Some(spec) = lease.spec.as_mut() else { return };
        if spec.holder_identity.as_deref() == Some(&self.identity) {
            spec.holder_identity = None;
            let _ = self.leases.replace(&self.name, &params(), &lease).await;
        }
    }
}

fn params() -> PostParams {
    PostParams { dry_run: false, field_manager: Some(MANAGER.to_owned()) }
}
