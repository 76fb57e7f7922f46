//! Replicas that are killed and stopped while they write, and requests that go on at another.

use std::time::Duration;

use serde_json::json;
use testing::fleet::Fleet;
use testing::http::{Answer, Connection, Request, encode};
use testing::load::USER;
use testing::{BACKEND_KEY, Random, messages, wait_until};

use crate::world::{World, check_under_load, hold};

#[test]
fn replicas_that_are_killed_and_stopped_cost_clients_only_a_retry() {
    let test = "replicas_that_are_killed_and_stopped_cost_clients_only_a_retry";
    let Some(world) = World::take(test) else { return };
    let fleet = world.fleet(3);
    check_under_load(test, world.ring(), &fleet, |load| {
        for replica in 0..fleet.size() {
            load.wait_for(20);
            fleet.kill_9(replica);
            load.wait_for(20);
            fleet.restart(replica);
        }
        for replica in 0..fleet.size() {
            load.wait_for(20);
            fleet.stop(replica).check_code(0);
            load.wait_for(20);
            fleet.restart(replica);
        }
        load.wait_for(20);
    });
    fleet.stop_all();
}

/// One message, which is sent to a replica that is killed before it can answer, and again to another.
struct Sent {
    request: Request,
    id: String,
}

impl Sent {
    fn new(thread: &str, id: String) -> Self {
        let request = Request::new("POST", &messages(thread)).key(BACKEND_KEY).header("X-User-ID", USER);
        let request = request.header("Idempotency-Key", &id).json(&json!({ "body": id }));
        Self { request, id }
    }

    /// What replica 0 answers, if it answers before `kill` has killed it.
    fn send_and_kill(&self, fleet: &Fleet, kill: impl FnOnce()) -> Option<Answer> {
        let mut connection = Connection::open(fleet.addr(0)).unwrap();
        std::thread::scope(|scope| {
            let answer = scope.spawn(move || connection.send(&self.request).ok());
            kill();
            answer.join().unwrap()
        })
    }

    /// The key under which it is there, by replica 1.
    fn retry(&self, fleet: &Fleet) -> String {
        let mut key = None;
        wait_until("the retry is acknowledged", || {
            let answer = fleet.replica(1).send(&self.request);
            if answer.status != 202 {
                answer.check_refusal(503);
                return false;
            }
            key = Some(answer.written());
            true
        });
        key.unwrap()
    }
}

#[test]
fn a_request_that_a_killed_replica_may_have_done_is_done_once() {
    let test = "a_request_that_a_killed_replica_may_have_done_is_done_once";
    let Some(world) = World::take(test) else { return };
    let fleet = world.fleet(2);
    let thread = fleet.replica(0).user(USER).create_thread("once");
    let mut random = Random::seeded();
    let (mut written, mut unanswered) = (Vec::new(), 0);
    for round in 0..8 {
        let sent = Sent::new(&thread, format!("round-{round}"));
        let answer = if round % 2 == 0 {
            let moment = Duration::from_millis(u64::try_from(random.below(60)).unwrap());
            sent.send_and_kill(&fleet, || {
                hold(moment);
                fleet.kill_9(0);
            })
        } else {
            // With two nodes that hang the commit cannot end: the replica is certainly killed in the middle of it. What
            // the nodes have been sent they do when they go on, while the retry arrives.
            let hung = [world.node(1), world.node(2)];
            hung.iter().for_each(|node| node.pause());
            let answer = sent.send_and_kill(&fleet, || {
                hold(Duration::from_millis(500));
                fleet.kill_9(0);
            });
            hung.iter().for_each(|node| node.resume());
            assert!(answer.is_none(), "it was acknowledged without a majority: {answer:?}");
            answer
        };
        unanswered += usize::from(answer.is_none());
        let key = sent.retry(&fleet);
        if let Some(answer) = answer {
            assert_eq!(answer.written(), key);
        }
        written.push((key, sent.id));
        fleet.restart(0);
    }
    for replica in 0..2 {
        let server = fleet.replica(replica);
        let page = server.user(USER).get(&format!("{}?limit=100", messages(&thread))).check_status(200).json();
        let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
        let items = page["messages"].as_array().unwrap();
        let mut found: Vec<_> = items.iter().map(|item| (text(&item["key"]), text(&item["body"]))).collect();
        found.sort();
        assert_eq!(found, written);
        let sequences: Vec<usize> =
            found.iter().map(|(key, _)| key.rsplit(':').next().unwrap().parse().unwrap()).collect();
        assert!(sequences.iter().copied().eq(0..8), "{sequences:?}");
        let ever = format!("/admin/users/{USER}/threads/{}/messages?limit=1", encode(&thread));
        assert_eq!(server.admin(&ever).check_status(200).json()["pagination"]["total"], json!(8));
    }
    println!("{unanswered} of 8 requests were not answered");
    fleet.stop_all();
}
