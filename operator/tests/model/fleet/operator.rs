//! The operator of a fleet: the product's own decision about a state, and its writes as far as they matter.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    rc::Rc,
    sync::Arc,
};

use progressdb_operator::{
    conditions::Finding,
    crd::{HistoryEntry, ProgressDB, ProgressDBStatus, UpgradeStatus},
    decide::{Write, decide},
    desired::Desired,
    gate::{Gate, GateRequest},
    kind::Kind,
    objects::{
        UpgradeJob,
        labels::{ROLL, Track},
    },
    observe::{Live, Observed},
};
use serde_json::{Value, json};

use super::state::{Act, Deployment, Phase, Pod, State, Template, WANTED};
use crate::{
    acts::name_of,
    operator::now,
    state::{Clock, Left, Release},
    written::{essence, told},
};

const ALL: [Release; 3] = [Release::Old, Release::New, Release::Third];

/// What the world is like in which a rollout is explored.
#[derive(Clone, Debug)]
pub struct Setup {
    pub finalization: Finalization,
    /// `spec.upgrade`.
    pub policy: Value,
}

/// What becomes of the migration of the new release that changes the format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finalization {
    /// It has none.
    None,
    /// It is made beside servers.
    Works,
    /// It is refused as long as servers run.
    IsRefused,
    /// It fails each time.
    Fails,
}

pub struct Operator {
    pub setup: Setup,
    /// The resource that asks for each of the releases.
    resources: BTreeMap<Release, ProgressDB>,
    rolls: BTreeMap<String, Release>,
    deployments: HashMap<Template, Value>,
    maps: HashMap<String, Value>,
    desired: HashMap<Key, Rc<Result<Desired, Finding>>>,
    decided: HashMap<State, Rc<Decided>>,
}

/// What was decided, as far as it matters here.
pub struct Decided {
    pub record: Option<Arc<UpgradeStatus>>,
    /// Whether another step, or another rollout, has begun or ended.
    pub has_moved: bool,
    pub history: Arc<Vec<HistoryEntry>>,
    pub acts: VecDeque<Act>,
    pub gates: Vec<GateRequest>,
}

/// What should be depends on nothing else.
type Key = (Release, i64, bool, Option<UpgradeStatus>, Deployment, Vec<String>);

impl Operator {
    /// And the state in which the old release serves and the new one has just been asked for.
    pub fn new(setup: Setup, left: Left) -> (Self, State) {
        let resource = |release: Release| -> ProgressDB {
            let image = match release {
                Release::Old => "image:old",
                Release::New => "image:new",
                Release::Third => "image:third",
            };
            serde_json::from_value(json!({
                "metadata": { "name": "db", "namespace": "ns", "uid": "resource" },
                "spec": {
                    "image": image,
                    "storage": { "cassandra": { "contactPoints": ["a"], "datacenter": "d" } },
                    "replicas": WANTED,
                    "upgrade": setup.policy,
                },
            }))
            .unwrap()
        };
        let mut operator = Self {
            resources: ALL.into_iter().map(|release| (release, resource(release))).collect(),
            setup,
            rolls: BTreeMap::new(),
            deployments: HashMap::new(),
            maps: HashMap::new(),
            desired: HashMap::new(),
            decided: HashMap::new(),
        };
        let mut old = None;
        for release in ALL {
            let seen = Observed::nothing(Arc::new(operator.resources[&release].clone()));
            let desired = Desired::build(&seen).expect("the settings are allowed");
            operator.rolls.insert(desired.server.roll.clone(), release);
            old = old.or(Some(desired.server));
        }
        let old = old.unwrap();
        let of = operator.note(&old.workload.body);
        let config = operator.note_map(&old.config_map.body);
        let pod = Pod { track: Track::Stable, of: of.clone(), phase: Phase::Ready, has_restarted: false };
        let state = State {
            asked: Release::New,
            generation: 1,
            suspended: false,
            approved: None,
            aborted: None,
            overridden: None,
            told: None,
            record: None,
            history: Arc::default(),
            stable: Deployment { of, replicas: WANTED, is_observed: true },
            canary: None,
            pods: (0..).zip([pod.clone(), pod]).collect(),
            is_full: false,
            jobs: BTreeMap::new(),
            releases: [config].into(),
            gates: BTreeMap::new(),
            clock: Clock::Early,
            queue: VecDeque::new(),
            left,
        };
        (operator, state)
    }

    pub fn roll(&self, release: Release) -> String {
        let found = self.rolls.iter().find(|(_, of)| **of == release);
        found.expect("each release has one").0.clone()
    }

