//! The annotation by which a person lets an upgrade pass gates and holds: `<id>/<name>@<time>`, several with commas. The id is
//! that of the upgrade, and the time that until which this is meant.

use jiff::Timestamp;

/// What can be let pass: gates, and after them holds.
pub const NAMES: [&str; 15] = [
    "Health",
    "Smoke",
    "Logs",
    "Metrics",
    "Prometheus",
    "Job",
    "Finalize-Health",
    "Finalize-Smoke",
    "Rehearsal-old-Smoke",
    "Rehearsal-new-Smoke",
    "Rehearsal",
    "Baseline",
    "Downtime",
    "Window",
    "Finalize",
];

/// The parts that can be read: `<id>/<name>` and the time.
pub fn read(text: &str) -> impl Iterator<Item = (String, Timestamp)> {
    parts(text).filter_map(|part| parse(part).ok()).map(|(what, until)| (what.to_owned(), until))
}

/// Why a part cannot be read, if one cannot that is not about another upgrade than that of this id.
pub fn not_understood(text: &str, id: Option<&str>) -> Option<String> {
    let is_ours = |part: &&str| part.split_once('/').is_none_or(|(of, _)| Some(of) == id);
    let odd: Vec<String> = parts(text).filter(is_ours).filter_map(|part| parse(part).err()).collect();
    (!odd.is_empty()).then(|| odd.join("; ").chars().take(500).collect())
}

/// Whether there is something of this name to let pass; else the names that there are.
pub fn known(name: &str) -> Result<(), String> {
    let is_known = NAMES.contains(&name);
    is_known
        .then_some(())
        .ok_or_else(|| format!("{name:?} is no gate or hold of an upgrade: there are {}", NAMES.join(", ")))
}

fn parts(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(str::trim).filter(|part| !part.is_empty())
}

fn parse(part: &str) -> Result<(&str, Timestamp), String> {
    let shape = || format!("{part:?} is not ID/NAME@TIME");
    let (what, until) = part.split_once('@').ok_or_else(shape)?;
    let (_, name) = what.split_once('/').ok_or_else(shape)?;
    known(name)?;
    let until = until.parse().map_err(|_| format!("{until:?} is no time such as 2030-01-31T12:00:00Z"))?;
    Ok((what, until))
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use super::*;

    #[test]
    fn what_can_be_read_counts_and_what_cannot_is_told_unless_it_is_about_another_upgrade() {
        let text = "a/Smoke@2030-01-01T00:00:00Z, b/Nothing@soon,a/Smok@2030-01-01T00:00:00Z,a/Logs@tomorrow,Health,";
        let read: Vec<String> = read(text).map(|(what, until)| format!("{what} {until}")).collect();
        assert_eq!(read, ["a/Smoke 2030-01-01T00:00:00Z"]);
        let odd = not_understood(text, Some("a")).unwrap();
        let parts: Vec<&str> = odd.split("; ").collect();
        assert!(parts[0].starts_with("\"Smok\" is no gate or hold of an upgrade: there are Health, Smoke, "), "{odd}");
        assert_eq!(
            parts[1..],
            ["\"tomorrow\" is no time such as 2030-01-31T12:00:00Z", "\"Health\" is not ID/NAME@TIME"]
        );
        assert_eq!(not_understood("a/Smoke@2030-01-01T00:00:00Z,b/Nothing@soon", Some("a")), None);
        assert_eq!((not_understood("", None), not_understood("b/Nothing@soon", None)), (None, None));
    }

    /// A name that only the code knows could be typed by nobody, and one that it does not know would do nothing.
    #[test]
    fn every_name_that_a_decision_asks_for_can_be_typed_and_is_documented() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let sources = fs::read_dir(root.join("src/decide/upgrade")).unwrap().map(|entry| entry.unwrap().path());
        let code: String =
            sources.filter(|path| path.is_file()).map(|path| fs::read_to_string(path).unwrap()).collect();
        let after = |call: &'static str| code.split(call).skip(1).filter_map(|rest| rest.split('"').next());
        let asked = [
            "is_overridden(\"",
            "override_command(\"",
            "settle(at, \"",
            "const HEALTH: &str = \"",
            "const SMOKE: &str = \"",
            "const NAME: &str = \"",
        ];
        let asked: Vec<&str> = asked.into_iter().flat_map(after).collect();
        assert!(asked.contains(&"Metrics") && asked.contains(&"Baseline") && asked.contains(&"Window"), "{asked:?}");
        assert_eq!(asked.iter().filter(|name| !NAMES.contains(*name)).collect::<Vec<_>>(), Vec::<&&str>::new());
        let page = fs::read_to_string(root.join("../docs/upgrades.md")).unwrap();
        let told = page.split("Override once:").nth(1).and_then(|rest| rest.split("\n\n").next()).unwrap();
        let missing: Vec<&&str> = NAMES.iter().filter(|name| !told.contains(&format!("`{name}`"))).collect();
        assert_eq!(missing, Vec::<&&str>::new(), "not in docs/upgrades.md");
    }
}
