//! The objects of the double, their versions and their history.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    sync::Arc,
};

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::{
    admission::{default, validate},
    fields::{self, Managers},
    kinds::{self, Kind},
    object::{Change, Key, Refusal, finalizers, is_deleted, metadata, not_found, refuse},
    pods,
    policy::Policy,
};

/// All objects, with their history. A clone is independent of the original.
#[derive(Clone, Debug, Default)]
pub struct Store {
    objects: BTreeMap<Key, (Arc<Value>, Arc<Managers>)>,
    history: Vec<Change>,
    pub(super) version: u64,
    uids: u64,
    /// Watches from before this version are answered with 410 Gone.
    pub compacted: u64,
    seconds: i64,
    /// The admission policy that requests pass: it may change an object, or deny the request.
    pub policy: Option<Policy>,
    /// Kinds that discovery lists; built-in kinds are served without.
    pub discovered: BTreeSet<&'static str>,
    /// What pods have logged, by their uids.
    pub logs: BTreeMap<String, String>,
    /// Kinds whose definition is gone.
    pub unserved: BTreeSet<&'static str>,
}

impl Store {
    /// The double's clock.
    pub fn now(&self) -> Timestamp {
        "2030-01-01T00:00:00Z".parse::<Timestamp>().unwrap() + SignedDuration::from_secs(self.seconds)
    }

    /// Moves the clock forward.
    pub fn advance(&mut self, seconds: i64) {
        self.seconds += seconds;
    }

    /// The newest resource version.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// An object, if it is there.
    pub fn get(&self, key: &Key) -> Option<&Value> {
        self.objects.get(key).map(|(object, _)| &**object)
    }

    /// Who manages which fields of an object.
    pub fn managers(&self, key: &Key) -> Option<&Managers> {
        self.objects.get(key).map(|(_, managers)| &**managers)
    }

    /// All objects of a kind, in one namespace or in all.
    pub fn list(&self, kind: &'static Kind, namespace: Option<&str>) -> Vec<&Value> {
        let wanted = |key: &Key| namespace.is_none_or(|namespace| key.namespace == namespace);
        self.of_kind(kind).filter(|(key, _)| wanted(key)).map(|(_, object)| &**object).collect()
    }

    /// All objects of the kind of this name, to be worked on while the store changes.
    pub fn all(&self, kind: &str) -> Vec<Arc<Value>> {
        self.of_kind(kinds::named(kind)).map(|(_, object)| Arc::clone(object)).collect()
    }

    fn of_kind(&self, kind: &'static Kind) -> impl Iterator<Item = (&Key, &Arc<Value>)> {
        // Objects are in the order of their kinds, and there is one of each kind.
        let first = Key { kind, namespace: String::new(), name: String::new() };
        let all = self.objects.range(first..).take_while(move |(key, _)| std::ptr::eq(key.kind, kind));
        all.map(|(key, (object, _))| (key, object))
    }

    /// Every object's key.
    pub fn keys(&self) -> Vec<Key> {
        self.objects.keys().cloned().collect()
    }

    /// What changed after this version, the oldest first.
    pub fn changes_since(&self, version: u64) -> &[Change] {
        let start = self.history.partition_point(|change| change.version <= version);
        &self.history[start..]
    }

    /// The objects as they were at `version`.
    pub fn at(&self, version: u64) -> BTreeMap<Key, Arc<Value>> {
        let mut objects = BTreeMap::new();
        for change in self.history.iter().take_while(|change| change.version <= version) {
            match change.what {
                "DELETED" => objects.remove(&change.key),
                _ => objects.insert(change.key.clone(), Arc::clone(&change.object)),
            };
        }
        objects
    }

    /// Drops all but the last changes; watches from older versions are answered with 410 Gone.
    pub fn compact(&mut self, keep: usize) {
        let surplus = self.history.len().saturating_sub(keep);
        if let Some(last) = self.history.drain(..surplus).next_back() {
            self.compacted = last.version;
        }
    }

    /// Makes an object as a POST does.
    pub fn create(&mut self, key: &Key, object: Value, managers: Managers) -> Result<Value, Refusal> {
        if self.objects.contains_key(key) {
            let message = format!("{} \"{}\" already exists", key.kind.plural, key.name);
            return Err(refuse(409, "AlreadyExists", message));
        }
        if key.kind.namespaced && self.is_terminating(&key.namespace) {
            let message =
                format!("unable to create new content in namespace {}: it is being terminated", key.namespace);
            return Err(refuse(403, "Forbidden", message));
        }
        let mut object = object;
        self.uids += 1;
        let uid = format!("00000000-0000-4000-8000-{:012}", self.uids);
        let created = self.now().to_string();
        let metadata = metadata(&mut object);
        metadata.insert("uid".into(), json!(uid));
        metadata.insert("name".into(), json!(key.name));
        metadata.insert("creationTimestamp".into(), json!(created));
        metadata.insert("generation".into(), json!(1));
        if key.kind.namespaced {
            metadata.insert("namespace".into(), json!(key.namespace));
        }
        object["apiVersion"] = json!(key.kind.api_version());
        object["kind"] = json!(key.kind.kind);
        validate(key, None, &object)?;
        pods::validate(key, &object)?;
        pods::admit(self, key, &object)?;
        default(key, &mut object);
        Ok(self.keep("ADDED", key, object, managers))
    }

    fn is_terminating(&self, namespace: &str) -> bool {
        let key = Key::new("Namespace", "", namespace);
        self.get(&key).is_some_and(|namespace| !namespace["metadata"]["deletionTimestamp"].is_null())
    }

