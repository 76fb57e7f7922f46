//! The way back where the new release has changed the data: the copy of before takes its place.

use progressdb_e2e::course::{STEPS, WAY_BACK};
use progressdb_e2e::{Course, Namespace, Writers, wait_until};
use serde_json::{Value, json};

use super::print_way_back;

/// A health gate that takes longer than a person who has second thoughts, and one that does not.
const LONG: i32 = 1_000;
const SHORT: i32 = 3;

#[test]
fn data_that_a_release_has_changed_is_brought_back_and_what_clients_lose_by_it_is_told() {
    let namespace = Namespace::new("upgrade-back");
    let gates = |successes: i32| json!({ "gates": { "health": { "successes": successes } } });
    let mut policy = gates(LONG);
    policy["rehearsal"] = json!({ "policy": "Skip" });
    let database = namespace.guarded("chat", json!({ "upgrade": policy }));
    let writers = Writers::start(database.ready(), 2);
    let course = Course::of(&database);

    // Before clients are there again nothing is lost.
    database.ask_for("next");
    let moment = course.at("HealthGate");
    assert_eq!(moment.record["dataMutationStarted"], true, "{}", moment.record);
    let serves = || database.namespace.find("Pod", &database.pod());
    wait_until("the new server has changed the data", serves, |pod| {
        pod.as_ref().is_some_and(progressdb_e2e::database::is_ready)
    });
    database.change(json!({ "upgrade": gates(SHORT) }));
    database.annotate("progressdb.io/abort", moment.record["id"].as_str().unwrap());
    let record = course.ended("RolledBack");
    let until_health: Vec<_> = STEPS[..8].iter().chain(&WAY_BACK).collect();
    assert_eq!(course.steps(&record).iter().collect::<Vec<_>>(), until_health);
    print_way_back("restoring the snapshot", &course, &record);
    assert_eq!(record["restoredClaim"], "chat-data-1");
    assert_eq!(roles(&database.claims()), [("chat-data-0", "failed"), ("chat-data-1", "current")]);
    assert_eq!(database.get()["status"]["claim"], "chat-data-1");
    writers.wait_for_more(50);
    writers.check();

    // Asking for what runs lets the same image be tried again.
    database.ask_for("dev");
    database.check_upgrades_left(&[("chat-data-0", "failed"), ("chat-data-1", "current")]);
    let writers = Writers::start(&database, 2);
    let patient = json!({ "soak": "1h", "rollback": { "afterPromotion": "Approve" } });
    database.change(json!({ "upgrade": patient }));
    database.ask_for("next");
    course.at("Soak");
    writers.wait_for_more(100);
    database.ask_for("dev");
    course.held("RollbackRequiresApproval");
    let held = course.wait_until("a bound is told", |record| record["lossBound"].is_i64()).record;
    let most = |record: &Value| usize::try_from(record["lossBound"].as_i64().expect("a bound is told")).unwrap();
    assert!(most(&held) >= 100, "so many were acknowledged since the snapshot: {held}");
    assert!(held["hold"]["message"].as_str().unwrap().contains(&most(&held).to_string()), "{held}");
    database.annotate("progressdb.io/approve", &format!("{}/rollback", held["id"].as_str().unwrap()));
    let record = course.ended("RolledBack");
    print_way_back("restoring the snapshot once clients had written", &course, &record);
    let claims = [("chat-data-0", "failed"), ("chat-data-1", "failed"), ("chat-data-2", "current")];
    database.check_upgrades_left(&claims);
    writers.wait_for_more(50);
    let lost = writers.check_but_for(most(&record));
    println!("{lost} writes were lost, and at most {} were told", most(&record));
    assert!(lost >= 100, "this test shows nothing if nothing was lost");
}

fn roles(claims: &[(String, String)]) -> Vec<(&str, &str)> {
    claims.iter().map(|(name, role)| (&**name, &**role)).collect()
}
