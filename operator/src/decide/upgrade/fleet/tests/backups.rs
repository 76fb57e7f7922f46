//! The backup of the engine, under each policy.

use super::*;

fn scene(policy: &str, step: UpgradeStep) -> Scene {
    let job = json!({ "template": { "spec": { "containers": [] } } });
    Scene::of_fleet(step, json!({ "snapshot": { "policy": policy, "job": job } }))
}

fn backing(scene: &Scene) -> String {
    format!("{:?}", scene.record.backing.unwrap())
}

#[test]
fn a_backup_that_is_made_is_on_record() {
    let mut scene = scene("Required", UpgradeStep::SnapshotOnline);
    assert_eq!((next(&mut scene), writes(&scene)), (Next::Stay, vec!["create Job db-0123abcd-backup".to_owned()]));
    scene.facts.upgrade.jobs.extend([ended(UpgradeJob::Backup, 0, "")]);
    assert_eq!(next(&mut scene), Next::To(UpgradeStep::Approval));
    assert_eq!((backing(&scene), scene.gate("Snapshot").verdict), ("EngineBackup".into(), Verdict::Passed));
}

#[test]
fn a_backup_that_fails_is_held_where_it_is_required_and_can_be_tried_again() {
    let mut scene = scene("Required", UpgradeStep::SnapshotOnline);
    scene.facts.upgrade.jobs.extend([ended(UpgradeJob::Backup, 3, "disk full")]);
    let first = next(&mut scene);
    let hold = held(&mut scene, first, "SnapshotFailed", "disk full");
    assert_eq!(hold.next_command.as_deref(), Some("kubectl delete job db-0123abcd-backup"));
    // Hours later somebody does.
    scene.later(7_200);
    scene.facts.upgrade.jobs.clear();
    assert_eq!(next(&mut scene), Next::Hold(hold));
    assert_eq!(writes(&scene), ["create Job db-0123abcd-backup"]);
    scene.facts.upgrade.jobs.extend([ended(UpgradeJob::Backup, 0, "")]);
    assert_eq!(next(&mut scene), Next::To(UpgradeStep::Approval));
}

#[test]
fn where_it_is_not_required_the_record_says_that_there_is_none() {
    let mut scene = scene("BestEffort", UpgradeStep::SnapshotOnline);
    scene.facts.upgrade.jobs.extend([ended(UpgradeJob::Backup, 3, "disk full")]);
    assert_eq!(next(&mut scene), Next::To(UpgradeStep::Approval));
    assert_eq!((backing(&scene), scene.gate("Snapshot").verdict), ("NotApplicable".into(), Verdict::Failed));
    assert!(scene.gate("Snapshot").why.contains("disk full"));
    // A release that changes rows when it starts has no way back without one.
    let mut scene = self::scene("BestEffort", UpgradeStep::SnapshotOnline);
    scene.record.start_migrations = vec!["rows".into()];
    scene.facts.upgrade.jobs.extend([ended(UpgradeJob::Backup, 3, "disk full")]);
    let next = next(&mut scene);
    held(&mut scene, next, "SnapshotFailed", "disk full");
}

#[test]
fn another_one_comes_before_the_format_is_changed() {
    let mut scene = scene("Required", UpgradeStep::FinalizeSnapshot);
    assert_eq!(writes(&scene), ["create Job db-0123abcd-backup-final"]);
    scene.facts.upgrade.jobs.extend([ended(UpgradeJob::FinalBackup, 3, "disk full")]);
    let failed = next(&mut scene);
    let hold = held(&mut scene, failed, "SnapshotFailed", "disk full");
    assert!(hold.message.contains("(kubectl delete job db-0123abcd-backup-final)"), "{hold:?}");
    let command = "kubectl progressdb override db Finalize (to leave the format as it is)";
    assert_eq!(hold.next_command.as_deref(), Some(command));
    let left =
        |next: Next| assert!(matches!(next, Next::End(Outcome::Succeeded, why) if why.contains("left as it is")));
    scene.let_pass("Finalize", 60);
    left(next(&mut scene));
    scene.facts.upgrade.overrides.clear();
    scene.facts.upgrade.aborted = Some("0123abcd".into());
    left(next(&mut scene));
    assert!(!scene.record.data_mutation_started);
    scene.facts.upgrade.aborted = None;
    scene.facts.upgrade.jobs.extend([ended(UpgradeJob::FinalBackup, 0, "")]);
    assert_eq!(next(&mut scene), Next::To(UpgradeStep::FinalizeMigrate));
    assert!(scene.record.data_mutation_started);
}
