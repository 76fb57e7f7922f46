//! The cluster as the watches report it, compressed: every resource, and every object with our labels.
//!
//! The API server's responses to our own writes go in as well, so that a reconcile sees what the one before it wrote. An
//! older version of an object never replaces a newer one.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{RwLock, RwLockReadGuard, RwLockWriteGuard},
};

use kube::runtime::watcher::Event;
use serde_json::Value;
use tokio::sync::watch;

use super::{
    archive::{Archive, Item},
    compressed::Compressor,
    health::Health,
    live::{Live, prune},
    owner,
    runs::{Runs, has_run},
};
use crate::{
    crd::{self, ProgressDB, Unreadable},
    kind::{Kind, name_of, uid_of},
    objects::names,
    outcomes::Outcomes,
    raw::Raw,
};

#[derive(Debug, Default)]
struct Contents {
    compressor: Compressor,
    /// By [`key`]; no archive is empty.
    instances: HashMap<Box<str>, Archive>,
}

impl Contents {
    /// Compresses a text, and adds it or replaces an older one.
    fn upsert(
        &mut self,
        instance: &str,
        kind: Option<Kind>,
        name: &str,
        (version, is_listed): (u64, bool),
        text: &str,
    ) {
        let item = Item {
            kind,
            name,
            version,
            is_listed,
            compressed: self.compressor.compress(kind, text),
            length: text.len(),
        };
        match self.instances.get_mut(instance) {
            Some(archive) => archive.upsert(item),
            None => {
                let mut archive = Archive::default();
                archive.upsert(item);
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

/// The key of an instance. No name in Kubernetes has a slash.
pub(super) fn key(namespace: &str, name: &str) -> String {
    format!("{namespace}/{name}")
}

/// The resources, and the objects with our labels.
#[derive(Debug)]
pub struct Cache {
    contents: RwLock<Contents>,
    /// Which kinds were listed.
    progress: watch::Sender<Progress>,
    /// What the API server made of objects that the operator applied.
    pub(crate) outcomes: Outcomes,
    /// Which servers have run.
    pub(super) runs: Runs,
    /// Whether the watches work.
    pub health: Health,
}

#[derive(Clone, Debug, Default)]
struct Progress {
    listed: BTreeSet<Kind>,
    /// How often the cluster ceased to serve a kind.
    removed: BTreeMap<Kind, u32>,
}

impl Default for Cache {
    fn default() -> Self {
        Self {
            contents: RwLock::default(),
            progress: watch::Sender::new(Progress::default()),
            outcomes: Outcomes::default(),
            runs: Runs::default(),
            health: Health::default(),
        }
    }
}

impl Cache {
    /// Returns once every kind that each cluster serves was listed.
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
    pub(super) async fn kind_removed(&self, kind: Kind) {
        let times = |progress: &Progress| progress.removed.get(&kind).copied();
        let mut progress = self.progress.subscribe();
        let before = times(&progress.borrow());
        // The sender lives as long as the cache.
        let _ = progress.wait_for(|progress| times(progress) != before).await;
    }

    /// Removes the objects of a kind that the cluster no longer serves.
    pub(crate) fn remove_kind(&self, kind: Kind) {
        self.health.heard(kind.name());
        self.drop_objects(|item| item.kind == Some(kind));
        self.progress.send_modify(|progress| {
            progress.listed.remove(&kind);
            *progress.removed.entry(kind).or_default() += 1;
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
        let lives = contents.compressor.decompress(objects()).map(parse);
        keys.zip(lives.map(Live)).collect()
    }

    /// The resource of this name, or what is known of one that cannot be read.
    pub fn resource(&self, namespace: &str, name: &str) -> Option<Result<ProgressDB, Box<Unreadable>>> {
        let contents = self.read();
        let compressed = contents.instances.get(key(namespace, name).as_str())?.get(None, "")?;
        let text = contents.compressor.decompress([compressed]).next()?;
        drop(contents);
        Some(crd::read(std::str::from_utf8(&text).expect("a text was compressed")))
    }

    /// Handles an event of the watch of the resources.
    pub fn handle_resource_event(&self, event: &Event<Raw>) {
        let of = |resource: &Raw| {
            let metadata = &resource.metadata;
            key(metadata.namespace.as_deref().unwrap_or_default(), metadata.name.as_deref().unwrap_or_default())
        };
        let mut contents = self.write();
        match event {
            // The list that follows names every resource again.
            Event::Init => contents.retain(|item| item.kind.is_some()),
            Event::InitDone => {}
            Event::Apply(resource) | Event::InitApply(resource) => {
                contents.upsert(&of(resource), None, "", (0, false), resource.text());
            }
            Event::Delete(resource) => {
                contents.remove(&of(resource), None, "");
                self.runs.end(&of(resource));
            }
        }
    }

    /// Handles an event of the watch of a kind.
    pub fn handle_event(&self, kind: Kind, event: &Event<Value>) {
        match event {
            Event::Init => {
                self.write().instances.values_mut().for_each(|archive| archive.begin_list(kind));
                if kind == Kind::Pod {
                    self.runs.clear();
                }
            }
            Event::InitApply(object) => self.upsert_object(kind, object, true),
            Event::InitDone => {
                // What a complete list did not name does not exist any more.
                self.drop_objects(|item| item.kind == Some(kind) && !item.is_listed);
                self.progress.send_modify(|progress| {
                    progress.listed.insert(kind);
                });
            }
            Event::Apply(object) => self.upsert(kind, object),
            Event::Delete(object) => self.remove(kind, object),
        }
    }

    /// Adds an object as the API server has it, or replaces an older version. One that belongs to no resource is left out.
    pub fn upsert(&self, kind: Kind, object: &Value) {
        self.upsert_object(kind, object, false);
    }

    fn upsert_object(&self, kind: Kind, object: &Value, is_named_by_list: bool) {
        let Some((instance, name)) = identify(kind, object) else { return };
        self.note_run(kind, &instance, object);
        let live = Live(object.clone());
        let version = live.version().parse().unwrap_or(u64::MAX);
        let text = short_text(kind, live);
        let mut contents = self.write();
        let known = contents.instances.get(instance.as_str()).and_then(|archive| archive.get(Some(kind), name));
        let (is_newer, was_listed) = known.map_or((false, false), |known| (known.version > version, known.is_listed));
        let is_listed = is_named_by_list || was_listed;
        match contents.instances.get_mut(instance.as_str()) {
            Some(archive) if is_newer => archive.set_listed(kind, name, is_listed),
            _ => contents.upsert(&instance, Some(kind), name, (version, is_listed), &text),
        }
    }

    /// Removes objects of which no event says that they are gone.
    fn drop_objects(&self, is_gone: impl Fn(&Item<'_>) -> bool) {
        let mut contents = self.write();
        for archive in contents.instances.values() {
            for text in contents.compressor.decompress(archive.items().filter(|item| is_gone(item))) {
                self.outcomes.forget(Live(parse(text)).uid());
            }
        }
        contents.retain(|item| !is_gone(item));
    }

    /// Removes an object, if it is the one of this uid.
    fn remove(&self, kind: Kind, object: &Value) {
        let Some((instance, name)) = identify(kind, object) else { return };
        self.note_run(kind, &instance, object);
        let mut contents = self.write();
        let known = contents.instances.get(instance.as_str()).and_then(|archive| archive.get(Some(kind), name));
        let known = known.and_then(|known| contents.compressor.decompress([known]).next()).map(parse).map(Live);
        if let Some(known) = known.filter(|known| uid_of(object) == Some(known.uid())) {
            contents.remove(&instance, Some(kind), name);
            self.outcomes.forget(known.uid());
        }
    }

    /// Notes of a server's pod, in the last state that it had too, that it has run.
    fn note_run(&self, kind: Kind, instance: &str, object: &Value) {
        let is_server =
            || instance.rsplit_once('/').is_some_and(|(_, resource)| name_of(object) == names::pod(resource));
        if kind == Kind::Pod && is_server() && has_run(object) {
            self.runs.note(instance);
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
    Some((key(&namespace, &instance), name_of(object)))
}

fn short_text(kind: Kind, mut live: Live) -> String {
    prune(kind, &mut live.0);
    live.0.to_string()
}

fn parse(text: Vec<u8>) -> Value {
    serde_json::from_slice(&text).expect("JSON was compressed")
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
        cache.upsert(Kind::Service, &object("a", 7));
        cache.handle_event(Kind::Service, &Event::Apply(object("a", 5)));
        assert_eq!(versions(&cache), ["a@7"]);
        cache.handle_event(Kind::Service, &Event::Apply(object("a", 9)));
        assert_eq!(versions(&cache), ["a@9"]);
    }

    #[test]
    fn a_deletion_concerns_the_object_of_that_uid() {
        let cache = Cache::default();
        cache.upsert(Kind::Service, &object("new", 9));
        cache.handle_event(Kind::Service, &Event::Delete(object("old", 8)));
        assert_eq!(versions(&cache), ["new@9"]);
        cache.handle_event(Kind::Service, &Event::Delete(object("new", 10)));
        assert_eq!(versions(&cache), Vec::<String>::new());
    }

    #[test]
    fn a_list_with_an_older_version_keeps_our_own_write() {
        let cache = Cache::default();
        cache.upsert(Kind::Service, &object("a", 7));
        cache.handle_event(Kind::Service, &Event::Init);
        cache.handle_event(Kind::Service, &Event::InitApply(object("a", 5)));
        cache.handle_event(Kind::Service, &Event::InitDone);
        assert_eq!(versions(&cache), ["a@7"]);
    }

    #[test]
    fn what_a_list_does_not_name_or_no_longer_exists_leaves_nothing_behind() {
        let cache = Cache::default();
        let now = jiff::Timestamp::UNIX_EPOCH;
        let apply = |kind: Kind, uid: &str| {
            cache.upsert(kind, &object(uid, 1));
            cache.outcomes.note(&json!({ "spec": 1 }), &object(uid, 1), true, None, now);
        };
        apply(Kind::Service, "a");
        apply(Kind::ServiceMonitor, "b");
        let known = || ["a", "b"].map(|uid| cache.outcomes.past(uid, now).is_some());
        assert_eq!(known(), [true, true]);
        cache.handle_event(Kind::Service, &Event::Init);
        cache.handle_event(Kind::Service, &Event::InitDone);
        assert_eq!(known(), [false, true]);
        cache.remove_kind(Kind::ServiceMonitor);
        assert_eq!(known(), [false, false]);
    }

    #[test]
    fn a_list_drops_what_it_does_not_name_and_only_of_its_kind() {
        let cache = Cache::default();
        cache.upsert(Kind::Service, &object("a", 1));
        cache.upsert(Kind::ConfigMap, &object("b", 2));
        cache.handle_event(Kind::Service, &Event::Init);
        cache.handle_event(Kind::Service, &Event::InitDone);
        assert_eq!(versions(&cache), ["b@2"]);
        assert!(cache.knows(Kind::Service) && !cache.knows(Kind::ConfigMap));
    }
}
