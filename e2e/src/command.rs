//! Programs that people run: `kubectl`, `helm`, the plugin, and the scripts of a cluster of our own.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

/// Runs a command with this on its standard input; what it printed, or all that it said when it failed.
pub fn run(command: &mut Command, input: &str) -> Result<String, String> {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}: run this by `make e2e`"));
    // Only `kubectl` that reads it is given anything; others may end without having read it.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    let output = child.wait_with_output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if output.status.success() {
        return Ok(text(&output.stdout));
    }
    Err(format!("{command:?}: {}{}", text(&output.stdout), text(&output.stderr)))
}

#[track_caller]
fn run_well(command: &mut Command) -> String {
    match run(command, "") {
        Ok(printed) => printed,
        Err(said) => panic!("{said}"),
    }
}

/// `kubectl` with this on its standard input, and what it said when it failed.
pub fn try_kubectl(arguments: &[&str], input: &str) -> Result<String, String> {
    run(Command::new("kubectl").args(arguments), input)
}

/// `kubectl`, which must succeed.
#[track_caller]
pub fn kubectl(arguments: &[&str]) -> String {
    run_well(Command::new("kubectl").args(arguments))
}

/// Whether somebody may do something with objects of a namespace.
pub fn is_allowed(who: &str, verb: &str, objects: &str, namespace: &str) -> bool {
    // It fails when the answer is no.
    try_kubectl(&["auth", "can-i", verb, objects, "-n", namespace, "--as", who], "").is_ok()
}

/// `helm` in the repository, and what it said when it failed.
pub fn try_helm(arguments: &[&str]) -> Result<String, String> {
    run(Command::new("helm").args(arguments).current_dir(root()), "")
}

/// `helm` in the repository, which must succeed.
#[track_caller]
pub fn helm(arguments: &[&str]) -> String {
    run_well(Command::new("helm").args(arguments).current_dir(root()))
}

/// `kubectl progressdb`, called through kubectl, as people do.
pub fn plugin(arguments: &[&str]) -> Result<String, String> {
    run(Command::new("kubectl").arg("progressdb").args(arguments), "")
}

/// A script of `e2e/cluster`, for what only a cluster of our own lets one do.
#[track_caller]
pub fn cluster_script(name: &str, arguments: &[&str]) {
    run_well(Command::new(root().join("e2e/cluster").join(name)).args(arguments));
}

/// The repository.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}
