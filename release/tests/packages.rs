//! What is released, made from the programs that are built for the tests: the same bytes each time, and in them what their
//! names say. Compiling twice takes long and is `make reproducible`.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

use serde_json::{Value, json};
use testing::command::binary_named;
use testing::{build_directory, finish, missing, temporary_directory};

const VERSION: &str = env!("CARGO_PKG_VERSION");

/// A release of this checkout, made once for all tests; `None` where the machine lacks what makes one.
static RELEASE: LazyLock<Option<PathBuf>> = LazyLock::new(|| {
    for tool in ["buildah", "jq", "git"] {
        if Command::new(tool).arg("--version").output().is_err() {
            missing("packages", &format!("there is no {tool}, which puts a release together"));
            return None;
        }
    }
    let directory = build_directory().parent().unwrap().join("tmp/release");
    package(&directory, &[("TZ", "UTC"), ("LC_ALL", "C")], 0o022);
    Some(directory)
});

/// `amd64` or `arm64`: that of this machine, in Debian's words.
fn architecture() -> String {
    let mut command = Command::new("dpkg");
    command.arg("--print-architecture");
    finish(command).check_code(0).stdout.trim().to_owned()
}

/// The root of the checkout.
fn checkout() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// Packs the programs that lie beside the tests, as somebody with this environment and this mask.
fn package(directory: &Path, environment: &[(&str, &str)], mask: u32) {
    for name in ["progressdb", "progressdb-operator", "release-documents"] {
        binary_named(name);
    }
    let script = checkout().join("scripts/release/package");
    let line = format!("umask {mask:03o} && exec \"$@\"");
    let mut command = Command::new("sh");
    command.args(["-c", &line, "sh"]).arg(script).arg(directory);
    command.arg(format!("{}={}", architecture(), build_directory().display()));
    command.envs(environment.iter().copied()).env_remove("COSIGN_KEY").env_remove("COSIGN_KEYLESS");
    // It takes longer on a busy machine than other commands may.
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("release: not signed"), "{said}");
}

fn path(directory: &Path, kind: &str) -> PathBuf {
    directory.join(kind.replace("VERSION", VERSION).replace("ARCH", &format!("linux-{}", architecture())))
}

fn json_of(directory: &Path, kind: &str) -> Value {
    serde_json::from_slice(&fs::read(path(directory, kind)).unwrap()).unwrap()
}

/// Unpacks an archive and says what is in it as `tar` lists it: mode, owner, size, time, name.
fn unpack(archive: &Path, to: &Path) -> Vec<String> {
    let mut list = Command::new("tar");
    list.args(["--list", "--verbose", "--numeric-owner", "--full-time", "--utc", "--file"]).arg(archive);
    let listed = finish(list).check_code(0).stdout.lines().map(str::to_owned).collect();
    let mut extract = Command::new("tar");
    extract.args(["--extract", "--file"]).arg(archive).arg("--directory").arg(to);
    finish(extract).check_code(0);
    listed
}

fn contents(directory: &Path) -> BTreeMap<String, Vec<u8>> {
    let files = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    files.map(|file| (file.file_name().unwrap().to_str().unwrap().to_owned(), fs::read(&file).unwrap())).collect()
}

fn strings<'a>(list: &'a Value, key: &'a str) -> BTreeSet<&'a str> {
    list.as_array().unwrap().iter().map(|each| each[key].as_str().unwrap()).collect()
}

#[test]
fn the_same_programs_give_the_same_bytes_to_everybody() {
    let Some(first) = RELEASE.as_ref() else { return };
    let work = temporary_directory();
    let (second, deeper) = (work.path().join("second"), work.path().join("a/directory/somewhere/else"));
    fs::create_dir_all(&deeper).unwrap();
    let elsewhere = deeper.to_str().unwrap();
    let environment =
        [("TMPDIR", elsewhere), ("TZ", "Asia/Kathmandu"), ("LC_ALL", "C.UTF-8"), ("GZIP", "-1"), ("USER", "b")];
    package(&second, &environment, 0o077);
    let (first, second) = (contents(first), contents(&second));
    assert_eq!(first.keys().collect::<Vec<_>>(), second.keys().collect::<Vec<_>>());
    for (name, bytes) in &first {
        assert!(*bytes == second[name], "{name} differs");
    }
}

#[test]
fn the_sums_are_those_of_all_files() {
    let Some(release) = RELEASE.as_ref() else { return };
    let mut check = Command::new("sha256sum");
    check.args(["--check", "--strict", "--quiet", "SHA256SUMS"]).current_dir(release);
    finish(check).check_code(0);
    let sums = fs::read_to_string(release.join("SHA256SUMS")).unwrap();
    let named: BTreeSet<_> = sums.lines().map(|line| line.split_once("  ").unwrap().1.to_owned()).collect();
    let there: BTreeSet<_> = contents(release).into_keys().filter(|name| name != "SHA256SUMS").collect();
    assert_eq!(named, there);
}

