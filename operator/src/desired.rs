//! What should be in the cluster for one resource: every object that a decision may write, built before the decision. It
//! is built from the resource and from what was observed of its Secrets and of the objects that are there.

mod fleet;
mod server;
mod upgrade;

use std::collections::BTreeMap;

use kube::ResourceExt;
use serde_json::{Value, json};

pub use self::{
    fleet::{AskedImage, Fleet},
    server::Server,
    upgrade::{Copies, Upgrade},
};
use crate::{
    conditions::Finding,
    crd::ProgressDB,
    drift,
    kind::Kind,
    objects::{
        self, Inputs, Release,
        config::{self, SETTINGS_FILE, TEMPLATE_FILE},
        labels::{FAILED, RAN, ROLL, TRIED},
        names,
    },
    observe::{CERTIFICATE, Live, Observed, Purpose, SecretSeen, Wrapped, fingerprint, needs},
};

/// One object as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Object {
    /// Its kind.
    pub kind: Kind,
    /// Its name.
    pub name: String,
    /// The object, as it is sent.
    pub body: Value,
}

/// A Job that checks something before the server depends on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// The Job. Its name contains a hash of what it checks.
    pub job: Object,
    /// The name of the container that checks; admission may add others.
    pub container: String,
}

/// Every object that a resource asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Desired {
    /// Objects that may change at any time, because no change of them restarts anything.
    pub always: Vec<Object>,
    /// The Secret for generated API keys, with empty entries; `None` if the resource names a Secret.
    pub api_keys: Option<Object>,
    /// The claim, of one instance.
    pub claim: Option<Object>,
    /// How the claim that is there differs from what the resource asks for, and always will.
    pub claim_differences: Vec<String>,
    /// The ConfigMap with the settings that checks read.
    pub check_settings: Object,
    /// Asks the image whether it accepts the settings.
    pub config_check: Check,
    /// Asks the KMS to wrap and unwrap a key; `None` without a KMS.
    pub kms_check: Option<Check>,
    /// What the resource asks for.
    pub server: Server,
    /// What ran before, if what the resource asks for was given up.
    pub rollback: Option<Server>,
    /// The ConfigMap that keeps what runs now, without annotations; `None` if there is nothing to keep.
    pub former: Option<Object>,
    /// What only a fleet has.
    pub fleet: Option<Fleet>,
    /// What the upgrade needs that is under way, or that would begin now; `None` if there is nothing to upgrade.
    pub upgrade: Option<Upgrade>,
}

