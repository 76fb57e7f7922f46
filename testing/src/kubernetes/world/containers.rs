//! What runs in pods: servers, which open their data and then run, and the containers of Jobs, one after the other.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::super::api::store::Store;
use super::{
    World, claims_of,
    commands::Command,
    data::{Data, Failure},
    image::Image,
    keyspaces,
    model::{Ended, Model, Run, Running},
    mounts::{Mounts, volume_of},
    pods::Pod,
    text,
};

impl World {
    /// A second of the server of an instance.
    pub(super) fn run_server(&self, store: &mut Store, pod: &Pod<'_>, mounts: &mut Mounts) -> Value {
        let mut model = self.servers.lock();
        mounts.add(store, &mut model, pod);
        match self.serve(store, &mut model, pod, 0) {
            Ok(is_ready) => {
                let mut own = self.container_status(pod.container(), &json!({ "running": {} }), is_ready);
                let restarts = self.restarts(&mut model, pod, store.now());
                if restarts > 0 {
                    own["restartCount"] = json!(restarts);
                    own["lastState"] = json!({ "terminated": { "exitCode": 139, "reason": "Error" } });
                }
                self.status(pod, "Running", Vec::new(), own)
            }
            Err(Failure { code, line }) => {
                let state = json!({ "waiting": {
                    "reason": "CrashLoopBackOff", "message": "back-off 10s restarting failed container",
                } });
                let mut own = self.container_status(pod.container(), &state, false);
                own["restartCount"] = json!(1);
                own["lastState"] = json!({ "terminated": { "exitCode": code, "reason": "Error", "message": line } });
                self.status(pod, "Running", Vec::new(), own)
            }
        }
    }

    /// How often the server of a pod has ended by itself and was started again.
    fn restarts(&self, model: &mut Model, pod: &Pod<'_>, now: Timestamp) -> i64 {
        let every = self.image(&text(pod.container(), "/image")).restarts_after;
        let started = model.run(&pod.uid, 0, now).started_at;
        let restarts = if every > 0 { now.duration_since(started).as_secs() / every } else { 0 };
        model.starts(&pod.uid, started.as_second() + restarts * every);
        restarts
    }

    /// A second of the pod of a Job: its containers run one after the other, each to its end. A server has none.
    pub(super) fn run_job(&self, store: &mut Store, pod: &Pod<'_>, mounts: &mut Mounts) -> Value {
        let mut model = self.servers.lock();
        mounts.add(store, &mut model, pod);
        let now = store.now();
        let containers: Vec<&Value> = pod.init_containers().iter().chain([pod.container()]).collect();
        let own = containers.len() - 1;
        let mut is_ready = false;
        for (index, container) in containers.iter().enumerate() {
            if model.run(&pod.uid, index, now).ended.is_none() {
                let ended = if index == own && self.is_server(pod, container) {
                    match self.serve(store, &mut model, pod, index) {
                        Ok(ready) => {
                            is_ready = ready;
                            break;
                        }
                        Err(Failure { code, line }) => (code, Some(line)),
                    }
                } else {
                    let least = self.seconds(pod, container, index < own);
                    let seconds = now.duration_since(model.run(&pod.uid, index, now).started_at).as_secs();
                    if seconds < least {
                        break;
                    }
                    self.run_command(store, &mut model, pod, container, seconds)
                };
                model.run(&pod.uid, index, now).ended = Some(Ended { at: now, code: ended.0, message: ended.1 });
            }
            if model.run(&pod.uid, index, now).code() != Some(0) {
                break;
            }
        }
        let runs = model.runs.get(&pod.uid).cloned().unwrap_or_default();
        self.job_status(pod, &containers, &runs, is_ready)
    }

    /// Whether a container is a server that was not told to fail.
    fn is_server(&self, pod: &Pod<'_>, container: &Value) -> bool {
        Command::of(container).is_server() && told(&self.failing_jobs, pod, container).is_none()
    }

    /// How long a container takes. Init containers take a second, so that each is seen to run.
    fn seconds(&self, pod: &Pod<'_>, container: &Value, is_init: bool) -> i64 {
        told(&self.job_seconds, pod, container).copied().unwrap_or(i64::from(is_init))
    }

    /// The exit code and the termination message of a command that has run for so long.
    fn run_command(
        &self,
        store: &mut Store,
        model: &mut Model,
        pod: &Pod<'_>,
        container: &Value,
        seconds: i64,
    ) -> (i64, Option<String>) {
        if let Some(message) = told(&self.failing_jobs, pod, container) {
            return (78, Some(message.clone()));
        }
        let image = self.image(&text(container, "/image"));
        let found = volume(store, pod);
        let command = Command::of(container);
        let outcome = match &found {
            Some((_, keyspace)) if command.name().starts_with("schema ") => {
                let tables = model.tables.entry(keyspace.clone()).or_default();
                keyspaces::run_schema(&command.name(), tables, image.tables)
            }
            _ => {
                let data = found.as_ref().and_then(|(_, volume)| model.volumes.get_mut(volume));
                let raises = data.as_ref().is_some_and(|data| command.raises(image, data));
                let refused = found.filter(|(_, volume)| raises && volume.starts_with(keyspaces::PREFIX));
                let refused = refused.and_then(|(_, keyspace)| keyspaces::in_use(store, &keyspace));
                refused.unwrap_or_else(|| command.run(image, data, seconds))
            }
        };
        store.logs.entry(pod.uid.clone()).or_default().push_str(&outcome.printed);
        let message = told(&self.job_messages, pod, container).filter(|_| outcome.code == 0).cloned();
        (outcome.code, message.or_else(|| outcome.termination_message(container)))
    }

