//! What is kept of an upgrade for people: its steps, what others are told, its report, and the log of what failed.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{
    super::{Next, STEPS, after},
    *,
};
use crate::{
    crd::{Announcement, Outcome, ProgressDBSpec, Rehearsal, StepStatus},
    decide::tests::{desired, now, resource, running},
    desired::Desired,
    facts::{self, EndedContainer, Facts, Job, Pod, UpgradeJobFacts, UpgradeReport},
    gate::GateResult,
};

fn spec(more: Value) -> ProgressDBSpec {
    resource(json!({ "upgrade": more })).spec
}

fn case<'a>(spec: &'a ProgressDBSpec, desired: &'a Desired, facts: &'a Facts) -> Case<'a> {
    Case { name: "db", spec, desired, facts, now: now() }
}

fn record(step: UpgradeStep) -> UpgradeStatus {
    let mut record = UpgradeStatus { id: "0123abcd".into(), step, ..UpgradeStatus::default() };
    record.to.roll = "new".into();
    record
}

#[test]
fn each_step_is_kept_with_its_time_and_no_more_than_fit() {
    let (spec, desired, facts) = (spec(json!({})), desired("new", false), running("new"));
    let case = case(&spec, &desired, &facts);
    let began = UpgradeStatus { step_started_at: Some(Timestamp::UNIX_EPOCH), ..record(UpgradeStep::Preflight) };
    let next = after(case, began, Next::To(UpgradeStep::Approval));
    let step = |step: UpgradeStep, at: Timestamp| StepStatus { step, at: Some(at) };
    let both = [step(UpgradeStep::Preflight, Timestamp::UNIX_EPOCH), step(UpgradeStep::Approval, now())];
    assert_eq!(next.steps, both);
    assert_eq!(after(case, next.clone(), Next::Stay).steps, both);
    let back = after(case, next, Next::GoBack("why".into()));
    assert_eq!(back.steps[2], step(UpgradeStep::RollbackStop, now()));
    let mut many = back;
    for _ in 0..STEPS {
        many = after(case, many, Next::To(UpgradeStep::Drain));
        many = after(case, many, Next::To(UpgradeStep::Swap));
    }
    assert_eq!(many.steps.len(), STEPS);
    assert_eq!(many.steps.last().map(|last| last.step), Some(UpgradeStep::Swap));
}

#[test]
fn others_are_told_once_of_each_kind_of_news_and_only_if_somebody_is_named() {
    let (desired, facts) = (desired("new", false), running("new"));
    let nexts = || {
        [
            Next::hold("ApprovalNeeded", "why", None),
            Next::Stay,
            Next::hold("WindowClosed", "why", None),
            Next::stuck("NodeLost", "why", None),
            Next::End(Outcome::RolledBack, "why".into()),
        ]
    };
    let told = |spec: &ProgressDBSpec| {
        let case = case(spec, &desired, &facts);
        nexts().into_iter().fold(record(UpgradeStep::Approval), |record, next| after(case, record, next)).announced
    };
    let named = spec(json!({ "notify": { "url": "http://a" } }));
    assert_eq!(told(&named), [Announcement::Held, Announcement::Stuck, Announcement::RolledBack]);
    assert_eq!(told(&spec(json!({}))), []);
}

#[test]
fn the_log_of_what_failed_is_read_once_while_its_pod_is_there() {
    let (spec, desired) = (spec(json!({})), desired("new", false));
    let facts_of = |roll: &str| {
        let mut facts = running(roll);
        facts.pod = Some(Pod { name: "db-0".into(), uid: "p".into(), roll: Some(roll.into()), ..Pod::default() });
        facts
    };
    let asked = |facts: &Facts, record: &UpgradeStatus| log_of_failure(case(&spec, &desired, facts), record);
    let failed = record(UpgradeStep::RollbackStop);
    let request = asked(&facts_of("new"), &failed).unwrap();
    assert_eq!(request.gate, Gate::Tail { pod: "db-0".into(), container: "server".into() });
    // The old server has not failed, and an upgrade that goes on neither.
    assert_eq!(asked(&facts_of("old"), &failed), None);
    assert_eq!(asked(&facts_of("new"), &record(UpgradeStep::SmokeGate)), None);
    let stuck = UpgradeStatus { hold: Some(crate::crd::Hold::default()), ..record(UpgradeStep::SmokeGate) };
    assert!(asked(&facts_of("new"), &stuck).is_some());
    let mut read = facts_of("new");
    read.upgrade.gates.insert((request.name, request.pod_uid), GateResult::default());
    assert_eq!(asked(&read, &failed), None);

    let mut facts = running("old");
    let pod = Pod { name: "db-0123abcd-new-x".into(), uid: "j".into(), ..Pod::default() };
    let ended = [("digest", true), ("migrate", false)]
        .map(|(name, passed)| (name.to_owned(), EndedContainer { passed, ..EndedContainer::default() }));
    let job = UpgradeJobFacts {
        job: Job { pod: Some(pod), ..Job::default() },
        ended: ended.into(),
        ..UpgradeJobFacts::default()
    };
    facts.upgrade.jobs.insert(UpgradeJob::RehearseNew, job);
    let rehearsed = |passed: bool| UpgradeStatus {
        rehearsal: Some(Rehearsal { passed: Some(passed), ..Rehearsal::default() }),
        ..record(UpgradeStep::Rehearse)
    };
    let request = asked(&facts, &rehearsed(false)).unwrap();
    assert_eq!(request.gate, Gate::Tail { pod: "db-0123abcd-new-x".into(), container: "migrate".into() });
    assert_eq!(asked(&facts, &rehearsed(true)), None);
}

/// The log in the report that is written.
fn written(facts: &Facts, record: &UpgradeStatus) -> Option<Value> {
    let (spec, desired) = (spec(json!({})), desired("new", false));
    let progress = Progress::of(record.clone(), Vec::new());
    let writes = report(case(&spec, &desired, facts), &progress);
    match &writes[..] {
        [] => None,
        [Write::Apply(map)] => Some(map["data"]["log.txt"].clone()),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_log_that_was_read_is_in_the_report_and_stays_in_it() {
    let mut facts = running("old");
    let back = record(UpgradeStep::RollbackStop);
    assert_eq!(written(&facts, &record(UpgradeStep::Swap)), None);
    assert_eq!(written(&facts, &back), Some(Value::Null));
    let outcome = GateResult { log: Some("a line\n".into()), took_millis: Some(1), ..GateResult::default() };
    facts.upgrade.gates.insert(("Log".into(), "p".into()), outcome);
    assert_eq!(written(&facts, &back), Some(json!("a line\n")));
    // Another operator, which did not read it, keeps it.
    facts.upgrade.gates.clear();
    let live = UpgradeReport {
        name: "db-0123abcd-report".into(),
        upgrade: back.id.clone(),
        log: Some("a line\n".into()),
        ..UpgradeReport::default()
    };
    facts.upgrade.reports.insert(back.id.clone(), live.clone());
    facts.objects.insert((Kind::ConfigMap, live.name.clone()), facts::Object::default());
    let ended = UpgradeStatus { outcome: Some(Outcome::RolledBack), ..back };
    assert_eq!(written(&facts, &ended), Some(json!("a line\n")));
    let last = UpgradeReport { is_final: true, ..live };
    facts.upgrade.reports.insert(ended.id.clone(), last);
    assert_eq!(written(&facts, &ended), None);
}
