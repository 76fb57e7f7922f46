//! A command that is killed at each of its steps, and servers that stand still or start meanwhile.

use rustix::process::Signal;
use serde_json::json;
use testing::{Server, Setup};

use crate::world::{FINALIZE, MIGRATIONS, World, formats, names, write_through};

/// Starts the command, and kills it when it has said all of this.
fn kill_after(setup: &Setup, said: &[&str]) {
    let command = Server::begin(setup.command(&FINALIZE));
    said.iter().for_each(|said| drop(command.wait_for_line(said)));
    command.kill();
}

#[test]
fn a_command_that_is_killed_at_each_step_is_repeated_beside_servers_that_come_and_stand_still() {
    let test = "a_command_that_is_killed_at_each_step_is_repeated_beside_servers_that_come_and_stand_still";
    let Some(mut world) = World::filled(test, 60) else { return };
    let fleet = world.fleet(3);
    let old = world.old().start();
    let (steps, command) = (world.view(), world.next());
    world.under_load(&fleet, |load| {
        // It has claimed the format, and waits until the old server is gone.
        kill_after(&command, &["format.claimed", "format.awaited"]);
        assert_eq!(steps.inspect()["format"], json!(1));
        old.stop().check_code(0);
        load.wait_for(10);

        // It has raised the format, and waits for a server that stands still.
        fleet.replica(2).signal(Signal::STOP);
        kill_after(&command, &["format.raised", "format.awaited"]);
        let inspected = steps.inspect();
        assert_eq!((&inspected["format"], &inspected["pending"]["begun"]), (&json!(2), &json!(true)));
        assert_eq!(names(&inspected["pending"]["finalize"]), MIGRATIONS);
        assert!(steps.forms().contains(&1), "no row is rewritten yet");

        // A server that starts now follows from its first write on, and leaves the rest to the command.
        let late = steps.next().start();
        late.wait_for_line("format.change_unfinished");
        assert_eq!(formats(&late)["data"], json!(2));
        write_through(&late);
        late.stop().check_code(0);
        steps.check_old_is_refused();

        // It rewrites, after the slot of the server that stands still has expired.
        kill_after(&command, &["migration.started"]);
        fleet.replica(2).signal(Signal::CONT);
        let ended = command.run(&FINALIZE);
        ended.check_code(0).check_says(&["migrate=ok format=2"]);
        fleet.replica(2).wait_for_line("format.followed");
        load.wait_for(20);
    });
    (0..3).for_each(|replica| write_through(&fleet.replica(replica)));
    world.check_raised(&fleet);
    fleet.stop_all();
}