#[test]
fn an_archive_holds_a_program_that_runs_and_what_accompanies_it() {
    let Some(release) = RELEASE.as_ref() else { return };
    let programs =
        [("progressdb", "version"), ("progressdb-operator", "--version"), ("kubectl-progressdb", "--version")];
    for (name, version) in programs {
        let work = temporary_directory();
        let listed = unpack(&path(release, &format!("{name}-VERSION-ARCH.tar.gz")), work.path());
        let root = work.path().join(format!("{name}-{VERSION}"));
        let mut run = Command::new(root.join(name));
        run.arg(version);
        finish(run).check_code(0).check_says(&[VERSION]);
        for file in [
            "README.md".to_owned(),
            "LICENSE".to_owned(),
            "CHANGELOG.md".to_owned(),
            "THIRD-PARTY-LICENSES.txt".to_owned(),
            format!("completions/bash/{name}"),
            format!("completions/zsh/_{name}"),
            format!("completions/fish/{name}.fish"),
            format!("man/man1/{name}.1"),
        ] {
            assert!(fs::metadata(root.join(&file)).unwrap().len() > 300, "{file}");
        }
        let licences = fs::read_to_string(root.join("THIRD-PARTY-LICENSES.txt")).unwrap();
        assert!(licences.contains("\ntokio 1.") && licences.contains("Permission is hereby granted"), "{name}");
        for line in listed {
            let is_program =
                line.ends_with(&format!("/{name}")) && !line.contains("completions") || line.starts_with('d');
            let mode = if is_program { "rwxr-xr-x 0/0" } else { "rw-r--r-- 0/0" };
            assert!(line[1..].starts_with(mode), "{line}");
        }
        let program = fs::read(root.join(name)).unwrap();
        assert!(!program.windows(12).any(|bytes| bytes == b".debug_info\0"), "{name} has its symbols");
    }
}

#[test]
fn an_image_says_what_it_is_and_of_which_commit() {
    let Some(release) = RELEASE.as_ref() else { return };
    let provenance = json_of(release, "progressdb-VERSION.provenance.json");
    let source = provenance["predicate"]["buildDefinition"]["externalParameters"]["source"].as_str().unwrap();
    for (name, user) in [("progressdb", "1000:1000"), ("progressdb-operator", "65532:65532")] {
        let work = temporary_directory();
        unpack(&path(release, &format!("{name}-VERSION-ARCH.oci.tar")), work.path());
        let blob = |digest: &Value| -> Value {
            let file = work.path().join("blobs").join(digest.as_str().unwrap().replace(':', "/"));
            serde_json::from_slice(&fs::read(file).unwrap()).unwrap()
        };
        let index: Value = serde_json::from_slice(&fs::read(work.path().join("index.json")).unwrap()).unwrap();
        let config = blob(&blob(&index["manifests"][0]["digest"])["config"]["digest"]);
        let labels = &config["config"]["Labels"];
        assert_eq!((&config["architecture"], &config["config"]["User"]), (&json!(architecture()), &json!(user)));
        assert_eq!(labels["org.opencontainers.image.version"], VERSION);
        assert_eq!(labels["org.opencontainers.image.licenses"], "Apache-2.0");
        let revision = labels["org.opencontainers.image.revision"].as_str().unwrap();
        assert!(revision.len() >= 40 && source.ends_with(&format!("@{revision}")), "{revision}, {source}");
        let reference = &index["manifests"][0]["annotations"]["org.opencontainers.image.ref.name"];
        assert_eq!(reference, &format!("ghcr.io/progressdb/{name}:{VERSION}"));
    }
}

#[test]
fn the_bill_of_materials_lists_what_is_in_a_program_and_nothing_else() {
    let Some(release) = RELEASE.as_ref() else { return };
    let server = json_of(release, "progressdb-VERSION-ARCH.cdx.json");
    let crates = strings(&server["components"], "name");
    for inside in ["tokio", "librocksdb-sys", "aws-lc-sys", "scylla", "progressdb-server"] {
        assert!(crates.contains(inside), "{inside}");
    }
    // What only tests, builds or the other program use.
    for outside in ["proptest", "bindgen", "serde_derive", "kube-client", "clap_mangen"] {
        assert!(!crates.contains(outside), "{outside}");
    }
    let rocksdb =
        server["components"].as_array().unwrap().iter().find(|each| each["name"] == "librocksdb-sys").unwrap();
    assert_eq!(rocksdb["hashes"][0]["content"].as_str().unwrap().len(), 64);
    assert_eq!(rocksdb["components"][0]["name"], "rocksdb");
    let operator = json_of(release, "progressdb-operator-VERSION-ARCH.cdx.json");
    let crates = strings(&operator["components"], "name");
    assert!(crates.contains("kube-client") && !crates.contains("rocksdb"), "{crates:?}");
    for bill in [server, operator] {
        check_bill(&bill);
    }
}

