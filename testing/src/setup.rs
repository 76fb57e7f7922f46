//! A data directory and a configuration to start the program with.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};

use crate::command::{Finished, NEXT_PROGRAM, PROGRAM, finish, program_named};
use crate::machine::{temporary_directory, variable};
use crate::server::Server;
use crate::servers::cassandra::{DATACENTER, Options, Ring, SUPERUSER, Session};
use crate::{ADMIN_KEY, BACKEND_KEY, FRONTEND_KEY, SIGNING_KEY};

/// Where the nodes are, separated by commas, on which [`Setup::new`] keeps what it stores; not set: nowhere.
const CONTACT_POINTS: &str = "PROGRESSDB_TEST_CONTACT_POINTS";

/// Runs the tests of this binary once more with their stores on Cassandra, but for `test`, which asks for it, and those whose
/// names contain one of `skipped`. All must pass.
#[track_caller]
pub fn again_on_cassandra(test: &str, skipped: &[&str]) {
    let Some(ring) = Ring::start(test, &Options::of_any_number().heap("1G")) else { return };
    let mut again = Command::new(std::env::current_exe().unwrap());
    again.args(["--skip", test]).args(skipped.iter().flat_map(|name| ["--skip", name]));
    let output = again.env(CONTACT_POINTS, ring.contact_points()).output().unwrap();
    let said = [output.stdout, output.stderr].map(|said| String::from_utf8_lossy(&said).into_owned());
    assert!(output.status.success(), "on Cassandra:\n{}\n{}", said[0], said[1]);
    println!("{}", said[0]);
}

/// A data directory and the configuration that finds it. Outlives the servers started on it.
pub struct Setup {
    root: tempfile::TempDir,
    db: PathBuf,
    config: Value,
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
    program: &'static str,
    keyspace: Option<Keyspace>,
}

/// A keyspace of one setup, dropped with it: tables take memory of a node as long as they are there.
struct Keyspace {
    contact_points: String,
    name: String,
}

impl Drop for Keyspace {
    fn drop(&mut self) {
        let (first, _) = self.contact_points.split_once(',').unwrap_or((&self.contact_points, ""));
        let session = Session::open(first.parse().unwrap(), None);
        let _ = session.and_then(|mut session| session.execute(&format!("DROP KEYSPACE {}", self.name)));
    }
}

impl Default for Setup {
    fn default() -> Self {
        Self::new()
    }
}

impl Setup {
    /// The example keys, loopback, a free port, an empty directory; or, in a run for [`again_on_cassandra`], an empty keyspace.
    pub fn new() -> Self {
        static KEYSPACES: AtomicUsize = AtomicUsize::new(0);
        let root = temporary_directory();
        let db = root.path().join("database");
        let setup = Self::at(root, db);
        let Some(contact_points) = variable(CONTACT_POINTS) else { return setup };
        let keyspace = format!("test_{}_{}", std::process::id(), KEYSPACES.fetch_add(1, Ordering::Relaxed));
        let nodes = contact_points.split(',').count();
        let mut setup = setup.in_keyspace(&contact_points, nodes, &keyspace).with_tables();
        setup.keyspace = Some(Keyspace { contact_points, name: keyspace });
        setup
    }

    /// The same with this data directory.
    pub fn with_db(db: &Path) -> Self {
        Self::at(temporary_directory(), db.to_owned())
    }

    fn at(root: tempfile::TempDir, db: PathBuf) -> Self {
        let config = json!({
            "server": {
                "address": "127.0.0.1",
                "port": 0,
                "db_path": db,
                "api_keys": {
                    "frontend": [FRONTEND_KEY],
                    "backend": [BACKEND_KEY],
                    "admin": [ADMIN_KEY],
                    "signing": [SIGNING_KEY],
                },
            },
        });
        Self { root, db, config, arguments: Vec::new(), environment: Vec::new(), program: PROGRAM, keyspace: None }
    }

    /// Sets a configuration key, such as `server.max_payload_size`.
    pub fn set(mut self, key: &str, value: impl Into<Value>) -> Self {
        let pointer = format!("/{}", key.replace('.', "/"));
        let mut at = &mut self.config;
        for part in pointer[1..].split('/') {
            at = at.as_object_mut().unwrap().entry(part).or_insert_with(|| json!({}));
        }
        *at = value.into();
        self
    }

    /// Keeps what it stores in `keyspace` of these nodes, where the tables are made if they are missing.
    #[track_caller]
    pub fn on_cassandra(self, ring: &Ring, keyspace: &str) -> Self {
        self.with_keyspace(ring, keyspace).with_tables()
    }

    /// The same without making the tables.
    pub fn with_keyspace(self, ring: &Ring, keyspace: &str) -> Self {
        let setup = self.in_keyspace(&ring.contact_points(), ring.nodes().len(), keyspace);
        if !ring.has_accounts() {
            return setup;
        }
        let credentials = json!({ "username": SUPERUSER, "password": SUPERUSER });
        setup.set("storage.cassandra.credentials", credentials)
    }

    fn in_keyspace(mut self, contact_points: &str, replicas: usize, keyspace: &str) -> Self {
        self.config["server"].as_object_mut().unwrap().remove("db_path");
        let cassandra = json!({
            "contact_points": contact_points,
            "datacenter": DATACENTER,
            "keyspace": keyspace,
            "replication_factor": replicas,
        });
        self.set("storage.cassandra", cassandra)
    }

    #[track_caller]
    fn with_tables(self) -> Self {
        self.run(&["schema", "apply"]).check_code(0);
        self
    }

    /// Runs a version after this one instead: `name` is one of those of `testing/next`.
    pub fn next_version(self, name: &str) -> Self {
        Self { program: NEXT_PROGRAM, ..self.environment("NEXT_VERSION", name) }
    }

    /// Adds a command line argument.
    pub fn argument(mut self, argument: &str) -> Self {
        self.arguments.push(argument.to_owned());
        self
    }

    /// Sets an environment variable of the server.
    pub fn environment(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Whether it keeps what it stores where other servers may do so as well.
    pub fn is_shared(&self) -> bool {
        self.config["storage"]["cassandra"].is_object()
    }

    /// The data directory.
    pub fn db(&self) -> &Path {
        &self.db
    }

    /// A directory for the test's own files, removed with the setup.
    pub fn root(&self) -> &Path {
        self.root.path()
    }

    /// Writes the configuration file and returns its path. JSON is YAML.
    pub fn config_file(&self) -> PathBuf {
        let path = self.root.path().join("config.yaml");
        std::fs::write(&path, serde_json::to_vec_pretty(&self.config).unwrap()).unwrap();
        path
    }

    /// The program with this setup's configuration: `progressdb <words> --config <file>`.
    pub fn command(&self, words: &[&str]) -> Command {
        let mut command = program_named(self.program, words, self.root.path());
        command.arg("--config").arg(self.config_file());
        command.args(&self.arguments);
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Runs a command to its end.
    pub fn run(&self, words: &[&str]) -> Finished {
        finish(self.command(words))
    }

    /// Starts the server and waits until it is ready.
    pub fn start(&self) -> Server {
        self.start_listening().ready()
    }

    /// Starts the server and waits until it listens, whatever it answers.
    pub fn start_listening(&self) -> Server {
        Server::spawn(self.command(&["serve"]))
    }

    /// Starts the server where it is expected to refuse, and waits for its end.
    pub fn refused_start(&self) -> Finished {
        self.run(&["serve"])
    }
}
