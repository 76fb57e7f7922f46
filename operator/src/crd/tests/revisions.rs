//! Each schema has a revision of its own: `operator/src/crd/revisions.txt` has the digest of each.

use serde_json::Value;

use super::{SCHEMA_REVISION, definition};
use crate::golden;

const KNOWN: &str = "operator/src/crd/revisions.txt";

/// What the file is to hold, with a line for this revision; or why that cannot be.
fn judge(known: &str, revision: u32, digest: &str) -> Result<String, String> {
    let last = known.lines().last().and_then(|line| line.split_once(' '));
    match last.map(|(number, digest)| (number.parse().unwrap_or(u32::MAX), digest)) {
        Some((last, same)) if last == revision && same == digest => Ok(known.to_owned()),
        Some((last, _)) if last >= revision => Err(format!(
            "the schema is another one than that of revision {last}: raise SCHEMA_REVISION and the annotation of the CRD, and \
             have UPDATE=1 add a line to {KNOWN}"
        )),
        _ => Ok(format!("{known}{revision} {digest}\n")),
    }
}

/// Of all that the API server acts on; explanations may change.
fn digest() -> String {
    let mut spec = serde_json::to_value(definition().spec).unwrap();
    without_descriptions(&mut spec);
    crate::hash::hash(spec.to_string().as_bytes())
}

fn without_descriptions(schema: &mut Value) {
    match schema {
        Value::Object(fields) => {
            fields.retain(|name, value| name != "description" || !value.is_string());
            fields.values_mut().for_each(without_descriptions);
        }
        Value::Array(items) => items.iter_mut().for_each(without_descriptions),
        _ => {}
    }
}

#[test]
fn another_schema_has_another_revision() {
    match judge(&golden::read(KNOWN), SCHEMA_REVISION, &digest()) {
        Ok(text) => golden::check(KNOWN, &text),
        Err(why) => panic!("{why}"),
    }
}

#[test]
fn a_schema_that_keeps_its_revision_is_refused() {
    let known = "4 aa\n5 bb\n";
    assert_eq!(judge(known, 5, "bb").as_deref(), Ok(known));
    assert_eq!(judge(known, 6, "cc").as_deref(), Ok("4 aa\n5 bb\n6 cc\n"));
    assert_eq!(judge("", 5, "bb").as_deref(), Ok("5 bb\n"));
    for (revision, digest) in [(5, "cc"), (4, "aa"), (4, "bb")] {
        assert!(judge(known, revision, digest).is_err(), "{revision} {digest}");
    }
}
