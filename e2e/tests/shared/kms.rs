//! Key management: each provider of `spec.kms` for the server's own identity, from the canary Job to a rotation. What
//! plays them runs on this machine, so a cluster of somebody else's skips these tests.
//!
//! Providers are tested at the same time: most of a test is waiting for a kubelet, or for the operator's next look.

mod player;
mod upgrades;

use serde_json::{Value, json};

use self::player::{Identity, Player, SECRET, Way};
use progressdb_e2e::{Client, Database, Namespace, is_own_cluster, wait_until};
use testing::skip;

/// Runs `check` with every one of these at once, each in a namespace of its own.
fn for_every(test: &str, ways: &[Way], check: impl Fn(&mut Player, &Namespace) + Sync) {
    if !is_own_cluster() {
        return skip(test, "what plays a KMS runs on this machine, which only pods of a cluster made here reach");
    }
    let check = &check;
    let run = |way: Way| {
        let namespace = Namespace::new(&format!("kms-{way:?}").to_lowercase());
        if let Some(mut player) = Player::start(way, test, &namespace) {
            check(&mut player, &namespace);
        }
    };
    std::thread::scope(|scope| {
        let running: Vec<_> = ways.iter().map(|way| (way, scope.spawn(move || run(*way)))).collect();
        let failed = running.into_iter().filter_map(|(way, thread)| thread.join().is_err().then_some(*way));
        assert_eq!(failed.collect::<Vec<_>>(), [], "the providers that failed");
    });
}

/// A database whose KMS is looked after all the time.
fn database<'a>(player: &Player, namespace: &'a Namespace) -> Database<'a> {
    let often = json!({ "probe_interval": "1s", "probe_interval_failing": "1s" });
    namespace.database("chat", json!({ "kms": player.spec(), "settings": { "encryption": { "kms": often } } }))
}

/// The state of encryption, as the server tells it.
#[track_caller]
fn status(administrator: &Client) -> Value {
    administrator.get("/admin/encryption/status").json()
}

/// How often the server's KMS has done an operation since the server started.
#[track_caller]
fn successes(administrator: &Client, operation: &str) -> f64 {
    let text = administrator.get("/metrics").text();
    let labels = [format!("operation=\"{operation}\""), "outcome=\"ok\"".to_owned()];
    let lines = text.lines().filter(|line| line.starts_with("progressdb_kms_calls_total{"));
    let lines = lines.filter(|line| labels.iter().all(|label| line.contains(label)));
    lines.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).sum()
}

/// Waits until the server has asked its KMS again, with success.
#[track_caller]
fn wait_for_probes(administrator: &Client) {
    let before = successes(administrator, "probe");
    wait_until("two more probes succeed", || successes(administrator, "probe"), |now| *now >= before + 2.0);
}

/// The canary Jobs that are there.
fn canaries(namespace: &Namespace) -> Vec<Value> {
    let jobs = namespace.names("Job").into_iter().filter(|name| name.starts_with("chat-kms-check-"));
    jobs.map(|name| namespace.get("Job", &name)).collect()
}

/// The resource says that its KMS works.
#[track_caller]
fn check_keys_are_well(database: &Database<'_>, way: Way) {
    let message = database.wait_for("KeyManagementReady", "True", "Answered", &[]);
    assert_eq!(message, "the KMS wrapped and unwrapped a key");
    database.ready();
    let kms = || database.get()["status"]["kms"].clone();
    wait_until("the status names the key", kms, |kms| {
        let has_key = kms["keyId"].as_str().is_some_and(|key| !key.is_empty());
        has_key && kms["provider"] == way.provider() && kms["ok"] == true
    });
    assert_eq!(database.status_of("Stalled"), "False");
}

/// Waits until the resource says what is wrong with its KMS, and is stalled by it.
#[track_caller]
fn wait_for_keys_failure(database: &Database<'_>, reason: &str, words: &str) {
    database.wait_for("KeyManagementReady", "False", reason, &[words]);
    database.wait_for("Stalled", "True", reason, &[words]);
    assert_eq!(database.get()["status"]["kms"]["ok"], json!(false));
}

#[test]
fn every_provider_seals_what_is_written_and_opens_it_for_the_next_pod() {
    let test = "every_provider_seals_what_is_written_and_opens_it_for_the_next_pod";
    for_every(test, &Way::ALL, |player, namespace| {
        player.give(Identity::First, namespace);
        let database = database(player, namespace);
        database.ready();
        check_keys_are_well(&database, player.way);
        check_canary_came_first(namespace);
        let client = database.client("ann");
        let thread = client.create_thread("sealed");
        client.append(&thread, json!("hello"));

        let administrator = database.administrator();
        check_is_sealed_by(&administrator, player.way);
        let uid = database.pod_uid();
        namespace.kill(&database.pod());
        database.wait_for_other_pod(&uid);
        assert_eq!(client.bodies(&thread), [json!("hello")]);
        assert_eq!(successes(&administrator, "unwrap"), 1.0, "the KMS is asked for what opens the rest");
        check_is_sealed_by(&administrator, player.way);
    });
}

/// The Job had ended well when the StatefulSet was made.
fn check_canary_came_first(namespace: &Namespace) {
    let jobs = canaries(namespace);
    let ended: Vec<&Value> = jobs.iter().map(|job| &job["status"]["completionTime"]).collect();
    let made = &namespace.get("StatefulSet", "chat")["metadata"]["creationTimestamp"];
    let [Value::String(ended)] = ended[..] else { panic!("one canary should have ended: {jobs:?}") };
    // Both are RFC 3339 to the second in UTC.
    assert!(ended.as_str() <= made.as_str().unwrap(), "the canary ended at {ended}, the StatefulSet is from {made}");
    assert_eq!(jobs[0]["spec"]["template"]["spec"]["serviceAccountName"], "chat", "it is who the server is");
}

