//! One node: a Java process, and what can befall it.

use std::fs::{self, File};
use std::net::{IpAddr, SocketAddr};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::time::Duration;

use super::session::Session;
use super::{Guard, Installed, Options};
use crate::command::{Finished, finish};
use crate::machine::skip;
use crate::servers::process::Process;
use crate::servers::tls::Identity;
use crate::waiting::{GENEROUS, poll};

/// The files that every node is started with.
const FILES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/servers/cassandra");
/// Where every node takes clients.
const CQL_PORT: u16 = 9042;
/// How long a node may take to start, which is mostly work of the processor: ten times as long as on a quiet machine.
const TO_START: Duration = Duration::from_secs(180);

/// A node of a ring.
pub struct Node {
    /// Where it takes clients.
    pub addr: SocketAddr,
    /// Where it takes other nodes.
    peers_at: IpAddr,
    jmx_port: u16,
    /// Its configuration and its log, and its data unless they are elsewhere.
    directory: PathBuf,
    java: PathBuf,
    jars: String,
    heap: &'static str,
    process: Mutex<Option<Process>>,
}

impl Node {
    /// Writes the configuration of the node with this number, counted from 0.
    pub(super) fn prepare(installed: &Installed, guard: &Guard, options: &Options, number: usize) -> Self {
        let directory = guard.directory().join(format!("node{number}"));
        fs::create_dir(&directory).unwrap();
        let data = options.directories.get(&number).unwrap_or(&directory);
        // Each is a seed, so that none waits for another when all start at once.
        let seeds: Vec<String> = (0..options.nodes).map(|node| guard.addr(node).to_string()).collect();
        let peers_at = guard.addr(number).into();
        let clients_at = options.clients_at.unwrap_or(peers_at);
        let share = u64::MAX / options.nodes as u64;
        let token = i64::MIN.wrapping_add_unsigned(1 + share * number as u64);
        let yaml = configuration(options, data, (peers_at, clients_at, seeds.join(",")), token);
        let yaml = yaml + &encryption(options, &directory, clients_at);
        fs::write(directory.join("cassandra.yaml"), yaml).unwrap();
        Self {
            addr: (clients_at, CQL_PORT).into(),
            peers_at,
            jmx_port: guard.jmx_port(number),
            directory,
            java: installed.java.clone(),
            jars: installed.jars.to_str().unwrap().to_owned(),
            heap: options.heap,
            process: Mutex::new(None),
        }
    }

    /// Starts it and waits for nothing.
    pub(super) fn begin(&self) {
        let mut command = self.java(&["-Xms", "-Xmx"].map(|option| format!("{option}{}", self.heap)));
        command.arg(format!("-javaagent:{}", jar(&self.jars, "jamm-")));
        command.arg(format!("-Dcassandra.config=file://{}/cassandra.yaml", self.directory.display()));
        command.arg(format!("-Dcassandra.jmx.local.port={}", self.jmx_port));
        command.arg("org.apache.cassandra.service.CassandraDaemon");
        let said = File::options().create(true).append(true).open(self.directory.join("said")).unwrap();
        command.stdin(Stdio::null()).stdout(said.try_clone().unwrap()).stderr(said);
        if rustix::process::geteuid().is_root() {
            command.gid(self.group());
        }
        let process = Process::spawn(command);
        fs::write(self.directory.join("pid"), process.pid().to_string()).unwrap();
        *self.process.lock().unwrap() = Some(process);
    }

    /// Waits until it takes clients.
    #[track_caller]
    pub(super) fn wait(&self) {
        let up = poll(TO_START, || {
            let ended = self.process.lock().unwrap().as_mut().is_none_or(Process::ended);
            assert!(!ended, "the node has ended:\n{}", self.log());
            Session::answers(self.addr).then_some(())
        });
        assert!(up.is_some(), "the node does not answer:\n{}", self.log());
    }

    /// Starts it again and waits until it takes clients; the others may find it dead for a moment longer.
    #[track_caller]
    pub fn restart(&self) {
        self.begin();
        self.wait();
    }

    /// SIGKILL: nothing is flushed.
    pub fn kill_9(&self) {
        if let Some(mut process) = self.process.lock().unwrap().take() {
            process.kill();
        }
        let _ = fs::remove_file(self.directory.join("pid"));
    }

    /// SIGTERM, and its end: it says farewell to the others and flushes.
    #[track_caller]
    pub fn stop(&self) {
        if let Some(process) = self.process.lock().unwrap().as_mut() {
            process.terminate();
            assert!(
                poll(GENEROUS, || process.ended().then_some(())).is_some(),
                "the node does not end:\n{}",
                self.log()
            );
        }
        self.kill_9();
    }

    /// SIGSTOP: its connections stay and nobody answers on them.
    pub fn pause(&self) {
        self.with(Process::hang);
    }

    /// SIGCONT.
    pub fn resume(&self) {
        self.with(Process::go_on);
    }

    /// Ends whatever was done to it.
    #[track_caller]
    pub(super) fn mend(&self) {
        self.join();
        match self.runs() {
            true => self.resume(),
            false => self.restart(),
        }
    }

    /// Whether the process still runs.
    pub fn runs(&self) -> bool {
        self.process.lock().unwrap().as_mut().is_some_and(|process| !process.ended())
    }

