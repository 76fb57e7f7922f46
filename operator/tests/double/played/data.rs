//! What servers do to the data on their volumes, and what clients see of it.

use serde_json::json;

use super::{NEW, OLD, Stage};
use crate::world::Image;

fn next() -> Image {
    Image {
        version: "0.4.0".into(),
        reads: (1, 2),
        writes: 2,
        start_migration: true,
        finalize_migration: true,
        ..Image::default()
    }
}

#[test]
fn clients_write_only_to_what_a_service_for_them_selects() {
    let mut stage = Stage::new();
    stage.claim("data");
    stage.serve("db", "data", OLD);
    let headless = json!({ "clusterIP": "None", "publishNotReadyAddresses": true });
    stage.make("Service", "db-headless", json!({ "spec": headless }));
    stage.edit("Service", "db-headless", |service| service["spec"]["selector"] = json!({ "component": "server" }));
    stage.steps(5);
    assert_eq!((stage.data("data").sequence, stage.world.acknowledged()), (0, Vec::new()));
    stage.service("db", "server");
    stage.steps(3);
    assert_eq!((stage.data("data").sequence, stage.data("data").writes), (3, vec![1, 2, 3]));
    stage.edit("Service", "db", |service| service["spec"]["selector"] = json!({ "component": "none" }));
    stage.steps(3);
    assert_eq!(stage.data("data").sequence, 3);
    stage.edit("Service", "db", |service| service["spec"]["selector"] = json!({ "component": "server" }));
    stage.world.other_images.never_ready = true;
    stage.steps(3);
    assert_eq!(stage.data("data").sequence, 3);
    let written = stage.world.acknowledged();
    assert_eq!(written.len(), 3);
    assert!(written.iter().all(|write| write.image == OLD && write.claim == "data"), "{written:?}");
    assert_eq!(stage.world.databases_made(), ["data"]);
}

#[test]
fn what_an_older_copy_lacks_is_lost() {
    let mut stage = Stage::new();
    stage.claim("data");
    stage.serve("db", "data", OLD);
    stage.service("db", "server");
    stage.steps(3);
    stage.snapshot("early", "data");
    stage.steps(2);
    let before = stage.data("data");
    stage.claim_from("restored", "early");
    stage.scale("db", 0);
    stage.steps(2);
    stage.edit("StatefulSet", "db", |set| {
        set["spec"]["template"]["spec"]["volumes"][0]["persistentVolumeClaim"]["claimName"] = json!("restored");
    });
    stage.scale("db", 1);
    stage.steps(2);
    let after = stage.data("restored");
    assert_eq!(after.database_id, before.database_id);
    let lost: Vec<u64> = before.writes.iter().copied().filter(|number| !after.writes.contains(number)).collect();
    assert!(!lost.is_empty() && after.writes.len() > 3, "{before:?}, {after:?}");
    assert_eq!((stage.world.lost("ns", "restored"), stage.world.databases_made().len()), (lost, 1));
}

#[test]
fn a_release_takes_two_steps_on_its_data_and_an_older_one_refuses_it_after_the_second() {
    let mut stage = Stage::new();
    stage.world.images.insert(NEW.into(), next());
    stage.claim("data");
    stage.serve("db", "data", OLD);
    stage.service("db", "server");
    stage.steps(3);
    let root = stage.data("data").root(2);
    stage.scale("db", 0);
    stage.steps(2);
    stage.service("closed", "none");
    stage.edit("Service", "db", |service| service["spec"]["selector"] = json!({ "component": "none" }));
    stage.replace("db", NEW);
    let data = stage.data("data");
    assert_eq!((data.format, data.prepared, data.root(2)), (1, 2, root.clone()));
    // The old version reads it; what that writes lacks what the migration made.
    stage.edit("Service", "db", |service| service["spec"]["selector"] = json!({ "component": "server" }));
    stage.replace("db", OLD);
    assert_eq!(stage.get("Pod", "db-0")["status"]["conditions"][0]["status"], "True");
    assert_eq!(stage.data("data").prepared, 1);
    stage.replace("db", NEW);
    let root = stage.data("data").root(2);
    // Settings that do not say otherwise let the start raise the format.
    stage.edit("ConfigMap", "db-config", |config| config["data"]["config.yaml"] = json!("format:\n  finalize: auto\n"));
    stage.edit("Service", "db", |service| service["spec"]["selector"] = json!({ "component": "none" }));
    stage.replace("db", NEW);
    assert_eq!((stage.data("data").format, stage.data("data").root(2)), (2, root.clone()));
    stage.replace("db", OLD);
    let pod = stage.get("Pod", "db-0");
    let server = &pod["status"]["containerStatuses"][0];
    assert_eq!((&server["ready"], &server["state"]["waiting"]["reason"]), (&json!(false), &json!("CrashLoopBackOff")));
    let why = server["lastState"]["terminated"]["message"].as_str().unwrap();
    assert!(why.starts_with("error: store format 2 is too new: this version reads up to 1"), "{why}");
    assert_eq!(stage.data("data").root(2), root);
}

