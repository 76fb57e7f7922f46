//! The watches: one for each kind, of objects with our labels only. They fill the cache, and name the resource that each
//! change concerns.
//!
//! A cluster may begin or stop to serve an optional kind while the operator runs. Then only the watch of this kind begins or
//! ends, and every resource is reconciled.

use std::{sync::Arc, time::Duration};

use futures::{FutureExt, Stream, StreamExt, future::ready, stream, stream::BoxStream};
use kube::{
    Api, Client, Resource,
    api::{ApiResource, DynamicObject, PartialObjectMeta},
    core::DynamicResourceScope,
    runtime::{
        WatchStreamExt,
        reflector::ObjectRef,
        watcher::{self, Event, watcher},
    },
};
use serde_json::Value;

use super::{Cache, owner};
use crate::{
    MANAGER,
    crd::ProgressDB,
    error::{chain, is_gone},
    kind::Kind,
    objects::labels,
    raw::Raw,
};

/// Objects of one page of a list.
const PAGE_SIZE: u32 = 100;
/// Between two checks whether the cluster serves an optional kind.
const INTERVAL: Duration = Duration::from_secs(30);

/// A resource that is to be reconciled.
pub(crate) type Concerned = ObjectRef<PartialObjectMeta<ProgressDB>>;

impl Cache {
    /// Follows every kind in one namespace or in all, and names the resources whose objects change.
    pub fn watch(self: &Arc<Self>, client: &Client, namespace: Option<&str>) -> impl Stream<Item = Concerned> + use<> {
        let streams = Kind::ALL.map(|kind| {
            let (cache, client, namespace) = (Arc::clone(self), client.clone(), namespace.map(str::to_owned));
            match kind.is_optional() {
                true => cache.watch_while_served(kind, client, namespace),
                false => cache.watch_kind(kind, &client, namespace.as_deref()),
            }
        });
        stream::select_all(streams)
    }

    /// The watch of an optional kind, started again whenever the cluster serves the kind again.
    fn watch_while_served(
        self: Arc<Self>,
        kind: Kind,
        client: Client,
        namespace: Option<String>,
    ) -> BoxStream<'static, Concerned> {
        let watch_once = move || {
            let (cache, resources) = (Arc::clone(&self), Arc::clone(&self));
            let changed = Arc::clone(&cache).watch_kind(kind, &client, namespace.as_deref());
            let changed = changed.take_until(async move { cache.kind_removed(kind).await }.boxed());
            // Instances with objects of this kind are built without them now.
            let all = stream::once(async move { stream::iter(resources.all_resources()) }).flatten();
            let pause = stream::once(tokio::time::sleep(INTERVAL)).filter_map(|()| ready(None));
            stream::once(served(kind, client.clone()))
                .filter_map(|()| ready(None))
                .chain(changed)
                .chain(all)
                .chain(pause)
        };
        stream::repeat_with(watch_once).flatten().boxed()
    }

    fn watch_kind(
        self: Arc<Self>,
        kind: Kind,
        client: &Client,
        namespace: Option<&str>,
    ) -> BoxStream<'static, Concerned> {
        let resource = kind.api_resource();
        let config = watch_config().labels(&format!("{}={MANAGER}", labels::MANAGED_BY));
        let events: BoxStream<'static, watcher::Result<Event<Value>>> = match kind {
            Kind::Secret => {
                let api = scoped::<PartialObjectMeta<DynamicObject>>(client, namespace, &resource);
                let json = |object| serde_json::to_value(object).expect("an object is JSON");
                watcher(api, config).map(move |event| event.map(|event| converted(event, json))).boxed()
            }
            _ => {
                let api = scoped::<Raw>(client, namespace, &resource);
                let json = |object: Raw| object.to_value();
                watcher(api, config).map(move |event| event.map(|event| converted(event, json))).boxed()
            }
        };
        let concerned = events.default_backoff().map(move |event| stream::iter(self.handle_result(kind, event)));
        concerned.flatten().boxed()
    }

    /// Updates the cache; names the resources that are concerned.
    fn handle_result(&self, kind: Kind, event: watcher::Result<Event<Value>>) -> Vec<Concerned> {
        match event {
            Ok(event) => {
                self.health.heard(kind.name());
                self.handle_event(kind, &event);
                concerned(kind, &event).map_or_else(|| self.listed_resources(&event), |one| vec![one])
            }
            Err(error) if kind.is_optional() && says_gone(&error) => {
                tracing::info!(event = "kind.gone", kind = kind.name(), "the cluster no longer serves this kind");
                self.remove_kind(kind);
                Vec::new()
            }
            Err(error) => {
                self.health.failed(kind.name(), chain(&error));
                Vec::new()
            }
        }
    }

    /// Every resource, once a list is complete: it may also have left out objects that are gone.
    pub(crate) fn listed_resources<K>(&self, event: &Event<K>) -> Vec<Concerned> {
        if matches!(event, Event::InitDone) { self.all_resources() } else { Vec::new() }
    }

    fn all_resources(&self) -> Vec<Concerned> {
        self.names().into_iter().map(|(namespace, name)| ObjectRef::new(&name).within(&namespace)).collect()
    }
}

