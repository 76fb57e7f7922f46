//! A data directory and a configuration to start the program with.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::command::{Finished, NEXT_PROGRAM, PROGRAM, finish, program_named};
use crate::machine::temporary_directory;
use crate::server::Server;
use crate::servers::cassandra::{DATACENTER, Ring, SUPERUSER};
use crate::{ADMIN_KEY, BACKEND_KEY, FRONTEND_KEY, SIGNING_KEY};

/// A data directory and the configuration that finds it. Outlives the servers started on it.
pub struct Setup {
    root: tempfile::TempDir,
    db: PathBuf,
    config: Value,
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
    program: &'static str,
}

impl Default for Setup {
    fn default() -> Self {
        Self::new()
    }
}

impl Setup {
    /// The example keys, loopback, a free port, an empty directory.
    pub fn new() -> Self {
        let root = temporary_directory();
        let db = root.path().join("database");
        Self::at(root, db)
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
        Self { root, db, config, arguments: Vec::new(), environment: Vec::new(), program: PROGRAM }
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
        let setup = self.with_keyspace(ring, keyspace);
        setup.run(&["schema", "apply"]).check_code(0);
        setup
    }

    /// The same without making the tables.
    pub fn with_keyspace(mut self, ring: &Ring, keyspace: &str) -> Self {
        self.config["server"].as_object_mut().unwrap().remove("db_path");
        let cassandra = "storage.cassandra";
        let setup = self
            .set(&format!("{cassandra}.contact_points"), ring.contact_points())
            .set(&format!("{cassandra}.datacenter"), DATACENTER)
            .set(&format!("{cassandra}.keyspace"), keyspace)
            .set(&format!("{cassandra}.replication_factor"), ring.nodes().len());
        if !ring.has_accounts() {
            return setup;
        }
        let credentials = format!("{cassandra}.credentials");
        setup.set(&format!("{credentials}.username"), SUPERUSER).set(&format!("{credentials}.password"), SUPERUSER)
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
