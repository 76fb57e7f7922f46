//! Load, in two shapes.
//!
//! *Closed*: every connection sends its next request when the last one is answered. Finds the most that a system does;
//! its latencies are those at that limit. *Open*: requests are due at fixed instants, whatever the system does, and a
//! latency runs from the instant when the request was *due*, so that a stall counts for everything it delays. What the
//! generator itself adds to it is measured too: the time from due to sent of requests that found a connection free.

use std::collections::VecDeque;
use std::mem;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use hdrhistogram::Histogram;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::client::Client;
use crate::clock;
use crate::process::{own_cpu, tree_cpu};

/// How long after its end a run may still wait for answers.
const TAIL_LIMIT: Duration = Duration::from_secs(10);

/// The times of a run.
#[derive(Clone, Copy)]
pub(crate) struct Plan {
    pub(crate) warm_up: Duration,
    pub(crate) measured: Duration,
}

/// What a run showed.
pub(crate) struct Load {
    /// `closed` or the offered share, such as `offered 50 %`.
    pub(crate) shape: String,
    pub(crate) connections: usize,
    /// Requests a second.
    pub(crate) rate: f64,
    /// Nanoseconds.
    pub(crate) latency: Histogram<u64>,
    /// The part of it, in nanoseconds, that is the generator's; empty for closed load.
    pub(crate) lateness: Histogram<u64>,
    /// All requests answered well, warm-up and tail included.
    pub(crate) answered: u64,
    /// Due but never sent, because the backlog outlived the run; their latencies count as if answered at its end.
    pub(crate) unsent: u64,
    /// Processor microseconds a request, of the measured program and of this one.
    pub(crate) server_cpu_us: f64,
    pub(crate) generator_cpu_us: f64,
}

impl Load {
    /// A percentile in milliseconds.
    pub(crate) fn percentile_ms(&self, percentile: f64) -> f64 {
        self.latency.value_at_percentile(percentile) as f64 / 1e6
    }
}

/// An empty histogram: a microsecond to a minute, three digits.
pub(crate) fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1_000, 60_000_000_000, 3).expect("the bounds are in order")
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// One connection's part of a run.
struct Share {
    client: Client,
    latency: Histogram<u64>,
    lateness: Histogram<u64>,
    answered: u64,
}

impl Share {
    fn new(client: Client) -> Self {
        Self { client, latency: histogram(), lateness: histogram(), answered: 0 }
    }
}

/// Runs all `clients` as fast as they are answered; `process` is the measured program.
pub(crate) async fn closed(clients: &mut Vec<Client>, process: u32, plan: Plan) -> Result<Load> {
    let connections = clients.len();
    let start = clock::now() + plan.warm_up;
    let end = start + plan.measured;
    let mut tasks = JoinSet::new();
    for client in mem::take(clients) {
        tasks.spawn(repeat_until(client, start, end));
    }
    let mut meter = Meter::new(process);
    meter.measure(start, pause(plan.measured)).await?;
    let total = collect(tasks, clients, TAIL_LIMIT).await?;
    Ok(total.sum_up("closed".into(), connections, plan.measured, &meter))
}

async fn repeat_until(client: Client, start: Instant, end: Instant) -> Result<Share> {
    let mut share = Share::new(client);
    let mut begin = clock::now();
    while begin < end {
        share.client.call().await?;
        share.answered += 1;
        let done = clock::now();
        if done >= start && done < end {
            share.latency.saturating_record(nanos(done - begin));
        }
        begin = done;
    }
    Ok(share)
}

/// Offers `rate` requests a second over all `clients`; `shape` names it in tables.
pub(crate) async fn open(
    clients: &mut Vec<Client>,
    process: u32,
    plan: Plan,
    rate: f64,
    shape: String,
) -> Result<Load> {
    Ok(open_during(clients, process, plan.warm_up, rate, shape, pause(plan.measured)).await?.0)
}

/// Work of this length that does nothing.
pub(crate) async fn pause(length: Duration) -> Result<()> {
    clock::sleep_until(clock::now() + length).await;
    Ok(())
}

