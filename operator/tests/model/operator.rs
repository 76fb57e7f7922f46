//! The operator: facts of a state, what should be, the decision, and the writes of that. The decision and what should be
//! are the product's own.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    rc::Rc,
    sync::Arc,
};

use jiff::{SignedDuration, Timestamp};
use progressdb_operator::{
    conditions::Finding,
    crd::{HistoryEntry, ProgressDB, ProgressDBStatus, UpgradeStatus},
    decide::decide,
    desired::Desired,
    gate::{Gate, GateRequest},
    kind::Kind,
    objects::labels::{ROLE, ROLL, Role},
    observe::{Live, Observed},
};
use serde_json::{Value, json};

use crate::{
    acts::name_of,
    state::{Act, Claim, Clock, Data, Phase, Release, Set, State},
    written::{essence, told},
};

/// When everything happens that has happened.
pub fn start() -> Timestamp {
    Timestamp::from_second(1_900_000_000).unwrap()
}

pub fn now(clock: Clock) -> Timestamp {
    let hours = match clock {
        Clock::Early => 0,
        Clock::Late => 1,
        Clock::Ages => 24 * 30,
    };
    start() + SignedDuration::from_hours(hours)
}

/// What the world is like in which an upgrade is explored.
#[derive(Clone, Debug)]
pub struct Setup {
    /// The new release changes rows when it starts.
    pub starts_with_migration: bool,
    /// And the format when it is finalized.
    pub is_finalized: bool,
    pub has_snapshots: bool,
    /// The releases differ in their settings only.
    pub is_of_settings: bool,
    /// `spec.upgrade`.
    pub policy: Value,
    /// The cluster moves also between two writes of a decision.
    pub interleaves: bool,
}

pub struct Operator {
    pub setup: Setup,
    /// The resource that asks for each of the releases.
    resources: BTreeMap<Release, ProgressDB>,
    pub rolls: BTreeMap<String, Release>,
    pub sets: HashMap<Set, Value>,
    maps: HashMap<String, Value>,
    desired: HashMap<Key, Rc<Result<Desired, Finding>>>,
    decided: HashMap<State, Rc<Decided>>,
}

/// What was decided, as far as it matters here.
pub struct Decided {
    pub record: Option<Arc<UpgradeStatus>>,
    /// Whether another step, or another upgrade, has begun or ended.
    pub has_moved: bool,
    pub history: Arc<Vec<HistoryEntry>>,
    pub claim_told: String,
    pub acts: VecDeque<Act>,
    pub gates: Vec<GateRequest>,
}

/// What should be depends on nothing else.
type Key = (Release, i64, Option<UpgradeStatus>, Set, Vec<String>, Vec<(String, Role)>, String);

const ALL: [Release; 3] = [Release::Old, Release::New, Release::Third];

impl Operator {
    /// And the state in which the old release serves and the new one has just been asked for.
    pub fn new(setup: Setup, left: crate::state::Left) -> (Self, State) {
        let resource = |release: Release| -> ProgressDB {
            let image = match release {
                Release::New if !setup.is_of_settings => "image:new",
                Release::Third => "image:third",
                _ => "image:old",
            };
            let settings = json!({ "limits": { "of": format!("{release:?}") } });
            serde_json::from_value(json!({
                "metadata": { "name": "db", "namespace": "ns", "uid": "resource" },
                "spec": {
                    "image": image,
                    "storage": { "embedded": { "size": "1Gi" } },
                    "settings": settings,
                    "upgrade": setup.policy,
                },
            }))
            .unwrap()
        };
        let resources: BTreeMap<_, _> = ALL.into_iter().map(|release| (release, resource(release))).collect();
        let mut operator = Self {
            setup,
            resources,
            rolls: BTreeMap::new(),
            sets: HashMap::new(),
            maps: HashMap::new(),
            desired: HashMap::new(),
            decided: HashMap::new(),
        };
        let mut plain = Vec::new();
        for release in ALL {
            let seen = observed(operator.resources[&release].clone());
            let desired = Desired::build(&seen).expect("the settings are allowed");
            operator.rolls.insert(desired.server.roll.clone(), release);
            plain.push(desired.server);
        }
        let set = operator.note_set(&plain[0].workload.body);
        let config = operator.note_map(&plain[0].config_map.body);
        let data = Data { format: 1, writes: 1, ..Data::default() };
        let claim = Claim { role: Role::Current, upgrade: None, data: Some(data), source: None };
        let state = State {
            asked: Release::New,
            generation: 1,
            suspended: false,
            approved: None,
            aborted: None,
            overridden: None,
            record: None,
            history: Arc::default(),
            claim_told: set.claim.clone(),
            pod: Some(crate::state::Pod { of: set.clone(), phase: Phase::Ready }),
            attached: false,
            claims: [(set.claim.clone(), claim)].into(),
            set,
            snapshots: BTreeMap::new(),
            jobs: BTreeMap::new(),
            lingering: Vec::new(),
            walls: BTreeMap::new(),
            releases: [config].into(),
            closed: None,
            gates: BTreeMap::new(),
            clock: Clock::Early,
            queue: [].into(),
            acked: 1,
            loss_approved: false,
            left,
        };
        (operator, state)
    }

    /// What the operator decides in this state.
    pub fn decide(&mut self, state: &State) -> Rc<Decided> {
        let seen = as_seen(state);
        if let Some(decided) = self.decided.get(&seen) {
            return Rc::clone(decided);
        }
        let decided = Rc::new(self.decide_anew(state));
        self.decided.insert(seen, Rc::clone(&decided));
        decided
    }