#[track_caller]
fn check_is_sealed_by(administrator: &Client, way: Way) {
    let status = status(administrator);
    assert_eq!((&status["enabled"], &status["all_sealed"]), (&json!(true), &json!(true)), "{status}");
    assert_eq!(status["kms"]["provider"], way.provider());
    let wrapped_by = status["epochs"][0]["wrapped_by"].as_str().unwrap();
    assert!(wrapped_by.starts_with(&format!("{}:", way.provider())), "{status}");
}

#[test]
fn missing_and_wrong_credentials_start_nothing_and_heal_by_themselves() {
    let test = "missing_and_wrong_credentials_start_nothing_and_heal_by_themselves";
    for_every(test, &Way::ALL, |player, namespace| {
        let database = database(player, namespace);
        let (reason, words) = player.way.said_without();
        wait_for_keys_failure(&database, reason, words);
        check_nothing_started(namespace);
        player.give(Identity::Wrong, namespace);
        wait_for_keys_failure(&database, "KmsFailed", player.way.said_to_wrong());
        check_nothing_started(namespace);
        assert!(canaries(namespace).len() <= 1, "it is asked again, and not by more and more Jobs");
        player.give(Identity::First, namespace);
        check_keys_are_well(&database, player.way);
        let client = database.client("ann");
        client.append(&client.create_thread("late"), json!("hello"));
        database.check_still_runs(&database.pod_uid());
    });
}

/// There is no server, and no pod that is started over and over.
fn check_nothing_started(namespace: &Namespace) {
    assert_eq!(namespace.find("StatefulSet", "chat"), None);
    for pod in namespace.list("Pod", "") {
        assert_eq!(pod["metadata"]["labels"]["app.kubernetes.io/component"], "job", "{pod}");
        let restarts = &pod["status"]["containerStatuses"][0]["restartCount"];
        assert!(restarts.is_null() || *restarts == 0, "{pod}");
    }
}

#[test]
fn wrong_credentials_stop_no_server_that_runs() {
    let with_secret = [Way::Aws, Way::VaultToken, Way::VaultAppRole, Way::Http, Way::Embedded];
    for_every("wrong_credentials_stop_no_server_that_runs", &with_secret, |player, namespace| {
        player.give(Identity::First, namespace);
        let database = database(player, namespace);
        let client = database.ready().client("ann");
        let thread = client.create_thread("runs");
        let uid = database.pod_uid();
        player.give(Identity::Wrong, namespace);
        wait_for_keys_failure(&database, "KmsFailed", player.way.said_to_wrong());
        assert_eq!(database.status_of("Available"), "True");
        client.append(&thread, json!("meanwhile"));
        namespace.delete("Secret", SECRET);
        wait_for_keys_failure(&database, "SecretMissing", SECRET);
        client.append(&thread, json!("without"));
        player.give(Identity::First, namespace);
        check_keys_are_well(&database, player.way);
        client.append(&thread, json!("afterwards"));
        assert_eq!(client.bodies(&thread), ["meanwhile", "without", "afterwards"].map(Value::from));
        database.check_still_runs(&uid);
    });
}

#[test]
fn credentials_that_are_replaced_in_their_secret_are_used_without_a_restart() {
    let replaced = [Way::Aws, Way::VaultToken, Way::VaultAppRole, Way::Http];
    let test = "credentials_that_are_replaced_in_their_secret_are_used_without_a_restart";
    for_every(test, &replaced, |player, namespace| {
        player.give(Identity::First, namespace);
        let database = database(player, namespace);
        let client = database.ready().client("ann");
        let thread = client.create_thread("kept");
        client.append(&thread, json!("before"));
        let (uid, administrator) = (database.pod_uid(), database.administrator());
        wait_for_probes(&administrator);
        assert_eq!(player.proofs(0)[1], 0, "nobody is the second one yet");

        player.give(Identity::Second, namespace);
        let proofs = || {
            let calls = player.calls();
            player.end_sessions();
            wait_for_probes(&administrator);
            player.proofs(calls)
        };
        wait_until("the server is the second one", proofs, |[first, second]| *first == 0 && *second > 0);
        player.revoke_first();
        let calls = player.calls();
        wait_for_probes(&administrator);
        rotate(&administrator);
        client.append(&thread, json!("after"));
        assert_eq!(client.bodies(&thread), [json!("before"), json!("after")]);
        assert_eq!(player.proofs(calls)[0], 0, "the first one is not used any more");
        check_keys_are_well(&database, player.way);
        database.check_still_runs(&uid);
        let log = namespace.log(&database.pod()).unwrap();
        let denied = |line: &str| line.contains("kms.failing") && line.contains("denies access");
        assert!(log.contains("kms.wrapped") && !log.lines().any(denied), "{log}");
    });
}

/// Has the KMS wrap a new key, and waits until nothing needs the old one.
#[track_caller]
fn rotate(administrator: &Client) {
    // It is answered with 503, and tried again, when the KMS was too slow; nothing has begun then.
    administrator.send(&administrator.request("POST", "/admin/encryption/rotate")).check_status(202);
    wait_until(
        "everything is at the new epoch",
        || status(administrator),
        |status| status["epochs"].as_array().unwrap().iter().all(|epoch| epoch["epoch"] == 2),
    );
}