/// Lists in short pages, so that a start in a cluster with many objects takes little memory.
pub fn watch_config() -> watcher::Config {
    watcher::Config::default().page_size(PAGE_SIZE)
}

/// Returns once the cluster serves the kind.
async fn served(kind: Kind, client: Client) {
    let resource = kind.api_resource();
    loop {
        let known = client.list_api_group_resources(&resource.api_version).await;
        if known.is_ok_and(|known| known.resources.iter().any(|known| known.name == resource.plural)) {
            return;
        }
        tokio::time::sleep(INTERVAL).await;
    }
}

/// Whether a watch failed because its kind is no longer served.
fn says_gone(error: &watcher::Error) -> bool {
    match error {
        watcher::Error::InitialListFailed(error)
        | watcher::Error::WatchStartFailed(error)
        | watcher::Error::WatchFailed(error) => is_gone(error),
        watcher::Error::WatchError(status) => status.is_not_found(),
        watcher::Error::NoResourceVersion => false,
    }
}

fn concerned(kind: Kind, event: &Event<Value>) -> Option<Concerned> {
    // A list is handled as a whole: until it is complete the cache has the objects of two times.
    let (Event::Apply(object) | Event::Delete(object)) = event else { return None };
    let (namespace, name) = owner::instance(kind, object)?;
    Some(ObjectRef::new(&name).within(&namespace))
}

fn scoped<K>(client: &Client, namespace: Option<&str>, resource: &ApiResource) -> Api<K>
where
    K: Resource<DynamicType = ApiResource, Scope = DynamicResourceScope>,
{
    match namespace {
        Some(namespace) => Api::namespaced_with(client.clone(), namespace, resource),
        None => Api::all_with(client.clone(), resource),
    }
}

fn converted<A, B>(event: Event<A>, convert: impl Fn(A) -> B) -> Event<B> {
    match event {
        Event::Apply(object) => Event::Apply(convert(object)),
        Event::Delete(object) => Event::Delete(convert(object)),
        Event::InitApply(object) => Event::InitApply(convert(object)),
        Event::Init => Event::Init,
        Event::InitDone => Event::InitDone,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_list_names_every_resource_once_it_is_complete() {
        let cache = Cache::default();
        for name in ["a", "b"] {
            let resource = Raw::from(&json!({ "metadata": { "name": name, "namespace": "ns" } }));
            cache.handle_resource_event(&Event::Apply(resource));
        }
        let service = |version: &str| {
            let labels = json!({ labels::INSTANCE: "a" });
            json!({ "metadata": {
                "name": "a", "namespace": "ns", "uid": "1", "resourceVersion": version, "labels": labels,
            } })
        };
        let named = |event: Event<Value>| {
            let mut names: Vec<String> =
                cache.handle_result(Kind::Service, Ok(event)).into_iter().map(|resource| resource.name).collect();
            names.sort();
            names
        };
        assert_eq!(named(Event::Apply(service("1"))), ["a"]);
        assert_eq!(named(Event::Init), [""; 0]);
        assert_eq!(named(Event::InitApply(service("2"))), [""; 0]);
        assert_eq!(named(Event::InitDone), ["a", "b"]);
    }
}
