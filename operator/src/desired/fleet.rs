//! What only a fleet has: the Job that makes its tables, and the release that its servers run, as it was made.
//!
//! A Deployment replaces its pods whenever their template changes in anything. So what runs is rebuilt from what was kept of
//! it, and not as this operator would make it now: an upgrade of the operator restarts no server.

use serde_json::{Value, json};

use super::{Check, Server, kept};
use crate::{
    objects::{
        self, Inputs, Release,
        config::SETTINGS_FILE,
        labels::{RESTART, Track},
    },
    observe::{Live, Observed},
};

/// Settings by which servers find their data and open it. Servers that differ in one of them must not write side by side.
const DATA: [&str; 4] =
    ["/storage/cassandra/datacenter", "/storage/cassandra/keyspace", "/encryption/enabled", "/encryption/kms/provider"];

/// What only a fleet has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fleet {
    /// Makes the keyspace and the tables, with the image that runs, or the first one.
    pub schema: Check,
    /// What the image has to pass that is asked for instead of the one that runs.
    pub asked: Option<AskedImage>,
    /// What the stable Deployment runs, on as many pods as are asked for and with the restarts that it has seen; `None` if there
    /// is no Deployment, or what it was made of is gone.
    pub running: Option<Server>,
    /// Whether all of that has to have stopped before what the resource asks for may start.
    pub stops_first: bool,
}

/// What an image has to pass before servers of it take the place of others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AskedImage {
    /// Adds the tables that it needs.
    pub schema: Check,
    /// Whether it reads the data.
    pub data: Check,
}

impl Fleet {
    /// With the server that the resource asks for: that which runs, if it differs in nothing that is asked for.
    pub(super) fn build(inputs: &Inputs<'_>, seen: &Observed, asked: Server) -> Option<(Self, Server)> {
        let running = running(inputs, seen, &asked);
        let of_image = |image: &str| {
            let release = Release { image: image.to_owned(), ..inputs.release.clone() };
            Inputs { release, ..inputs.clone() }
        };
        let schema = objects::schema_apply(&of_image(running.as_ref().map_or(&*inputs.release.image, Server::image)))?;
        let asked = running.as_ref().filter(|running| running.roll == asked.roll).cloned().unwrap_or(asked);
        let fleet = Self {
            schema: Check::new(schema),
            asked: running.as_ref().filter(|running| running.image() != asked.image()).and_then(|_| {
                let inputs = of_image(asked.image());
                let (schema, data) = objects::schema_apply(&inputs).zip(objects::data_check(&inputs))?;
                Some(AskedImage { schema: Check::new(schema), data: Check::new(data) })
            }),
            stops_first: running.as_ref().is_some_and(|running| differ_in_data(running, &asked)),
            running: running.map(|running| running.with_restart(restart_of(seen))),
        };
        Some((fleet, asked))
    }
}

fn running(inputs: &Inputs<'_>, seen: &Observed, asked: &Server) -> Option<Server> {
    let (settings, template) = kept(seen.mounted_config_map()?)?;
    Server::of_kept(inputs, asked, settings, template)
}

/// The last restart that was asked for on the resource and that the stable Deployment has seen.
fn restart_of(seen: &Observed) -> Option<&str> {
    seen.deployment(Track::Stable).and_then(|stable: &Live| stable.template_annotation(RESTART))
}

fn differ_in_data(one: &Server, other: &Server) -> bool {
    let settings = |server: &Server| -> Value {
        let text = server.config_map.body["data"][SETTINGS_FILE].as_str().unwrap_or_default();
        serde_saphyr::from_str(text).unwrap_or_default()
    };
    let (one, other) = (settings(one), settings(other));
    DATA.iter().any(|setting| one.pointer(setting) != other.pointer(setting))
}

impl Server {
    /// The same release after this restart and no later one.
    fn with_restart(mut self, restart: Option<&str>) -> Self {
        let workloads = [Some(&mut self.workload), self.canary.as_mut()];
        for workload in workloads.into_iter().flatten() {
            let annotations = workload.body.pointer_mut("/spec/template/metadata/annotations");
            let Some(annotations) = annotations.and_then(Value::as_object_mut) else { continue };
            match restart {
                Some(restart) => drop(annotations.insert(RESTART.to_owned(), json!(restart))),
                None => drop(annotations.remove(RESTART)),
            }
        }
        self
    }
}
