//! The role of the servers loses its rights, its login and its password, and gets them back.

use std::path::Path;

use serde_json::json;
use testing::Setup;
use testing::fleet::Fleet;
use testing::servers::cassandra::{Options, Ring};
use testing::servers::secret_file;

use crate::world::{check_under_load, fleet_on, turn, wait_until_ready};

const KEYSPACE: &str = "accounts";

fn as_app(setup: Setup, password_file: &str) -> Setup {
    let credentials = json!({ "username": "app", "password_file": password_file });
    setup.set("storage.cassandra.credentials", credentials)
}

/// Two replicas that log in as `app`, with the password in that file.
fn fleet(ring: &Ring, directory: &Path) -> Fleet {
    let password_file = secret_file(directory, "password", "first");
    Setup::new().on_cassandra(ring, KEYSPACE);
    ring.execute("CREATE ROLE app WITH PASSWORD = 'first' AND LOGIN = true");
    ring.execute(&format!("GRANT ALL ON KEYSPACE {KEYSPACE} TO app"));
    fleet_on(ring, KEYSPACE, 2, |_, setup| as_app(setup, &password_file))
}

#[test]
fn what_is_revoked_is_refused_and_served_again_when_it_is_granted() {
    let test = "what_is_revoked_is_refused_and_served_again_when_it_is_granted";
    let _turn = turn();
    let Some(ring) = Ring::start(test, &Options::default().accounts()) else { return };
    let directory = testing::temporary_directory();
    let fleet = fleet(&ring, directory.path());
    let node = &ring.nodes()[0];
    check_under_load(test, &ring, &fleet, |load| {
        load.wait_for(50);
        ring.execute(&format!("REVOKE ALL ON KEYSPACE {KEYSPACE} FROM app"));
        load.wait_for_refusals(6);
        ring.execute(&format!("GRANT ALL ON KEYSPACE {KEYSPACE} TO app"));
        load.wait_for(50);

        // Connections that are open stay so: only who connects anew is asked.
        ring.execute("ALTER ROLE app WITH LOGIN = false");
        node.kill_9();
        node.restart();
        load.wait_for_refusals(6);
        ring.execute("ALTER ROLE app WITH LOGIN = true");
        load.wait_for(50);

        ring.execute("ALTER ROLE app WITH PASSWORD = 'second'");
        node.kill_9();
        node.restart();
        load.wait_for_refusals(6);
        secret_file(directory.path(), "password", "second");
        load.wait_for(50);
    });
    (0..fleet.size()).for_each(|replica| wait_until_ready(&fleet, replica));
    fleet.stop_all();
}
