//! A rehearsal on a copy of the data, where everything is configured that a server does by itself: it does none of it.

use serde_json::{Value, json};
use testing::servers::Provider;
use testing::servers::object_store::ObjectStore;
use testing::{ADMIN_KEY, Server, Setup, message, thread, wait_until};

use crate::stores::{back_up, json_of, setup_for};
use crate::tree::tree;

/// How often the KMS is probed while the rehearsal is watched: three seconds, and each job would run every second.
const PROBES: usize = 15;

/// What a server does on the same directory under the same settings, each told by an event. Retention waits for a minute
/// where the clock is in doubt, and says so.
const JOBS: [&str; 8] = [
    "backup.verified",
    "backup.pruned",
    "event=\"retention.",
    "encryption.epoch_rewrapped",
    "encryption.epoch_created",
    "encryption.sealed",
    "encryption.epoch_retired",
    "encryption.compacted",
];

#[test]
fn a_rehearsal_leaves_bucket_data_and_keys_as_they_were() {
    let Some(store) = ObjectStore::versitygw("a_rehearsal_leaves_bucket_data_and_keys_as_they_were") else { return };
    let (provider, url, bucket) = (Provider::http(), store.url("s"), store.files.clone().unwrap());
    provider.service().tell_versions();
    let setup = sealed(setup_for(&store, store.addr), &provider);
    let keys = leave_work(&setup);
    back_up(&setup, &url);
    provider.service().rotate_key();
    let setup = eager(setup, &url);
    let (objects, data, asked) = (tree(&bucket), state(&setup), provider.proxy().count());

    let rehearsal = Server::spawn(setup.command(&["serve", "--rehearsal"])).ready();
    wait_until("it has been watched", || provider.proxy().count() >= asked + PROBES);
    assert_eq!(wrapped_keys(&rehearsal), keys);
    let finished = rehearsal.stop();
    finished.check_code(0);
    let done: Vec<_> = JOBS.iter().filter(|job| finished.said().contains(**job)).collect();
    assert_eq!(done, [&""; 0], "{}", finished.said());
    assert!(
        provider.proxy().calls()[asked..].iter().all(|call| call.target == "/decrypt"),
        "the KMS wrapped something"
    );
    assert!(tree(&bucket) == objects, "the bucket was changed");
    assert_eq!(state(&setup), data);

    let server = setup.start();
    for job in JOBS {
        wait_until(&format!("a server does {job}"), || server.log().contains(job));
    }
    server.stop().check_code(0);
}

fn sealed(setup: Setup, provider: &Provider) -> Setup {
    let setup = setup.set("encryption.enabled", true).set("encryption.rewrap_rate", 1);
    let setup = setup.set("encryption.kms.probe_interval", "200ms");
    provider.settings().iter().fold(setup, |setup, (name, value)| setup.environment(name, value))
}

/// Every job has something to do, and does it at once.
fn eager(setup: Setup, destination: &str) -> Setup {
    let setup = setup.set("backup.schedule", "* * * * * *").set("backup.destination", destination);
    let setup = setup.set("backup.keep", 1).set("retention.enabled", true).set("retention.cron", "* * * * * *");
    let setup = setup.set("retention.mttl", "1ms").set("retention.tttl", "1ms");
    let setup = setup.set("encryption.epoch_age", "1s").set("encryption.erasure_horizon", "0s");
    setup.set("encryption.rewrap_rate", 1000)
}

/// Leaves a deleted message, a deleted thread, an erasure and a rotation that has just begun. Returns the wrapped keys.
fn leave_work(setup: &Setup) -> Value {
    let server = setup.start();
    for number in 0..10 {
        server.user(&format!("user-{number}")).create_thread("kept");
    }
    let user = server.user("ann");
    let [kept, deleted, erased] = ["kept", "deleted", "erased"].map(|title| user.create_thread(title));
    let gone = user.append(&kept, "deleted");
    user.append(&kept, "kept");
    user.delete(&message(&kept, &gone)).written();
    user.delete(&thread(&deleted)).written();
    user.delete(&format!("{}?purge=true", thread(&erased))).check_status(202);
    let rotate = testing::http::Request::new("POST", "/admin/encryption/rotate").key(ADMIN_KEY);
    server.send(&rotate).check_json(202, &json!({ "dry_run": false, "epoch": 2 }));
    let keys = wrapped_keys(&server);
    assert_eq!(keys.as_array().map(Vec::len), Some(2), "{keys}");
    server.stop().check_code(0);
    keys
}

fn wrapped_keys(server: &Server) -> Value {
    server.admin("/admin/encryption/wrapped-keys").check_status(200).json()["keys"].clone()
}

/// What a stopped database says of itself: its digest and the count of everything in it, to the byte.
fn state(setup: &Setup) -> [Value; 2] {
    let mut verified = json_of(&setup.run(&["verify", "--json"]));
    verified.as_object_mut().unwrap().remove("seconds");
    [verified, json_of(&setup.run(&["inspect", "--json"]))]
}