    /// Whether the operator has nothing to write in this state, and decides nothing that is new.
    pub fn is_at_rest(&mut self, state: &State) -> bool {
        let decided = self.decide(state);
        let is_told = decided.record == state.record && decided.history == state.history;
        is_told && decided.acts.is_empty() && state.queue.is_empty() && decided.gates.is_empty()
    }

    fn decide_anew(&mut self, state: &State) -> Decided {
        let desired = self.desired(state);
        let facts = self.facts(state, desired.as_ref().as_ref().expect("the settings are allowed"));
        let decision = decide(&self.resource(state), &desired, &facts, now(state.clock));
        let written = decision.status.upgrade.as_deref();
        if let Some(hold) = written.and_then(|record| record.hold.as_ref()) {
            assert!(!hold.message.is_empty(), "{} says nothing", hold.reason);
        }
        let began = |record: Option<&UpgradeStatus>| {
            record.map(|record| (record.id.clone(), record.step_started_at, record.outcome))
        };
        Decided {
            record: written.map(|record| Arc::new(essence(record))),
            has_moved: began(written) != began(state.record.as_deref()),
            history: Arc::new(told(&decision.status.history)),
            claim_told: decision.status.claim.clone().expect("it was told before"),
            acts: decision.all_writes().filter_map(|write| self.act(write)).collect(),
            gates: decision.gates.into_iter().filter(|request| !matches!(request.gate, Gate::Tail { .. })).collect(),
        }
    }

    fn resource(&self, state: &State) -> ProgressDB {
        let mut resource = self.resources[&state.asked].clone();
        resource.metadata.generation = Some(state.generation);
        resource.spec.suspend = state.suspended;
        resource.status = Some(ProgressDBStatus {
            claim: Some(state.claim_told.clone()),
            upgrade: state.record.as_deref().cloned().map(Box::new),
            history: (*state.history).clone(),
            ..ProgressDBStatus::default()
        });
        resource
    }

    fn desired(&mut self, state: &State) -> Rc<Result<Desired, Finding>> {
        let record = state.record.as_ref().map(|record| UpgradeStatus {
            id: record.id.clone(),
            from: record.from.clone(),
            to: record.to.clone(),
            claim: record.claim.clone(),
            restored_claim: record.restored_claim.clone(),
            finalizing: record.finalizing,
            step: record.step,
            outcome: record.outcome,
            ..UpgradeStatus::default()
        });
        let key = (
            state.asked,
            state.generation,
            record,
            state.set.clone(),
            state.releases.iter().cloned().collect(),
            state.claims.iter().map(|(name, claim)| (name.clone(), claim.role)).collect(),
            state.claim_told.clone(),
        );
        if let Some(desired) = self.desired.get(&key) {
            return Rc::clone(desired);
        }
        let mut seen = observed(self.resource(state));
        let mut body = self.sets[&Set { runs: true, ..state.set.clone() }].clone();
        body["spec"]["replicas"] = json!(i32::from(state.set.runs));
        seen.objects.insert((Kind::StatefulSet, "db".into()), Live(body));
        for name in &state.releases {
            seen.objects.insert((Kind::ConfigMap, name.clone()), Live(self.maps[name].clone()));
        }
        for (name, claim) in &state.claims {
            let live = json!({ "metadata": { "name": name, "labels": { ROLE: claim.role.as_str() } }, "spec": {} });
            seen.objects.insert((Kind::Claim, name.clone()), Live(live));
        }
        let desired = Rc::new(Desired::build(&seen));
        self.desired.insert(key, Rc::clone(&desired));
        desired
    }

    /// The StatefulSet of a body, which can be found again by it.
    pub fn note_set(&mut self, body: &Value) -> Set {
        let pod = &body["spec"]["template"]["spec"];
        let volume = |name: &str| {
            let volumes = pod["volumes"].as_array().into_iter().flatten();
            volumes.into_iter().find(|volume| volume["name"] == name).cloned().unwrap_or_default()
        };
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let set = Set {
            release: self.rolls[body["spec"]["template"]["metadata"]["annotations"][ROLL].as_str().unwrap()],
            claim: text(&volume("data")["persistentVolumeClaim"]["claimName"]),
            image: text(&pod["containers"][0]["image"]),
            config: text(&volume("config")["configMap"]["name"]),
            runs: true,
        };
        self.sets.entry(set.clone()).or_insert_with(|| body.clone());
        set
    }

    pub fn note_map(&mut self, body: &Value) -> String {
        let name = name_of(body);
        self.maps.entry(name.clone()).or_insert_with(|| body.clone());
        name
    }
}

/// A state without what the operator does not see: what data holds but for its format, and what may still happen.
fn as_seen(state: &State) -> State {
    let mut seen = state.clone();
    (seen.acked, seen.loss_approved, seen.queue) = (0, false, VecDeque::new());
    seen.left = crate::state::Left { writes: 0, faults: 0, people: 0 };
    for data in seen.claims.values_mut().filter_map(|claim| claim.data.as_mut()) {
        *data = Data { format: data.format, ..Data::default() };
    }
    for data in seen.snapshots.values_mut().filter_map(|snapshot| snapshot.data.as_mut()) {
        *data = Data::default();
    }
    seen
}

fn observed(resource: ProgressDB) -> Observed {
    Observed { has_snapshots: true, ran_since_stop: Some(true), ..Observed::nothing(Arc::new(resource)) }
}
