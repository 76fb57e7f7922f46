//! What a state is: the cluster, what was written of the upgrade, and what the operator still has to write. All of it is
//! small; times are only those that a deadline has or has not passed.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
};

use progressdb_operator::{
    crd::{HistoryEntry, UpgradeStatus},
    objects::{UpgradeJob, labels::Role},
};

use crate::moves::World;

/// One of the releases that may be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Release {
    /// What runs at first.
    Old,
    /// What it is to be upgraded to.
    New,
    /// Another one, which changes nothing of the data.
    Third,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct State {
    // What people ask for.
    pub asked: Release,
    pub generation: i64,
    pub suspended: bool,
    pub approved: Option<String>,
    pub aborted: Option<String>,
    pub overridden: Option<String>,
    // What was written.
    pub record: Option<Arc<UpgradeStatus>>,
    pub history: Arc<Vec<HistoryEntry>>,
    pub claim_told: String,
    // What is there.
    pub set: Set,
    pub pod: Option<Pod>,
    pub attached: bool,
    pub claims: BTreeMap<String, Claim>,
    pub snapshots: BTreeMap<String, Snapshot>,
    pub jobs: BTreeMap<String, Job>,
    /// Pods of Jobs that are gone, which have not ended: what they do, and to which claim.
    pub lingering: Vec<(String, UpgradeJob, String)>,
    pub walls: BTreeMap<String, String>,
    /// The ConfigMaps of releases.
    pub releases: BTreeSet<String>,
    /// The upgrade that the client Service is closed for.
    pub closed: Option<String>,
    /// What gates have found; an operator that starts anew does not know it.
    pub gates: BTreeMap<String, Found>,
    pub clock: Clock,
    /// What the operator has decided to write and has not written.
    pub queue: VecDeque<Act>,
    /// The writes that were acknowledged to clients.
    pub acked: u8,
    /// That a person agreed to lose what clients wrote since the cut.
    pub loss_approved: bool,
    /// How much more may happen.
    pub left: Left,
}

/// How much more may happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Left {
    pub writes: u8,
    pub faults: u8,
    pub people: u8,
}

/// How much time has passed since the step began, or since the upgrade ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Clock {
    Early,
    /// Every deadline of a step has passed.
    Late,
    /// The time has passed for which copies are kept.
    Ages,
}

/// The StatefulSet.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Set {
    pub release: Release,
    pub claim: String,
    pub image: String,
    /// The ConfigMap that its pods read.
    pub config: String,
    pub runs: bool,
}

/// The pod of the server.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Pod {
    pub of: Set,
    pub phase: Phase,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Phase {
    /// It has no node yet, or its image is pulled.
    Waiting,
    /// The server runs and has opened the data.
    Open,
    Ready,
    Crashing,
    /// It is deleted and has not ended.
    Ending,
    /// It is deleted and its node does not answer.
    Lost,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Claim {
    pub role: Role,
    pub upgrade: Option<String>,
    /// Absent until its first pod, if it is made from a snapshot.
    pub data: Option<Data>,
    pub source: Option<String>,
}

/// A store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Data {
    pub format: i32,
    /// That the new release changed rows when it started.
    pub is_changed: bool,
    /// Writes of clients, a bit each.
    pub writes: u8,
    /// Writes of gates.
    pub probes: u8,
}

impl Data {
    pub fn sequence(self) -> i64 {
        100 + i64::from(self.writes.count_ones()) + i64::from(self.probes)
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Snapshot {
    pub upgrade: String,
    pub claim: String,
    pub data: Option<Data>,
    pub is_ready: bool,
    pub is_retained: bool,
    /// That somebody deleted the VolumeSnapshot; a content that is retained stays.
    pub is_gone: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Job {
    pub kind: UpgradeJob,
    pub upgrade: String,
    pub release: Release,
    pub claim: Option<String>,
    pub phase: JobPhase,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum JobPhase {
    Waiting,
    Running,
    /// A rehearsal serves, and says this digest.
    Serving(&'static str),
    /// It has ended well, and found this data if it was asked about some.
    Passed(Option<Data>),
    Failed,
}

impl Job {
    /// Whether a pod of it has not ended.
    pub fn is_busy(&self) -> bool {
        matches!(self.phase, JobPhase::Running | JobPhase::Serving(_))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Found {
    Passed,
    Failed,
    Inconclusive,
}

/// A write, as far as it matters here.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Act {
    Start(Set),
    Stop,
    Close(Option<String>),
    MakeJob(String, Job),
    DeleteJob(String),
    MakeSnapshot(String, Snapshot),
    DeleteSnapshot(String),
    Retain(String, bool),
    MakeClaim(String, Claim),
    DeleteClaim(String),
    Label(String, Role, String),
    Keep(String),
    Drop(String),
    MakeWall(String, String),
    DeleteWall(String),
    /// None of an upgrade.
    Other(String),
}

impl World for State {
    fn left(&self) -> Left {
        self.left
    }

    fn set_left(&mut self, left: Left) {
        self.left = left;
    }

    fn asked(&self) -> Release {
        self.asked
    }

    fn raise_generation(&mut self) {
        self.generation += 1;
    }
}

impl State {
    /// The upgrade that is under way.
    pub fn under_way(&self) -> Option<&UpgradeStatus> {
        self.record.as_deref().filter(|record| record.outcome.is_none())
    }

    /// The claim with the data, if one is labelled so.
    pub fn current(&self) -> Option<(&String, &Claim)> {
        let mut current = self.claims.iter().filter(|(_, claim)| claim.role == Role::Current);
        current.next().filter(|_| current.next().is_none())
    }
}
