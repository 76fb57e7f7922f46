//! Guarded upgrades, while clients write: what was acknowledged is there afterwards, whatever became of the upgrade.

use progressdb_e2e::{Course, Database, Writers};
use serde_json::Value;

mod back;
mod bad;
mod ends;
mod good;
mod rehearsal;
mod waits;

/// The upgrade was held by the rehearsal: the server runs on as it did, and nobody noticed anything.
#[track_caller]
pub(crate) fn check_untouched(database: &Database<'_>, uid: &str, writers: &Writers) {
    database.check_still_runs(uid);
    assert_eq!(writers.failures(), 0, "requests of clients failed");
    assert_eq!(database.status_of("Available"), "True");
}

/// Prints how long clients had no server: as forecast, as recorded, and as they felt it.
fn print_downtime(what: &str, record: &Value, writers: &Writers) {
    let (forecast, downtime) = (&record["forecastDowntimeMillis"], &record["downtimeMillis"]);
    let silence = writers.silence().as_millis();
    println!("{what}: forecast {forecast} ms, downtime {downtime} ms, clients had no answer for {silence} ms");
}

/// Prints the time from the decision to go back until the old server serves.
fn print_way_back(what: &str, course: &Course, record: &Value) {
    println!("{what}: going back took {:.1} s", course.time_from(record, "RollbackStop").as_secs_f64());
}