    /// Drops every packet to it and from it, those of `nodetool` too, until [`Self::join`]. [`can_cut`] says whether this
    /// machine can.
    pub fn cut(&self) {
        assert_eq!(self.addr.ip(), self.peers_at, "others than the node have the address where it takes clients");
        // A node connects to others from 127.0.0.1, as they do: only its group tells its packets from theirs.
        let rules = [
            format!("INPUT -d {} -j DROP", self.addr.ip()),
            format!("OUTPUT -m owner --gid-owner {} -j DROP", self.group()),
        ];
        fs::write(self.directory.join("cut"), rules.join("\n") + "\n").unwrap();
        rules.iter().for_each(|rule| firewall("-I", rule));
    }

    /// Ends [`Self::cut`], if it is cut.
    pub fn join(&self) {
        let file = self.directory.join("cut");
        if !file.exists() {
            return;
        }
        fs::read_to_string(&file).unwrap().lines().for_each(|rule| firewall("-D", rule));
        fs::remove_file(file).unwrap();
    }

    /// Runs `nodetool` with these words.
    #[track_caller]
    pub fn nodetool(&self, words: &[&str]) -> Finished {
        finish(self.nodetool_command(words))
    }

    /// `nodetool` with these words.
    pub fn nodetool_command(&self, words: &[&str]) -> Command {
        let mut command = self.java(&["-Xmx128M".to_owned()]);
        command.args(["org.apache.cassandra.tools.NodeTool", "-h", "127.0.0.1", "-p", &self.jmx_port.to_string()]);
        command.args(words);
        command
    }

    /// The end of its log, and all that it printed.
    pub fn log(&self) -> String {
        let read = |name: &str| fs::read_to_string(self.directory.join(name)).unwrap_or_default();
        let log = read("log/system.log");
        let lines: Vec<&str> = log.lines().collect();
        format!("{}\n{}", read("said"), lines[lines.len().saturating_sub(40)..].join("\n"))
    }

    fn with(&self, act: impl FnOnce(&Process)) {
        act(self.process.lock().unwrap().as_ref().expect("the node runs"));
    }

    /// The group that it runs as: no other process does.
    fn group(&self) -> u32 {
        self.jmx_port.into()
    }

    fn java(&self, options: &[String]) -> Command {
        let mut command = Command::new(&self.java);
        command.current_dir(&self.directory).env_clear();
        command.arg(format!("@{FILES}/jvm.options")).args(options).args(["-cp", &format!("{}/*", self.jars)]);
        command.arg(format!("-Dlogback.configurationFile=file://{FILES}/logback.xml"));
        command.arg(format!("-Dcassandra.logdir={}/log", self.directory.display()));
        command.arg(format!("-Dcassandra.storagedir={}", self.directory.display()));
        command
    }
}

/// Whether [`Node::cut`] can be done here; `test` is skipped if not.
pub fn can_cut(test: &str) -> bool {
    if !rustix::process::geteuid().is_root() {
        skip(test, "not root, so no node can be cut from the others");
        return false;
    }
    let lists =
        Command::new("iptables").args(["-w", "-S", "INPUT"]).stdout(Stdio::null()).stderr(Stdio::null()).status();
    let can = lists.is_ok_and(|status| status.success());
    if !can {
        skip(test, "iptables does not work here");
    }
    can
}

fn firewall(action: &str, rule: &str) {
    let mut command = Command::new("iptables");
    command.args(["-w", action]).args(rule.split(' '));
    finish(command).check_code(0);
}

fn configuration(
    options: &Options,
    data: &Path,
    (peers_at, clients_at, seeds): (IpAddr, IpAddr, String),
    token: i64,
) -> String {
    let (authenticator, authorizer) = match options.accounts {
        true => ("PasswordAuthenticator", "CassandraAuthorizer"),
        false => ("AllowAllAuthenticator", "AllowAllAuthorizer"),
    };
    let (common, data) = (fs::read_to_string(format!("{FILES}/cassandra.yaml")).unwrap(), data.display());
    let sync = options.commitlog_sync;
    format!(
        "{common}
listen_address: {peers_at}
rpc_address: {clients_at}
seed_provider:
  - class_name: org.apache.cassandra.locator.SimpleSeedProvider
    parameters: [{{ seeds: \"{seeds}\" }}]
initial_token: \"{token}\"
data_file_directories: [{data}/data]
commitlog_directory: {data}/commitlog
hints_directory: {data}/hints
saved_caches_directory: {data}/saved_caches
cdc_raw_directory: {data}/cdc
{sync}
authenticator: {authenticator}
authorizer: {authorizer}
"
    )
}

/// What clients meet that encrypt.
fn encryption(options: &Options, directory: &Path, own: IpAddr) -> String {
    let Some(authority) = &options.tls else { return String::new() };
    let Identity { certificate, key } = authority.identity(&[&own.to_string()]);
    let file = |name: &str, text: &str| {
        let path = directory.join(name);
        fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let (own, others) = (file("own.pem", &(key + &certificate)), file("authority.pem", &authority.pem));
    format!(
        "
client_encryption_options:
  enabled: true
  optional: true
  require_client_auth: true
  ssl_context_factory: {{ class_name: org.apache.cassandra.security.PEMBasedSslContextFactory }}
  keystore: {own}
  truststore: {others}
"
    )
}

/// The path of the jar whose name begins so.
fn jar(directory: &str, name: &str) -> String {
    let mut jars = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let found = jars.find(|path| path.file_name().unwrap().to_str().unwrap().starts_with(name));
    found.unwrap_or_else(|| panic!("there is no {name} in {directory}")).to_str().unwrap().to_owned()
}
