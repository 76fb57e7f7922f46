//! Clients on a machine that does not reach the cluster's network.

use progressdb_e2e::{Namespace, Writers};
use serde_json::json;

#[test]
fn clients_behind_a_port_forward_go_on_with_the_next_pod() {
    let namespace = Namespace::new("forward");
    let database = namespace.database("chat", json!({}));
    database.ready();
    let client = |user: &str| database.client(user).by_port_forward(&database);
    let writers = Writers::with(vec![client("ann"), client("bob")]);
    let uid = database.pod_uid();
    namespace.kill(&database.pod());
    database.wait_for_other_pod(&uid);
    writers.wait_for_more(50);
    assert!(writers.failures() > 0, "the connections of the first pod ended with it");
    writers.check();
}
