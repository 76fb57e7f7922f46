//! No wait goes on in silence.

use super::*;

#[test]
fn a_canary_that_does_not_end_is_told_and_taken_away_by_hand() {
    let mut scene = promotion(true);
    scene.fleet().canary = None;
    (scene.pod("c-1").is_deleted, scene.pod("c-1").deleted_at) = (true, Some(scene.now));
    scene.later(120);
    assert_eq!(next(&mut scene), Next::Stay, "its time is not over");
    scene.later(1);
    for (step, reason) in [(UpgradeStep::Promote, "RolloutSlow"), (UpgradeStep::RollbackStop, "RollbackStuck")] {
        scene.record.step = step;
        scene.later(60);
        let told = next(&mut scene);
        let hold = held(&mut scene, told, reason, "the canaries do not go away");
        assert_eq!(hold.next_command.as_deref(), Some("kubectl delete pod c-1 --force"), "{step:?}");
    }
}

/// A step of a fleet that runs the new image, but for one server, whose time has passed.
fn late(step: UpgradeStep, policy: &str) -> (Scene, Next) {
    let mut scene = promotion(false);
    scene.spec.upgrade.rollback.after_promotion = serde_json::from_value(json!(policy)).unwrap();
    (scene.record.step, scene.fleet().canary) = (step, None);
    scene.fleet().pods.retain(|server| server.track == Track::Stable);
    let soak = if step == UpgradeStep::Soak { 600 } else { 0 };
    scene.later(soak + 300 + 45 + 120);
    assert_eq!(next(&mut scene), Next::Stay, "{step:?}");
    scene.later(1);
    let next = next(&mut scene);
    (scene, next)
}

#[test]
fn servers_that_are_not_ready_do_not_hold_up_the_end_in_silence() {
    let (mut scene, next) = late(UpgradeStep::Soak, "ImageOnly");
    let hold = held(&mut scene, next, "RolloutSlow", "(not s-3)");
    assert_eq!(hold.next_command.as_deref(), Some("kubectl progressdb abort db (to go back)"));
    let (mut scene, next) = late(UpgradeStep::Soak, "Never");
    let hold = held(&mut scene, next, "RolloutSlow", "(not s-3)");
    assert!(hold.next_command.unwrap().starts_with("kubectl patch prdb db"), "abort would do nothing");
    let (mut scene, next) = late(UpgradeStep::FinalizeMigrate, "ImageOnly");
    let hold = held(&mut scene, next, "RolloutSlow", "no other is left (not s-3)");
    let command = "kubectl progressdb override db Finalize (to leave the format as it is)";
    assert_eq!(hold.next_command.as_deref(), Some(command));
}
