//! What waits to be reconciled: the names of resources that an event of their watch concerns.

use kube::{
    ResourceExt,
    api::{ObjectMeta, PartialObjectMeta, PartialObjectMetaExt},
    runtime::{
        reflector::ObjectRef,
        watcher::{self, Event},
    },
};

use crate::{crd::ProgressDB, observe::Cache, raw::Raw};

/// What the queue knows of a resource; the rest is in the cache.
pub(super) type Stub = PartialObjectMeta<ProgressDB>;

fn stub(resource: &Raw) -> Stub {
    let ObjectMeta { name, namespace, uid, .. } = resource.metadata.clone();
    ObjectMeta { name, namespace, uid, ..ObjectMeta::default() }.into_response_partial()
}

pub(super) fn stubs(event: &Event<Raw>) -> Event<Stub> {
    match event {
        Event::Apply(resource) => Event::Apply(stub(resource)),
        Event::Delete(resource) => Event::Delete(stub(resource)),
        Event::InitApply(resource) => Event::InitApply(stub(resource)),
        Event::Init => Event::Init,
        Event::InitDone => Event::InitDone,
    }
}

/// The resources that an event of their watch concerns. Those of a list come when it is complete: before that the queue does
/// not know a new one, and would drop it.
pub(super) fn concerned(cache: &Cache, event: &watcher::Result<Event<Stub>>) -> Vec<ObjectRef<Stub>> {
    match event {
        // Without the uid, which the queue does not need and would keep.
        Ok(Event::Apply(resource) | Event::Delete(resource)) => {
            let namespace = resource.namespace().unwrap_or_default();
            vec![ObjectRef::new(&resource.name_any()).within(&namespace)]
        }
        Ok(event) => cache.listed_resources(event),
        Err(_) => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_resource_that_a_list_brings_is_named_when_the_list_is_complete() {
        let cache = Cache::default();
        let resource = |name: &str| Raw::from(&json!({ "metadata": { "name": name, "namespace": "ns" } }));
        let named = |event: Event<Raw>| {
            cache.handle_resource_event(&event);
            let mut names: Vec<String> =
                concerned(&cache, &Ok(stubs(&event))).into_iter().map(|resource| resource.name).collect();
            names.sort();
            names
        };
        assert_eq!(named(Event::Apply(resource("old"))), ["old"]);
        assert_eq!(named(Event::Init), [""; 0]);
        for name in ["new", "old"] {
            assert_eq!(named(Event::InitApply(resource(name))), [""; 0], "a page of the list");
        }
        assert_eq!(named(Event::InitDone), ["new", "old"]);
        assert_eq!(named(Event::Delete(resource("old"))), ["old"]);
    }
}
