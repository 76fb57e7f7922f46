//! The layers of the operator: what a module of `src` may use of the others. The arrows are those of the map in
//! `docs/architecture.md`.

use std::path::Path;

use testing::layers;

/// What each module may use, beside itself. `lib.rs` and `main.rs` use what they like, and so do tests.
const MAY_USE: [(&str, &[&str]); 28] = [
    (
        "controller",
        &[
            "apply",
            "clock",
            "conditions",
            "crd",
            "decide",
            "desired",
            "error",
            "facts",
            "gate",
            "gates",
            "lease",
            "notify",
            "objects",
            "observe",
            "raw",
            "refusals",
            "status",
            "telemetry",
        ],
    ),
    ("notify", &["apply", "crd", "error", "telemetry"]),
    ("report", &["apply", "conditions", "crd", "error", "objects", "raw", "status", "telemetry"]),
    (
        "apply",
        &["crd", "decide", "drift", "error", "kind", "lease", "objects", "observe", "outcomes", "raw", "telemetry"],
    ),
    ("refusals", &["decide"]),
    // Pure: neither what reads nor what writes, and no JSON of the cluster.
    ("decide", &["conditions", "crd", "desired", "drift", "facts", "gate", "kind", "objects", "status"]),
    ("status", &["conditions", "crd", "facts", "objects"]),
    ("facts", &["conditions", "crd", "desired", "drift", "gate", "kind", "objects", "observe", "outcomes"]),
    ("desired", &["conditions", "crd", "drift", "kind", "objects", "observe"]),
    ("observe", &["crd", "drift", "error", "gate", "kind", "objects", "outcomes", "probe", "raw"]),
    ("outcomes", &["drift"]),
    ("gates", &["crd", "error", "gate", "objects", "probe"]),
    ("plugin", &["args", "clock", "conditions", "crd", "kind", "objects", "raw"]),
    // Pure as well.
    ("gate", &["crd"]),
    ("objects", &["crd", "drift", "hash", "kind"]),
    ("drift", &["hash"]),
    ("lease", &["clock", "error"]),
    ("telemetry", &["args", "metrics"]),
    ("metrics", &[]),
    ("raw", &["crd"]),
    ("conditions", &[]),
    ("crd", &[]),
    ("kind", &[]),
    ("error", &[]),
    ("clock", &[]),
    ("probe", &[]),
    ("args", &[]),
    ("hash", &[]),
];

#[test]
fn arrows_between_modules_go_down_only() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let is_test = |parts: &[&str]| parts.iter().any(|part| part.starts_with("test") || *part == "golden");
    let wrong = layers::wrong_arrows(&root, &MAY_USE, is_test);
    assert!(wrong.is_empty(), "arrows that go up or across:\n{}", wrong.join("\n"));
}

#[test]
fn no_two_modules_may_use_each_other() {
    assert_eq!(layers::in_a_circle(&MAY_USE), [].into());
}
