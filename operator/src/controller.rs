//! The reconcile of a resource, and what triggers it.
//!
//! A reconcile observes, takes facts, decides, reports the status and applies the writes, in this order. It does not wait:
//! whatever is to come triggers the next one. When nothing is to be done it makes no call.

pub mod gating;
mod own_writes;
mod queue;
mod upgrades;

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex},
    time::Duration,
};

use futures::{FutureExt, Stream, StreamExt, future::ready, stream};
use jiff::Timestamp;
use kube::{
    Api, Client, ResourceExt,
    api::ApiResource,
    runtime::{
        WatchStreamExt,
        controller::{Action, Config, ReconcileRequest},
        reflector::{self, ObjectRef},
        watcher::{self, Event, watcher},
    },
};
use tokio::time::Instant;

use self::{
    gating::{GateRunner, NoGates},
    own_writes::OwnWrites,
    queue::{Stub, concerned, stubs},
    upgrades::Upgrades,
};
use crate::{
    apply::{Writer, decoded},
    clock::Clock,
    conditions::Finding,
    crd::{ProgressDB, ProgressDBStatus, Unreadable},
    decide::{self, Decision, Write, decide},
    desired::{self, Desired},
    error::{Error, chain},
    facts::Facts,
    lease::Leadership,
    notify::Notifier,
    observe::{Cache, Installation, Observed, Observer, Probe, watch_config},
    raw::Raw,
    refusals::{Due, Refusal, Refusals},
    status, telemetry,
};

/// Passes at one time: each holds the objects of its instance, decompressed.
const CONCURRENCY: u16 = 8;
/// Changes that come together make one reconcile.
const DEBOUNCE: Duration = Duration::from_millis(50);
/// When nothing but a change of the resource can help; it wakes a reconcile.
const UNCHANGED: Duration = Duration::from_secs(600);
/// From a reconcile that wrote to the one that looks what became of it.
const AFTERWARDS: Duration = Duration::from_secs(1);
/// The first retry of a reconcile that failed, and the longest.
const RETRY: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(60));

/// What every reconcile needs.
pub struct Context {
    cache: Arc<Cache>,
    observer: Observer,
    writer: Writer,
    clock: Clock,
    own_writes: OwnWrites,
    /// How often in a row a reconcile failed, by the uid of the resource.
    failures: Mutex<HashMap<String, u32>>,
    /// Resources that another installation looks after, by uid, and which.
    left: Mutex<HashSet<(String, String)>>,
    refusals: Refusals,
    gates: Arc<dyn GateRunner>,
    upgrades: Upgrades,
}

impl Context {
    /// With a cache that somebody fills.
    pub fn new(client: Client, cache: Arc<Cache>, leadership: Leadership, clock: Clock, probe: Probe) -> Self {
        let writer = Writer { client: client.clone(), leadership, cache: Arc::clone(&cache) };
        Self {
            observer: Observer::new(client, Arc::clone(&cache), probe),
            upgrades: Upgrades::new(Notifier::new(writer.clone())),
            writer,
            cache,
            clock,
            own_writes: OwnWrites::default(),
            failures: Mutex::default(),
            left: Mutex::default(),
            refusals: Refusals::default(),
            gates: Arc::new(NoGates),
        }
    }

    /// Has the gates of upgrades run by this.
    pub fn with_gates(self, gates: Arc<dyn GateRunner>) -> Self {
        Self { gates, ..self }
    }

    /// Has a notification that nobody hears repeated after this time at first.
    pub fn with_pause(self, pause: Duration) -> Self {
        Self { upgrades: Upgrades::new(Notifier::new(self.writer.clone()).pausing(pause)), ..self }
    }

    /// Says which installation of the operator this is: there may be others.
    pub fn of(mut self, installation: Option<Installation>) -> Self {
        self.observer = self.observer.with_installation(installation);
        self
    }

