//! The format is raised, and everything goes on.

use serde_json::{Value, json};

use crate::world::{FINALIZE, MIGRATIONS, World, formats, names, write_reply};

#[test]
fn a_format_is_raised_while_three_servers_write() {
    let Some(mut world) = World::filled("a_format_is_raised_while_three_servers_write", 40) else { return };
    let fleet = world.fleet(3);
    let pending = json!({ "data": 1, "reads": [1, 2], "writes": 2, "pending": [MIGRATIONS[1]] });
    assert_eq!(formats(&fleet.replica(0)), pending, "a start changes no format");
    let next = world.next();
    let finalize = || {
        let ended = next.run(&[&FINALIZE[..], &["--json"]].concat());
        ended.check_code(0);
        serde_json::from_str::<Value>(&ended.stdout).unwrap()
    };
    world.under_load(&fleet, |load| {
        load.wait_for(40);
        let report = finalize();
        assert_eq!((&report["format"], names(&report["ran"])), (&json!(2), MIGRATIONS.to_vec()), "{report}");
        assert_eq!(report["checkpoint"], json!(null));
        load.wait_for(40);
    });
    for replica in 0..3 {
        fleet.replica(replica).wait_for_line("format.followed");
    }
    world.check_raised(&fleet);
    assert_eq!(names(&finalize()["ran"]), [""; 0], "there is nothing left");
    fleet.stop_all();
}

/// Servers of the older version wrote beside those whose start had made the index.
#[test]
fn what_the_older_version_wrote_after_a_start_migration_is_in_it_at_the_end() {
    let test = "what_the_older_version_wrote_after_a_start_migration_is_in_it_at_the_end";
    let Some(world) = World::filled(test, 0) else { return };
    let old = world.old().start();
    write_reply(&old);
    let next = world.next().start();
    assert_eq!(world.indexed_replies(), 1);
    write_reply(&old);
    old.stop().check_code(0);
    assert_eq!(world.indexed_replies(), 1);
    let ended = world.next().run(&FINALIZE);
    ended.check_code(0).check_says(&["format.claimed", "format.raised", "migrate=ok format=2"]);
    assert_eq!(world.indexed_replies(), 2);
    next.stop().check_code(0);
}
