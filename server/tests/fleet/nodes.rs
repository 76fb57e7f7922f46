//! Nodes that are killed, hang, are cut off, or are too few.

use std::sync::atomic::Ordering;
use std::time::Duration;

use testing::THREADS;
use testing::http::Request;
use testing::load::{Control, USER};
use testing::servers::cassandra::can_cut;

use crate::world::{World, check_under_load, hold, pause, wait_until_ready};

/// Acknowledged writes that show that the fleet works.
const SOME: usize = 40;

/// One node suffers while two others are there: writes go on, and it comes back.
fn check_without_one_node(test: &str, fault: impl FnOnce(&World, &Control)) {
    let Some(world) = World::take(test) else { return };
    let fleet = world.fleet(3);
    check_under_load(test, world.ring(), &fleet, |load| {
        load.wait_for(SOME);
        fault(&world, load);
        world.ring().mend();
        load.wait_for(SOME);
    });
    fleet.stop_all();
}

#[test]
fn a_node_that_is_killed_costs_nothing() {
    check_without_one_node("a_node_that_is_killed_costs_nothing", |world, load| {
        world.node(1).kill_9();
        load.wait_for(4 * SOME);
    });
}

#[test]
fn a_node_that_hangs_costs_nothing() {
    check_without_one_node("a_node_that_hangs_costs_nothing", |world, load| {
        world.node(2).pause();
        load.wait_for(SOME);
        hold(pause());
        load.wait_for(SOME);
    });
}

#[test]
fn a_node_that_is_cut_off_costs_nothing() {
    let test = "a_node_that_is_cut_off_costs_nothing";
    if !can_cut(test) {
        return;
    }
    check_without_one_node(test, |world, load| {
        world.node(0).cut();
        load.wait_for(SOME);
        hold(pause());
        load.wait_for(SOME);
    });
}

#[test]
fn without_a_majority_nothing_is_acknowledged_until_it_is_back() {
    let test = "without_a_majority_nothing_is_acknowledged_until_it_is_back";
    let Some(world) = World::take(test) else { return };
    let fleet = world.fleet(3);
    check_under_load(test, world.ring(), &fleet, |load| {
        load.wait_for(SOME);
        let gone = [world.node(0), world.node(2)];
        gone.iter().for_each(|node| node.kill_9());
        load.wait_for_refusals(3);
        let acknowledged = load.acknowledged.load(Ordering::Relaxed);
        hold(Duration::from_secs(5));
        assert_eq!(
            load.acknowledged.load(Ordering::Relaxed),
            acknowledged,
            "what could not be written is acknowledged"
        );
        for replica in 0..fleet.size() {
            let server = fleet.replica(replica);
            let answer = server.user(USER).get(THREADS);
            answer.check_refusal(503);
            assert!(answer.header("retry-after").is_some(), "{answer}");
            server.send(&Request::get("/healthz")).check_status(200);
        }
        gone.iter().for_each(|node| node.restart());
        load.wait_for(SOME);
        (0..fleet.size()).for_each(|replica| wait_until_ready(&fleet, replica));
    });
    fleet.stop_all();
}
