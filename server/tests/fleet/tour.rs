//! `make fleet`: the same fleet and the same faults, told to a person who watches.
#![expect(clippy::disallowed_methods, reason = "it tells how long things take")]

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use testing::fleet::Fleet;
use testing::load::Control;
use testing::servers::cassandra::can_cut;

use crate::world::{World, check_under_load, hold};

/// For how long each state is watched.
const WATCHED: Duration = Duration::from_secs(6);

struct Tour<'a> {
    began: Instant,
    world: &'a World,
    fleet: &'a Fleet,
    load: &'a Control,
}

impl Tour<'_> {
    /// Does something to the fleet, and says what the writers met meanwhile.
    fn watch(&self, what: &str, fault: impl FnOnce()) {
        let counters = [&self.load.acknowledged, &self.load.refused, &self.load.broken];
        let read = || counters.map(|counter| counter.load(Ordering::Relaxed));
        let (before, since) = (read(), Instant::now());
        fault();
        hold(WATCHED);
        let after = read();
        let [acknowledged, refused, broken] = [0, 1, 2].map(|index| after[index] - before[index]);
        let rate = acknowledged as f64 / since.elapsed().as_secs_f64();
        self.say(&format!(
            "{what:<44}{acknowledged:>6} writes ({rate:.0}/s), {refused} refused, {broken} without an answer"
        ));
    }

    fn say(&self, line: &str) {
        say(self.began, line);
    }

    /// Ends what was done to the nodes, and waits until writes go on.
    fn mend(&self) {
        self.world.ring().mend();
        self.load.wait_for(10);
    }
}

fn say(began: Instant, line: &str) {
    println!("{:>4} s  {line}", began.elapsed().as_secs());
}

#[test]
#[ignore = "for people to watch; type: make fleet"]
fn tour() {
    let began = Instant::now();
    let Some(world) = World::take("make fleet") else { return };
    say(began, &format!("three nodes of Cassandra, at {}", world.ring().contact_points()));
    let fleet = world.fleet(3);
    let addresses: Vec<String> = (0..3).map(|replica| fleet.addr(replica).to_string()).collect();
    say(began, &format!("three servers, at {}", addresses.join(",")));
    let (threads, messages) = check_under_load("tour", world.ring(), &fleet, |load| {
        let tour = Tour { began, world: &world, fleet: &fleet, load };
        kill_one_after_the_other(&tour);
        tour.say("the writers stop; every server is asked for all that was acknowledged");
    });
    say(
        began,
        &format!("{threads} threads and {messages} messages: all of them there, once, without a gap in any thread"),
    );
    fleet.stop_all();
}

fn kill_one_after_the_other(tour: &Tour) {
    let Tour { world, fleet, .. } = tour;
    tour.load.wait_for(10);
    tour.watch("nothing is done to them", || {});
    tour.watch("a server is killed and started again", || {
        fleet.kill_9(0);
        fleet.restart(0);
    });
    tour.watch("a server is stopped and started again", || {
        fleet.stop(1).check_code(0);
        fleet.restart(1);
    });
    tour.watch("a node is killed", || world.node(0).kill_9());
    tour.mend();
    tour.watch("a node hangs", || world.node(1).pause());
    tour.mend();
    if can_cut("make fleet: a node that is cut off") {
        tour.watch("a node is cut off", || world.node(2).cut());
        tour.mend();
    }
    tour.watch("two of three nodes are killed", || [0, 2].iter().for_each(|node| world.node(*node).kill_9()));
    let back = Instant::now();
    tour.mend();
    tour.say(&format!("they are back, and writes go on after {:.0} s", back.elapsed().as_secs_f64()));
}