    fn job_status(&self, pod: &Pod<'_>, containers: &[&Value], runs: &[Run], is_ready: bool) -> Value {
        let own = containers.len() - 1;
        let status_of = |(index, container): (usize, &&Value)| {
            let state = runs.get(index).map_or(json!({ "waiting": { "reason": "PodInitializing" } }), Run::state);
            self.container_status(container, &state, index == own && is_ready)
        };
        let mut statuses: Vec<Value> = containers.iter().enumerate().map(status_of).collect();
        let phase = match runs.last().map(|run| (runs.len() > own, run.code())) {
            Some((true, Some(0))) => "Succeeded",
            Some((_, Some(code))) if code != 0 => "Failed",
            Some((true, None)) => "Running",
            _ => "Pending",
        };
        let own = statuses.pop().expect("a pod has a container");
        self.status(pod, phase, statuses, own)
    }

    /// A server starts, if it does not run yet, and is reached at the address of its pod. Says whether it is ready.
    fn serve(&self, store: &mut Store, model: &mut Model, pod: &Pod<'_>, index: usize) -> Result<bool, Failure> {
        let (now, name, is_rehearsal) = (store.now(), text(pod.container(), "/image"), pod.owner() == "Job");
        let image = self.image(&name);
        let reads_settings = !is_rehearsal && !model.runs.contains_key(&pod.uid);
        let age = now.duration_since(model.run(&pod.uid, index, now).started_at).as_secs();
        let shows = !(is_rehearsal && image.rehearses_well);
        let claim = volume(store, pod);
        let opened = match &claim {
            _ if image.never_starts && shows || self.crashing.contains(&pod.name) => {
                Err(Failure { code: 1, line: "error: the server cannot start".into() })
            }
            Some((claim, volume)) => open(model, claim, volume, image, reads_settings && finalizes(store, pod.value)),
            None => Ok(()),
        };
        let log = opened.as_ref().err().map_or(image.log.clone(), |why| format!("{}{}\n", image.log, why.line));
        store.logs.insert(pod.uid.clone(), log);
        opened?;
        let is_ready = age >= image.ready_after && !(image.never_ready && shows);
        let running = Running {
            pod_uid: pod.uid.clone(),
            claim,
            image_name: name,
            image: image.clone(),
            is_rehearsal,
            is_ready,
            is_silent: false,
        };
        model.servers.insert(pod.address.clone(), running);
        Ok(is_ready)
    }
}

/// What was told about a container by a part of `POD/CONTAINER`.
fn told<'a, T>(all: &'a std::collections::BTreeMap<String, T>, pod: &Pod<'_>, container: &Value) -> Option<&'a T> {
    let name = format!("{}/{}", pod.name, text(container, "/name"));
    all.iter().find(|(part, _)| name.contains(part.as_str())).map(|(_, told)| told)
}

/// The claim of a pod that has one, and its volume; else the keyspace that its settings name.
fn volume(store: &Store, pod: &Pod<'_>) -> Option<(String, String)> {
    let Some(claim) = claims_of(pod.value).into_iter().next() else {
        return keyspaces::of_pod(store, pod.value).map(|keyspace| (keyspace.clone(), keyspace));
    };
    let volume = volume_of(store, pod.value, &claim)?;
    Some((claim, volume))
}

/// A server opens its data: it makes it where there is none, runs start migrations, and raises the format if it is to.
fn open(model: &mut Model, claim: &str, volume: &str, image: &Image, finalizes: bool) -> Result<(), Failure> {
    if volume.starts_with(keyspaces::PREFIX) && model.tables.get(volume).is_none_or(|tables| *tables < image.tables) {
        let line = "error: tables are missing: run `progressdb schema apply`".to_owned();
        return Err(Failure { code: 78, line });
    }
    if !model.volumes.contains_key(volume) {
        model.made.push(claim.to_owned());
        model.volumes.insert(volume.to_owned(), Data::new(model.made.len() as u64, image));
    }
    let data = model.volumes.get_mut(volume).expect("it is there or was just made");
    data.check_format(image)?;
    data.prepare(image);
    if finalizes {
        data.raise(image);
    }
    Ok(())
}

/// Whether the settings of a server leave it to the first start to raise the format, as they do unless they say otherwise.
fn finalizes(store: &Store, pod: &Value) -> bool {
    let settings = keyspaces::settings(store, pod);
    !settings.unwrap_or_default().lines().any(|line| line.trim().replace('"', "") == "finalize: manual")
}
