//! A database that is upgraded, second by second, and what has to be so in each of them.

use serde_json::{Value, json};

use super::{NEW, OLD, THIRD, policy, release};
use crate::{api::Key, cluster::Cluster, rollout, world::Image};

/// The most seconds that anything takes.
pub const LONGEST: usize = 200;

/// Steps in which clients reach the new server, or may until their Service is seen to be closed.
const REACHED: [&str; 4] = ["Promote", "Soak", "FinalizeDrain", "RollbackStop"];

/// Steps in which the old server serves as if there were no upgrade.
const UNTOUCHED: [&str; 4] = ["Preflight", "SnapshotOnline", "Rehearse", "Approval"];

/// A database `db` that is upgraded.
pub struct Upgrading {
    pub cluster: Cluster,
    /// The upgrade that was under way a second ago, and the pod that served then.
    before: (String, Value),
    /// How many writes had been acknowledged a second ago.
    seen: usize,
    /// Of a fleet, how many servers have to take requests.
    pub least: usize,
}

impl Upgrading {
    /// It serves the old image.
    pub async fn installed(of_upgrade: Value, more: Value) -> Self {
        let mut cluster = Cluster::new();
        cluster.world.images.insert(OLD.into(), release("0.3.0"));
        cluster.world.images.insert(THIRD.into(), release("0.5.0"));
        let mut spec = more;
        spec["upgrade"] = policy(of_upgrade);
        cluster.create("db", spec);
        cluster.settle().await;
        assert_eq!(cluster.condition("db", "Ready").0, "True");
        cluster.server.take_calls();
        Self::of(cluster)
    }

    /// A database of which an upgrade is about to begin.
    pub fn of(cluster: Cluster) -> Self {
        let pod = cluster.get("Pod", "db-0").unwrap_or_default()["metadata"]["uid"].clone();
        let seen = cluster.world.acknowledged().len();
        let least = cluster.get("Deployment", "db").map_or(0, |_| rollout::ready(&cluster));
        Self { cluster, before: (String::new(), pod), seen, least }
    }

    /// The resource asks for a new image, which is this.
    pub async fn to(new: Image, of_upgrade: Value) -> Self {
        let mut upgrading = Self::installed(of_upgrade, json!({})).await;
        upgrading.cluster.world.images.insert(NEW.into(), new);
        upgrading.ask(NEW);
        upgrading
    }

    pub fn ask(&self, image: &str) {
        self.cluster.change("db", |spec| spec["image"] = json!(image));
    }

    pub fn program(&mut self, change: impl FnOnce(&mut Image)) {
        change(self.cluster.world.images.get_mut(NEW).unwrap());
    }

    /// Says something about the upgrade, as a person does.
    pub fn annotate(&self, name: &str, value: &str) {
        let value = value.replace("ID", &self.text("/id"));
        self.edit("ProgressDB", "db", |resource| resource["metadata"]["annotations"][name] = json!(value));
    }

    pub fn edit(&self, kind: &str, name: &str, change: impl FnOnce(&mut Value)) {
        self.cluster.server.with(|store| store.edit(&Key::new(kind, "ns", name), change));
    }

    pub fn delete(&self, kind: &str, name: &str) {
        self.cluster.server.with(|store| store.delete(&Key::new(kind, "ns", name), &Value::Null).unwrap());
    }

    pub fn resource(&self) -> Value {
        self.cluster.get("ProgressDB", "db").unwrap_or_default()
    }

    pub fn record(&self) -> Value {
        self.resource()["status"]["upgrade"].clone()
    }

    pub fn text(&self, pointer: &str) -> String {
        self.record().pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned()
    }

    /// The name of something that is made for the upgrade.
    pub fn named(&self, what: &str) -> String {
        format!("db-{}-{what}", self.text("/id"))
    }

    pub fn gate(&self, name: &str) -> String {
        let gates = self.record()["gates"].as_array().cloned().unwrap_or_default();
        let found = gates.into_iter().find(|gate| gate["name"] == name).unwrap_or_default();
        found["verdict"].as_str().unwrap_or_default().to_owned()
    }

    /// How many Events there are with this reason.
    pub fn events(&self, reason: &str) -> usize {
        self.cluster.server.with(|store| store.all("Event").iter().filter(|event| event["reason"] == reason).count())
    }

    /// A second passes, and what has to be so at all times is so.
    pub async fn second(&mut self) {
        self.cluster.round().await;
        assert_eq!(self.cluster.world.broken, Vec::<String>::new(), "in {}", self.text("/step"));
        let (record, all) = (self.record(), self.cluster.world.acknowledged());
        let seen = std::mem::replace(&mut self.seen, all.len());
        if self.cluster.get("Deployment", "db").is_some() {
            return rollout::holds(self, &all[seen..]);
        }
        if !record["outcome"].is_null() || record["changesImage"] != true {
            return;
        }
        let step = self.text("/step");
        let to = self.text("/to/image");
        let early = all[seen..].iter().find(|write| write.image == to && !REACHED.contains(&&*step));
        assert_eq!(early, None, "a client reached the new server in {step}");
        if UNTOUCHED.contains(&&*step) {
            let pod = self.cluster.get("Pod", "db-0").expect("what serves is not stopped");
            let now = (self.text("/id"), pod["metadata"]["uid"].clone());
            let (id, uid) = std::mem::replace(&mut self.before, now);
            // Of another upgrade it was not seen what served before it.
            let is_another = !id.is_empty() && id != self.before.0;
            assert!(is_another || uid == self.before.1, "what serves was touched in {step}");
        }
    }