    /// What the operator decides in this state.
    pub fn decide(&mut self, state: &State) -> Rc<Decided> {
        // It does not see what may still happen.
        let mut seen = State { told: None, left: Left { writes: 0, faults: 0, people: 0 }, ..state.clone() };
        seen.queue.clear();
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
        // One that goes on is told as it was.
        let told_before = state.under_way().and_then(|record| record.hold.as_ref());
        if let Some(hold) = written.and_then(|record| record.hold.as_ref()).filter(|_| told_before.is_none()) {
            assert!(!hold.message.is_empty(), "{} says nothing", hold.reason);
        }
        let began = |record: Option<&UpgradeStatus>| {
            record.map(|record| (record.id.clone(), record.step_started_at, record.outcome))
        };
        Decided {
            record: written.map(|record| Arc::new(essence(record))),
            has_moved: began(written) != began(state.record.as_deref()),
            history: Arc::new(told(&decision.status.history)),
            acts: decision.all_writes().filter_map(|write| self.act(write)).collect(),
            gates: decision.gates.into_iter().filter(|request| !matches!(request.gate, Gate::Tail { .. })).collect(),
        }
    }

    fn resource(&self, state: &State) -> ProgressDB {
        let mut resource = self.resources[&state.asked].clone();
        resource.metadata.generation = Some(state.generation);
        resource.spec.suspend = state.suspended;
        resource.status = Some(ProgressDBStatus {
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
            outcome: record.outcome,
            ..UpgradeStatus::default()
        });
        let releases = state.releases.iter().cloned().collect();
        let key = (state.asked, state.generation, state.suspended, record, state.stable.clone(), releases);
        if let Some(desired) = self.desired.get(&key) {
            return Rc::clone(desired);
        }
        let mut seen = Observed::nothing(Arc::new(self.resource(state)));
        let mut body = self.deployments[&state.stable.of].clone();
        body["spec"]["replicas"] = json!(state.stable.replicas);
        seen.objects.insert((Kind::Deployment, "db".into()), Live(body));
        for name in &state.releases {
            seen.objects.insert((Kind::ConfigMap, name.clone()), Live(self.maps[name].clone()));
        }
        let desired = Rc::new(Desired::build(&seen));
        self.desired.insert(key, Rc::clone(&desired));
        desired
    }

    /// What the pods of a Deployment are made of. The stable one can be found again by it.
    pub fn note(&mut self, body: &Value) -> Template {
        let template = &body["spec"]["template"];
        let pod = &template["spec"];
        let mut volumes = pod["volumes"].as_array().into_iter().flatten();
        let config = volumes.find(|volume| volume["name"] == "config").expect("it has settings");
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let of = Template {
            release: self.rolls[template["metadata"]["annotations"][ROLL].as_str().unwrap()],
            image: text(&pod["containers"][0]["image"]),
            config: text(&config["configMap"]["name"]),
        };
        if name_of(body) == "db" {
            self.deployments.entry(of.clone()).or_insert_with(|| body.clone());
        }
        of
    }

    fn note_map(&mut self, body: &Value) -> String {
        let name = name_of(body);
        self.maps.entry(name.clone()).or_insert_with(|| body.clone());
        name
    }

    /// A write, if it changes something that matters here.
    fn act(&mut self, write: &Write) -> Option<Act> {
        Some(match write {
            Write::Stop { .. } => Act::Stop,
            Write::Apply(body) | Write::Create(body) => return self.made(body),
            Write::Delete { kind: Kind::Deployment, name, .. } if name == "db-canary" => Act::DeleteCanary,
            Write::Delete { kind: Kind::Job, name, .. } => Act::DeleteJob(name.clone()),
            Write::Delete { kind: Kind::ConfigMap, name, .. } => Act::Drop(name.clone()),
            other => Act::Other(format!("{} {}", other.name(), other.about())),
        })
    }

    fn made(&mut self, body: &Value) -> Option<Act> {
        let name = name_of(body);
        let replicas = || i32::try_from(body["spec"]["replicas"].as_i64().unwrap()).unwrap();
        Some(match (Kind::of(body).unwrap(), &*name) {
            (Kind::Deployment, "db") => Act::Set(Track::Stable, self.note(body), replicas()),
            (Kind::Deployment, "db-canary") => Act::Set(Track::Canary, self.note(body), replicas()),
            // It is told to people and decides nothing.
            (Kind::ConfigMap, name) if name.ends_with("-report") => return None,
            (Kind::ConfigMap, _) if body["immutable"] == true => Act::Keep(self.note_map(body)),
            (Kind::Job, _) => {
                let of_upgrade = |job: &UpgradeJob| name.ends_with(&format!("-{}", job.as_str()));
                // The longest of those that end alike.
                let kind = UpgradeJob::ALL.into_iter().filter(of_upgrade).max_by_key(|job| job.as_str().len());
                Act::MakeJob(name.clone(), kind.expect("a rollout makes no other Job"))
            }
            (kind, _) => Act::Other(format!("{kind:?} {name}")),
        })
    }
}
