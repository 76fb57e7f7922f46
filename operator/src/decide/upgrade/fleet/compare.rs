//! The canaries beside the stable pods, on the requests of users, for as long as a step lasts. What pods had counted when the
//! comparison began is on record, so that it goes on with another operator; from then on they are looked at again and again,
//! and what is bad need not be waited for.
//!
//! Where users ask too little, the operator asks both tracks itself, once: what fails that is bad. What passes it is no proof,
//! because no user has met it: then the upgrade waits until enough of them have, or somebody lets it pass.

use jiff::{SignedDuration, Timestamp};

use super::{
    super::{At, Next, Turn, duration, gates as of_one, with_gate},
    gates, tracks,
};
use crate::{
    crd::{CanaryStatus, CanaryWindow, GateStatus, PodCounters, UpgradeStatus, UpgradeStep, Verdict},
    facts::FleetPod,
    gate::{
        Gate, GateRequest, GateResult, MetricLimits, TrackedPod, best, compare as compare_loads, compare_tracks,
        has_enough,
    },
    objects::{MANAGEMENT_PORT, labels::Track},
};

/// The gate, as it is told and let pass.
pub(super) const NAME: &str = "Metrics";
/// The operator's own requests.
const PROBES: &str = "Probes";
/// So many pods of each track are compared at most.
const MOST: usize = 32;
/// Seconds from one look to the next: at least, at most, and while the upgrade waits.
const LOOKS: (i64, i64, i64) = (2, 15, 60);
/// How long pods that have just started are not compared, at most.
const WARM_UP: SignedDuration = SignedDuration::from_secs(30);
/// So many times a comparison begins anew because a canary was replaced, before somebody is told.
const RESTARTS: i32 = 5;
/// How long pods may not tell what they have counted, before somebody is told.
const PATIENCE: SignedDuration = SignedDuration::from_mins(2);

/// What is compared.
#[derive(Clone, Copy)]
struct Comparison<'a> {
    at: At<'a>,
    canary: &'a CanaryStatus,
    stable: &'a [FleetPod],
    canaries: &'a [FleetPod],
}

/// What pods have told, and when they were asked for it.
struct Answer {
    told: Told,
    asked_at: Timestamp,
    /// Asks them for more, once in each period.
    again: GateRequest,
}

/// What pods have told.
enum Told {
    /// They are being asked, or are to be.
    Nothing,
    /// One of them did not tell.
    Silent(GateResult),
    /// What each has counted.
    All(Vec<PodCounters>),
}

pub(super) fn compare(at: At<'_>, canaries: &[FleetPod]) -> Turn {
    if !at.record.changes_image || at.policy().gates.metrics.minimum_samples == 0 {
        return without_figures(at);
    }
    if at.is_overridden(NAME) {
        let found = GateResult::nothing("a comparison", "a person lets it pass");
        return of_one::judged(at, NAME, found, None, UpgradeStep::MetricGate);
    }
    let serving = |pods: &[FleetPod]| -> Vec<FleetPod> {
        pods.iter().filter(|pod| pod.pod.serves()).take(MOST).cloned().collect()
    };
    let (stable, canary) =
        (tracks::pods(at, Track::Stable, &at.record.from.roll), at.record.canary.clone().unwrap_or_default());
    let (stable, canaries) = (serving(&stable), serving(canaries));
    Comparison { at, canary: &canary, stable: &stable, canaries: &canaries }.go_on()
}

/// Where nothing is compared, the canaries still serve for as long as a step lasts; a change of settings need not.
fn without_figures(at: At<'_>) -> Turn {
    if at.record.changes_image && at.elapsed() < duration(&at.policy().canary.step_duration) {
        return at.stay();
    }
    let why = if at.record.changes_image { "minimumSamples is 0" } else { "the image is the same" };
    let found = GateResult { verdict: Verdict::Passed, ..GateResult::nothing("no comparison", why) };
    of_one::judged(at, NAME, found, None, UpgradeStep::MetricGate)
}