    pub async fn seconds(&mut self, count: usize) {
        for _ in 0..count {
            self.second().await;
        }
    }

    /// Goes on until this is so.
    pub async fn until(&mut self, what: &str, done: impl Fn(&Self) -> bool) {
        for _ in 0..LONGEST {
            if done(self) {
                return;
            }
            self.second().await;
        }
        panic!("{what} does not happen: {:#}", self.resource()["status"]);
    }

    pub async fn reaches(&mut self, step: &str) {
        self.until(step, |upgrading| upgrading.text("/step") == step).await;
    }

    /// It waits for this reason, and goes on waiting.
    pub async fn is_held(&mut self, reason: &str) {
        self.until(reason, |upgrading| upgrading.text("/hold/reason") == reason).await;
        self.seconds(5).await;
        assert_eq!(self.text("/hold/reason"), reason);
        let stuck = self.record()["hold"]["isStuck"] == true;
        let (status, found, _) = self.cluster.condition("db", "Upgraded");
        assert_eq!((&*status, &*found), ("False", if stuck { "Stuck" } else { "Held" }));
    }

    pub fn is_waiting(&self) -> bool {
        !self.record()["hold"].is_null() && !self.text("/hold/reason").is_empty()
    }

    /// It ends so, and then nothing is left to be done.
    pub async fn ends(&mut self, outcome: &str) {
        self.until(outcome, |upgrading| !upgrading.record()["outcome"].is_null()).await;
        assert_eq!(self.text("/outcome"), outcome, "{:#}", self.record());
        self.rests().await;
    }

    /// It comes to rest: no calls are made but watches, and all of the following is so.
    pub async fn rests(&mut self) {
        self.cluster.settle().await;
        self.cluster.server.take_calls();
        for _ in 0..4 {
            self.cluster.server.with(|store| store.advance(61));
            self.second().await;
        }
        assert_eq!(self.cluster.server.take_calls(), Vec::<String>::new(), "it does not rest");
    }

    /// Whether clients are served.
    pub async fn serves(&mut self) -> bool {
        let before = self.cluster.world.acknowledged().len();
        self.seconds(3).await;
        self.cluster.world.acknowledged().len() == before + 3
    }

    /// The claim with the data, of which there is one.
    pub fn claim(&self) -> String {
        let all = self.cluster.server.with(|store| store.all("PersistentVolumeClaim"));
        let role = |claim: &Value| claim["metadata"]["labels"]["progressdb.io/role"] == "current";
        let current: Vec<&str> =
            all.iter().filter(|claim| role(claim)).map(|claim| claim["metadata"]["name"].as_str().unwrap()).collect();
        assert_eq!(current.len(), 1, "{current:?}");
        current[0].to_owned()
    }

    /// This image serves the data of this claim, on which every write is that was acknowledged.
    pub async fn runs(&mut self, image: &str, claim: &str) {
        assert!(self.serves().await, "clients are not served: {:#}", self.resource()["status"]);
        let last = self.cluster.world.acknowledged().pop().unwrap();
        // A release that was gone back to runs by its digest.
        let names = [image.to_owned(), self.cluster.world.image_id(image)];
        assert!(names.contains(&last.image), "{} runs, and not {image}", last.image);
        assert_eq!(last.claim, claim);
        assert_eq!(self.claim(), claim);
        assert_eq!(self.cluster.world.lost("ns", claim), Vec::<u64>::new());
        assert_eq!(self.cluster.world.databases_made(), ["db-data-0"]);
    }

    /// What is there of claims, snapshots and what is made for upgrades, with ID in the place of the id of the last one.
    pub fn left(&self) -> Vec<String> {
        let id = self.text("/id");
        let of_upgrade = |object: &Value| !object["metadata"]["labels"]["progressdb.io/upgrade"].is_null();
        let mut found = Vec::new();
        self.cluster.server.with(|store| {
            for kind in ["Job", "NetworkPolicy", "Pod"] {
                let all = store.all(kind);
                let ours = all.iter().filter(|object| of_upgrade(object));
                found.extend(ours.map(|object| format!("{kind} {}", object["metadata"]["name"].as_str().unwrap())));
            }
            for claim in store.all("PersistentVolumeClaim") {
                let role = claim["metadata"]["labels"]["progressdb.io/role"].as_str().unwrap_or("-");
                found.push(format!("{} {role}", claim["metadata"]["name"].as_str().unwrap()));
            }
            for kind in ["VolumeSnapshot", "VolumeSnapshotContent"] {
                for object in store.all(kind) {
                    let policy = object["spec"]["deletionPolicy"].as_str().unwrap_or_default();
                    found.push(format!("{} {policy}", object["metadata"]["name"].as_str().unwrap()).trim().to_owned());
                }
            }
        });
        found.into_iter().map(|name| if id.is_empty() { name } else { name.replace(&id, "ID") }).collect()
    }

    /// How many ConfigMaps of releases there are.
    pub fn releases(&self) -> usize {
        let all = self.cluster.server.with(|store| store.all("ConfigMap"));
        all.iter().filter(|map| map["immutable"] == true && !map["data"]["template.json"].is_null()).count()
    }
}
