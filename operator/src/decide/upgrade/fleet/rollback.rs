//! The way back. Canaries are taken away, and before the promotion that is all: nothing else was touched. After it all pods take
//! the old image again, one after the other, on data that it can read.

use super::{
    super::{
        At, Next, Turn,
        gates::{self as of_one, Ran},
    },
    PATIENCE, gates, promote, tracks,
};
use crate::{
    crd::{Outcome, UpgradeStep, Verdict},
    objects::labels::Track,
};

pub(super) fn stop(at: At<'_>) -> Turn {
    if !tracks::are_canaries_gone(at) {
        let grace = super::super::drain::grace(at);
        let next = match at.elapsed() > PATIENCE + grace {
            true => {
                let command = tracks::remove_command(at, tracks::lost_canary(at));
                Next::stuck("RollbackStuck", at.refused("the canaries do not go away"), Some(command))
            }
            false => Next::Stay,
        };
        return at.turn(next).writing(tracks::without_canaries(at));
    }
    match at.record.promoted {
        true => at.turn(Next::To(UpgradeStep::RollbackStart)),
        false => ended(at),
    }
}

/// The old image takes the place of the new one. The data is as the old one left it: a finalization is not gone back from.
pub(super) fn start(at: At<'_>) -> Turn {
    let Some(from) = &at.planned.from else {
        return at.turn(stuck(at, &format!("the ConfigMap {} of the old release is gone", at.record.from.config)));
    };
    match tracks::is_rolled_out(at, from) {
        true => at.turn(Next::To(UpgradeStep::RollbackGate)),
        false if promote::is_late(at) => at.turn(stuck(
            at,
            &at.refused("not all pods run the old image again; none is stopped before its successor is ready"),
        )),
        false => at.stay(),
    }
}

pub(super) fn gate(at: At<'_>) -> Turn {
    let pods = tracks::pods(at, Track::Stable, &at.record.from.roll);
    let gate = of_one::health_of(&at.policy().gates.health, None, None, None);
    match gates::on_each(at, &pods, "Health", &|_| gate.clone()) {
        Ran::Ended(found) if found.verdict == Verdict::Passed => ended(at),
        ran => {
            let request = if let Ran::Waits(request) = ran { Some(request) } else { None };
            let next =
                if promote::is_late(at) { stuck(at, "the old pods do not get healthy and ready") } else { Next::Stay };
            at.turn(next).trying(request)
        }
    }
}

fn ended(at: At<'_>) -> Turn {
    let why = at.record.message.clone().unwrap_or_default();
    at.turn(Next::End(Outcome::RolledBack, why))
}

fn stuck(at: At<'_>, message: &str) -> Next {
    let command = format!("kubectl progressdb report {} --upgrade", at.case.name);
    Next::stuck("RollbackStuck", message, Some(command))
}
