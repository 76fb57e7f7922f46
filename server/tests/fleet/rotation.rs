//! Two replicas that begin key epochs while both create threads.

use serde_json::{Value, json};
use testing::clock::Clock;
use testing::fleet::Fleet;
use testing::http::Request;
use testing::servers::secret_file;
use testing::{ADMIN_KEY, Setup, thread, wait_until};

use crate::world::{World, check_under_load};

/// How often each replica begins an epoch.
const ROUNDS: u64 = 4;
const MASTER_KEY: &str = "8d1f2a3b4c5d6e7f8091a2b3c4d5e6f708192a3b4c5d6e7f8091a2b3c4d5e6f7";

fn encrypted(setup: Setup) -> Setup {
    let file = secret_file(setup.root(), "master.key", MASTER_KEY);
    setup.set("encryption.enabled", true).set("encryption.kms.master_key_file", file)
}

/// Begins an epoch; false if the replica is not able to just now.
fn rotate(fleet: &Fleet, replica: usize) -> bool {
    let request = Request::new("POST", "/admin/encryption/rotate").key(ADMIN_KEY);
    let answer = fleet.replica(replica).send(&request);
    if answer.status != 202 {
        assert!([409, 503].contains(&answer.status), "{answer}");
        answer.check_error_shape();
    }
    answer.status == 202
}

fn epochs(fleet: &Fleet, replica: usize) -> (Vec<Value>, Value) {
    let status = fleet.replica(replica).admin("/admin/encryption/status").check_status(200).json();
    let epochs = status["epochs"].as_array().unwrap().iter().map(|epoch| epoch["epoch"].clone());
    (epochs.collect(), status["sealing"]["state"].clone())
}

#[test]
fn replicas_that_rotate_and_create_at_once_leave_no_key_that_does_not_open() {
    let test = "replicas_that_rotate_and_create_at_once_leave_no_key_that_does_not_open";
    let Some(world) = World::take(test) else { return };
    let fleet = world.fleet_of(2, |_, setup| encrypted(setup));
    check_under_load(test, world.ring(), &fleet, |load| {
        for _ in 0..ROUNDS {
            for replica in 0..2 {
                wait_until("an epoch is begun", || rotate(&fleet, replica));
                load.wait_for(10);
            }
        }
    });
    wait_until("the epochs before are retired on both", || {
        let found = [0, 1].map(|replica| epochs(&fleet, replica));
        found.iter().all(|(epochs, state)| epochs.len() == 1 && *epochs == found[0].0 && *state == json!("done"))
    });
    // A replica that had not heard of the newest epoch yet begins none beside it.
    assert!(epochs(&fleet, 0).0[0].as_u64().unwrap() > ROUNDS, "{:?}", epochs(&fleet, 0));
    let verifier = encrypted(Setup::new().with_keyspace(world.ring(), world.keyspace()));
    fleet.stop_all();
    let verified = verifier.run(&["kms", "verify", "--json"]);
    let report: Value = serde_json::from_str(&verified.check_code(0).stdout).unwrap();
    assert_eq!(report["failed"], json!(0), "{report}");
    assert!(report["data_keys"].as_u64().unwrap() > 3, "{report}");
}

/// A row that a fast clock has dated is sealed anew all the same.
#[test]
fn a_receipt_that_a_replica_ahead_of_time_wrote_opens_after_a_rotation() {
    let test = "a_receipt_that_a_replica_ahead_of_time_wrote_opens_after_a_rotation";
    let Some(world) = World::take(test) else { return };
    let directory = testing::temporary_directory();
    let Some(clock) = Clock::make(test, directory.path()) else { return };
    clock.set(120);
    let fleet = world.fleet_of(2, |replica, setup| match replica {
        0 => clock.of(encrypted(setup)),
        _ => encrypted(setup),
    });
    let user = fleet.replica(0).user("ann");
    let target = format!("{}?purge=true", thread(&user.create_thread("secret")));
    let erase = |replica: usize| {
        let user = fleet.replica(replica).user("ann");
        user.send(&user.request("DELETE", &target).header("Idempotency-Key", "once")).check_status(202).json()
    };
    let receipt = erase(0);
    wait_until("an epoch is begun", || rotate(&fleet, 1));
    wait_until("the epoch before is retired", || {
        let (epochs, state) = epochs(&fleet, 1);
        epochs == [json!(2)] && state == json!("done")
    });
    assert_eq!(erase(1), receipt);
    fleet.stop_all();
}