    /// Observes, decides, reports and applies once; says when to do so again if nothing changes before.
    pub async fn reconcile(&self, resource: Arc<ProgressDB>) -> Result<Duration, Error> {
        self.cache.listed().await;
        let now = self.clock.now();
        let resource = self.own_writes.newest(resource);
        if let Some(other) = self.observer.looked_after_by_another(&resource, now).await? {
            self.leave_alone(&resource, &other, now).await?;
            return Ok(RETRY.1);
        }
        let mut seen = self.observer.observe(resource, desired::awaits_kms_check, now).await?;
        if let Some(record) = seen.upgrade().filter(|record| record.outcome.is_none()) {
            seen.gates = self.gates.results(seen.uid(), &record.id);
        }
        // Boxed, as the facts are: they are large for a future.
        let desired = Box::new(Desired::build(&seen));
        let refusals = self.refusals.of(seen.uid(), is_deleted(&seen.resource));
        let facts = self.facts(&mut seen, &desired, refusals.first(), now).await?;
        let decision = decide(&seen.resource, &desired, &facts, now);
        let resource = self.report(&seen.resource, &decision.status, now).await?;
        self.try_gates(&resource, &decision);
        self.refusals.retain(seen.uid(), &decision);
        let due = Due::of(&decision, &refusals, now);
        let applied = self.writer.apply(&resource, &due.writes, now).await;
        let resource = self.own_writes.keep(resource, applied.resource);
        if applied.failures.is_empty() {
            return Ok(self.requeue_after(&seen, &decision, &due, !refusals.is_empty()));
        }
        let wait = self.note_refusals(&resource, applied.failures, now)?;
        // Boxed, as all that is rare: else every reconcile would have to hold its room.
        Box::pin(self.report_refusal(&resource, &desired, &facts, now)).await?;
        Ok(wait)
    }

    /// Starts the gates that were decided on, once the status says what they are for.
    fn try_gates(&self, resource: &ProgressDB, decision: &Decision) {
        let under_way = decision.status.upgrade.as_ref().filter(|record| record.outcome.is_none());
        self.gates.forget(&resource.uid().unwrap_or_default(), under_way.map(|record| &*record.id));
        for (request, record) in decision.gates.iter().zip(under_way.into_iter().cycle()) {
            self.gates.start(resource, &record.id, request);
        }
    }

    /// Notes the writes that were refused; says how long to wait. Another failure is an error.
    fn note_refusals(
        &self,
        resource: &ProgressDB,
        failures: Vec<(&Write, Error)>,
        now: Timestamp,
    ) -> Result<Duration, Error> {
        let (uid, mut shortest, mut failed) = (resource.uid().unwrap_or_default(), RETRY.1, None);
        for (write, error) in failures {
            match error {
                Error::Refused { doing, message } => {
                    let name = resource.name_any();
                    tracing::warn!(event = "refused", resource = name, doing, message, "see the condition");
                    let message = format!("{doing}: {message}");
                    shortest = shortest.min(self.refusals.note(&uid, is_deleted(resource), write, message, now));
                }
                error => failed = failed.or(Some(error)),
            }
        }
        failed.map_or(Ok(shortest), Err)
    }

    /// Has the status say what the API server refuses.
    async fn report_refusal(
        &self,
        resource: &Arc<ProgressDB>,
        desired: &Result<Desired, Finding>,
        facts: &Facts,
        now: Timestamp,
    ) -> Result<(), Error> {
        let refusals = self.refusals.of(&resource.uid().unwrap_or_default(), is_deleted(resource));
        let refusal = refusals.into_iter().next().map(|refusal| refusal.message);
        let facts = Facts { refusal, ..facts.clone().with_resource(resource) };
        let decision = decide(resource, desired, &facts, now);
        self.report(resource, &decision.status, now).await.map(drop)
    }