/// The same for as long as `work` takes, which begins when the warm-up is over; also returns what it returns.
pub(crate) async fn open_during<T>(
    clients: &mut Vec<Client>,
    process: u32,
    warm_up: Duration,
    rate: f64,
    shape: String,
    work: impl Future<Output = Result<T>>,
) -> Result<(Load, T)> {
    ensure!(rate >= 1.0, "an open run needs a rate");
    let connections = clients.len();
    let begin = clock::now() + Duration::from_millis(20);
    let start = begin + warm_up;
    let queue = Arc::new(Queue::default());
    let mut tasks = JoinSet::new();
    for client in mem::take(clients) {
        tasks.spawn(take_tickets(client, queue.clone(), start));
    }
    let pacing = queue.clone();
    let pacer = std::thread::Builder::new().name("pacer".into()).spawn(move || {
        clock::sleep_precisely();
        pacing.pace(begin, rate);
    })?;
    let guard = CloseOnDrop(queue.clone());
    let mut meter = Meter::new(process);
    let done = meter.measure(start, work).await?;
    let end = queue.end();
    pacer.join().map_err(|_| anyhow!("the pacing thread panicked"))?;
    // What is still due is answered or given up within the tail; then every connection sees the closed queue.
    let deadline = end + TAIL_LIMIT / 2;
    while queue.waiting() > 0 && clock::now() < deadline {
        clock::sleep_until(clock::now() + Duration::from_millis(5)).await;
    }
    drop(guard);
    let total = collect(tasks, clients, TAIL_LIMIT).await?;
    let mut load = total.sum_up(shape, connections, end - start, &meter);
    for due in queue.rest().into_iter().filter(|due| due.at >= start) {
        load.latency.saturating_record(nanos(clock::now() - due.at));
        load.unsent += 1;
    }
    Ok((load, done))
}

/// Requests that are due, oldest first.
struct Queue {
    due: Mutex<VecDeque<Due>>,
    tickets: Semaphore,
    /// Connections that wait for a ticket.
    free: AtomicUsize,
    /// Nothing is due from then on, once it is known.
    end: OnceLock<Instant>,
}

impl Default for Queue {
    fn default() -> Self {
        Self { due: Mutex::default(), tickets: Semaphore::new(0), free: AtomicUsize::new(0), end: OnceLock::new() }
    }
}

/// A request to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Due {
    at: Instant,
    /// A connection was free for it: if it is sent late, the generator is.
    prompt: bool,
}

impl Queue {
    /// Hands out tickets until the end, each at its instant. Bounded by the rate times the run.
    fn pace(&self, begin: Instant, rate: f64) {
        let instant = |index: u64| begin + Duration::from_secs_f64(index as f64 / rate);
        let is_due = |index| self.end.get().is_none_or(|end| instant(index) < *end);
        let mut index = 0;
        while is_due(index) && !self.tickets.is_closed() {
            clock::sleep_thread_until(instant(index));
            let now = clock::now();
            let first = index;
            let mut due = self.lock();
            while instant(index) <= now && is_due(index) {
                let prompt = due.len() < self.free.load(Ordering::Relaxed);
                due.push_back(Due { at: instant(index), prompt });
                index += 1;
            }
            drop(due);
            self.tickets.add_permits((index - first) as usize);
        }
    }

    /// Ends the run now; returns when that was.
    fn end(&self) -> Instant {
        *self.end.get_or_init(clock::now)
    }

