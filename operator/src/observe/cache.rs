//! What the watches say, object by object and packed: every resource, and every object that carries our labels.
//!
//! What the API server answers to our own writes goes in as well, so that nobody looks at the world before his own last
//! deed. An older version never replaces a newer one.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard};

use kube::runtime::watcher::Event;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::sync::watch;

use super::{
    health::Health,
    live::{Live, prune},
    owner,
    packed::{Packed, Packer},
};
use crate::{
    crd::{self, ProgressDB, Unreadable},
    kind::Kind,
    outcomes::Outcomes,
    raw::Raw,
};

type Instance = (String, String);

#[derive(Debug)]
struct Seen {
    kind: Kind,
    name: Box<str>,
    version: u64,
    packed: Packed,
}

impl Seen {
    fn is(&self, kind: Kind, name: &str) -> bool {
        self.kind == kind && *self.name == *name
    }
}

#[derive(Debug, Default)]
struct Contents {
    packer: Packer,
    resources: HashMap<Instance, Packed>,
    instances: HashMap<Instance, Vec<Seen>>,
    /// What a list that is under way has named so far.
    listing: HashMap<Kind, BTreeSet<(Instance, String)>>,
}

/// The objects that carry our labels.
#[derive(Debug)]
pub struct Cache {
    contents: RwLock<Contents>,
    /// Kinds that have not been listed yet, and those that this cluster knows.
    progress: watch::Sender<Progress>,
    /// What became of objects that the operator applied.
    pub(crate) outcomes: Outcomes,
    /// Whether the watches hear anything.
    pub health: Health,
}

#[derive(Clone, Debug, Default)]
struct Progress {
    listed: BTreeSet<Kind>,
    /// How often a kind was no longer served.
    lost: BTreeMap<Kind, u32>,
}

impl Default for Cache {
    fn default() -> Self {
        Self {
            contents: RwLock::default(),
            progress: watch::Sender::new(Progress::default()),
            outcomes: Outcomes::default(),
            health: Health::default(),
        }
    }
}

impl Cache {
    /// Returns once every kind that a cluster must know was listed.
    pub async fn listed(&self) {
        let complete =
            |progress: &Progress| Kind::ALL.iter().all(|kind| kind.is_optional() || progress.listed.contains(kind));
        // The sender lives as long as the cache.
        let _ = self.progress.subscribe().wait_for(complete).await;
    }

    /// Whether this kind was listed: an optional one that was not does not exist here.
    pub fn knows(&self, kind: Kind) -> bool {
        self.progress.borrow().listed.contains(&kind)
    }

    /// Returns once the cluster no longer serves this kind.
    pub(super) async fn lost(&self, kind: Kind) {
        let times = |progress: &Progress| progress.lost.get(&kind).copied();
        let mut progress = self.progress.subscribe();
        let before = times(&progress.borrow());
        // The sender lives as long as the cache.
        let _ = progress.wait_for(|progress| times(progress) != before).await;
    }

    /// Forgets a kind that the cluster no longer serves, with its objects.
    pub(crate) fn lose(&self, kind: Kind) {
        self.health.heard(kind.name());
        let mut contents = self.write();
        contents.listing.remove(&kind);
        contents.instances.retain(|_, objects| {
            objects.retain(|known| known.kind != kind);
            !objects.is_empty()
        });
        drop(contents);
        self.progress.send_modify(|progress| {
            progress.listed.remove(&kind);
            *progress.lost.entry(kind).or_default() += 1;
        });
    }

    /// Namespace and name of every resource.
    pub(super) fn names(&self) -> Vec<Instance> {
        self.read().resources.keys().cloned().collect()
    }

    /// The objects of one instance.
    pub fn instance(&self, namespace: &str, name: &str) -> BTreeMap<(Kind, String), Live> {
        let contents = self.read();
        let Some(objects) = contents.instances.get(&(namespace.to_owned(), name.to_owned())) else {
            return BTreeMap::new();
        };
        let keys = objects.iter().map(|seen| (seen.kind, seen.name.to_string()));
        let lives = contents.packer.unpack(objects.iter().map(|seen| (Some(seen.kind), &seen.packed))).map(parse);
        keys.zip(lives.map(Live)).collect()
    }

    /// The resource of this name, or what is known of one that cannot be read.
    pub fn resource(&self, namespace: &str, name: &str) -> Option<Result<ProgressDB, Box<Unreadable>>> {
        let contents = self.read();
        let packed = contents.resources.get(&(namespace.to_owned(), name.to_owned()))?;
        let text = contents.packer.unpack([(None, packed)]).next()?;
        drop(contents);
        Some(crd::read(std::str::from_utf8(&text).expect("it was text when it was packed")))
    }

    /// Takes what the watch of the resources says.
    pub fn take_resource(&self, event: &Event<Raw>) {
        let of = |resource: &Raw| {
            let metadata = &resource.metadata;
            (metadata.namespace.clone().unwrap_or_default(), metadata.name.clone().unwrap_or_default())
        };
        let mut contents = self.write();
        let Contents { packer, resources, .. } = &mut *contents;
        match event {
            // A list that was not finished leaves what it named; the store of the controller says what is there.
            Event::Init => resources.clear(),
            Event::InitDone => {}
            Event::Apply(resource) | Event::InitApply(resource) => {
                resources.insert(of(resource), packer.pack(None, resource.text()));
            }
            Event::Delete(resource) => drop(resources.remove(&of(resource))),
        }
    }