impl Comparison<'_> {
    fn go_on(self) -> Turn {
        let CanaryStatus { window, .. } = self.canary;
        // One that serves no more is asked no more either, and what it has failed would be forgotten.
        if !self.are_all_serving() {
            return self.unready();
        }
        // One that is made meanwhile begins with cold caches, and of one that is gone nothing is known any more.
        let is_new = |window: &CanaryWindow| {
            let is_known = |pod: &FleetPod| window.pods.iter().any(|known| known.uid == pod.pod.uid);
            self.canaries.iter().any(|pod| !is_known(pod))
        };
        match window {
            None if self.canary.failing_since.is_some() => {
                self.note(CanaryStatus { failing_since: None, ..self.canary.clone() })
            }
            Some(window) if is_new(window) => self.begin_anew(),
            Some(window) => self.look(window),
            None => self.begin(),
        }
    }

    /// A comparison that is always begun anew would never end.
    fn begin_anew(self) -> Turn {
        let restarts = self.canary.restarts.saturating_add(1);
        let canary = CanaryStatus { window: None, restarts, ..self.canary.clone() };
        if restarts < RESTARTS {
            return self.note(canary);
        }
        let why = "canaries are replaced before a step is over, again and again, and each comparison begins anew with them: find \
                   out what removes them, or shorten spec.upgrade.canary.stepDuration";
        let record = UpgradeStatus { canary: Some(canary), ..self.at.record.clone() };
        self.holds(record, &GateResult::nothing("requests of users", why))
    }

    fn are_all_serving(self) -> bool {
        let wanted = usize::try_from(self.canary.replicas).unwrap_or(0).min(MOST);
        self.canaries.len() >= wanted.max(1)
    }

    /// All were ready when this step began. One that is not any more may come back as soon as any has to be ready.
    fn unready(self) -> Turn {
        let (Comparison { at, canary, canaries, .. }, now) = (self, self.at.case.now);
        let since = canary.failing_since.unwrap_or(now);
        let deadline = &at.policy().gates.health.deadline;
        if now.duration_since(since) <= duration(deadline) {
            return self.note(CanaryStatus { failing_since: Some(since), ..canary.clone() });
        }
        let (value, wanted) = (format!("{} ready", canaries.len()), format!("{} ready", canary.replicas));
        let why = format!("canaries were not ready for {deadline}");
        let found = GateResult::new(Verdict::Failed, &value, &wanted, 0, &why);
        of_one::judged(at, NAME, found, None, UpgradeStep::MetricGate)
    }

    /// What both tracks have counted is noted, once the canaries are warm.
    fn begin(self) -> Turn {
        if !self.are_warm() {
            return self.stays();
        }
        let Answer { told, again, .. } = self.ask("Begin", self.at.case.now - WARM_UP);
        let is_told = |pods: &[PodCounters], canary: &FleetPod| pods.iter().any(|told| told.uid == canary.pod.uid);
        match told {
            Told::Silent(found) => self.silent(found, self.at.elapsed()).trying([again]),
            Told::All(pods) if self.canaries.iter().all(|canary| is_told(&pods, canary)) => {
                let window = Some(CanaryWindow { since: Some(self.at.case.now), pods });
                self.note(CanaryStatus { window, ..self.canary.clone() })
            }
            // What was told of others is of no use.
            Told::Nothing | Told::All(_) => self.stays().trying([again]),
        }
    }

    /// Whether each canary has been ready for a while.
    fn are_warm(self) -> bool {
        let (now, warm_up) = (self.at.case.now, (self.step_lasts() / 10).min(WARM_UP));
        let is_warm = |since: Option<Timestamp>| since.is_none_or(|since| now.duration_since(since) >= warm_up);
        self.at.elapsed() >= warm_up && self.canaries.iter().all(|pod| is_warm(pod.pod.ready_since))
    }

    /// Compares what was counted since.
    fn look(self, window: &CanaryWindow) -> Turn {
        let limits = MetricLimits::of(&self.at.policy().gates.metrics);
        let since = window.since.unwrap_or(self.at.case.now);
        let Answer { told, asked_at, again } = self.ask("Look", since);
        let lasted = asked_at.duration_since(since);
        let is_over = lasted >= self.step_lasts();
        let after = match told {
            Told::Nothing => return self.stays().trying([again]),
            Told::Silent(found) => return self.silent(found, lasted).trying([again]),
            Told::All(after) => after,
        };
        let found = compare_tracks(&window.pods, &after, &limits);
        match found.verdict {
            Verdict::Failed if self.is_bad_for_good(asked_at) => {
                of_one::judged(self.at, NAME, found, None, UpgradeStep::MetricGate)
            }
            Verdict::Failed => {
                let failing_since = self.canary.failing_since.or(Some(self.at.case.now));
                self.note(CanaryStatus { failing_since, ..self.canary.clone() }).trying([again])
            }
            // It was bad for a moment.
            _ if self.canary.failing_since.is_some() => {
                self.note(CanaryStatus { failing_since: None, ..self.canary.clone() }).trying([again])
            }
            _ if !is_over => self.stays().trying([again]),
            Verdict::Passed => of_one::judged(self.at, NAME, found, None, UpgradeStep::MetricGate),
            Verdict::Inconclusive if !self.canary.probed && !has_enough(&window.pods, &after, &limits) => {
                self.probe(&limits)
            }
            Verdict::Inconclusive => self.holds(self.at.record.clone(), &found).trying([again]),
        }
    }

    /// What is bad has to stay so for as many looks as `failureLimit` says: a neighbour may have been busy.
    fn is_bad_for_good(self, asked_at: Timestamp) -> bool {
        let looks = i64::from(self.at.policy().gates.metrics.failure_limit.max(1) - 1);
        let lasts =
            |since: Timestamp| asked_at.duration_since(since) >= SignedDuration::from_secs(looks * self.period());
        self.canary.failing_since.is_some_and(lasts)
    }

    /// The operator's own requests, to one pod of each track. After them the comparison begins anew: they are no user's.
    fn probe(self, limits: &MetricLimits) -> Turn {
        let policy = &self.at.policy().gates.metrics;
        let pods = self.stable.first().zip(self.canaries.first());
        let Some((gate, (stable, canary))) = Gate::load(policy).zip(pods) else {
            let why = "no server of the old image takes requests that the canaries could be compared with";
            return self.holds(self.at.record.clone(), &GateResult::nothing("requests of users", why));
        };
        let (mut old, mut new) = (Vec::new(), Vec::new());
        let mut found = GateResult::default();
        for number in 1..=policy.failure_limit.max(1) {
            let name = of_one::numbered(PROBES, number);
            for (pod, loads) in [(stable, &mut old), (canary, &mut new)] {
                let Some(request) = gates::request(self.at, pod, &name, &gate) else { return self.stays() };
                match of_one::ended(self.at, &request) {
                    Some(load) => loads.push(load),
                    None => return self.stays().trying([request]),
                }
            }
            found = probed(&old, &new, limits);
            if found.verdict != Verdict::Failed {
                break;
            }
        }
        if found.verdict == Verdict::Failed {
            return of_one::judged(self.at, PROBES, found, None, UpgradeStep::MetricGate);
        }
        let canary = CanaryStatus { probed: true, window: None, ..self.canary.clone() };
        let mut record = UpgradeStatus { canary: Some(canary), ..self.at.record.clone() };
        with_gate(&mut record, found.named(PROBES));
        let why = "users ask the canaries or the stable pods too little, and what the operator asked itself is no user's; it \
                   goes on once they have asked enough";
        self.holds(record, &GateResult::nothing("requests of users", why))
    }

    /// Asks the pods of both tracks what they have counted, once in each period. Whoever comes back for it may come in the next
    /// one: what was asked for last counts until there is more, if that was after `not_before`.
    fn ask(self, which: &str, not_before: Timestamp) -> Answer {
        let tracked = |pod: &FleetPod, canary: bool| {
            let address = pod.address.clone().unwrap_or_default();
            let host = if address.contains(':') { format!("[{address}]") } else { address };
            let management = format!("{host}:{MANAGEMENT_PORT}");
            TrackedPod { name: pod.pod.name.clone(), uid: pod.pod.uid.clone(), management, canary }
        };
        let stable = self.stable.iter().map(|pod| tracked(pod, false));
        let pods = stable.chain(self.canaries.iter().map(|pod| tracked(pod, true))).collect();
        let now = self.at.case.now;
        let second = now.as_second().div_euclid(self.period()) * self.period();
        let nobody = (String::new(), String::new());
        let again = of_one::request_on(self.at, nobody, &format!("{which}-{second}"), &Gate::Counters { pods });
        let prefix = again.name.strip_suffix(&second.to_string()).unwrap_or_default();
        let (asked_at, found) = match of_one::ended(self.at, &again) {
            Some(found) => (now, Some(found)),
            None => {
                self.told_before(prefix, not_before).map_or((now, None), |(asked_at, found)| (asked_at, Some(found)))
            }
        };
        let told = match found {
            None => Told::Nothing,
            Some(GateResult { counters: Some(counters), .. }) => Told::All(counters),
            Some(found) => Told::Silent(found),
        };
        Answer { told, asked_at, again }
    }

    /// What was found last by a look whose name begins so, and when it was asked for.
    fn told_before(self, prefix: &str, not_before: Timestamp) -> Option<(Timestamp, GateResult)> {
        let looks = self.at.facts.gates.iter().filter_map(|((name, _), found)| {
            let second: i64 = name.strip_prefix(prefix)?.parse().ok()?;
            let asked_at = Timestamp::from_second(second).ok()?;
            (asked_at > not_before && asked_at <= self.at.case.now && found.has_ended())
                .then(|| (asked_at, found.clone()))
        });
        looks.max_by_key(|(asked_at, _)| *asked_at)
    }

    /// Half a picture is none, and is waited for; `for_long` says how long there may have been none.
    fn silent(self, found: GateResult, for_long: SignedDuration) -> Turn {
        match for_long > self.step_lasts() + PATIENCE {
            true => self.holds(self.at.record.clone(), &found),
            false => self.stays(),
        }
    }

    fn step_lasts(self) -> SignedDuration {
        duration(&self.at.policy().canary.step_duration)
    }

    /// Seconds from one look to the next.
    fn period(self) -> i64 {
        match self.at.record.hold {
            Some(_) => LOOKS.2,
            None => (self.step_lasts().as_secs() / 20).clamp(LOOKS.0, LOOKS.1),
        }
    }

    /// It waits for users, or for somebody, and looks again meanwhile.
    fn holds(self, mut record: UpgradeStatus, found: &GateResult) -> Turn {
        let message = format!("the gate {NAME} has too little to tell: {}", found.why);
        // Figures change with each look, and are told once.
        if record.hold.as_ref().is_none_or(|hold| hold.message != message) {
            with_gate(&mut record, GateStatus { ..found.named(NAME) });
        }
        let next = Next::hold("GateInconclusive", message, Some(self.at.override_command(NAME)));
        self.at.recording(record, next)
    }

    /// What it waits for it still waits for.
    fn stays(self) -> Turn {
        self.note(self.canary.clone())
    }

    fn note(self, canary: CanaryStatus) -> Turn {
        let next = self.at.record.hold.clone().map_or(Next::Stay, Next::Hold);
        self.at.recording(UpgradeStatus { canary: Some(canary), ..self.at.record.clone() }, next)
    }
}

/// How the best load on a canary compares with the best one on a stable pod.
fn probed(stable: &[GateResult], canary: &[GateResult], limits: &MetricLimits) -> GateResult {
    let [stable, best_of_canary] =
        [stable, canary].map(|loads| best(loads.iter().filter_map(|found| found.load.as_ref())));
    match best_of_canary {
        Some(load) => compare_loads(load, stable, limits),
        None => canary.last().cloned().unwrap_or_default(),
    }
}
