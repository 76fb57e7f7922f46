//! One release of the server: its settings and its pods, as the resource asks for them or as they were kept.

use kube::ResourceExt;
use serde_json::{Value, json};

use super::Object;
use crate::objects::{
    self, Inputs,
    labels::{RELEASE, RESTART, RESTARTED_AT, ROLL, Track},
    names,
};

/// One release of the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// The settings, which it reads when it starts.
    pub config_map: Object,
    /// The StatefulSet with one replica, or the stable Deployment of a fleet.
    pub workload: Object,
    /// The canary Deployment of a fleet, without replicas.
    pub canary: Option<Object>,
    /// The annotation [`ROLL`] of a pod of this release.
    pub roll: String,
}

impl Server {
    /// What the resource asks for.
    pub(super) fn of_resource(inputs: &Inputs<'_>) -> Self {
        let is_fleet = inputs.resource.spec.storage.cassandra().is_some();
        Self {
            config_map: Object::new(objects::config_map(inputs)),
            workload: Object::new(match is_fleet {
                true => objects::deployment(inputs, Track::Stable),
                false => objects::stateful_set(inputs),
            }),
            canary: is_fleet.then(|| Object::new(objects::deployment(inputs, Track::Canary))),
            roll: objects::roll(inputs),
        }
    }

    /// The release that was kept as these settings and this pod template, on the data of the release of `inputs`. All else
    /// of what makes its pods is as `like` has it.
    pub(super) fn of_kept(inputs: &Inputs<'_>, like: &Self, settings: Value, mut template: Value) -> Option<Self> {
        let annotations = template.pointer("/metadata/annotations")?;
        let text = |name: &str| annotations.get(name).and_then(Value::as_str).map(str::to_owned);
        let roll = text(ROLL)?;
        let name = text(RELEASE).unwrap_or_else(|| {
            let made_of = json!([settings, template]).to_string();
            names::config_map(&inputs.resource.name_any(), &objects::hash(made_of.as_bytes()))
        });
        template["metadata"]["annotations"][RELEASE] = json!(name);
        template["metadata"]["annotations"].as_object_mut()?.remove(RESTART);
        for volume in template.pointer_mut("/spec/volumes")?.as_array_mut()? {
            if volume["name"] == "config" {
                *volume = objects::release_volume(&name);
            }
            if volume["name"] == "data" {
                volume["persistentVolumeClaim"]["claimName"] = json!(inputs.release.claim);
            }
        }
        let config_map = Object::new(objects::release_map(inputs, &name, &settings, &template));
        // A restart that was asked for since is made by what runs again, or it would stay due.
        if let Some(asked) = inputs.resource.annotations().get(RESTARTED_AT) {
            template["metadata"]["annotations"][RESTART] = json!(asked);
        }
        let (mut workload, mut canary) = (like.workload.clone(), like.canary.clone());
        if let Some(canary) = &mut canary {
            canary.body["spec"]["template"] = objects::on_track(template.clone(), Track::Canary);
        }
        workload.body["spec"]["template"] = template;
        Some(Self { config_map, workload, canary, roll })
    }

    /// The image of its pods.
    pub fn image(&self) -> &str {
        let containers = self.workload.body.pointer("/spec/template/spec/containers").and_then(Value::as_array);
        let server = containers.into_iter().flatten().find(|container| container["name"] == objects::SERVER);
        server.and_then(|server| server["image"].as_str()).unwrap_or_default()
    }

    /// The claim that its pods mount.
    pub fn claim(&self) -> Option<&str> {
        let volumes = self.workload.body.pointer("/spec/template/spec/volumes")?.as_array()?;
        volumes.iter().find(|volume| volume["name"] == "data")?.pointer("/persistentVolumeClaim/claimName")?.as_str()
    }

    /// The same release with the very image that a node has, as it reported it, if that says where it is from.
    pub fn pinned(mut self, image_id: Option<&str>) -> Self {
        let image_id = image_id.map(|id| id.rsplit_once("://").map_or(id, |(_, id)| id));
        let Some(image_id) = image_id.filter(|id| id.contains("@sha256:")) else { return self };
        let containers = self.workload.body.pointer_mut("/spec/template/spec/containers").and_then(Value::as_array_mut);
        for server in containers.into_iter().flatten().filter(|container| container["name"] == objects::SERVER) {
            server["image"] = json!(image_id);
            if server["imagePullPolicy"] == "Always" {
                server["imagePullPolicy"] = json!("IfNotPresent");
            }
        }
        self
    }

    /// The same release on other data.
    pub fn on_claim(&self, claim: &str) -> Self {
        let mut moved = self.clone();
        let volumes = moved.workload.body.pointer_mut("/spec/template/spec/volumes").and_then(Value::as_array_mut);
        for volume in volumes.into_iter().flatten().filter(|volume| volume["name"] == "data") {
            volume["persistentVolumeClaim"]["claimName"] = json!(claim);
        }
        moved
    }
}