impl Object {
    /// An object that was built by this operator.
    pub fn new(body: Value) -> Self {
        let kind = Kind::of(&body).expect("the operator builds objects of kinds that it knows");
        let name = body["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        Self { kind, name, body }
    }

    /// What is sent to be applied to the object of this uid, or to none: with the hash of itself.
    pub fn applied_to(&self, uid: Option<&str>) -> Value {
        let body = drift::with_applied_hash(self.body.clone());
        match uid {
            Some(uid) => with_uid(body, uid),
            None => body,
        }
    }

    /// The object of this uid as it should be.
    pub fn with_uid(&self, uid: &str) -> Value {
        with_uid(self.body.clone(), uid)
    }

    /// What is sent to give the object of this uid its labels back.
    pub fn labels_for(&self, uid: &str) -> Value {
        let Self { body, name, .. } = self;
        let (namespace, labels) = (&body["metadata"]["namespace"], &body["metadata"]["labels"]);
        json!({
            "apiVersion": body["apiVersion"],
            "kind": body["kind"],
            "metadata": { "name": name, "namespace": namespace, "uid": uid, "labels": labels },
        })
    }

    /// The same with so many pods.
    pub fn scaled(&self, replicas: i32) -> Self {
        let mut scaled = self.clone();
        scaled.body["spec"]["replicas"] = json!(replicas);
        scaled
    }

    /// The same with these annotations and no others.
    pub fn annotated(&self, annotations: &[(&str, &str)]) -> Self {
        let mut annotated = self.clone();
        annotated.body["metadata"]["annotations"] =
            annotations.iter().map(|(name, value)| ((*name).to_owned(), json!(value))).collect();
        annotated
    }
}

fn with_uid(mut body: Value, uid: &str) -> Value {
    body["metadata"]["uid"] = json!(uid);
    body
}

impl Desired {
    /// Builds every object, or says which settings the operator does not take.
    pub fn build(seen: &Observed) -> Result<Self, Finding> {
        let resource = &*seen.resource;
        let refused = config::refused(&resource.spec);
        if !refused.is_empty() {
            return Err(Finding::no("SettingOwnedByOperator", refused.join("; ")));
        }
        let all = needs(&resource.spec);
        let read_at_start = fingerprint(all.iter(), &seen.secrets, false);
        let of = |purpose: Purpose| fingerprint(all.iter().filter(|need| need.purpose == purpose), &seen.secrets, true);
        let (kms_secrets, store_secrets) = (of(Purpose::Kms), of(Purpose::Store));
        let inputs = Inputs {
            release: Release { claim: seen.claim_name(), ..Release::of(resource) },
            resource,
            key_entries: &key_entries(resource, &seen.secrets),
            role_id: seen.secrets.values().find_map(SecretSeen::role_id),
            read_at_start: &read_at_start,
            kms_secrets: &kms_secrets,
            store_secrets: &store_secrets,
            has_client_certificate: has_client_certificate(resource, &seen.secrets),
            changed_keys: changed_keys(seen),
            wrapped_keys: match &seen.wrapped_keys {
                Some(Wrapped::Shown(keys)) => Some(keys),
                _ => None,
            },
            operator_namespace: seen.installation.as_ref().map(|installation| installation.namespace.as_str()),
        };
        let length = config::render(&inputs).len();
        if length > config::LONGEST {
            let message = format!(
                "spec.settings are {length} bytes as YAML, and at most {} are taken: shorten their lists",
                config::LONGEST
            );
            return Err(Finding::no("SettingsTooLarge", message));
        }
        let storage = resource.spec.storage.embedded();
        let claim = storage.map(|storage| objects::claim(&inputs, storage));
        let (claim, claim_differences) = match (claim, seen.claim()) {
            (Some(claim), Some(Live(live))) => {
                (Some(objects::over_claim(claim.clone(), live)), objects::differences(&claim, live))
            }
            (claim, _) => (claim, Vec::new()),
        };
        let server = Server::of_resource(&inputs);
        let (fleet, server) = match Fleet::build(&inputs, seen, server.clone()) {
            Some((fleet, server)) => (Some(fleet), server),
            None => (None, server),
        };
        Ok(Self {
            always: always(&inputs, seen),
            api_keys: objects::api_keys(&inputs).map(Object::new),
            claim: claim.map(Object::new),
            claim_differences,
            check_settings: Object::new(objects::check_settings(&inputs)),
            config_check: Check::new(objects::config_check(&inputs)),
            kms_check: objects::kms_check(&inputs).map(Check::new),
            rollback: rollback(&inputs, seen, &server),
            former: former(seen, &server),
            upgrade: Upgrade::build(&inputs, storage, seen, &server),
            fleet,
            server,
        })
    }

    /// The release that should run: the former one, once the one that the resource asks for was given up.
    pub fn running(&self) -> &Server {
        self.rollback.as_ref().unwrap_or(&self.server)
    }
}

impl Check {
    fn new(job: Value) -> Self {
        let container =
            job["spec"]["template"]["spec"]["containers"][0]["name"].as_str().unwrap_or_default().to_owned();
        Self { job: Object::new(job), container }
    }
}

/// Whether the KMS is to be tried in a way in which it was not tried yet.
pub fn awaits_kms_check(seen: &Observed) -> bool {
    let desired = seen.resource.spec.kms.as_ref().and_then(|_| Desired::build(seen).ok());
    let check = desired.and_then(|desired| desired.kms_check);
    check.is_some_and(|check| seen.job(&check.job.name).is_none())
}

fn always(inputs: &Inputs<'_>, seen: &Observed) -> Vec<Object> {
    let mut always = vec![objects::headless_service(inputs)];
    // An upgrade that this operator cannot read may keep clients away.
    let is_unreadable = seen.resource.status.as_ref().is_some_and(|status| status.has_unreadable_upgrade);
    always.extend((!is_unreadable).then(|| objects::client_service(inputs, upgrade::closed_for(seen))));
    always.extend(objects::service_account(inputs));
    always.extend(objects::disruption_budget(inputs));
    always.extend(objects::network_policy(inputs));
    always.extend(objects::service_monitor(inputs).filter(|_| seen.has_service_monitors));
    always.extend(objects::prometheus_rule(inputs).filter(|_| seen.has_prometheus_rules));
    always.into_iter().map(Object::new).collect()
}

/// The entries with keys: of the Secret that is named, or all of one that is generated.
fn key_entries(resource: &ProgressDB, secrets: &BTreeMap<String, SecretSeen>) -> Vec<&'static str> {
    let Some(named) = &resource.spec.api_keys else { return config::KEY_ENTRIES.to_vec() };
    let seen = secrets.get(&named.secret_name);
    config::KEY_ENTRIES.into_iter().filter(|entry| seen.is_some_and(|seen| seen.has(entry))).collect()
}

