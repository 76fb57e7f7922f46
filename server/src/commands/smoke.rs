//! `progressdb smoke`: tries a running server as its users do, one line a step, and leaves nothing.
//!
//! The steps and what each demands are in `smoke/step.rs`. The first that fails ends the test: the others are skipped, and
//! what the test had made is removed, also after a signal. A second signal ends the process at once.

mod client;
mod plan;
mod probe;
mod shapes;
mod step;
mod trouble;

use std::process;
use std::time::Duration;

use serde_json::{Value, json};

use self::plan::Plan;
use self::probe::Probe;
use self::step::Step;
use self::trouble::Trouble;
use super::failure::Failure;
use super::progress::SECOND_SIGNAL;
use super::{begin_offline, print, report};
use crate::args::SmokeArgs;
use crate::clock::monotonic;
use crate::config::{self, Sources};
use crate::serve::Signals;

/// Why the test is not passed.
#[derive(Debug, thiserror::Error)]
pub(super) enum SmokeFailed {
    /// The step, and what is wrong.
    #[error("{0}: {1}")]
    Step(&'static str, String),
    /// A signal ended it; `left` says what could not be removed.
    #[error("stopped by a signal{}", left.as_ref().map(|left| format!("; {left}")).unwrap_or_default())]
    Stopped { left: Option<String> },
}

impl SmokeFailed {
    pub(super) fn exit_code(&self) -> u8 {
        match self {
            Self::Step(..) => 1,
            Self::Stopped { .. } => 130,
        }
    }
}

pub(super) fn run(sources: &Sources, wanted: &SmokeArgs) -> Result<(), Failure> {
    let loaded = config::load(sources);
    begin_offline(&loaded);
    let plan = Plan::new(&loaded.config?, wanted, &config::proxies_of(&sources.environment)?)?;
    let steps: &[Step] = if wanted.read_only { &Step::READING } else { &Step::ALL };
    let mut report = Report { as_json: wanted.report.json, lines: Vec::new() };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let tried = runtime.block_on(try_server(&plan, steps, wanted.timeout, &mut report));
    // A name that is still being looked up is not waited for.
    runtime.shutdown_background();
    let result = report.to_json(&plan, wanted.read_only, tried.is_ok());
    report::write(&result, &wanted.report)?;
    if wanted.report.json {
        print(&result.to_string())?;
    }
    tried?;
    tracing::info!(event = "cli.smoke_complete", url = plan.client.base(), outcome = "ok", steps = steps.len());
    Ok(())
}

async fn try_server(plan: &Plan, steps: &[Step], limit: Duration, report: &mut Report) -> Result<(), Failure> {
    let mut signals = Signals::new()?;
    let mut probe = Probe::new(plan, steps.contains(&Step::CreateThread))?;
    // None: a signal was first.
    let taken = tokio::select! {
        taken = take_steps(plan, &mut probe, steps, limit, report) => Some(taken),
        () = signals.next() => None,
    };
    let mut left = None;
    if probe.may_have_left_something() {
        let started = monotonic();
        let cleaned = tokio::select! {
            cleaned = within(limit, plan, probe.clean_up()) => cleaned,
            () = signals.next() => process::exit(SECOND_SIGNAL),
        };
        left = cleaned.err().map(|trouble| format!("{} may still be there: {trouble}", probe.remains()));
        report.add("clean up", started.elapsed(), left.clone())?;
    }
    match taken {
        Some(taken) => taken,
        None => Err(SmokeFailed::Stopped { left }.into()),
    }
}

async fn take_steps(
    plan: &Plan,
    probe: &mut Probe<'_>,
    steps: &[Step],
    limit: Duration,
    report: &mut Report,
) -> Result<(), Failure> {
    let mut failed = None;
    for step in steps {
        if failed.is_some() {
            report.skip(step.name())?;
            continue;
        }
        let started = monotonic();
        let why = within(limit, plan, probe.take(*step)).await.err().map(|trouble| trouble.to_string());
        report.add(step.name(), started.elapsed(), why.clone())?;
        failed = why.map(|why| SmokeFailed::Step(step.name(), why));
    }
    failed.map_or(Ok(()), |failed| Err(failed.into()))
}

async fn within(limit: Duration, plan: &Plan, work: impl Future<Output = Result<(), Trouble>>) -> Result<(), Trouble> {
    let late = |_| Trouble::Late { asked: plan.client.asked(), limit };
    tokio::time::timeout(limit, work).await.map_err(late)?
}

/// What is told of the steps: each as a line at once, or all as JSON at the end.
struct Report {
    as_json: bool,
    lines: Vec<Value>,
}

impl Report {
    /// A step that was taken; `why` it failed, if it did.
    fn add(&mut self, step: &str, took: Duration, why: Option<String>) -> Result<(), Failure> {
        let ms = took.as_millis() as u64;
        let line = match &why {
            None => format!("ok  {step}  {ms} ms"),
            Some(why) => format!("FAIL  {step}: {why}"),
        };
        let outcome = if why.is_none() { "ok" } else { "failed" };
        let mut entry = json!({ "step": step, "outcome": outcome, "ms": ms });
        if let Some(why) = why {
            entry["error"] = json!(why);
        }
        self.tell(line, entry)
    }

    fn skip(&mut self, step: &str) -> Result<(), Failure> {
        self.tell(format!("skip  {step}"), json!({ "step": step, "outcome": "skipped" }))
    }

    fn tell(&mut self, line: String, entry: Value) -> Result<(), Failure> {
        self.lines.push(entry);
        if self.as_json { Ok(()) } else { print(&line) }
    }

    fn to_json(&self, plan: &Plan, read_only: bool, ok: bool) -> Value {
        json!({ "ok": ok, "url": plan.client.base(), "read_only": read_only, "steps": self.lines })
    }
}
