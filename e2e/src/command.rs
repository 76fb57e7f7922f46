//! Programs that are run to their end.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

/// Runs a command; what it printed, or what it said when it failed.
pub fn run(command: &mut Command, input: Option<&str>) -> Result<String, String> {
    command.stdin(if input.is_some() { Stdio::piped() } else { Stdio::null() });
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}: run this by `make e2e`"));
    if let Some(input) = input {
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    }
    let output = child.wait_with_output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if output.status.success() {
        return Ok(text(&output.stdout));
    }
    Err(format!("{}{}", text(&output.stdout), text(&output.stderr)))
}

/// `kubectl`, and what it said when it failed.
pub fn try_kubectl(arguments: &[&str]) -> Result<String, String> {
    run(Command::new("kubectl").args(arguments), None)
}

/// `kubectl`, which must succeed.
#[track_caller]
pub fn kubectl(arguments: &[&str]) -> String {
    try_kubectl(arguments).unwrap_or_else(|said| panic!("kubectl {}: {said}", arguments.join(" ")))
}

/// `kubectl` with something to read.
pub fn kubectl_with(arguments: &[&str], input: &str) -> Result<String, String> {
    run(Command::new("kubectl").args(arguments), Some(input))
}

/// `helm`, which must succeed.
#[track_caller]
pub fn helm(arguments: &[&str]) -> String {
    run(Command::new("helm").args(arguments).current_dir(root()), None)
        .unwrap_or_else(|said| panic!("helm {}: {said}", arguments.join(" ")))
}

/// `kubectl progressdb`, called through kubectl, as people do.
pub fn plugin(arguments: &[&str]) -> Result<String, String> {
    run(Command::new("kubectl").arg("progressdb").args(arguments), None)
}

/// A script of `e2e/cluster`, for what only a cluster of our own lets one do.
#[track_caller]
pub fn cluster_script(name: &str, arguments: &[&str]) -> String {
    run(Command::new(root().join("e2e/cluster").join(name)).args(arguments), None)
        .unwrap_or_else(|said| panic!("e2e/cluster/{name} {}: {said}", arguments.join(" ")))
}

/// The repository.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}
