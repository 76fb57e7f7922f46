//! What the new image says of its release: kept for whoever decides about the upgrade, and refused where the version that runs
//! is too old for it. An image that says nothing of its release is taken without that.

use serde_json::Value;

use super::{At, Next, short};
use crate::crd::{MigrationNote, ReleaseNotes, UpgradeStatus};

/// The most sentences, and the most migrations, that are kept.
const MOST: usize = 64;

/// What the report of `version --json` says of the release.
pub(super) fn of(report: &Value) -> Option<ReleaseNotes> {
    let release = report.get("release").filter(|release| release.is_object())?;
    let format = |pointer: &str| number(report.pointer(pointer));
    let texts = |list: &Value| list.as_array().cloned().unwrap_or_default().into_iter().take(MOST);
    Some(ReleaseNotes {
        upgrades_from: release["upgrades_from"].as_str().map(short),
        breaking: texts(&release["breaking"]).filter_map(|text| text.as_str().map(short)).collect(),
        reads_from: format("/formats/reads/0"),
        reads_to: format("/formats/reads/1"),
        writes: format("/formats/writes"),
        migrations: texts(&release["migrations"]).map(|migration| note(&migration)).collect(),
    })
}

fn note(migration: &Value) -> MigrationNote {
    let text = |field: &str| migration[field].as_str().map(short).unwrap_or_default();
    let format = |field: &str| number(migration.get(field)).unwrap_or_default();
    MigrationNote {
        name: text("name"),
        from: format("from"),
        to: format("to"),
        at: text("at"),
        cost: text("cost"),
        undo: text("undo"),
    }
}

fn number(value: Option<&Value>) -> Option<i32> {
    value.and_then(Value::as_i64).and_then(|number| i32::try_from(number).ok())
}

/// Holds an upgrade from a version that the new one does not follow on.
pub(super) fn too_old(at: At<'_>, record: &UpgradeStatus) -> Option<Next> {
    let (runs, oldest) = (record.from.version.as_deref()?, record.notes.as_ref()?.upgrades_from.as_deref()?);
    if Version::of(runs)? >= Version::of(oldest)? {
        return None;
    }
    let name = at.case.name;
    let new = record.to.version.as_deref().unwrap_or(&record.to.image);
    let message = format!(
        "{name} runs {runs}, and {new} is upgraded to from {oldest} on: upgrade to {oldest} first, and then to {new}"
    );
    let image = image_of(record, oldest).unwrap_or_else(|| format!("IMAGE-OF-{oldest}"));
    Some(Next::hold("VersionTooOld", message, Some(format!("kubectl progressdb upgrade {name} --image {image}"))))
}

/// The image of another version, if the new one's tag is that of its version.
fn image_of(record: &UpgradeStatus, version: &str) -> Option<String> {
    let (repository, tag) = record.to.image.rsplit_once(':').filter(|(_, tag)| !tag.contains('/'))?;
    let own = record.to.version.as_deref().filter(|_| !repository.contains('@'))?;
    tag.contains(own).then(|| format!("{repository}:{}", tag.replacen(own, version, 1)))
}

/// What whoever approves it should know, to be said behind something else.
pub(super) fn warning(record: &UpgradeStatus) -> String {
    match record.notes.as_ref().map_or(0, |notes| notes.breaking.len()) {
        0 => String::new(),
        1 => "; it changes 1 thing on which somebody may rest: see status.upgrade.notes".to_owned(),
        count => format!("; it changes {count} things on which somebody may rest: see status.upgrade.notes"),
    }
}

/// A version as it is compared: what comes before a release is older than it, and what is built of it is the same.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Version {
    numbers: [u64; 3],
    is_released: bool,
}