#[test]
fn only_a_start_migration_that_corrupts_changes_the_root() {
    for corrupts in [false, true] {
        let mut stage = Stage::new();
        stage.world.images.insert(NEW.into(), Image { corrupts, ..next() });
        stage.claim("data");
        stage.serve("db", "data", OLD);
        stage.steps(1);
        let root = stage.data("data").root(2);
        stage.replace("db", NEW);
        stage.steps(3);
        assert_eq!(stage.data("data").root(2) != root, corrupts);
    }
}

#[test]
fn a_fault_may_show_in_rehearsals_or_only_where_clients_are_served() {
    for rehearses_well in [false, true] {
        for (never_ready, never_starts) in [(true, false), (false, true)] {
            let mut stage = Stage::new();
            let image = Image { never_ready, never_starts, rehearses_well, ..next() };
            stage.world.images.insert(NEW.into(), image);
            stage.claim("data");
            stage.claim("staging");
            stage.serve("db", "data", NEW);
            stage.job("rehearsal", "staging", NEW, &[("rehearsal", "serve --rehearsal")]);
            stage.steps(3);
            let ready = |pod: &str| stage.get("Pod", pod)["status"]["conditions"][0]["status"] == "True";
            assert_eq!((ready("db-0"), ready("rehearsal-pod")), (false, rehearses_well));
            let failed = stage.get("Pod", "rehearsal-pod")["status"]["phase"] == "Failed";
            assert_eq!(failed, never_starts && !rehearses_well);
        }
    }
}

#[test]
fn whoever_shares_a_claim_with_one_that_writes_breaks_a_rule() {
    let cases = [
        ("inspect --json", true, true),
        ("migrate --json", true, true),
        ("inspect --json", false, false),
        ("migrate --json", false, true),
        ("migrate --json --dry-run", false, false),
    ];
    for (line, serves, is_wrong) in cases {
        let mut stage = Stage::new();
        stage.claim("data");
        stage.serve("db", "data", OLD);
        stage.steps(2);
        stage.scale("db", usize::from(serves));
        stage.steps(2);
        stage.job("b", "data", OLD, &[("b", line)]);
        stage.job("c", "data", OLD, &[("c", "verify --digest --json")]);
        stage.steps(1);
        let what = format!("{line} beside a server: {serves}");
        assert_eq!(!stage.world.broken.is_empty(), is_wrong, "{what}: {:?}", stage.world.broken);
        assert!(stage.world.broken.iter().all(|broken| broken.contains("use data at once")), "{what}");
    }
}

#[test]
fn clients_that_reach_a_rehearsal_break_a_rule() {
    let mut stage = Stage::new();
    stage.claim("staging");
    stage.job("rehearsal", "staging", OLD, &[("rehearsal", "serve --rehearsal")]);
    stage.steps(2);
    assert_eq!(stage.world.broken, Vec::<String>::new());
    stage.service("db", "job");
    stage.steps(1);
    assert_eq!(stage.world.broken, ["clients of db reach a rehearsal"]);
}

#[test]
fn a_fork_goes_its_own_way() {
    let mut stage = Stage::new();
    stage.claim("data");
    stage.serve("db", "data", OLD);
    stage.service("db", "server");
    stage.steps(2);
    let copy = crate::api::Server::with_store(stage.server.with(|store| store.clone()));
    let mut forked = stage.world.fork(&copy);
    forked.step();
    assert_eq!((stage.data("data").sequence, forked.data("ns", "data").unwrap().sequence), (2, 3));
}
