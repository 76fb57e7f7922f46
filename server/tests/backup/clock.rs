//! A clock that is set back between backups, and before a restore.

use serde_json::json;
use testing::Setup;
use testing::clock::Clock;

use crate::stores::{back_up, change, fill, list, prune};
use crate::world::digest;

const DAY: i64 = 86_400;

#[test]
fn a_clock_that_was_set_back_costs_neither_the_newest_backup_nor_its_restore() {
    const TEST: &str = "a_clock_that_was_set_back_costs_neither_the_newest_backup_nor_its_restore";
    let setup = Setup::new();
    let Some(clock) = Clock::make(TEST, setup.root()) else { return };
    let setup = clock.of(setup);
    let url = format!("file://{}", setup.root().join("backups").display());
    fill(&setup, 1);
    let first = back_up(&setup, &url);
    clock.set(-DAY);
    change(&setup);
    back_up(&setup, &url);
    change(&setup);
    let newest = back_up(&setup, &url);
    assert!(newest["created"].as_str() < first["created"].as_str(), "by its date it is older");
    let whole = digest(&setup);
    prune(&setup, &url, 1, &[]);
    let left = list(&setup, &url);
    assert_eq!((left.len(), &left[0]["at"]), (1, &newest["backup"]), "{left:?}");

    clock.set(-2 * DAY);
    let restored = clock.of(Setup::with_db(&setup.root().join("restored")));
    restored.run(&["restore", "--in", &url]).check_code(0);
    assert_eq!(digest(&restored), whole);
    let server = restored.start();
    let ada = server.user("ada");
    assert_eq!(ada.thread_keys("").len(), 3);
    let thread = ada.create_thread("after it");
    ada.append(&thread, json!("goes on"));
    server.stop().check_code(0);
}
