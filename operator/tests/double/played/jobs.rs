//! The containers of Jobs, and the reports of the commands in them.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use testing::{
    Setup,
    command::{NEXT_PROGRAM, PROGRAM},
    http::Request,
};

use super::{NEW, OLD, Stage};
use crate::world::Image;

const OUT: &str = "--json --out /dev/termination-log";
const MASTER_KEY: &str = "8d1f2a3b4c5d6e7f8091a2b3c4d5e6f708192a3b4c5d6e7f8091a2b3c4d5e6f7";

/// The names of all fields; of a list, those of its first item.
fn fields(value: &Value, within: &str) -> BTreeSet<String> {
    match value {
        Value::Object(map) => {
            let of = |(name, value): (&String, &Value)| {
                let path = format!("{within}.{name}");
                let mut below = fields(value, &path);
                below.insert(path);
                below
            };
            map.iter().flat_map(of).collect()
        }
        Value::Array(items) => items.first().map(|item| fields(item, within)).unwrap_or_default(),
        _ => BTreeSet::new(),
    }
}

/// The version after this one, with a migration of each kind.
fn next() -> Image {
    Image { reads: (1, 2), writes: 2, start_migration: true, finalize_migration: true, ..Image::default() }
}

#[test]
fn the_reports_have_the_fields_of_the_real_ones() {
    if let Some(absent) = [PROGRAM, NEXT_PROGRAM].iter().find(|name| !testing::build_directory().join(name).exists()) {
        let test = "played::jobs::the_reports_have_the_fields_of_the_real_ones";
        return testing::missing(test, &format!("{absent} is not built"));
    }
    let old = Setup::new();
    let server = old.start();
    let thread = server.user("ann").create_thread("a thread");
    server.user("ann").append(&thread, "a message");
    server.stop().check_code(0);
    let setup = |setup: Setup| setup.set("format.finalize", "manual").set("encryption.kms.master_key_hex", MASTER_KEY);
    let real = setup(Setup::with_db(old.db()).next_version("next"));

    let mut stage = Stage::new();
    stage.world.images.insert(NEW.into(), next());
    stage.claim("data");
    stage.serve("db", "data", OLD);
    stage.service("db", "server");
    stage.steps(3);
    stage.scale("db", 0);
    stage.steps(2);

    let lines = [
        "version",
        "config check",
        "kms check",
        "inspect",
        "migrate --dry-run --finalize",
        "verify --digest",
        "migrate",
        "migrate --finalize",
        "inspect",
    ];
    for (number, line) in lines.into_iter().enumerate() {
        let words: Vec<&str> = line.split(' ').chain(["--json"]).collect();
        let said = real.run(&words);
        let told: Value = serde_json::from_str(&said.check_code(0).stdout).unwrap();
        // Checks have no message of their own: what they print is the log of the pod.
        let name = format!("job-{number}");
        stage.job(&name, "data", NEW, &[("main", &format!("{line} --json"))]);
        stage.steps(1);
        let pod = stage.get("Pod", &format!("{name}-pod"))["metadata"]["uid"].as_str().unwrap().to_owned();
        let log = stage.server.with(|store| store.logs[&pod].clone());
        let played: Value = serde_json::from_str(&log).unwrap();
        assert_eq!(fields(&played, line), fields(&told, line), "{line}: played {played}, real {told}");
    }
    let server = real.start();
    let told = server.send(&Request::get("/readyz")).check_status(200).json().clone();
    stage.replace("db", NEW);
    let address = stage.get("Pod", "db-0")["status"]["podIP"].as_str().unwrap().to_owned();
    let (status, played) = stage.world.servers().get(&address, "/readyz").unwrap();
    assert_eq!((status, fields(&played, "")), (200, fields(&told, "")), "played {played}, real {told}");
}

#[tokio::test]
async fn containers_run_one_after_the_other_and_tell_what_they_found() {
    let mut stage = Stage::new();
    stage.world.images.insert(NEW.into(), next());
    stage.world.job_seconds.insert("/migrate".into(), 30);
    stage.claim("data");
    stage.serve("db", "data", OLD);
    stage.steps(1);
    let root = stage.data("data").root(2);
    stage.scale("db", 0);
    stage.steps(2);
    let lines = [
        ("migrate", format!("migrate {OUT}")),
        ("digest", format!("verify --digest {OUT}")),
        ("main", format!("inspect {OUT}")),
    ];
    stage.job("job", "data", NEW, &lines.each_ref().map(|(name, line)| (*name, line.as_str())));
    stage.steps(1);
    let pod = stage.get("Pod", "job-pod");
    let states: Vec<&Value> =
        pod["status"]["initContainerStatuses"].as_array().unwrap().iter().map(|status| &status["state"]).collect();
    assert!(!states[0]["running"]["startedAt"].is_null(), "{pod}");
    assert_eq!(
        (&states[1]["waiting"]["reason"], &pod["status"]["phase"]),
        (&json!("PodInitializing"), &json!("Pending"))
    );
    assert_eq!(stage.data("data").prepared, 1);
    stage.steps(30);
    assert_eq!(stage.report("job", "migrate")["ran"][0]["seconds"], json!(30.0));
    assert_eq!(stage.data("data").prepared, 2);
    stage.steps(1);
    assert_eq!(stage.report("job", "digest")["root"], json!(root));
    assert_eq!(stage.report("job", "main")["pending"]["start"], json!([]));
    let at = |container: &str, what: &str| stage.ended("job", container)[what].as_str().unwrap().to_owned();
    assert!(at("migrate", "startedAt") < at("migrate", "finishedAt"));
    assert_eq!(
        (at("migrate", "finishedAt"), at("digest", "finishedAt")),
        (at("digest", "startedAt"), at("main", "startedAt"))
    );
    stage.steps(1);
    assert_eq!(stage.get("Job", "job")["status"]["conditions"][0]["type"], "Complete");
    // A pod's log is read as from a kubelet.
    let pods: kube::Api<k8s_openapi::api::core::v1::Pod> = kube::Api::namespaced(stage.server.client(), "ns");
    let log = pods.logs("job-pod", &kube::api::LogParams::default()).await.unwrap();
    assert_eq!((log.lines().count(), log.contains(&root)), (3, true), "{log}");
    assert!(pods.logs("none", &kube::api::LogParams::default()).await.is_err());
}