    async fn next(&self) -> Option<Due> {
        self.free.fetch_add(1, Ordering::Relaxed);
        let ticket = self.tickets.acquire().await;
        self.free.fetch_sub(1, Ordering::Relaxed);
        ticket.ok()?.forget();
        self.lock().pop_front()
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Due>> {
        self.due.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn waiting(&self) -> usize {
        self.tickets.available_permits()
    }

    /// What nobody took.
    fn rest(&self) -> VecDeque<Due> {
        mem::take(&mut *self.lock())
    }
}

/// Ends the pacing thread and the connections even when the run is given up.
struct CloseOnDrop(Arc<Queue>);

impl Drop for CloseOnDrop {
    fn drop(&mut self) {
        self.0.tickets.close();
    }
}

async fn take_tickets(client: Client, queue: Arc<Queue>, start: Instant) -> Result<Share> {
    let mut share = Share::new(client);
    while let Some(Due { at, prompt }) = queue.next().await {
        if prompt && at >= start {
            share.lateness.saturating_record(nanos(clock::now() - at));
        }
        share.client.call().await?;
        share.answered += 1;
        if at >= start {
            share.latency.saturating_record(nanos(clock::now() - at));
        }
    }
    Ok(share)
}

/// Repeats until `total` requests are answered, shared among all `clients`; for loading.
pub(crate) async fn repeat(clients: &mut Vec<Client>, total: usize, limit: Duration) -> Result<u64> {
    let count = clients.len();
    let mut tasks = JoinSet::new();
    for (index, client) in mem::take(clients).into_iter().enumerate() {
        let share = total / count + usize::from(index < total % count);
        tasks.spawn(repeat_times(client, share));
    }
    collect(tasks, clients, limit).await.with_context(|| format!("loading {total}")).map(|total| total.answered)
}

async fn repeat_times(client: Client, times: usize) -> Result<Share> {
    let mut share = Share::new(client);
    for _ in 0..times {
        share.client.call().await?;
        share.answered += 1;
    }
    Ok(share)
}

/// Repeats on all `clients` until each one's connection breaks; returns what was answered before.
pub(crate) fn until_broken(clients: Vec<Client>) -> JoinSet<u64> {
    let mut tasks = JoinSet::new();
    for mut client in clients {
        tasks.spawn(async move {
            let mut answered = 0;
            while client.call().await.is_ok() {
                answered += 1;
            }
            answered
        });
    }
    tasks
}

/// All connections' parts together.
struct Total {
    latency: Histogram<u64>,
    lateness: Histogram<u64>,
    answered: u64,
}

/// Puts the clients back in place and adds up what each measured; the first error ends all.
async fn collect(mut tasks: JoinSet<Result<Share>>, clients: &mut Vec<Client>, limit: Duration) -> Result<Total> {
    let mut total = Total { latency: histogram(), lateness: histogram(), answered: 0 };
    let deadline = clock::now() + limit;
    loop {
        let next = tokio::time::timeout_at(deadline.into(), tasks.join_next()).await;
        let Some(done) = next.with_context(|| format!("not answered within {limit:?}"))? else { return Ok(total) };
        let share = done.context("a connection's task failed")??;
        total.latency.add(&share.latency)?;
        total.lateness.add(&share.lateness)?;
        total.answered += share.answered;
        clients.push(share.client);
    }
}

impl Total {
    fn sum_up(self, shape: String, connections: usize, measured: Duration, meter: &Meter) -> Load {
        let requests = self.latency.len() as f64;
        let per_request = |time: Duration| time.as_secs_f64() * 1e6 / requests.max(1.0);
        Load {
            shape,
            connections,
            rate: requests / measured.as_secs_f64(),
            server_cpu_us: per_request(meter.server),
            generator_cpu_us: per_request(meter.generator),
            latency: self.latency,
            lateness: self.lateness,
            answered: self.answered,
            unsent: 0,
        }
    }
}

/// Processor time during the measured part.
struct Meter {
    process: u32,
    server: Duration,
    generator: Duration,
}

impl Meter {
    fn new(process: u32) -> Self {
        Self { process, server: Duration::ZERO, generator: Duration::ZERO }
    }

    /// Begins `work` at `start` and measures while it runs.
    async fn measure<T>(&mut self, start: Instant, work: impl Future<Output = Result<T>>) -> Result<T> {
        clock::sleep_until(start).await;
        let before = self.read()?;
        let done = work.await?;
        let after = self.read()?;
        self.server = after.0.saturating_sub(before.0);
        self.generator = after.1.saturating_sub(before.1);
        Ok(done)
    }

    fn read(&self) -> Result<(Duration, Duration)> {
        Ok((tree_cpu(self.process)?, own_cpu()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tickets_are_due_at_even_instants_and_all_are_handed_out() {
        let queue = Queue::default();
        queue.free.store(3, Ordering::Relaxed);
        let begin = clock::now();
        queue.end.set(begin + Duration::from_millis(20)).expect("not set before");
        queue.pace(begin, 1000.0);
        let due = queue.rest();
        assert_eq!((due.len(), queue.waiting()), (20, 20));
        for (index, due) in due.into_iter().enumerate() {
            let at = begin + Duration::from_millis(index as u64);
            assert_eq!(due, Due { at, prompt: index < 3 }, "three connections are free: {index}");
        }
    }

    #[test]
    fn an_end_that_comes_while_the_pacing_goes_on_is_kept() {
        let queue = Arc::new(Queue::default());
        let (pacing, begin) = (queue.clone(), clock::now());
        let pacer = std::thread::spawn(move || pacing.pace(begin, 1000.0));
        clock::sleep_thread_until(begin + Duration::from_millis(20));
        let end = queue.end();
        pacer.join().expect("it ends");
        let due = queue.rest();
        let instants = (0..).map(|index| begin + Duration::from_millis(index)).take_while(|at| *at < end);
        assert!(due.iter().map(|due| due.at).eq(instants), "{due:?}");
        assert_eq!(queue.waiting(), due.len());
    }

    #[test]
    fn a_closed_queue_ends_the_pacing() {
        let queue = Arc::new(Queue::default());
        drop(CloseOnDrop(queue.clone()));
        queue.pace(clock::now(), 1000.0);
        assert_eq!(queue.rest().len(), 0);
    }

    #[test]
    fn percentiles_are_milliseconds() {
        let mut latency = histogram();
        (1..=100).for_each(|ms| latency.saturating_record(ms * 1_000_000));
        let total = Total { latency, lateness: histogram(), answered: 130 };
        let load = total.sum_up("closed".into(), 1, Duration::from_secs(2), &Meter::new(1));
        assert!((load.percentile_ms(50.0) - 50.0).abs() < 0.1, "{}", load.percentile_ms(50.0));
        assert!((load.percentile_ms(99.0) - 99.0).abs() < 0.1, "{}", load.percentile_ms(99.0));
        assert_eq!((load.rate, load.answered), (50.0, 130));
    }
}