impl Version {
    fn of(text: &str) -> Option<Self> {
        let text = text.strip_prefix('v').unwrap_or(text);
        let text = text.split_once('+').map_or(text, |(version, _)| version);
        let (numbers, is_released) = text.split_once('-').map_or((text, true), |(numbers, _)| (numbers, false));
        let parts: Option<Vec<u64>> = numbers.split('.').map(|part| part.parse().ok()).collect();
        Some(Self { numbers: parts?.try_into().ok()?, is_released })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{super::test_scene::Scene, *};
    use crate::crd::UpgradeStep;

    #[test]
    fn what_the_image_says_of_its_release_is_kept() {
        let migration = json!({
            "number": 1, "name": "heads", "from": 1, "to": 2, "at": "finalize", "cost": "a minute", "undo": "none",
        });
        let report = json!({
            "version": "0.5.0",
            "formats": { "reads": [1, 2], "writes": 2 },
            "release": { "upgrades_from": "0.4.0", "breaking": ["`GET /a` is gone."], "migrations": [migration] },
        });
        let notes = of(&report).unwrap();
        let kept = json!({
            "upgradesFrom": "0.4.0",
            "breaking": ["`GET /a` is gone."],
            "readsFrom": 1, "readsTo": 2, "writes": 2,
            "migrations": [{ "name": "heads", "from": 1, "to": 2, "at": "finalize", "cost": "a minute", "undo": "none" }],
        });
        assert_eq!(json!(notes), kept);
        let long = json!({ "release": { "breaking": vec!["x".repeat(2_000); 100] } });
        let notes = of(&long).unwrap();
        assert_eq!((notes.breaking.len(), notes.breaking[0].len()), (MOST, 1_000), "the status has room for so much");
        for silent in [json!({ "version": "0.3.0" }), json!({ "release": null }), json!({ "release": "0.3.0" })] {
            assert_eq!(of(&silent), None, "{silent}");
        }
    }

    #[test]
    fn versions_are_compared_as_versions_are() {
        let ascending = ["0.3.0-rc.1", "0.3.0", "v0.3.1", "0.10.0", "1.0.0-beta", "1.0.0"].map(Version::of);
        assert!(ascending.iter().all(Option::is_some) && ascending.is_sorted_by(|a, b| a < b), "{ascending:?}");
        assert_eq!(Version::of("0.3.0+build.7"), Version::of("0.3.0"));
        for text in ["", "0.3", "0.3.0.1", "next", "0.3.x"] {
            assert_eq!(Version::of(text), None, "{text}");
        }
    }

    fn judged(runs: Option<&str>, from: Option<&str>, image: &str) -> Option<Next> {
        let mut scene = Scene::new(UpgradeStep::Preflight, json!({}));
        scene.record.from.version = runs.map(str::to_owned);
        (scene.record.to.version, scene.record.to.image) = (Some("0.5.0".into()), image.into());
        scene.record.notes = Some(ReleaseNotes { upgrades_from: from.map(str::to_owned), ..ReleaseNotes::default() });
        too_old(scene.at(), &scene.record)
    }

    #[test]
    fn a_version_that_is_too_old_is_told_which_to_take_first() {
        for (image, command) in [
            ("registry:5000/progressdb:0.5.0", "registry:5000/progressdb:0.4.0"),
            ("progressdb:v0.5.0-alpine", "progressdb:v0.4.0-alpine"),
            ("progressdb:stable", "IMAGE-OF-0.4.0"),
            ("registry:5000/progressdb", "IMAGE-OF-0.4.0"),
            ("progressdb@sha256:0.5.0", "IMAGE-OF-0.4.0"),
        ] {
            let Some(Next::Hold(hold)) = judged(Some("0.3.9"), Some("0.4.0"), image) else { panic!("{image}") };
            assert_eq!(hold.reason, "VersionTooOld");
            assert!(hold.message.contains("db runs 0.3.9, and 0.5.0 is upgraded to from 0.4.0 on"), "{}", hold.message);
            assert_eq!(hold.next_command.unwrap(), format!("kubectl progressdb upgrade db --image {command}"));
        }
        for (runs, from) in [
            (Some("0.4.0"), Some("0.4.0")),
            (Some("0.6.0"), Some("0.4.0")),
            (None, Some("0.4.0")),
            (Some("0.3.0"), None),
            (Some("dev"), Some("0.4.0")),
        ] {
            assert_eq!(judged(runs, from, "progressdb:0.5.0"), None, "{runs:?}, {from:?}");
        }
    }
}