    /// What the decision rests on: what was observed, what the API server refused before, and what is only looked at if that
    /// much says that it matters: the copies behind snapshots, and whether a successor can be.
    async fn facts(
        &self,
        seen: &mut Observed,
        desired: &Result<Desired, Finding>,
        refusal: Option<&Refusal>,
        now: Timestamp,
    ) -> Result<Box<Facts>, Error> {
        let mut facts = Box::new(Facts::of(seen, desired.as_ref().ok()));
        let looks = |desired: &Desired| decide::looks_at_copies(&seen.resource, desired, &facts, now);
        if desired.as_ref().is_ok_and(looks) {
            Box::pin(self.observer.observe_copies(seen)).await?;
            facts = Box::new(Facts::of(seen, desired.as_ref().ok()));
        }
        // What was refused is told until it is done, so that asking again changes no condition.
        facts.refusal = refusal.map(|refusal| refusal.message.clone());
        let successor = desired.as_ref().ok().and_then(|desired| decide::successor(&seen.resource, desired, &facts));
        if let Some(successor) = successor {
            // Boxed, because it is rare.
            facts.trial = Box::pin(self.observer.try_successor(seen, &successor, now)).await?;
        }
        Ok(facts)
    }

    /// When to reconcile again after a reconcile in which no write failed.
    fn requeue_after(&self, seen: &Observed, decision: &Decision, due: &Due<'_>, was_refused: bool) -> Duration {
        if was_refused && due.wait.is_none() {
            self.refusals.forget(seen.uid());
            return AFTERWARDS;
        }
        // Nothing need tell of what was written: it may have changed nothing.
        let earliest = if due.writes.is_empty() { due.wait } else { Some(AFTERWARDS) };
        earliest.map_or(decision.requeue_after, |earliest| earliest.min(decision.requeue_after))
    }

    /// Says once, in the log and by an Event, that another installation is at work.
    async fn leave_alone(&self, resource: &ProgressDB, other: &str, now: Timestamp) -> Result<(), Error> {
        let about = (resource.uid().unwrap_or_default(), other.to_owned());
        let left = || self.left.lock().expect("nobody panics while holding it");
        if left().contains(&about) {
            return Ok(());
        }
        self.writer.tell_left_alone(&resource.metadata, other, now).await?;
        tracing::warn!(
            event = "left.alone",
            resource = resource.name_any(),
            operator = other,
            "another operator works"
        );
        left().insert(about);
        Ok(())
    }

    /// Says of a resource that cannot be read that it cannot.
    pub async fn tell(&self, unreadable: &Unreadable) -> Result<Duration, Error> {
        let now = self.clock.now();
        let status = status::of_unreadable(unreadable, now);
        self.writer.report(&unreadable.metadata, unreadable.status.as_ref(), &status, now).await?;
        Ok(UNCHANGED)
    }

    /// Tells the status; returns the resource as it then is.
    async fn report(
        &self,
        resource: &Arc<ProgressDB>,
        status: &ProgressDBStatus,
        now: Timestamp,
    ) -> Result<Arc<ProgressDB>, Error> {
        let written = self.writer.report(&resource.metadata, resource.status.as_ref(), status, now).await?;
        let doing = || format!("writing the status of {}", resource.name_any());
        let written = written.map(|written| decoded(&written, doing())).transpose()?;
        self.upgrades.heard(resource, status, now);
        Ok(self.own_writes.keep(Arc::clone(resource), written))
    }

    /// Takes what the watch of the resources says; `None` if that is nothing new.
    fn hear(&self, event: watcher::Result<Event<Raw>>) -> Option<Event<Stub>> {
        let kind = "ProgressDB";
        match event {
            Ok(event) => {
                self.cache.health.heard(kind);
                self.cache.handle_resource_event(&event);
                if let Event::Delete(resource) = &event {
                    self.forget(&resource.uid().unwrap_or_default());
                }
                // Our own writes wake nobody: the reconcile that made them says when to look again.
                let is_own = matches!(&event, Event::Apply(resource) if self.own_writes.contains(resource));
                (!is_own).then(|| stubs(&event))
            }
            Err(error) => {
                self.cache.health.failed(kind, chain(&error));
                None
            }
        }
    }

