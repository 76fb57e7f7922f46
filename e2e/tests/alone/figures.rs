//! Figures of guarded upgrades, printed and not judged: `E2E_FIGURES_MB=1024 e2e/run upgrade_figures`, on a machine that does
//! nothing else. Nothing but the steps of the upgrade counts: their times are those at which a watch told of them.

use std::time::Duration;

use aws_lc_rs::rand;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use progressdb_e2e::{Course, Database, Namespace, Writers};
use serde_json::{Value, json};
use testing::{messages, skip, timed, variable};

const TEST: &str = "upgrade_figures";
/// How many clients fill the database at once.
const CLIENTS: usize = 4;
/// What a message holds, of which base64 makes 64 KiB.
const BODY: usize = 48 * 1024;
/// How long a release that never gets ready has.
const DEADLINE: Duration = Duration::from_secs(10);

#[test]
fn upgrade_figures() {
    let Some(megabytes) = variable("E2E_FIGURES_MB").map(|text| text.parse().expect("a number of megabytes")) else {
        return skip(TEST, "it only measures; E2E_FIGURES_MB says on how much data");
    };
    let namespace = Namespace::new("figures");
    // Everything but the soak is as it is by default.
    let more =
        json!({ "storage": { "embedded": { "size": "8Gi" } }, "upgrade": { "strategy": "Guarded", "soak": "0s" } });
    let database = namespace.database("chat", more);
    let (_, filling) = timed(|| fill(database.ready(), megabytes));
    let writers = Writers::start(&database, 2);
    let course = Course::of(&database);
    let mut lines = vec![format!("{megabytes} MB of messages, written in {:.0} s", filling.as_secs_f64())];
    lines.extend(good(&database, &course, &writers));
    lines.push(unready(&database, &course));
    lines.push(restored(&database, &course));
    writers.wait_for_more(50);
    writers.check();
    for line in lines {
        println!("upgrade figures: {line}");
    }
}

/// Writes messages that no compression makes smaller.
fn fill(database: &Database<'_>, megabytes: usize) {
    let each = (megabytes * 1024 * 1024).div_ceil(CLIENTS * BODY / 3 * 4);
    std::thread::scope(|scope| {
        for number in 0..CLIENTS {
            let client = database.client(&format!("filler{number}"));
            scope.spawn(move || {
                let (thread, mut connection, mut bytes) = (client.create_thread("filled"), None, vec![0; BODY]);
                for _ in 0..each {
                    rand::fill(&mut bytes).unwrap();
                    let request = client.request("POST", &messages(&thread));
                    let request = request.json(&json!({ "body": { "text": STANDARD.encode(&bytes) } }));
                    client.try_send(&mut connection, &request).unwrap().written();
                }
            });
        }
    });
}

/// A good release: how long clients were away, and of what that was made.
fn good(database: &Database<'_>, course: &Course, writers: &Writers) -> Vec<String> {
    writers.silence();
    database.ask_for("next-plain");
    let record = course.ended("Succeeded");
    let seconds = |field: &Value| field.as_f64().unwrap() / 1000.0;
    let (away, forecast) = (seconds(&record["downtimeMillis"]), seconds(&record["forecastDowntimeMillis"]));
    let felt = writers.silence().as_secs_f64();
    let start = seconds(&record["rehearsal"]["startMillis"]);
    let times = step_times(course, &record);
    let of = |name: &str| times.iter().find(|(step, _)| step == name).unwrap().1;
    let without_copy = away - of("SnapshotFinal");
    let all: Vec<String> = times.iter().map(|(step, time)| format!("{step} {time:.1}")).collect();
    vec![
        format!("downtime {away:.1} s, {without_copy:.1} s of it besides the final copy; clients felt {felt:.1} s"),
        format!("the new server took {start:.1} s to start on the copy of the data"),
        format!("forecast {forecast:.1} s, {:+.0} % of what it was", (forecast / away - 1.0) * 100.0),
        format!("steps, in seconds: {}", all.join(", ")),
    ]
}

/// How long each step lasted, but for the last.
fn step_times(course: &Course, record: &Value) -> Vec<(String, f64)> {
    let entries = course.entries(record);
    let pairs = entries.iter().zip(entries.iter().skip(1));
    pairs.map(|((step, began), (_, ended))| (step.clone(), (*ended - *began).as_secs_f64())).collect()
}

/// A release that never gets ready: how long after its deadline that is noticed, and how long the way back takes.
fn unready(database: &Database<'_>, course: &Course) -> String {
    let deadline = format!("{}s", DEADLINE.as_secs());
    let gates = json!({ "health": { "deadline": deadline } });
    database.change(json!({ "upgrade": { "rehearsal": { "policy": "Skip" }, "gates": gates } }));
    database.ask_for("next-unready");
    let record = course.ended("RolledBack");
    let lasted = step_times(course, &record).iter().find(|(step, _)| step == "HealthGate").unwrap().1;
    // The watch may tell of the beginning a moment later than of the end.
    let late = (lasted - DEADLINE.as_secs_f64()).max(0.0);
    let back = course.time_from(&record, "RollbackStop").as_secs_f64();
    format!("a release that never gets ready is noticed {late:.1} s after its deadline; going back takes {back:.1} s")
}

/// A release that has changed the data when a person gives it up.
fn restored(database: &Database<'_>, course: &Course) -> String {
    let health =
        |successes: u16| json!({ "upgrade": { "gates": { "health": { "successes": successes, "deadline": "5m" } } } });
    database.change(health(300));
    database.ask_for("next");
    let tried = course.at("HealthGate").record;
    database.change(health(5));
    database.annotate("progressdb.io/abort", tried["id"].as_str().unwrap());
    let record = course.ended("RolledBack");
    assert!(record["restoredClaim"].is_string(), "{record}");
    let back = course.time_from(&record, "RollbackStop").as_secs_f64();
    let restore = step_times(course, &record).iter().find(|(step, _)| step == "RollbackRestore").unwrap().1;
    format!("going back to the snapshot takes {back:.1} s, {restore:.1} s of it to restore and look at it")
}
