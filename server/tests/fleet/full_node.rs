//! A node whose disk is full.

use std::process::Stdio;
use std::time::Duration;

use testing::disk::SmallDisk;
use testing::servers::cassandra::{Options, Ring};

use crate::world::{check_under_load, fleet_on, hold, turn};

const MIB: u64 = 1 << 20;
/// Acknowledged writes that show that the fleet works.
const SOME: usize = 40;

#[test]
fn a_node_whose_disk_is_full_costs_nothing() {
    let test = "a_node_whose_disk_is_full_costs_nothing";
    if !Ring::can_start(test) {
        return;
    }
    let Some(disk) = SmallDisk::mount(test, 320 * MIB) else { return };
    let options = Options::default().nodes(3).directory(2, &disk.disk.at);
    let _turn = turn();
    let Some(ring) = Ring::start(test, &options) else { return };
    let fleet = fleet_on(&ring, "full_node", 3, |_, setup| setup);
    let node = &ring.nodes()[2];
    check_under_load(test, &ring, &fleet, |load| {
        load.wait_for(SOME);
        disk.fill(0);
        // The log has room for minutes in the segment that it has begun; a flush needs room at once.
        let mut flush = node.nodetool_command(&["flush"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        load.wait_for(4 * SOME);
        hold(Duration::from_secs(5));
        load.wait_for(SOME);
        disk.empty();
        let _ = flush.kill();
        flush.wait().unwrap();
        // A node that failed to write does not take up its work on its own.
        node.kill_9();
        ring.mend();
        load.wait_for(SOME);
    });
    fleet.stop_all();
}
