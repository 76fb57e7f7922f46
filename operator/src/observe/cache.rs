//! What the watches say, object by object and packed: every resource, and every object that carries our labels.
//!
//! What the API server answers to our own writes goes in as well, so that nobody looks at the world before his own last
//! deed. An older version never replaces a newer one.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{RwLock, RwLockReadGuard, RwLockWriteGuard},
};

use kube::runtime::watcher::Event;
use serde_json::Value;
use tokio::sync::watch;

use super::{
    archive::{Archive, Item},
    health::Health,
    live::{Live, prune},
    owner,
    packed::Packer,
};
use crate::{
    crd::{self, ProgressDB, Unreadable},
    kind::Kind,
    outcomes::Outcomes,
    raw::Raw,
};

#[derive(Debug, Default)]
struct Contents {
    packer: Packer,
    /// By [`key`]; none is empty.
    instances: HashMap<Box<str>, Archive>,
}

impl Contents {
    /// Packs a text and puts it in.
    fn put(&mut self, instance: &str, kind: Option<Kind>, name: &str, (version, is_listed): (u64, bool), text: &str) {
        let item = Item { kind, name, version, is_listed, packed: self.packer.pack(kind, text), length: text.len() };
        match self.instances.get_mut(instance) {
            Some(archive) => archive.put(item),
            None => {
                let mut archive = Archive::default();
                archive.put(item);
                self.instances.insert(instance.into(), archive);
            }
        }
    }

    fn retain(&mut self, keep: impl Fn(&Item<'_>) -> bool) {
        self.instances.retain(|_, archive| {
            archive.retain(&keep);
            !archive.is_empty()
        });
    }

    fn remove(&mut self, instance: &str, kind: Option<Kind>, name: &str) {
        let Some(archive) = self.instances.get_mut(instance) else { return };
        archive.retain(|item| !item.is(kind, name));
        if archive.is_empty() {
            self.instances.remove(instance);
        }
    }
}

/// An instance: no namespace has a slash in its name.
fn key(namespace: &str, name: &str) -> String {
    format!("{namespace}/{name}")
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
        self.write().retain(|item| item.kind != Some(kind));
        self.progress.send_modify(|progress| {
            progress.listed.remove(&kind);
            *progress.lost.entry(kind).or_default() += 1;
        });
    }

    /// Namespace and name of every resource.
    pub(super) fn names(&self) -> Vec<(String, String)> {
        let contents = self.read();
        let resources = contents.instances.iter().filter(|(_, archive)| archive.get(None, "").is_some());
        let names = resources.filter_map(|(key, _)| key.split_once('/'));
        names.map(|(namespace, name)| (namespace.to_owned(), name.to_owned())).collect()
    }

    /// The objects of one instance.
    pub fn instance(&self, namespace: &str, name: &str) -> BTreeMap<(Kind, String), Live> {
        let contents = self.read();
        let Some(archive) = contents.instances.get(key(namespace, name).as_str()) else { return BTreeMap::new() };
        let objects = || archive.items().filter(|item| item.kind.is_some());
        let keys = objects().filter_map(|item| Some((item.kind?, item.name.to_owned())));
        let lives = contents.packer.unpack(objects()).map(parse);
        keys.zip(lives.map(Live)).collect()
    }

    /// The resource of this name, or what is known of one that cannot be read.
    pub fn resource(&self, namespace: &str, name: &str) -> Option<Result<ProgressDB, Box<Unreadable>>> {
        let contents = self.read();
        let packed = contents.instances.get(key(namespace, name).as_str())?.get(None, "")?;
        let text = contents.packer.unpack([packed]).next()?;
        drop(contents);
        Some(crd::read(std::str::from_utf8(&text).expect("it was text when it was packed")))
    }