    /// Replaces an object, as a PUT or a PATCH does; an equal one makes no new version.
    pub fn update(&mut self, key: &Key, mut object: Value, managers: Managers) -> Result<Value, Refusal> {
        let (old, _) = self.objects.get(key).ok_or_else(|| not_found(key))?;
        let old = Arc::clone(old);
        for fixed in ["uid", "creationTimestamp", "resourceVersion", "generation", "deletionTimestamp", "name"] {
            let value = old["metadata"][fixed].clone();
            let metadata = metadata(&mut object);
            if value.is_null() {
                metadata.remove(fixed)
            } else {
                metadata.insert(fixed.into(), value)
            };
        }
        default(key, &mut object);
        if object == *old {
            if let Some(kept) = self.objects.get_mut(key) {
                kept.1 = Arc::new(managers);
            }
            return Ok(object);
        }
        validate(key, Some(&old), &object)?;
        pods::validate(key, &object)?;
        if key.kind.generation && object["spec"] != old["spec"] {
            let generation = old["metadata"]["generation"].as_i64().unwrap_or(1);
            metadata(&mut object).insert("generation".into(), json!(generation + 1));
        }
        if is_deleted(&object) && finalizers(&object).is_empty() && key.kind.kind != "Pod" {
            return Ok(self.drop(key, object));
        }
        Ok(self.keep("MODIFIED", key, object, managers))
    }

    /// Deletes an object as a DELETE does: at once, or when its last finalizer is gone; a pod when it has ended.
    pub fn delete(&mut self, key: &Key, preconditions: &Value) -> Result<Value, Refusal> {
        let (object, managers) = self.objects.get(key).ok_or_else(|| not_found(key))?;
        let (mut object, managers) = (Value::clone(object), Managers::clone(managers));
        for (field, what) in [("uid", "UID"), ("resourceVersion", "ResourceVersion")] {
            let wanted = &preconditions[field];
            if !wanted.is_null() && *wanted != object["metadata"][field] {
                let found = &object["metadata"][field];
                let message =
                    format!("the {what} in the precondition ({wanted}) does not match the {what} in record ({found})");
                return Err(refuse(409, "Conflict", message));
            }
        }
        if is_deleted(&object) {
            return Ok(object);
        }
        if key.kind.kind == "Pod" || !finalizers(&object).is_empty() {
            let grace = object["spec"]["terminationGracePeriodSeconds"].as_i64().unwrap_or(30);
            let grace = if key.kind.kind == "Pod" { grace } else { 0 };
            let at = (self.now() + SignedDuration::from_secs(grace)).to_string();
            metadata(&mut object).insert("deletionTimestamp".into(), json!(at));
            return Ok(self.keep("MODIFIED", key, object, managers));
        }
        Ok(self.drop(key, object))
    }

    /// Removes an object at once, also one with finalizers, as the kubelet does with a pod that has ended.
    pub fn end(&mut self, key: &Key) {
        if let Some(object) = self.get(key).cloned() {
            self.drop(key, object);
        }
    }

    /// Removes objects all of whose owners are gone; says whether there were any.
    pub fn collect_garbage(&mut self) -> bool {
        let alive: HashSet<Option<&str>> =
            self.objects.values().map(|(object, _)| object["metadata"]["uid"].as_str()).collect();
        let is_orphan = |object: &Value| {
            let owners = object["metadata"]["ownerReferences"].as_array().map(Vec::as_slice).unwrap_or_default();
            let is_alone = owners.iter().all(|owner| !alive.contains(&owner["uid"].as_str()));
            !owners.is_empty() && is_alone && !is_deleted(object)
        };
        let orphans: Vec<Key> =
            self.objects.iter().filter(|(_, (object, _))| is_orphan(object)).map(|(key, _)| key.clone()).collect();
        for key in &orphans {
            self.delete(key, &Value::Null).expect("it was there a moment ago");
        }
        !orphans.is_empty()
    }

    fn keep(&mut self, what: &'static str, key: &Key, mut object: Value, managers: Managers) -> Value {
        self.version += 1;
        metadata(&mut object).insert("resourceVersion".into(), json!(self.version.to_string()));
        let kept = Arc::new(object.clone());
        let before = self.objects.get(key).map(|(before, _)| Arc::clone(before));
        let change = Change { version: self.version, what, key: key.clone(), object: Arc::clone(&kept), before };
        self.history.push(change);
        self.objects.insert(key.clone(), (kept, Arc::new(managers)));
        object
    }

    fn drop(&mut self, key: &Key, mut object: Value) -> Value {
        self.version += 1;
        metadata(&mut object).insert("resourceVersion".into(), json!(self.version.to_string()));
        let before = self.objects.remove(key).map(|(before, _)| before);
        let last = Arc::new(object.clone());
        let change = Change { version: self.version, what: "DELETED", key: key.clone(), object: last, before };
        self.history.push(change);
        object
    }

    /// Changes an object without a request, as a controller of Kubernetes does.
    pub fn edit(&mut self, key: &Key, change: impl FnOnce(&mut Value)) {
        let (old, managers) = self.objects.get(key).cloned().unwrap_or_else(|| panic!("{key:?} is there"));
        let mut object = Value::clone(&old);
        change(&mut object);
        if object == *old {
            return;
        }
        let mut managers = Managers::clone(&managers);
        fields::record_update(&mut managers, "kubernetes/Update", &old, &object);
        self.update(key, object, managers).unwrap_or_else(|refusal| panic!("{key:?}: {refusal:?}"));
    }
}
