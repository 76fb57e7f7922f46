//! The commands of docs/operations.md for backups, typed as they stand there.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};

use testing::command::PROGRAM;
use testing::page::{Shell, blocks};
use testing::servers::secret_file;
use testing::{ADMIN_KEY, BACKEND_KEY, Server, Setup, program};

use crate::tree::names;
use crate::world::{digest, filled, marker, write_everything};

const PAGE: &str = include_str!("../../../docs/operations.md");
/// What the page calls a directory for backups.
const BACKUPS: &str = "/backups";

/// A stopped database with something of everything, as `./database`, and a directory for backups beside it.
struct Host {
    setup: Setup,
    backups: PathBuf,
}

impl Host {
    fn new() -> Self {
        let setup = Setup::new();
        filled(&setup);
        let backups = setup.root().join("backups");
        fs::create_dir(&backups).unwrap();
        Self { setup, backups }
    }

    fn root(&self) -> &Path {
        self.setup.root()
    }

    /// Types in the directory of the database, with the configuration of its server.
    fn shell(&self) -> Shell {
        let shell = Shell::new(PROGRAM, self.root()).replace(BACKUPS, &self.backups);
        shell.environment("PROGRESSDB_CONFIG", self.setup.config_file())
    }
}

/// An address where nobody listens.
fn free_address() -> String {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}

#[test]
fn the_commands_of_the_page_make_backups_and_restore_one() {
    let host = Host::new();
    let (shell, root) = (host.shell(), host.root());
    let whole = digest(&host.setup);
    let [backup] = &blocks(PAGE, "Backup\n")[..] else { panic!("other blocks") };
    // A person takes more than a second for a line, and a backup without a name is called after its second.
    shell.run(&backup.replace("\nprogressdb backup", "\nsleep 1.1; progressdb backup"), root);
    assert_eq!(names(&host.backups).len(), 4, "{:?}", names(&host.backups));
    let server = host.setup.start();
    server.user("ann").create_thread("made since");
    server.stop().check_code(0);
    assert_ne!(digest(&host.setup), whole);
    let [restore] = &blocks(PAGE, "Restore\n")[..] else { panic!("other blocks") };
    shell.run(restore, root).check_says(&["would restore:", "kept=", "restore=ok"]);
    assert_eq!((digest(&host.setup), &marker(host.setup.db())["kept"]), (whole, &serde_json::json!(["store-1"])));
}

#[test]
fn the_command_of_the_page_asks_a_running_server_for_a_backup() {
    let Host { setup, backups } = Host::new();
    let setup = setup.set("backup.root", backups.to_str().unwrap());
    let server = setup.start();
    let shell = Shell::new(PROGRAM, setup.root()).replace("127.0.0.1:8080", server.addr.to_string());
    let [ask] = &blocks(PAGE, "While the server runs\n")[..] else { panic!("other blocks") };
    shell.run(ask, setup.root()).check_says(&["before-upgrade.pdbk"]);
    assert_eq!(names(&backups), ["before-upgrade.pdbk"]);
}

#[test]
fn the_drill_of_the_page_tries_a_backup_beside_the_running_server() {
    let host = Host::new();
    let [drill] = &blocks(PAGE, "The drill\n")[..] else { panic!("other blocks") };
    let shell = host.shell().replace("127.0.0.1:18080", free_address());
    let server = host.setup.start();
    let said = shell.run(drill, host.root());
    said.check_says(&["restore=ok", "ok  delete thread", "ok  /metrics", "\"rehearsal\":true", "server.stopped"]);
    assert_eq!((names(&host.root().join("drill")), names(&host.backups).len()), (Vec::new(), 1));
    assert_eq!(server.user("ann").thread_keys("").len(), 1, "it serves on");
    server.stop().check_code(0);
}

#[test]
fn the_commands_of_the_page_move_a_database_to_another_host() {
    let old = Host::new();
    let whole = digest(&old.setup);
    let [backup, restore, reset] = &blocks(PAGE, "Moving to another host\n")[..] else { panic!("other blocks") };
    let shell = old.shell();
    shell.run(backup, old.root());
    let new = Setup::new();
    let there = Shell::new(PROGRAM, new.root()).environment("PROGRESSDB_CONFIG", new.config_file());
    there.replace(BACKUPS, &old.backups).run(restore, new.root());
    assert_eq!(digest(&new), whole);
    new.start().stop().check_code(0);
    shell.run(reset, old.root());
    assert_eq!(names(old.setup.db()), [""; 0]);
}

#[test]
fn the_commands_of_the_page_try_a_server() {
    let setup = Setup::new();
    let [ours, development] = &blocks(PAGE, "Smoke test\n")[..] else { panic!("other blocks") };
    let server = setup.start();
    write_everything(&server);
    secret_file(setup.root(), "backend.key", BACKEND_KEY);
    secret_file(setup.root(), "admin.key", ADMIN_KEY);
    let same = Setup::with_db(setup.db()).set("server.port", server.addr.port());
    let shell = Shell::new(PROGRAM, setup.root()).replace("https://chat.example", format!("http://{}", server.addr));
    let shell = shell.replace("/etc/progressdb/config.yaml", same.config_file());
    let said = shell.run(ours, setup.root());
    assert_eq!(said.stdout.matches("ok  /metrics").count(), 2, "{said:?}");
    server.stop().check_code(0);

    let directory = testing::temporary_directory();
    let words = ["serve", "--db", "./database", "--addr", "127.0.0.1:0"];
    let server = Server::spawn(program(&words, directory.path())).ready();
    let shell = Shell::new(PROGRAM, directory.path()).replace(":8080", format!(":{}", server.addr.port()));
    shell.run(development, directory.path()).check_says(&["ok  /metrics"]);
    server.stop().check_code(0);
}