/// Whether the Secret with the certificates of a fleet's store has one for clients.
fn has_client_certificate(resource: &ProgressDB, secrets: &BTreeMap<String, SecretSeen>) -> bool {
    let named = resource.spec.storage.cassandra().and_then(|cassandra| cassandra.tls_secret_ref.as_ref());
    let seen = named.and_then(|named| secrets.get(&named.name));
    seen.is_some_and(|seen| CERTIFICATE.iter().all(|entry| seen.has(entry)))
}

/// The version of the Secret with generated keys, if somebody changed it and the server has not accepted it yet.
fn changed_keys(seen: &Observed) -> Option<&str> {
    let is_generated = seen.resource.spec.api_keys.is_none();
    let accepted = seen.accepted_keys().filter(|_| is_generated)?;
    seen.key_secret_version().filter(|version| *version != accepted)
}

/// What ran before `server`, from the ConfigMap that keeps it, if `server` was given up.
fn rollback(inputs: &Inputs<'_>, seen: &Observed, server: &Server) -> Option<Server> {
    let former = seen.former()?;
    let is_tried = former.annotation(TRIED) == Some(&server.roll) && former.annotation(RAN).is_none();
    let is_given_up = is_tried && former.annotation(FAILED).is_some();
    let (settings, template) = kept(former).filter(|_| is_given_up)?;
    Server::of_kept(inputs, server, settings, template)
}

/// The ConfigMap that keeps what runs now, if `server` is to take its place. What it holds already stays: that has run,
/// and what the StatefulSet holds may not have.
fn former(seen: &Observed, server: &Server) -> Option<Object> {
    let name = names::former(&seen.resource.name_any());
    let data = match seen.former() {
        Some(former) => former.at("/data").clone(),
        None => {
            let set = seen.stateful_set().filter(|set| set.template_annotation(ROLL) != Some(&server.roll))?;
            let mounted = seen.mounted_config_map()?;
            match mounted.at("/data").get(TEMPLATE_FILE) {
                Some(_) => mounted.at("/data").clone(),
                // One that was made before releases were kept holds settings only.
                None => {
                    let template = without_nulls(set.at("/spec/template").clone());
                    json!({ SETTINGS_FILE: mounted.at("/data").get(SETTINGS_FILE)?, TEMPLATE_FILE: template.to_string() })
                }
            }
        }
    };
    let mut body = server.config_map.body.clone();
    body["metadata"]["name"] = json!(name);
    body["data"] = data;
    body.as_object_mut()?.remove("immutable");
    Some(Object::new(body))
}

/// The settings and the pod template that a ConfigMap keeps.
fn kept(config_map: &Live) -> Option<(Value, Value)> {
    let data = config_map.at("/data");
    let template = serde_json::from_str(data.get(TEMPLATE_FILE)?.as_str()?).ok()?;
    Some((data.get(SETTINGS_FILE)?.clone(), template))
}

fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(fields) => fields
            .into_iter()
            .filter(|(_, value)| !value.is_null())
            .map(|(name, value)| (name, without_nulls(value)))
            .collect(),
        Value::Array(items) => items.into_iter().map(without_nulls).collect(),
        other => other,
    }
}
