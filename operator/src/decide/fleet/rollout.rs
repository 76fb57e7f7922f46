//! Another image for a fleet.

use super::Case;
use crate::{
    conditions::Finding,
    desired::{Fleet, Server},
};

/// That another image is asked for than the one that runs, which is left as it is.
pub(super) fn held(case: Case<'_>, planned: &Fleet) -> Option<Finding> {
    let live = || super::stable(case)?.image.as_deref();
    let runs = planned.running.as_ref().map(Server::image).or_else(live)?;
    let asked = case.desired.server.image();
    if runs == asked {
        return None;
    }
    let message = format!(
        "the fleet runs {runs}, and spec.image asks for {asked}: this operator does not change the image of a fleet, and \
         meanwhile holds other changes too, but for replicas; set spec.image back to {runs}, or install an operator that does"
    );
    Some(Finding::no("ImageChangeHeld", message))
}
