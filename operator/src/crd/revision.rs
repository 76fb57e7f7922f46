//! The revision of the definition: an operator works with none that is older than its own.

use std::collections::BTreeMap;

/// Kept in the CRD as an annotation; an operator refuses to work with a CRD whose number is lower than its own.
pub const SCHEMA_REVISION: u32 = 5;
/// The annotation of the CRD that holds `SCHEMA_REVISION`.
pub const SCHEMA_REVISION_ANNOTATION: &str = "progressdb.io/schema-revision";

/// As Helm notes of what it installed.
const RELEASE: [&str; 2] = ["meta.helm.sh/release-name", "meta.helm.sh/release-namespace"];

/// Why this operator cannot work with a definition that has these annotations, and what to type.
pub fn too_old(crd: &str, annotations: &BTreeMap<String, String>) -> Option<String> {
    let revision: u32 = annotations.get(SCHEMA_REVISION_ANNOTATION).and_then(|text| text.parse().ok()).unwrap_or(0);
    if revision >= SCHEMA_REVISION {
        return None;
    }
    let [release, namespace] = RELEASE.map(|name| annotations.get(name));
    let command = match release.zip(namespace) {
        Some((release, namespace)) => format!("helm upgrade {release} charts/progressdb-crds -n {namespace}"),
        None => format!("kubectl apply --server-side -f crds/{crd}.yaml"),
    };
    Some(format!(
        "the CRD {crd} has revision {revision} and this operator needs {SCHEMA_REVISION}: upgrade the chart progressdb-crds \
         to the version of the operator ({command})"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(annotations: &[(&str, &str)]) -> Option<String> {
        let annotations = annotations.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        too_old("progressdbs.progressdb.io", &annotations.collect())
    }

    #[test]
    fn an_older_definition_is_told_with_the_command_that_brings_a_newer_one() {
        let newer = (SCHEMA_REVISION + 1).to_string();
        for revision in [&*SCHEMA_REVISION.to_string(), &*newer] {
            assert_eq!(judged(&[(SCHEMA_REVISION_ANNOTATION, revision)]), None);
        }
        let of_helm = [("meta.helm.sh/release-name", "crds"), ("meta.helm.sh/release-namespace", "infra")];
        for old in [&[(SCHEMA_REVISION_ANNOTATION, "4")][..], &[(SCHEMA_REVISION_ANNOTATION, "next")], &[]] {
            let told = judged(old).unwrap();
            assert!(told.contains("(kubectl apply --server-side -f crds/progressdbs.progressdb.io.yaml)"), "{told}");
            let told = judged(&[old, &of_helm[..]].concat()).unwrap();
            assert!(told.contains("(helm upgrade crds charts/progressdb-crds -n infra)"), "{told}");
            assert!(told.contains(&format!("this operator needs {SCHEMA_REVISION}: upgrade the chart")), "{told}");
        }
    }
}
