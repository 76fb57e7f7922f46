//! Load, in two shapes.
//!
//! *Closed*: every connection sends its next request when the last one is answered. Finds the most that a system does;
//! its latencies are those at that limit. *Open*: requests are due at fixed instants, whatever the system does, and a
//! latency runs from the instant when the request was *due*, so that a stall counts for everything it delays.

use std::collections::VecDeque;
use std::mem;
use std::sync::{Arc, Mutex, PoisonError};
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
    /// `closed` or the offered share, such as `open 70 %`.
    pub(crate) shape: String,
    pub(crate) connections: usize,
    /// Requests a second.
    pub(crate) rate: f64,
    /// Nanoseconds.
    pub(crate) latency: Histogram<u64>,
    /// All requests answered well, warm-up and tail included.
    pub(crate) answered: u64,
    /// Due but never sent, because the backlog outlived the run; their latencies count as if answered at its end.
    pub(crate) late: u64,
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
    answered: u64,
}

impl Share {
    fn new(client: Client) -> Self {
        Self { client, latency: histogram(), answered: 0 }
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
    meter.measure(start, end).await?;
    let total = collect(tasks, clients, TAIL_LIMIT).await?;
    Ok(total.sum_up("closed".into(), connections, plan, &meter))
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
    ensure!(rate >= 1.0, "an open run needs a rate");
    let connections = clients.len();
    let begin = clock::now() + Duration::from_millis(20);
    let (start, end) = (begin + plan.warm_up, begin + plan.warm_up + plan.measured);
    let queue = Arc::new(Queue { due: Mutex::default(), tickets: Semaphore::new(0) });
    let mut tasks = JoinSet::new();
    for client in mem::take(clients) {
        tasks.spawn(take_tickets(client, queue.clone(), start));
    }
    let pacing = queue.clone();
    let pacer = std::thread::Builder::new().name("pacer".into()).spawn(move || pacing.pace(begin, end, rate))?;
    let guard = CloseOnDrop(queue.clone());
    let mut meter = Meter::new(process);
    meter.measure(start, end).await?;
    // What is still due is answered or given up within the tail; then every connection sees the closed queue.
    let deadline = end + TAIL_LIMIT / 2;
    while queue.waiting() > 0 && clock::now() < deadline {
        clock::sleep_until(clock::now() + Duration::from_millis(5)).await;
    }
    drop(guard);
    pacer.join().map_err(|_| anyhow!("the pacing thread panicked"))?;
    let total = collect(tasks, clients, TAIL_LIMIT).await?;
    let mut load = total.sum_up(shape, connections, plan, &meter);
    for due in queue.rest().into_iter().filter(|due| *due >= start) {
        load.latency.saturating_record(nanos(clock::now() - due));
        load.late += 1;
    }
    Ok(load)
}

/// Requests that are due, oldest first.
struct Queue {
    due: Mutex<VecDeque<Instant>>,
    tickets: Semaphore,
}

impl Queue {
    /// Hands out tickets until `end`, each at its instant. Bounded by the rate times the run.
    fn pace(&self, begin: Instant, end: Instant, rate: f64) {
        let instant = |index: u64| begin + Duration::from_secs_f64(index as f64 / rate);
        let mut index = 0;
        while instant(index) < end && !self.tickets.is_closed() {
            clock::sleep_thread_until(instant(index));
            let now = clock::now();
            let first = index;
            let mut due = self.due.lock().unwrap_or_else(PoisonError::into_inner);
            while instant(index) <= now && instant(index) < end {
                due.push_back(instant(index));
                index += 1;
            }
            drop(due);
            self.tickets.add_permits((index - first) as usize);
        }
    }

    async fn next(&self) -> Option<Instant> {
        self.tickets.acquire().await.ok()?.forget();
        self.due.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
    }

    fn waiting(&self) -> usize {
        self.tickets.available_permits()
    }

    /// What nobody took.
    fn rest(&self) -> VecDeque<Instant> {
        mem::take(&mut *self.due.lock().unwrap_or_else(PoisonError::into_inner))
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
    while let Some(due) = queue.next().await {
        share.client.call().await?;
        share.answered += 1;
        if due >= start {
            share.latency.saturating_record(nanos(clock::now() - due));
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
    answered: u64,
}

/// Puts the clients back in place and adds up what each measured; the first error ends all.
async fn collect(mut tasks: JoinSet<Result<Share>>, clients: &mut Vec<Client>, limit: Duration) -> Result<Total> {
    let mut total = Total { latency: histogram(), answered: 0 };
    let deadline = clock::now() + limit;
    loop {
        let next = tokio::time::timeout_at(deadline.into(), tasks.join_next()).await;
        let Some(done) = next.with_context(|| format!("not answered within {limit:?}"))? else { return Ok(total) };
        let share = done.context("a connection's task failed")??;
        total.latency.add(&share.latency)?;
        total.answered += share.answered;
        clients.push(share.client);
    }
}

impl Total {
    fn sum_up(self, shape: String, connections: usize, plan: Plan, meter: &Meter) -> Load {
        let requests = self.latency.len() as f64;
        let per_request = |time: Duration| time.as_secs_f64() * 1e6 / requests.max(1.0);
        Load {
            shape,
            connections,
            rate: requests / plan.measured.as_secs_f64(),
            server_cpu_us: per_request(meter.server),
            generator_cpu_us: per_request(meter.generator),
            latency: self.latency,
            answered: self.answered,
            late: 0,
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

    async fn measure(&mut self, start: Instant, end: Instant) -> Result<()> {
        clock::sleep_until(start).await;
        let before = self.read()?;
        clock::sleep_until(end).await;
        let after = self.read()?;
        self.server = after.0.saturating_sub(before.0);
        self.generator = after.1.saturating_sub(before.1);
        Ok(())
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
        let queue = Queue { due: Mutex::default(), tickets: Semaphore::new(0) };
        let begin = clock::now();
        queue.pace(begin, begin + Duration::from_millis(20), 1000.0);
        let due = queue.rest();
        assert_eq!((due.len(), queue.waiting()), (20, 20));
        for (index, instant) in due.iter().enumerate() {
            assert_eq!(*instant, begin + Duration::from_millis(index as u64), "{index}");
        }
    }

    #[test]
    fn a_closed_queue_ends_the_pacing() {
        let queue = Arc::new(Queue { due: Mutex::default(), tickets: Semaphore::new(0) });
        drop(CloseOnDrop(queue.clone()));
        let begin = clock::now();
        queue.pace(begin, begin + Duration::from_secs(600), 1000.0);
        assert_eq!(queue.rest().len(), 0);
    }

    #[test]
    fn percentiles_are_milliseconds() {
        let mut latency = histogram();
        (1..=100).for_each(|ms| latency.saturating_record(ms * 1_000_000));
        let plan = Plan { warm_up: Duration::ZERO, measured: Duration::from_secs(2) };
        let load = Total { latency, answered: 130 }.sum_up("closed".into(), 1, plan, &Meter::new(1));
        assert!((load.percentile_ms(50.0) - 50.0).abs() < 0.1, "{}", load.percentile_ms(50.0));
        assert!((load.percentile_ms(99.0) - 99.0).abs() < 0.1, "{}", load.percentile_ms(99.0));
        assert_eq!((load.rate, load.answered), (50.0, 130));
    }
}