    /// Takes what the watch of the resources says.
    pub fn take_resource(&self, event: &Event<Raw>) {
        let of = |resource: &Raw| {
            let metadata = &resource.metadata;
            key(metadata.namespace.as_deref().unwrap_or_default(), metadata.name.as_deref().unwrap_or_default())
        };
        let mut contents = self.write();
        match event {
            // A list that was not finished leaves what it named; the store of the controller says what is there.
            Event::Init => contents.retain(|item| item.kind.is_some()),
            Event::InitDone => {}
            Event::Apply(resource) | Event::InitApply(resource) => {
                contents.put(&of(resource), None, "", (0, false), resource.text());
            }
            Event::Delete(resource) => contents.remove(&of(resource), None, ""),
        }
    }

    /// Takes what a watch of this kind says.
    pub fn take(&self, kind: Kind, event: &Event<Value>) {
        match event {
            Event::Init => {
                self.write().instances.values_mut().for_each(|archive| archive.begin_list(kind));
            }
            Event::InitApply(object) => self.put(kind, object, true),
            Event::InitDone => {
                // What a complete list did not name is gone.
                self.write().retain(|item| item.kind != Some(kind) || item.is_listed);
                self.progress.send_modify(|progress| {
                    progress.listed.insert(kind);
                });
            }
            Event::Apply(object) => self.absorb(kind, object),
            Event::Delete(object) => self.forget(kind, object),
        }
    }

    /// Takes an object as the API server has it; one that belongs to no resource is not for us.
    pub fn absorb(&self, kind: Kind, object: &Value) {
        self.put(kind, object, false);
    }

    fn put(&self, kind: Kind, object: &Value, is_named_by_list: bool) {
        let Some((instance, name)) = identify(kind, object) else { return };
        let live = Live(object.clone());
        let version = live.version().parse().unwrap_or(u64::MAX);
        let text = short_text(kind, live);
        let mut contents = self.write();
        let known = contents.instances.get(instance.as_str()).and_then(|archive| archive.get(Some(kind), name));
        let (is_newer, was_listed) = known.map_or((false, false), |known| (known.version > version, known.is_listed));
        let is_listed = is_named_by_list || was_listed;
        match contents.instances.get_mut(instance.as_str()) {
            Some(archive) if is_newer => archive.set_listed(kind, name, is_listed),
            _ => contents.put(&instance, Some(kind), name, (version, is_listed), &text),
        }
    }

    fn forget(&self, kind: Kind, object: &Value) {
        let Some((instance, name)) = identify(kind, object) else { return };
        let mut contents = self.write();
        let known = contents.instances.get(instance.as_str()).and_then(|archive| archive.get(Some(kind), name));
        let known = known.and_then(|known| contents.packer.unpack([known]).next()).map(parse).map(Live);
        let is_it = |known: &Live| object.pointer("/metadata/uid").is_some_and(|uid| uid == known.uid());
        if let Some(known) = known.filter(is_it) {
            contents.remove(&instance, Some(kind), name);
            self.outcomes.forget(known.uid());
        }
    }

    fn read(&self) -> RwLockReadGuard<'_, Contents> {
        self.contents.read().expect("nobody panics while holding the cache")
    }

    fn write(&self) -> RwLockWriteGuard<'_, Contents> {
        self.contents.write().expect("nobody panics while holding the cache")
    }
}

/// The instance that an object belongs to, and the object's name.
fn identify(kind: Kind, object: &Value) -> Option<(String, &str)> {
    let (namespace, instance) = owner::instance(kind, object)?;
    Some((key(&namespace, &instance), object.pointer("/metadata/name")?.as_str()?))
}

fn short_text(kind: Kind, mut live: Live) -> String {
    prune(kind, &mut live.0);
    live.0.to_string()
}

fn parse(text: Vec<u8>) -> Value {
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
    fn a_list_with_an_older_version_keeps_our_own_write() {
        let cache = Cache::default();
        cache.absorb(Kind::Service, &object("a", 7));
        cache.take(Kind::Service, &Event::Init);
        cache.take(Kind::Service, &Event::InitApply(object("a", 5)));
        cache.take(Kind::Service, &Event::InitDone);
        assert_eq!(versions(&cache), ["a@7"]);
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
