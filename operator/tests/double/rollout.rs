//! Another image for a fleet, second by second: what each rollout comes to, and that on the way there are always as many
//! servers as are asked for, that what runs is not touched before it is promoted, and that nothing acknowledged is lost.

mod backup;
mod bad;
mod commands;
mod crash;
mod finalize;
mod good;
mod idle;
mod people;

use serde_json::{Value, json};

pub use crate::fleet::ready;
use crate::{
    fleet,
    upgrade::{NEW, OLD, release, upgrading::Upgrading},
    world::{Image, Write},
};

/// Steps in which no user has met the new image.
const UNMET: [&str; 3] = ["Preflight", "SnapshotOnline", "Approval"];

/// A fleet of three that is asked for a new image, which is this.
pub async fn to(new: Image, of_upgrade: Value) -> Upgrading {
    let mut upgrading = installed(of_upgrade, json!({})).await;
    upgrading.cluster.world.images.insert(NEW.into(), new);
    upgrading.ask(NEW);
    upgrading
}

/// A fleet that serves the old image, with a policy that keeps a scene short.
async fn installed(of_upgrade: Value, more: Value) -> Upgrading {
    let mut policy = json!({ "canary": { "steps": [1], "stepDuration": "10s" } });
    policy.as_object_mut().unwrap().extend(of_upgrade.as_object().unwrap().clone());
    Upgrading::installed(policy, fleet::spec(more)).await
}

/// What has to be so in every second; the writes are those that were acknowledged in this one.
pub fn holds(upgrading: &Upgrading, acknowledged: &[Write]) {
    let record = upgrading.record();
    let (step, now) = (upgrading.text("/step"), ready(&upgrading.cluster));
    assert!(now >= upgrading.least, "{now} servers take requests in {step}");
    if record.is_null() || !record["outcome"].is_null() {
        return;
    }
    let hold = &record["hold"];
    assert!(hold.is_null() || hold["nextCommand"].is_string(), "nothing leads on from {hold}");
    if record["changesImage"] != true {
        return;
    }
    let to = [upgrading.text("/to/image"), upgrading.cluster.world.image_id(&upgrading.text("/to/image"))];
    if record["promoted"] != true {
        let image = image_of(upgrading, "db").expect("what serves is not taken away");
        assert!(!to.contains(&image), "all users get {image} in {step}");
    }
    let early = acknowledged.iter().find(|write| to.contains(&write.image) && UNMET.contains(&&*step));
    assert_eq!(early, None, "a user reached the new image in {step}");
}

/// The image of a Deployment.
fn image_of(upgrading: &Upgrading, name: &str) -> Option<String> {
    let deployment = upgrading.cluster.get("Deployment", name)?;
    Some(deployment["spec"]["template"]["spec"]["containers"][0]["image"].as_str().unwrap().to_owned())
}

/// How many canaries are asked for.
fn canaries(upgrading: &Upgrading) -> i64 {
    upgrading.cluster.get("Deployment", "db-canary").map_or(0, |canary| canary["spec"]["replicas"].as_i64().unwrap())
}

/// How many writes of users an image has acknowledged.
fn met(upgrading: &Upgrading, image: &str) -> usize {
    upgrading.cluster.world.acknowledged().iter().filter(|write| write.image == image).count()
}

/// All servers are of this image, there are so many, no canary is left, and nothing acknowledged is lost.
fn runs(upgrading: &Upgrading, image: &str, servers: usize) {
    let cluster = &upgrading.cluster;
    let names = [image.to_owned(), cluster.world.image_id(image)];
    let all = fleet::servers(cluster);
    assert_eq!((all.len(), ready(cluster)), (servers, servers));
    for pod in all {
        let runs = pod["spec"]["containers"][0]["image"].as_str().unwrap().to_owned();
        assert!(names.contains(&runs), "{runs} runs, and not {image}");
        assert_eq!(pod["metadata"]["labels"]["progressdb.io/track"], "stable");
    }
    assert_eq!(cluster.get("Deployment", "db-canary"), None);
    assert_eq!(cluster.world.lost_in_keyspace("ns", "chat"), Vec::<u64>::new());
    // What the resource asks for stays as well, for another try.
    let is_asked = upgrading.resource()["spec"]["image"] == image;
    assert_eq!((upgrading.left(), upgrading.releases()), (Vec::new(), if is_asked { 1 } else { 2 }));
}

/// It goes back by itself for this reason; the pods of the old image are those of before.
async fn goes_back(upgrading: &mut Upgrading, said: &str) {
    let before = uids(upgrading);
    upgrading.ends("RolledBack").await;
    assert!(upgrading.text("/message").contains(said), "{}", upgrading.text("/message"));
    runs(upgrading, OLD, 3);
    assert_eq!(uids(upgrading), before, "a server of the old image was replaced");
    assert_eq!(upgrading.cluster.condition("db", "Upgraded").1, "RolledBack");
}

/// The pods of the stable track.
fn uids(upgrading: &Upgrading) -> Vec<Value> {
    let all = fleet::servers(&upgrading.cluster);
    let stable = all.iter().filter(|pod| pod["metadata"]["labels"]["progressdb.io/track"] == "stable");
    stable.map(|pod| pod["metadata"]["uid"].clone()).collect()
}
