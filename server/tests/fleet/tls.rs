//! Encrypted connections between servers and nodes, each of which asks the other for a certificate.

use std::sync::Arc;

use serde_json::json;
use testing::servers::cassandra::{Options, Ring};
use testing::servers::secret_file;
use testing::servers::tls::Authority;
use testing::{Setup, temporary_directory, wait_until};

use crate::world::{World, turn};

/// How many clients of the node encrypt, and how many do not.
fn clients(ring: &Ring) -> (usize, usize) {
    let clients = ring.execute("SELECT ssl_enabled FROM system_views.clients");
    let encrypting = clients.iter().filter(|client| client[0].as_deref() == Some(&[1])).count();
    (encrypting, clients.len() - encrypting)
}

#[test]
fn servers_and_nodes_know_each_other_by_their_certificates() {
    let test = "servers_and_nodes_know_each_other_by_their_certificates";
    let _turn = turn();
    let (authority, other, directory) = (Arc::new(Authority::new()), Authority::new(), temporary_directory());
    let Some(ring) = Ring::start(test, &Options::default().tls(&authority)) else { return };
    let file = |name: &str, text: &str| secret_file(directory.path(), name, text);
    let (own, stranger) = (authority.identity(&["server"]), other.identity(&["server"]));
    let ca = file("ca.pem", &authority.pem);
    let files = json!({
        "ca_file": ca,
        "certificate_file": file("own.pem", &own.certificate),
        "key_file": file("own-key.pem", &own.key),
    });
    let setup = || Setup::new().with_keyspace(&ring, "encrypted");
    let trusted = setup().set("storage.cassandra.tls", files.clone());
    trusted.run(&["schema", "apply"]).check_code(0);
    let server = trusted.start();
    let ann = server.user("ann");
    let thread = ann.create_thread("over TLS");
    ann.append(&thread, "1");
    assert_eq!(ann.message_keys(&thread, "").len(), 1);
    wait_until("none but this test talks to the node in the clear", || matches!(clients(&ring), (1.., 1)));
    server.stop().check_code(0);

    let mut of_stranger = files;
    of_stranger["certificate_file"] = json!(file("stranger.pem", &stranger.certificate));
    of_stranger["key_file"] = json!(file("stranger-key.pem", &stranger.key));
    let without = json!({ "ca_file": ca });
    let distrusting = json!({ "ca_file": file("other.pem", &other.pem) });
    for (files, why, what_to_do) in [
        (of_stranger, "received fatal alert", "certificate_file and key_file"),
        (without, "received fatal alert: CertificateRequired", "certificate_file and key_file"),
        (distrusting, "invalid peer certificate", "in ca_file"),
    ] {
        check_refused(&setup().set("storage.cassandra.tls", files), &["storage.cassandra.tls", why, what_to_do]);
    }
}

#[test]
fn a_node_that_does_not_encrypt_is_refused() {
    let Some(world) = World::take("a_node_that_does_not_encrypt_is_refused") else { return };
    let encrypting = Setup::new().with_keyspace(world.ring(), world.keyspace());
    let encrypting = encrypting.set("storage.cassandra.tls", json!({ "enabled": true }));
    check_refused(&encrypting, &["storage.cassandra.tls", "does not encrypt", "unset the section"]);
}

/// Nothing that a person does not mend helps, so a server does not wait for it either.
#[track_caller]
fn check_refused(setup: &Setup, says: &[&str]) {
    for schema in ["check", "apply"] {
        setup.run(&["schema", schema]).check_code(78).check_says(says);
    }
    setup.refused_start().check_code(78).check_says(says);
}
