//! Tables that are missing or of an older version: the server ends and says which command makes them.

use testing::Setup;

use crate::world::World;

/// It cannot be used, and both the check and the server say what to type.
#[track_caller]
fn check_unusable(setup: &Setup) {
    setup.run(&["schema", "check"]).check_code(78).check_says(&["progressdb schema apply"]);
    setup.refused_start().check_code(78).check_says(&["progressdb schema apply"]);
}

#[test]
fn a_server_without_its_tables_ends_with_78_and_the_command() {
    let Some(world) = World::take("a_server_without_its_tables_ends_with_78_and_the_command") else { return };
    let setup = Setup::new().with_keyspace(world.ring(), world.keyspace());
    check_unusable(&setup);
    setup.run(&["schema", "apply"]).check_code(0);
    setup.run(&["schema", "check"]).check_code(0);
    setup.run(&["schema", "apply"]).check_code(0);
    let server = setup.start();
    let t = server.user("ann").create_thread("kept");
    server.stop().check_code(0);

    let version = format!("UPDATE {}.meta SET v = 0x00000000 WHERE kind = 'schema' AND ck = 0x00", world.keyspace());
    world.ring().execute(&version);
    check_unusable(&setup);
    setup.run(&["schema", "apply"]).check_code(0);
    setup.run(&["schema", "check"]).check_code(0);
    assert_eq!(setup.start().user("ann").thread_keys(""), [t]);
}

#[test]
fn half_of_the_tables_are_completed() {
    let Some(world) = World::take("half_of_the_tables_are_completed") else { return };
    // A word of the language is a name as good as any.
    let setup = Setup::new().on_cassandra(world.ring(), "full");
    for table in ["slot", "expiry"] {
        world.ring().define(&format!("DROP TABLE \"full\".{table}"));
    }
    check_unusable(&setup);
    setup.run(&["schema", "apply"]).check_code(0);
    setup.start().user("ann").create_thread("works");
}
