//! A format is not raised beside servers that could not go on.

use serde_json::json;

use crate::world::{FINALIZE, World, formats, write_through};

#[test]
fn a_server_that_is_too_old_is_named_and_nothing_is_changed() {
    let Some(world) = World::filled("a_server_that_is_too_old_is_named_and_nothing_is_changed", 2) else { return };
    let (old, next) = (world.old().start(), world.next().start());
    let slot = old.send(&testing::http::Request::get("/readyz")).check_status(200).json()["slot"].clone();
    let version = old.send(&testing::http::Request::get("/readyz")).json()["version"].as_str().unwrap().to_owned();
    let refused = world.next().run(&FINALIZE);
    refused.check_code(75).check_says(&[
        "nothing was changed",
        "format 2",
        &format!("slot {slot} (version {version}, formats 1 to 1)"),
    ]);
    assert!(!refused.said().contains("0.4.0-next, formats"), "the others are in order: {}", refused.said());
    assert_eq!((world.inspect()["format"].clone(), formats(&next)["data"].clone()), (json!(1), json!(1)));
    [&old, &next].into_iter().for_each(write_through);
    let another = world.old().start();
    another.stop().check_code(0);
    old.stop().check_code(0);
    world.next().run(&FINALIZE).check_code(0);
    write_through(&next);
    world.check_old_is_refused();
    next.stop().check_code(0);
}