    /// Forgets a resource that is gone.
    fn forget(&self, uid: &str) {
        self.succeeded(uid);
        self.refusals.forget(uid);
        self.own_writes.forget(uid);
        self.gates.forget(uid, None);
        self.upgrades.forget(uid);
        self.left.lock().expect("nobody panics while holding it").retain(|(of, _)| of != uid);
    }

    fn succeeded(&self, uid: &str) {
        self.failures.lock().expect("nobody panics while holding it").remove(uid);
    }

    fn failed(&self, uid: String) -> Duration {
        let mut failures = self.failures.lock().expect("nobody panics while holding it");
        let count = failures.entry(uid).or_insert(0);
        *count = count.saturating_add(1);
        RETRY.0.saturating_mul(1 << (*count - 1).min(10)).min(RETRY.1)
    }
}

fn is_deleted(resource: &ProgressDB) -> bool {
    resource.metadata.deletion_timestamp.is_some()
}

async fn reconcile_stub(stub: Arc<Stub>, context: Arc<Context>) -> Result<Action, Error> {
    let resource = context.cache.resource(&stub.namespace().unwrap_or_default(), &stub.name_any());
    // It was deleted, or is being listed anew: both come with an event.
    let Some(resource) = resource else { return Ok(Action::await_change()) };
    let started = Instant::now();
    let uid = stub.uid().unwrap_or_default();
    let result = match resource {
        Ok(resource) => context.reconcile(Arc::new(resource)).await,
        Err(unreadable) => context.tell(&unreadable).await,
    };
    telemetry::record_pass(result.as_ref().map_or_else(Error::kind, |_| "ok"), started.elapsed());
    let requeue_after = result?;
    context.succeeded(&uid);
    Ok(Action::requeue(requeue_after))
}

fn retry(resource: Arc<Stub>, error: &Error, context: Arc<Context>) -> Action {
    let name = resource.name_any();
    match error {
        // Normal when somebody else writes at the same time.
        Error::Stale { .. } => tracing::debug!(event = "pass.stale", name, %error, "looking again"),
        _ => tracing::warn!(event = "pass.failed", name, error = chain(error), "trying again"),
    }
    Action::requeue(context.failed(resource.uid().unwrap_or_default()))
}

/// Looks after every resource in one namespace or in all, until `stop` resolves.
pub async fn run(
    client: Client,
    namespace: Option<&str>,
    context: Arc<Context>,
    stop: impl Future<Output = ()> + Send,
) {
    let (store, writer) = reflector::store();
    let kind = ApiResource::erase::<ProgressDB>(&());
    let resources: Api<Raw> = match namespace {
        Some(namespace) => Api::namespaced_with(client.clone(), namespace, &kind),
        None => Api::all_with(client.clone(), &kind),
    };
    let own = watcher(resources, watch_config())
        .default_backoff()
        .filter_map({
            let context = Arc::clone(&context);
            move |event| ready(context.hear(event).map(Ok::<_, watcher::Error>))
        })
        .reflect(writer)
        .flat_map({
            let context = Arc::clone(&context);
            move |event| stream::iter(concerned(&context.cache, &event))
        })
        .map(|resource| Ok(ReconcileRequest::from(resource)));
    let objects = context
        .cache
        .watch(&client, namespace)
        .map(|resource| Ok::<_, watcher::Error>(ReconcileRequest::from(resource)));
    let queue = stream::select(own, objects).take_until(stop.boxed());
    let config = Config::default().concurrency(CONCURRENCY).debounce(DEBOUNCE);
    finish(kube::runtime::applier(reconcile_in_box, retry, context, store, queue, config)).await;
}

fn reconcile_in_box(
    resource: Arc<Stub>,
    context: Arc<Context>,
) -> futures::future::BoxFuture<'static, Result<Action, Error>> {
    reconcile_stub(resource, context).boxed()
}

async fn finish<E: std::fmt::Display>(passes: impl Stream<Item = Result<(ObjectRef<Stub>, Action), E>>) {
    passes
        .for_each(|pass| async move {
            if let Err(error) = pass {
                tracing::debug!(event = "pass.ended", %error);
            }
        })
        .await;
}
