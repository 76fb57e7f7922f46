//! What a state of a fleet is: its two Deployments and their pods, what was written of the rollout, and what the operator still
//! has to write.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
};

use progressdb_operator::{
    crd::{HistoryEntry, UpgradeStatus},
    objects::{UpgradeJob, labels::Track},
};

use crate::{
    moves::World,
    state::{Clock, Left, Release},
};

/// How many servers the resource asks for.
pub const WANTED: i32 = 2;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct State {
    // What people ask for.
    pub asked: Release,
    pub generation: i64,
    pub suspended: bool,
    pub approved: Option<String>,
    pub aborted: Option<String>,
    pub overridden: Option<String>,
    /// The reason of the hold about which somebody has typed what it says.
    pub told: Option<String>,
    // What was written.
    pub record: Option<Arc<UpgradeStatus>>,
    pub history: Arc<Vec<HistoryEntry>>,
    // What is there.
    pub stable: Deployment,
    pub canary: Option<Deployment>,
    /// By their numbers.
    pub pods: BTreeMap<u8, Pod>,
    /// No node has room for another pod.
    pub is_full: bool,
    pub jobs: BTreeMap<String, Job>,
    /// The ConfigMaps of releases.
    pub releases: BTreeSet<String>,
    /// What gates have found, by name and pod; an operator that starts anew does not know it.
    pub gates: BTreeMap<(String, String), Found>,
    pub clock: Clock,
    /// What the operator has decided to write and has not written.
    pub queue: VecDeque<Act>,
    /// How much more may happen.
    pub left: Left,
}

/// What the pods of a Deployment are made of.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Template {
    pub release: Release,
    pub image: String,
    /// The ConfigMap that they read.
    pub config: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Deployment {
    pub of: Template,
    pub replicas: i32,
    /// Whether its controller has seen what it asks for.
    pub is_observed: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Pod {
    pub track: Track,
    pub of: Template,
    pub phase: Phase,
    pub has_restarted: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Phase {
    /// It has no address yet.
    Waiting,
    Ready,
    Crashing,
    /// It is deleted, and its node does not say that it has ended.
    Lost,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Job {
    pub kind: UpgradeJob,
    pub phase: JobPhase,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum JobPhase {
    Runs,
    Passed,
    Failed,
}

/// What a gate has found.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Found {
    Passed,
    Failed,
    Inconclusive,
    /// What these pods, by uid and whether they are canaries, have counted.
    Counted(Vec<(String, bool)>, Users),
}

/// How users fare, and how many of them there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Users {
    /// None yet: a comparison begins.
    None,
    Well,
    /// Those that meet a canary.
    Badly,
    Few,
}

/// A write, as far as it matters here.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Act {
    /// What a Deployment asks for from now on.
    Set(Track, Template, i32),
    /// All servers stop.
    Stop,
    DeleteCanary,
    MakeJob(String, UpgradeJob),
    DeleteJob(String),
    Keep(String),
    Drop(String),
    /// None of a rollout.
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
    /// The rollout that is under way.
    pub fn under_way(&self) -> Option<&UpgradeStatus> {
        self.record.as_deref().filter(|record| record.outcome.is_none())
    }

    pub fn of_track(&self, track: Track) -> impl Iterator<Item = (u8, &Pod)> {
        self.pods.iter().filter(move |(_, pod)| pod.track == track).map(|(number, pod)| (*number, pod))
    }

    /// Those that their Deployment counts.
    pub fn there(&self, track: Track) -> impl Iterator<Item = (u8, &Pod)> {
        self.of_track(track).filter(|(_, pod)| pod.phase != Phase::Lost)
    }

    pub fn deployment(&self, track: Track) -> Option<&Deployment> {
        match track {
            Track::Stable => Some(&self.stable),
            Track::Canary => self.canary.as_ref(),
        }
    }

    /// A pod that was never there before, as far as anybody knows.
    pub fn new_pod(&mut self, track: Track, of: Template) {
        let window = self.record.as_ref().and_then(|record| record.canary.as_ref()?.window.as_ref());
        let is_known = |number: &u8| window.is_some_and(|known| known.pods.iter().any(|pod| pod.uid == uid(*number)));
        let number = (0..).find(|number| !self.pods.contains_key(number) && !is_known(number));
        let pod = Pod { track, of, phase: Phase::Waiting, has_restarted: false };
        self.pods.insert(number.expect("there are few pods"), pod);
    }

    pub fn remove_pod(&mut self, number: u8) {
        self.pods.remove(&number);
        self.gates.retain(|(_, pod), _| *pod != uid(number));
    }

    /// Its node is lost, and there is no room on another one.
    pub fn lose(&mut self, number: u8) {
        let pod = self.pods.get_mut(&number).expect("it is there");
        pod.phase = Phase::Lost;
        self.is_full = true;
        self.gates.retain(|(_, pod), _| *pod != uid(number));
    }
}

/// The uid of the pod of this number, which is its name as well.
pub fn uid(number: u8) -> String {
    format!("p{number}")
}
