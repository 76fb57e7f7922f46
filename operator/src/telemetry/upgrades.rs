//! How many upgrades are under way, held and stuck, as one gauge. It shows no name of a database.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use metrics::gauge;

use super::catalogue::UNDER_WAY;

/// What an upgrade does that has not ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UpgradeState {
    /// It goes on.
    Working,
    /// It waits for somebody.
    Held,
    /// It waits for somebody, and clients may have no server.
    Stuck,
}

impl UpgradeState {
    const ALL: [Self; 3] = [Self::Working, Self::Held, Self::Stuck];

    fn name(self) -> &'static str {
        match self {
            Self::Working => "working",
            Self::Held => "held",
            Self::Stuck => "stuck",
        }
    }
}

/// The upgrades under way, by the uids of their resources.
#[derive(Debug, Default)]
pub struct UpgradesUnderWay(Mutex<HashMap<String, UpgradeState>>);

impl UpgradesUnderWay {
    /// Notes what the upgrade of a resource does; `None` if there is none.
    pub fn note(&self, uid: &str, state: Option<UpgradeState>) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let before = match state {
            Some(state) => known.insert(uid.to_owned(), state),
            None => known.remove(uid),
        };
        if before != state {
            for state in UpgradeState::ALL {
                let count = known.values().filter(|of| **of == state).count();
                gauge!(UNDER_WAY, "state" => state.name()).set(count as f64);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Metrics;

    #[test]
    fn the_gauge_counts_resources_by_what_their_upgrades_do() {
        let recorder = Metrics::default();
        let upgrades = UpgradesUnderWay::default();
        let counts = || {
            let text = recorder.render();
            let values =
                text.lines().filter(|line| !line.starts_with('#')).map(|line| line.rsplit_once(' ').unwrap().1);
            values.map(|value| value.parse::<u32>().unwrap()).collect::<Vec<_>>()
        };
        metrics::with_local_recorder(&recorder, || {
            upgrades.note("a", None);
            upgrades.note("a", Some(UpgradeState::Held));
            upgrades.note("b", Some(UpgradeState::Working));
            upgrades.note("b", Some(UpgradeState::Working));
            assert_eq!(counts(), [1, 0, 1], "held, stuck, working");
            upgrades.note("a", Some(UpgradeState::Stuck));
            upgrades.note("b", None);
            assert_eq!(counts(), [0, 1, 0]);
            upgrades.note("a", None);
            assert_eq!(counts(), [0, 0, 0]);
        });
    }
}
