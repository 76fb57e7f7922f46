//! The released Python client, unmodified, and a generator of requests from the served OpenAPI.
//!
//! Both come from PyPI into a virtual environment that `make test` sets up; `PROGRESSDB_TEST_PYTHON` names its Python.
//! Without it the tests are skipped by name, and fail under `CI=true`.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::path::PathBuf;
use std::process::Command;

use testing::{ADMIN_KEY, BACKEND_KEY, Server, Setup, finish, python};

fn command(python: &PathBuf, setup: &Setup) -> Command {
    let mut command = Command::new(python);
    command.current_dir(setup.root()).env("PYTHONDONTWRITEBYTECODE", "1").env("NO_PROXY", "*");
    command
}

#[test]
fn the_released_python_client_works_unmodified() {
    let Some(python) = python("the_released_python_client_works_unmodified", "progressdb") else { return };
    let setup = Setup::new();
    let server = setup.start();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients/python_client.py");
    let mut run = command(&python, &setup);
    run.arg(script).arg(format!("http://{}", server.addr)).arg(BACKEND_KEY).arg(ADMIN_KEY);
    let finished = finish(run);
    finished.check_code(0);
    assert!(finished.stdout.ends_with("all checks passed\n"), "{}", finished.said());
}

/// Runs the generator over part of the API.
#[track_caller]
fn check_api(python: &PathBuf, setup: &Setup, server: &Server, arguments: &[&str]) {
    let mut run = command(python, setup);
    run.args(["-m", "schemathesis.cli", "run", &format!("http://{}/openapi.json", server.addr)]);
    run.args([
        "--checks",
        "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance",
    ]);
    run.args(["--phases", "examples,coverage,fuzzing", "--max-examples", "15", "--seed", "7"]);
    run.args(["--generation-database", "none", "--request-timeout", "20", "--no-color", "--warnings", "off"]);
    run.args(["--suppress-health-check", "all", "--continue-on-failure"]);
    run.args(arguments);
    finish(run).check_code(0);
}

#[test]
fn generated_requests_get_answers_that_the_openapi_allows() {
    let Some(python) = python("generated_requests_get_answers_that_the_openapi_allows", "schemathesis") else { return };
    let setup = Setup::new();
    let server = setup.start();
    let backend = format!("Authorization: Bearer {BACKEND_KEY}");
    let admin = format!("Authorization: Bearer {ADMIN_KEY}");
    check_api(
        &python,
        &setup,
        &server,
        &["-H", &backend, "-H", "X-User-ID: user1", "--exclude-path-regex", "^/(admin|metrics)"],
    );
    check_api(&python, &setup, &server, &["-H", &admin, "--include-path-regex", "^/(admin|metrics)"]);
    server.stop().check_code(0);
}