#[test]
fn the_bill_of_materials_of_an_image_has_its_debian_packages_as_well() {
    let Some(release) = RELEASE.as_ref() else { return };
    for (name, libraries) in [("progressdb", 4), ("progressdb-operator", 3)] {
        let bill = json_of(release, &format!("{name}-VERSION-ARCH.oci.cdx.json"));
        check_bill(&bill);
        let components = bill["components"].as_array().unwrap();
        let debian = components.iter().filter(|each| each["purl"].as_str().unwrap().starts_with("pkg:deb/"));
        let debian: BTreeSet<_> = debian.map(|each| each["name"].as_str().unwrap()).collect();
        assert_eq!(debian.len(), libraries, "{debian:?}");
        assert!(debian.contains("libc6") && debian.contains("ca-certificates"), "{debian:?}");
        assert!(components.iter().any(|each| each["name"] == "tokio"), "{name}");
        assert_eq!(bill["metadata"]["component"]["type"], "container");
    }
}

/// What CycloneDX asks of every document, and that whatever is referred to is there.
fn check_bill(bill: &Value) {
    assert_eq!(
        (&bill["bomFormat"], &bill["specVersion"], &bill["version"]),
        (&json!("CycloneDX"), &json!("1.5"), &json!(1))
    );
    let serial = bill["serialNumber"].as_str().unwrap();
    let parts: Vec<_> = serial.strip_prefix("urn:uuid:").unwrap().split('-').map(str::len).collect();
    assert_eq!(parts, [8, 4, 4, 4, 12], "{serial}");
    let itself = bill["metadata"]["component"]["bom-ref"].as_str().unwrap();
    let mut known = strings(&bill["components"], "bom-ref");
    assert_eq!(known.len(), bill["components"].as_array().unwrap().len(), "a reference is there twice");
    known.insert(itself);
    for dependency in bill["dependencies"].as_array().unwrap() {
        assert!(known.contains(dependency["ref"].as_str().unwrap()), "{dependency}");
        for on in dependency["dependsOn"].as_array().unwrap() {
            assert!(known.contains(on.as_str().unwrap()), "{on}");
        }
    }
}

#[test]
fn the_provenance_names_every_file_and_what_made_it() {
    let Some(release) = RELEASE.as_ref() else { return };
    let statement = json_of(release, "progressdb-VERSION.provenance.json");
    assert_eq!(statement["_type"], "https://in-toto.io/Statement/v1");
    assert_eq!(statement["predicateType"], "https://slsa.dev/provenance/v1");
    let sums = fs::read_to_string(release.join("SHA256SUMS")).unwrap();
    let subjects = statement["subject"].as_array().unwrap();
    for subject in subjects {
        let (name, sum) = (subject["name"].as_str().unwrap(), subject["digest"]["sha256"].as_str().unwrap());
        assert!(sums.contains(&format!("{sum}  {name}\n")), "{name}");
    }
    // All but this statement.
    assert_eq!(subjects.len() + 1, sums.lines().count());
    let build = &statement["predicate"]["buildDefinition"];
    let toolchain = build["internalParameters"]["toolchain"]["rustc"].as_str().unwrap();
    assert!(toolchain.contains("commit-hash: "), "{toolchain}");
    let materials = build["resolvedDependencies"].as_array().unwrap();
    assert_eq!(materials[0]["digest"]["gitCommit"].as_str().unwrap().len(), 40);
    assert!(
        materials.iter().any(|each| each["uri"].as_str().unwrap().starts_with("pkg:cargo/tokio@")),
        "{materials:?}"
    );
}

#[test]
fn a_packed_chart_is_the_chart_with_the_definitions_that_it_links_to() {
    let Some(release) = RELEASE.as_ref() else { return };
    let work = temporary_directory();
    for chart in ["progressdb-crds", "progressdb-operator"] {
        unpack(&path(release, &format!("{chart}-VERSION.tgz")), work.path());
        let mut compare = Command::new("diff");
        compare.arg("--recursive").arg(checkout().join("charts").join(chart)).arg(work.path().join(chart));
        finish(compare).check_code(0);
    }
    let definition = work.path().join("progressdb-crds/templates/progressdbs.progressdb.io.yaml");
    assert!(fs::symlink_metadata(&definition).unwrap().is_file());
    assert_eq!(fs::metadata(&definition).unwrap().permissions().mode() & 0o777, 0o644);
    let alone = fs::read(path(release, "progressdb-crds-VERSION.yaml")).unwrap();
    assert_eq!(fs::read(definition).unwrap(), alone);
}