    /// Takes what a watch of this kind says.
    pub fn take(&self, kind: Kind, event: &Event<Value>) {
        match event {
            Event::Init => {
                self.write().listing.insert(kind, BTreeSet::new());
            }
            Event::InitApply(object) => {
                if let Some(key) = self.absorb(kind, object) {
                    self.write().listing.entry(kind).or_default().insert(key);
                }
            }
            Event::InitDone => {
                self.finish_list(kind);
                self.progress.send_modify(|progress| {
                    progress.listed.insert(kind);
                });
            }
            Event::Apply(object) => {
                self.absorb(kind, object);
            }
            Event::Delete(object) => self.forget(kind, object),
        }
    }

    /// Takes an object as the API server has it; one that belongs to no resource is not for us.
    pub fn absorb(&self, kind: Kind, object: &Value) -> Option<(Instance, String)> {
        let (instance, name) = identify(kind, object)?;
        let live = Live(object.clone());
        let version = live.version().parse().unwrap_or(u64::MAX);
        let text = short_text(kind, live);
        let mut contents = self.write();
        let Contents { packer, instances, .. } = &mut *contents;
        let objects = instances.entry(instance.clone()).or_default();
        let known = objects.iter_mut().find(|known| known.is(kind, &name));
        if known.as_ref().is_some_and(|known| known.version > version) {
            return Some((instance, name));
        }
        let seen = Seen { kind, name: name.as_str().into(), version, packed: packer.pack(Some(kind), &text) };
        match known {
            Some(known) => *known = seen,
            None => {
                objects.reserve_exact(1);
                objects.push(seen);
            }
        }
        Some((instance, name))
    }

    fn forget(&self, kind: Kind, object: &Value) {
        let Some((instance, name)) = identify(kind, object) else { return };
        let mut contents = self.write();
        let Contents { packer, instances, .. } = &mut *contents;
        let Some(objects) = instances.get_mut(&instance) else { return };
        let Some(index) = objects.iter().position(|known| known.is(kind, &name)) else { return };
        let known = packer.unpack([(Some(kind), &objects[index].packed)]).next().map(parse).map(Live);
        if let Some(known) = known.filter(|known| object.pointer("/metadata/uid").is_some_and(|uid| uid == known.uid()))
        {
            objects.remove(index);
            self.outcomes.forget(known.uid());
        }
        if objects.is_empty() {
            instances.remove(&instance);
        }
    }

    /// Drops what was not in a complete list.
    fn finish_list(&self, kind: Kind) {
        let mut contents = self.write();
        let listed = contents.listing.remove(&kind).unwrap_or_default();
        contents.instances.retain(|instance, objects| {
            objects.retain(|known| known.kind != kind || listed.contains(&(instance.clone(), known.name.to_string())));
            !objects.is_empty()
        });
    }

    fn read(&self) -> RwLockReadGuard<'_, Contents> {
        self.contents.read().expect("nobody panics while holding the cache")
    }

    fn write(&self) -> RwLockWriteGuard<'_, Contents> {
        self.contents.write().expect("nobody panics while holding the cache")
    }
}

/// The instance that an object belongs to, and the object's name.
fn identify(kind: Kind, object: &Value) -> Option<(Instance, String)> {
    let name = object.pointer("/metadata/name")?.as_str()?;
    Some((owner::instance(kind, object)?, name.to_owned()))
}

fn short_text(kind: Kind, mut live: Live) -> String {
    prune(kind, &mut live.0);
    live.0.to_string()
}

fn parse<T: DeserializeOwned>(text: Vec<u8>) -> T {
    serde_json::from_slice(&text).expect("it was JSON when it was packed")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::objects::labels::INSTANCE;

    fn object(uid: &str, version: u64) -> Value {
        json!({ "metadata": {
            "name": "db", "namespace": "ns", "uid": uid, "resourceVersion": version.to_string(),
            "labels": { INSTANCE: "db" },
        } })
    }

    fn versions(cache: &Cache) -> Vec<String> {
        cache.instance("ns", "db").values().map(|live| format!("{}@{}", live.uid(), live.version())).collect()
    }

    #[test]
    fn an_older_version_does_not_replace_our_own_write() {
        let cache = Cache::default();
        cache.absorb(Kind::Service, &object("a", 7));
        cache.take(Kind::Service, &Event::Apply(object("a", 5)));
        assert_eq!(versions(&cache), ["a@7"]);
        cache.take(Kind::Service, &Event::Apply(object("a", 9)));
        assert_eq!(versions(&cache), ["a@9"]);
    }

    #[test]
    fn a_deletion_concerns_the_object_of_that_uid() {
        let cache = Cache::default();
        cache.absorb(Kind::Service, &object("new", 9));
        cache.take(Kind::Service, &Event::Delete(object("old", 8)));
        assert_eq!(versions(&cache), ["new@9"]);
        cache.take(Kind::Service, &Event::Delete(object("new", 10)));
        assert_eq!(versions(&cache), Vec::<String>::new());
    }

    #[test]
    fn a_list_drops_what_it_does_not_name_and_only_of_its_kind() {
        let cache = Cache::default();
        cache.absorb(Kind::Service, &object("a", 1));
        cache.absorb(Kind::ConfigMap, &object("b", 2));
        cache.take(Kind::Service, &Event::Init);
        cache.take(Kind::Service, &Event::InitDone);
        assert_eq!(versions(&cache), ["b@2"]);
        assert!(cache.knows(Kind::Service) && !cache.knows(Kind::ConfigMap));
    }
}
