//! All pods take the new image, one after the other: the Deployment starts each before it stops another, so there are never
//! fewer than there are to be. Then the canaries go, and the whole fleet is watched.

use jiff::SignedDuration;

use super::{
    super::{At, Next, Turn, approval, duration, jobs, promote as after_promotion},
    finalize, tracks,
};
use crate::{
    crd::{AfterPromotion, Backing, Outcome, UpgradeStatus, UpgradeStep},
    decide::pods,
    desired::Server,
    facts::FleetPod,
    objects::labels::Track,
};

/// How long one pod may take to be replaced, beyond the deadline of its health and the end of the one before it.
const PATIENCE: SignedDuration = SignedDuration::from_mins(2);

pub(super) fn roll(at: At<'_>) -> Turn {
    let Some(to) = &at.planned.to else { return at.turn(gone(at)) };
    let pods = tracks::pods(at, Track::Stable, &at.record.to.roll);
    if let Some(next) = tracks::trouble(at, &pods).and_then(|why| fails(at, &why)) {
        return at.turn(next);
    }
    if tracks::is_rolled_out(at, to) {
        // As many as there are to be run the new image: those beside them are not needed any more.
        return match tracks::are_canaries_gone(at) {
            true => at.turn(Next::To(UpgradeStep::Soak)),
            false => at.turn(canaries_stay(at)).writing(tracks::without_canaries(at)),
        };
    }
    at.turn(if is_late(at) { slow(at, to) } else { Next::Stay })
}

/// Not all pods run the new image and take requests, and they have had their time for it.
fn slow(at: At<'_>, to: &Server) -> Next {
    let message = at.refused(&format!(
        "not all servers run the new image and take requests ({}); none is stopped before its successor does",
        tracks::behind(at, to)
    ));
    Next::hold("RolloutSlow", message, Some(way_back(at)))
}

/// The canaries are not needed any more, and one of them does not go.
fn canaries_stay(at: At<'_>) -> Next {
    let lost = tracks::lost_canary(at);
    if lost.is_none() && !is_late(at) {
        return Next::Stay;
    }
    let message = at.refused("all servers run the new image, and the canaries do not go away");
    Next::hold("RolloutSlow", message, Some(tracks::remove_command(at, lost)))
}

/// Whether the pods have had their time, one after the other.
pub(super) fn is_late(at: At<'_>) -> bool {
    at.elapsed() > of_one_pod(at) * tracks::wanted(at).max(1)
}

/// How long one pod may take to be replaced.
pub(super) fn of_one_pod(at: At<'_>) -> SignedDuration {
    duration(&at.policy().gates.health.deadline) + super::super::drain::grace(at) + PATIENCE
}

/// The ConfigMap of the new release was deleted, and nothing more can be made of it.
pub(super) fn gone(at: At<'_>) -> Next {
    let message = format!(
        "the ConfigMap {} of the new release is gone: ask for its image and settings again, and it is made anew",
        at.record.to.config
    );
    Next::hold("ReleaseGone", message, Some(way_back(at)))
}

/// What to type, to have what is stuck end: in the finalization that leaves the format as it is, before it that leads back.
fn way_back(at: At<'_>) -> String {
    let name = at.case.name;
    let is_barred = at.policy().rollback.after_promotion == AfterPromotion::Never;
    match at.record.step {
        UpgradeStep::Soak if is_barred => format!(
            "kubectl patch prdb {name} --type merge -p \
             '{{\"spec\":{{\"upgrade\":{{\"rollback\":{{\"afterPromotion\":\"Approve\"}}}}}}}}' (then abort goes back)"
        ),
        UpgradeStep::Promote | UpgradeStep::Soak => format!("kubectl progressdb abort {name} (to go back)"),
        _ => finalize::leave_command(at),
    }
}

fn fails(at: At<'_>, why: &str) -> Option<Next> {
    after_promotion::go_back(at, &format!("the new image fails while clients use it: {why}"))
}

/// Real clients are the test now.
pub(super) fn soak(at: At<'_>) -> Turn {
    let Some(to) = &at.planned.to else { return at.turn(gone(at)) };
    let pods = tracks::pods(at, Track::Stable, &at.record.to.roll);
    let crashes = |FleetPod { pod, .. }: &FleetPod| -> Option<String> {
        let message = || format!("the pod {}: {}", pod.name, pods::assess(pod, at.case.now).message);
        pods::is_crash_looping(pod, at.case.now).then(message)
    };
    if let Some(next) = pods.iter().find_map(crashes).and_then(|why| fails(at, &why)) {
        return at.turn(next);
    }
    if !after_promotion::has_soaked(at) {
        return at.stay();
    }
    if !tracks::is_rolled_out(at, to) {
        let lasts = if at.record.changes_image { duration(&at.policy().soak) } else { SignedDuration::ZERO };
        return at.turn(if at.elapsed() > lasts + of_one_pod(at) { slow(at, to) } else { Next::Stay });
    }
    // Whoever asks for another image by now keeps the way back to the old one.
    let is_asked = at.case.desired.server.image() == at.record.to.image;
    let changes_format = at.record.changes_image && !at.record.finalize_migrations.is_empty();
    if !changes_format || !is_asked {
        return succeed(at, "");
    }
    if finalize::is_left_out(at) {
        return succeed(at, finalize::AS_ASKED);
    }
    if let Some(next) = approval::window(at) {
        return at.turn(next);
    }
    let record = UpgradeStatus { finalizing: true, ..at.record.clone() };
    let is_backed = record.backing == Some(Backing::EngineBackup) && at.policy().snapshot.job.is_some();
    match is_backed && jobs::former(at).is_empty() {
        true => at.recording(record, Next::To(UpgradeStep::FinalizeSnapshot)),
        false if is_backed => at.stay(),
        false => {
            let record = UpgradeStatus { data_mutation_started: true, ..record };
            at.recording(record, Next::To(UpgradeStep::FinalizeMigrate))
        }
    }
}

/// It is over.
pub(super) fn succeed(at: At<'_>, more: &str) -> Turn {
    at.turn(success(at, more))
}

/// How it ends well, with more to be told of it.
pub(super) fn success(at: At<'_>, more: &str) -> Next {
    let pods = tracks::wanted(at);
    let message = format!("all {pods} pods were replaced one after the other");
    let message = if more.is_empty() { message } else { format!("{message}; {more}") };
    Next::End(Outcome::Succeeded, message)
}
