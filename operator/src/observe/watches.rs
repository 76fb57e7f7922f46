//! The watches: one for each kind, of objects with our labels only. They fill the cache and say which resource is
//! concerned.

use std::{sync::Arc, time::Duration};

use futures::{Stream, StreamExt, future::ready, stream, stream::BoxStream};
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
use serde::Serialize;
use serde_json::Value;

use super::{Cache, owner};
use crate::{MANAGER, crd::ProgressDB, kind::Kind, objects::labels};

/// Between two looks whether the cluster has learnt an optional kind.
const INTERVAL: Duration = Duration::from_secs(300);

impl Cache {
    /// Follows every kind in one namespace or in all, and names the resources whose objects change.
    pub fn watch(
        self: &Arc<Self>,
        client: &Client,
        namespace: Option<&str>,
    ) -> impl Stream<Item = ObjectRef<PartialObjectMeta<ProgressDB>>> + use<> {
        let streams =
            Kind::ALL.map(|kind| Arc::clone(self).watch_kind(kind, client.clone(), namespace.map(str::to_owned)));
        stream::select_all(streams)
    }

    fn watch_kind(
        self: Arc<Self>,
        kind: Kind,
        client: Client,
        namespace: Option<String>,
    ) -> BoxStream<'static, ObjectRef<PartialObjectMeta<ProgressDB>>> {
        let resource = kind.api_resource();
        let config = watcher::Config::default().labels(&format!("{}={MANAGER}", labels::MANAGED_BY));
        let events: BoxStream<'static, watcher::Result<Event<Value>>> = match kind {
            Kind::Secret => {
                let api = scoped::<PartialObjectMeta<DynamicObject>>(&client, namespace.as_deref(), &resource);
                watcher(api, config).map(|event| event.map(to_json)).boxed()
            }
            _ => {
                let api = scoped::<DynamicObject>(&client, namespace.as_deref(), &resource);
                watcher(api, config).map(|event| event.map(to_json)).boxed()
            }
        };
        let concerned = events.default_backoff().filter_map(move |event| {
            ready(match event {
                Ok(event) => {
                    self.take(kind, &event);
                    concerned(kind, &event)
                }
                Err(error) => {
                    tracing::warn!(event = "watch.failed", kind = kind.name(), %error, "trying again");
                    None
                }
            })
        });
        if !kind.is_optional() {
            return concerned.boxed();
        }
        stream::once(served(kind, client)).filter_map(|()| ready(None)).chain(concerned).boxed()
    }
}

/// Returns once the cluster knows the kind.
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

fn concerned(kind: Kind, event: &Event<Value>) -> Option<ObjectRef<PartialObjectMeta<ProgressDB>>> {
    let (Event::Apply(object) | Event::Delete(object) | Event::InitApply(object)) = event else { return None };
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

fn to_json<K: Serialize>(event: Event<K>) -> Event<Value> {
    let json = |object: K| serde_json::to_value(object).expect("an object is JSON");
    match event {
        Event::Apply(object) => Event::Apply(json(object)),
        Event::Delete(object) => Event::Delete(json(object)),
        Event::InitApply(object) => Event::InitApply(json(object)),
        Event::Init => Event::Init,
        Event::InitDone => Event::InitDone,
    }
}