#[test]
fn a_container_that_fails_ends_the_job_and_none_comes_after_it() {
    // No data, an option that there is not, and what a test says.
    let cases = [
        ("inspect --json", false, 5, "error: /data/db holds no database: check --db\n"),
        ("kms check --json --out a", true, 2, "error: unexpected argument '--out' found\n"),
        ("told to fail", true, 78, "as told"),
    ];
    for (line, has_data, code, message) in cases {
        let mut stage = Stage::new();
        stage.world.failing_jobs.insert("told-pod/first".into(), "as told".into());
        stage.claim("data");
        if has_data {
            stage.serve("db", "data", OLD);
            stage.steps(1);
            stage.scale("db", 0);
            stage.steps(2);
        }
        let name = if line == "told to fail" { "told" } else { "job" };
        stage.job(name, "data", OLD, &[("first", line), ("second", "migrate --json")]);
        stage.steps(5);
        let ended = stage.ended(name, "first");
        assert_eq!((&ended["exitCode"], &ended["message"]), (&json!(code), &json!(message)), "{line}");
        assert_eq!(stage.ended(name, "second"), Value::Null, "{line}");
        assert_eq!(stage.get("Job", name)["status"]["conditions"][0]["type"], "Failed", "{line}");
    }
}

#[test]
fn a_job_that_ends_well_has_a_message_only_if_it_wrote_one_or_a_test_says_so() {
    let mut stage = Stage::new();
    stage.world.job_messages.insert("said".into(), "as told".into());
    stage.job("quiet", "", OLD, &[("version", "version --json")]);
    stage.job("told", "", OLD, &[("version", &format!("version {OUT}"))]);
    stage.job("said", "", OLD, &[("version", "version --json")]);
    stage.job("other", "", OLD, &[("other", "anything else")]);
    stage.steps(1);
    let message = |job: &str| {
        stage.get("Pod", &format!("{job}-pod"))["status"]["containerStatuses"][0]["state"]["terminated"]["message"]
            .clone()
    };
    assert_eq!((message("quiet"), message("other"), message("said")), (Value::Null, Value::Null, json!("as told")));
    assert_eq!(stage.report("told", "version")["version"], "0.3.0");
}

#[test]
fn a_rehearsal_runs_until_its_job_is_deleted() {
    let mut stage = Stage::new();
    stage.world.images.insert(NEW.into(), Image { ready_after: 3, ..next() });
    stage.claim("data");
    stage.serve("db", "data", OLD);
    stage.steps(2);
    stage.snapshot("cut", "data");
    stage.claim_from("staging", "cut");
    let digest = format!("verify --digest {OUT}");
    stage.job("rehearsal", "staging", NEW, &[("digest", &digest), ("rehearsal", "serve --rehearsal")]);
    stage.steps(3);
    let status = stage.get("Pod", "rehearsal-pod")["status"].clone();
    assert_eq!(
        (&status["phase"], &status["conditions"][0]["status"]),
        (&json!("Running"), &json!("False")),
        "{status}"
    );
    let address = status["podIP"].as_str().unwrap().to_owned();
    let answers = |stage: &Stage, path: &str| stage.world.servers().get(&address, path).map(|(status, _)| status);
    assert_eq!((answers(&stage, "/healthz"), answers(&stage, "/readyz")), (Some(200), Some(503)));
    stage.steps(30);
    assert_eq!((answers(&stage, "/healthz"), answers(&stage, "/readyz")), (Some(200), Some(200)));
    assert_eq!(stage.get("Job", "rehearsal")["status"], Value::Null);
    // Start migrations ran, and the format was left.
    let staging = stage.data("staging");
    assert_eq!((staging.format, staging.prepared, stage.data("data").prepared), (1, 2, 1));
    assert_eq!(stage.world.servers().commit(&address, 6), Some(staging.sequence + 6));
    stage.delete("Job", "rehearsal");
    stage.steps(1);
    assert_eq!((stage.get("Pod", "rehearsal-pod"), answers(&stage, "/healthz")), (Value::Null, None));
    assert_eq!(stage.world.broken, Vec::<String>::new());
}
