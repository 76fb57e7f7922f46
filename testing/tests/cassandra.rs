//! The Cassandra that other tests run on does what they believe of it.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]
#![allow(clippy::print_stdout, reason = "how a test that is killed says where its files are")]
#![allow(clippy::disallowed_methods, reason = "a test that runs itself again says so in the environment")]

use std::path::PathBuf;
use std::process::Command;

use progressdb_testing::servers::cassandra::{Consistency, Node, Options, Ring, SUPERUSER, Session, can_cut};
use progressdb_testing::wait_until;

const TABLE: &str = "CREATE TABLE kept.rows (id int PRIMARY KEY, v text)";
const WRITE: &str = "INSERT INTO kept.rows (id, v) VALUES (1, 'one')";
const READ: &str = "SELECT v FROM kept.rows WHERE id = 1";

fn make_table(ring: &Ring) {
    let replicas = ring.nodes().len();
    let replication = format!("{{'class': 'NetworkTopologyStrategy', 'datacenter1': {replicas}}}");
    ring.define(&format!("CREATE KEYSPACE kept WITH replication = {replication}"));
    ring.define(TABLE);
}

#[test]
fn a_node_that_is_killed_and_started_again_has_its_data() {
    let Some(ring) = Ring::start("a_node_that_is_killed", &Options::default()) else { return };
    make_table(&ring);
    ring.execute(WRITE);
    let node = &ring.nodes()[0];
    node.kill_9();
    assert!(!node.runs() && Session::open(node.addr, None).is_err());
    node.restart();
    assert_eq!(ring.execute(READ), [[Some(b"one".to_vec())]]);
    node.stop();
    node.restart();
    assert_eq!(ring.execute(READ), [[Some(b"one".to_vec())]]);
    node.nodetool(&["status"]).check_code(0).check_says(&["UN", "127.77."]);
}

#[test]
fn two_of_three_nodes_go_on_without_the_third() {
    let Some(ring) = Ring::start("two_of_three_nodes", &Options::default().nodes(3)) else { return };
    make_table(&ring);
    let [first, second, third] = ring.nodes() else { unreachable!() };
    let of = |node: &Node| Session::open(node.addr, None).unwrap();
    let mut session = of(first);
    third.kill_9();
    session.execute_at(Consistency::Quorum, WRITE).unwrap();
    third.restart();
    ring.wait_until_whole();

    second.pause();
    let mut other = of(third);
    assert_eq!(other.execute_at(Consistency::Quorum, READ), Ok(vec![vec![Some(b"one".to_vec())]]));
    second.resume();
    ring.wait_until_whole();

    if !can_cut("two_of_three_nodes_go_on_without_the_third: cut") {
        return;
    }
    third.cut();
    let (mut outside, all) = (of(first), Consistency::All);
    wait_until("the others find it dead", || outside.execute_at(all, READ).is_err_and(|why| why.contains("0x1000")));
    outside.execute_at(Consistency::Quorum, WRITE).unwrap();
    third.join();
    ring.wait_until_whole();
}

#[test]
fn an_account_may_do_what_is_granted_and_nothing_once_it_is_revoked() {
    let Some(ring) = Ring::start("an_account_may_do_what_is_granted", &Options::default().accounts()) else { return };
    make_table(&ring);
    let node = ring.nodes()[0].addr;
    assert!(Session::open(node, None).is_err() && Session::open(node, Some((SUPERUSER, "wrong"))).is_err());
    ring.execute("CREATE ROLE app WITH PASSWORD = 'secret' AND LOGIN = true");
    let mut app = Session::open(node, Some(("app", "secret"))).unwrap();
    app.execute(WRITE).unwrap_err();
    ring.execute("GRANT ALL ON KEYSPACE kept TO app");
    app.execute(WRITE).unwrap();
    ring.execute("REVOKE ALL ON KEYSPACE kept FROM app");
    app.execute(WRITE).unwrap_err();
}

/// What runs again as a process of its own, and is killed.
#[test]
fn a_killed_test_leaves_neither_a_node_nor_its_files() {
    let name = "a_killed_test_leaves_neither_a_node_nor_its_files";
    if std::env::var("LEAVE_A_NODE").is_ok() {
        let Some(ring) = Ring::start(name, &Options::default()) else { return };
        println!("node {} {}", ring.directory().display(), ring.nodes()[0].addr.ip());
        if can_cut(name) {
            ring.nodes()[0].cut();
        }
        rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL).unwrap();
    }
    let mut again = Command::new(std::env::current_exe().unwrap());
    let output = again.args([name, "--exact", "--nocapture"]).env("LEAVE_A_NODE", "1").output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    let Some((directory, address)) = said.lines().find_map(|line| line.split("node ").nth(1)?.split_once(' ')) else {
        assert!(output.status.success(), "{said}");
        return;
    };
    let directory = PathBuf::from(directory);
    wait_until("its files are gone", || !directory.exists());
    let rules = Command::new("iptables-save").output().map(|output| output.stdout).unwrap_or_default();
    assert!(!String::from_utf8(rules).unwrap().contains(address), "a rule is left");
    let running = std::fs::read_dir("/proc").unwrap().flatten();
    let of_it = |path: PathBuf| {
        std::fs::read(path.join("cmdline"))
            .is_ok_and(|line| String::from_utf8_lossy(&line).contains(directory.to_str().unwrap()))
    };
    assert_eq!(running.filter(|entry| of_it(entry.path())).count(), 0, "a node still runs");
}
