//! Clients reach the new server, and it is watched for a while. From here on going back would lose what they write, unless
//! the data still has the format that the old image reads.

use jiff::SignedDuration;

use super::{At, Next, Turn, approval, duration, jobs, snapshots, swap};
use crate::{
    crd::{AfterPromotion, Outcome, UpgradeStep},
    facts::Pod,
};

/// How long it may take until the Service leads to the pod.
const PATIENCE: SignedDuration = SignedDuration::from_mins(2);

/// The Service was opened when this step was written; now it has to lead to the server.
pub(super) fn promote(at: At<'_>) -> Turn {
    if let Some(turn) = swap::start_again(at) {
        return turn;
    }
    if let Some(next) = failure(at) {
        return at.turn(next);
    }
    let pod = at.case.facts.pod.as_ref();
    let serves = at.facts.is_served == Some(true) && pod.is_some_and(Pod::serves);
    if serves {
        let mut record = at.record.clone();
        record.downtime_millis = at.downtime();
        return at.recording(record, Next::To(UpgradeStep::Soak));
    }
    match at.elapsed() > PATIENCE {
        true => {
            let name = at.case.name;
            let message = format!("the Service {name} does not lead to the new server, which passed its gates");
            at.turn(Next::stuck("NotServed", message, Some(format!("kubectl describe service {name}"))))
        }
        false => at.stay(),
    }
}

/// Real clients are the test now.
pub(super) fn soak(at: At<'_>) -> Turn {
    if let Some(turn) = swap::start_again(at) {
        return turn;
    }
    if let Some(next) = failure(at) {
        return at.turn(next);
    }
    let is_ready = at.case.facts.pod.as_ref().is_some_and(Pod::serves);
    if !has_soaked(at) || !is_ready {
        return at.stay();
    }
    // Whoever asks for another image by now keeps the way back to the old one.
    let is_asked = at.case.desired.server.image() == at.record.to.image;
    let changes_format = at.record.changes_image && !at.record.finalize_migrations.is_empty();
    if changes_format && is_asked && !at.is_overridden("Finalize") {
        if let Some(next) = approval::window(at) {
            return at.turn(next);
        }
        if !jobs::former(at).is_empty() {
            return at.stay();
        }
        let mut record = at.record.clone();
        record.finalizing = true;
        record.drained_at = Some(at.case.now);
        record.drained_pod = at.facts.server.as_ref().map(|(pod, _)| pod.clone());
        return at.recording(record, Next::To(UpgradeStep::FinalizeDrain));
    }
    succeed(at)
}

/// Whether the new server was watched for long enough.
pub(super) fn has_soaked(at: At<'_>) -> bool {
    let lasts = if at.record.changes_image { duration(&at.policy().soak) } else { SignedDuration::ZERO };
    at.elapsed() >= lasts
}

/// What a server leads to that will not serve by waiting.
fn failure(at: At<'_>) -> Option<Next> {
    let why = swap::hopeless(at)?;
    go_back(at, &format!("the new server fails while clients use it: {why}"))
}

/// It is over: snapshots are no longer kept for it.
pub(super) fn succeed(at: At<'_>) -> Turn {
    let released = snapshots::release(at);
    if !released.is_empty() {
        return at.stay().writing(released);
    }
    let mut record = at.record.clone();
    if record.finalizing {
        record.downtime_millis = at.downtime();
    }
    let away = record.downtime_millis.unwrap_or_default();
    at.recording(record, Next::End(Outcome::Succeeded, format!("clients were without a server for {away} ms")))
}

/// How many writes of clients going back would lose at most; tests count as well.
pub(super) fn loss_bound(at: At<'_>) -> Option<i64> {
    let cut = at.record.database.as_ref()?.sequence;
    at.facts.sequence.map(|now| now.saturating_sub(cut)).or(at.record.loss_bound)
}

/// Going back though clients have reached the new server; `None` if that is not to be.
pub(super) fn go_back(at: At<'_>, why: &str) -> Option<Next> {
    // Until the finalization nothing but a migration at the start may have changed the data.
    let is_free = !at.record.data_mutation_started;
    match at.policy().rollback.after_promotion {
        AfterPromotion::Never => None,
        AfterPromotion::ImageOnly if is_free => Some(Next::GoBack(why.to_owned())),
        AfterPromotion::ImageOnly | AfterPromotion::Approve if at.is_rollback_approved() => {
            Some(Next::GoBack(why.to_owned()))
        }
        AfterPromotion::ImageOnly | AfterPromotion::Approve => {
            let lost =
                loss_bound(at).map_or_else(|| "what clients wrote".into(), |lost| format!("up to {lost} writes"));
            let message = match is_free {
                true => format!("{why}; going back loses nothing and has to be approved"),
                false => format!(
                    "{why}; the data was changed for the new image: going back restores the snapshot and loses {lost} since"
                ),
            };
            Some(Next::hold("RollbackRequiresApproval", message, Some(at.approve_command("/rollback"))))
        }
    }
}
