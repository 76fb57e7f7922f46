//! A ProgressDB resource, what it says of itself, and what the operator made of it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::scope::with_identity;
use crate::{CLUSTER, Client, Scope, image, kubectl, wait_until};

/// A resource by its name; it need not be there.
pub struct Database<'a> {
    /// Where it is.
    pub namespace: &'a Scope,
    /// Its name, which its objects' names begin with.
    pub name: String,
}

/// A condition of the resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    /// What it is about.
    pub kind: String,
    /// `True`, `False` or `Unknown`.
    pub status: String,
    /// One word.
    pub reason: String,
    /// For people.
    pub message: String,
    /// Whether it is about what is asked for now.
    pub is_current: bool,
}

impl<'a> Database<'a> {
    /// Names a resource and creates nothing.
    pub fn new(namespace: &'a Scope, name: &str) -> Self {
        Self { namespace, name: name.to_owned() }
    }

    /// The resource with the least that there can be, and `more` over it. What is changed of it is changed directly, unless it
    /// says otherwise: guarded upgrades have tests of their own.
    pub fn resource(&self, more: Value) -> Value {
        let mut spec = json!({
            "image": image("progressdb:dev"), "storage": { "embedded": { "size": "1Gi" } },
            "upgrade": { "strategy": "Direct" },
        });
        json_patch::merge(&mut spec, &more);
        with_identity("ProgressDB", &self.name, json!({ "spec": spec }))
    }

    /// The resource, which is there.
    #[track_caller]
    pub fn get(&self) -> Value {
        self.namespace.get("ProgressDB", &self.name)
    }

    /// Merges into the spec; null removes.
    #[track_caller]
    pub fn change(&self, spec: Value) {
        self.namespace.change("ProgressDB", &self.name, &json!({ "spec": spec }));
    }

    /// Asks for another version of the server, by the tag of its image.
    #[track_caller]
    pub fn ask_for(&self, version: &str) {
        self.change(json!({ "image": image(&format!("progressdb:{version}")) }));
    }

    /// Asks for its deletion, and waits until it and what ran for it have gone.
    #[track_caller]
    pub fn delete(&self) {
        self.namespace.delete("ProgressDB", &self.name);
        self.wait_until_gone();
    }

    /// Waits until it and what ran for it have gone.
    #[track_caller]
    pub fn wait_until_gone(&self) {
        for (kind, name) in [("ProgressDB", &self.name), ("StatefulSet", &self.name), ("Pod", &self.pod())] {
            wait_until(&format!("{kind} {name} has gone"), || self.namespace.find(kind, name), Option::is_none);
        }
    }

    /// All conditions.
    #[track_caller]
    pub fn conditions(&self) -> Vec<Condition> {
        let resource = self.get();
        let conditions = resource["status"]["conditions"].as_array().into_iter().flatten();
        let condition = |found: &Value| {
            let text = |field: &str| found[field].as_str().unwrap_or_default().to_owned();
            let is_current = found["observedGeneration"] == resource["metadata"]["generation"];
            Condition {
                kind: text("type"),
                status: text("status"),
                reason: text("reason"),
                message: text("message"),
                is_current,
            }
        };
        conditions.map(condition).collect()
    }

    /// The status of a condition that is there and about what is asked for now.
    #[track_caller]
    pub fn status_of(&self, kind: &str) -> String {
        let conditions = self.conditions();
        let Some(found) = conditions.iter().find(|condition| condition.kind == kind && condition.is_current) else {
            panic!("no condition {kind} is about what is asked for now: {conditions:?}");
        };
        found.status.clone()
    }

    /// Waits until a condition has this status and reason, and its message all of these words; returns the message.
    #[track_caller]
    pub fn wait_for(&self, kind: &str, status: &str, reason: &str, words: &[&str]) -> String {
        let fits = |condition: &&Condition| {
            let is = (&*condition.kind, &*condition.status, &*condition.reason) == (kind, status, reason);
            is && condition.is_current && words.iter().all(|word| condition.message.contains(word))
        };
        let what = format!("{} has {kind}={status} because {reason}, with {words:?}", self.name);
        let conditions = wait_until(&what, || self.conditions(), |seen| seen.iter().any(|condition| fits(&condition)));
        conditions.iter().find(fits).unwrap().message.clone()
    }

    /// Waits until it serves what was last asked for.
    #[track_caller]
    pub fn ready(&self) -> &Self {
        self.wait_for("Ready", "True", "Serving", &[]);
        self
    }

    /// The name of its pod.
    pub fn pod(&self) -> String {
        format!("{}-0", self.name)
    }

    /// The name of its claim.
    pub fn claim(&self) -> String {
        format!("{}-data-0", self.name)
    }

    /// The ConfigMap that its pods read.
    #[track_caller]
    pub fn config_map(&self) -> Value {
        let set = self.namespace.get("StatefulSet", &self.name);
        let volumes = set["spec"]["template"]["spec"]["volumes"].as_array().cloned().unwrap_or_default();
        let config = volumes.into_iter().find(|volume| volume["name"] == "config").expect("it has settings");
        self.namespace.get("ConfigMap", config["configMap"]["name"].as_str().unwrap())
    }

    /// The volume under its claim.
    #[track_caller]
    pub fn volume(&self) -> Volume {
        let claim = self.namespace.get("PersistentVolumeClaim", &self.claim());
        Volume(claim["spec"]["volumeName"].as_str().unwrap().to_owned())
    }

    /// Its claims, and what the data of each is to it.
    #[track_caller]
    pub fn claims(&self) -> Vec<(String, String)> {
        let claims = self.namespace.list("PersistentVolumeClaim", &format!("app.kubernetes.io/instance={}", self.name));
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let role = |claim: &Value| text(&claim["metadata"]["labels"]["progressdb.io/role"]);
        claims.iter().map(|claim| (text(&claim["metadata"]["name"]), role(claim))).collect()
    }

    /// The snapshots of an upgrade.
    #[track_caller]
    pub fn snapshots(&self, upgrade: &Value) -> Vec<Value> {
        let id = upgrade["id"].as_str().unwrap();
        self.namespace.list("VolumeSnapshot", &format!("progressdb.io/upgrade={id}"))
    }

    /// Waits until it serves, its Service is open, and upgrades have left these claims and nothing else but snapshots.
    #[track_caller]
    pub fn check_upgrades_left(&self, claims: &[(&str, &str)]) {
        self.ready();
        let closed = &self.namespace.get("Service", &self.name)["spec"]["selector"]["progressdb.io/closed-for"];
        assert_eq!(*closed, Value::Null, "the Service is closed");
        let of_upgrades = format!("progressdb.io/upgrade,app.kubernetes.io/instance={}", self.name);
        for kind in ["Job", "NetworkPolicy"] {
            let left = || self.namespace.list(kind, &of_upgrades);
            wait_until(&format!("no {kind} of an upgrade is left"), left, Vec::is_empty);
        }
        let wanted: Vec<_> = claims.iter().map(|(name, role)| ((*name).to_owned(), (*role).to_owned())).collect();
        wait_until(&format!("the claims are {claims:?}"), || self.claims(), |now| *now == wanted);
    }

    /// Types what an upgrade that waits says is to be typed.
    #[track_caller]
    pub fn type_command_of(&self, held: &Value) {
        let command = held["hold"]["nextCommand"].as_str().unwrap_or_else(|| panic!("no command: {held}"));
        let arguments = command.strip_prefix("kubectl ").unwrap_or_else(|| panic!("{command}")).split(' ');
        let arguments: Vec<&str> = arguments.chain(["-n", &self.namespace.name]).collect();
        println!("{command}: {}", kubectl(&arguments));
    }

    /// Sets an annotation of the resource.
    #[track_caller]
    pub fn annotate(&self, name: &str, value: &str) {
        self.namespace.change("ProgressDB", &self.name, &json!({ "metadata": { "annotations": { name: value } } }));
    }

    /// Tells its pod from the pod that replaces it.
    #[track_caller]
    pub fn pod_uid(&self) -> String {
        self.namespace.get("Pod", &self.pod())["metadata"]["uid"].as_str().unwrap().to_owned()
    }

    /// The pod is still this one, and its server was never started anew.
    #[track_caller]
    pub fn check_still_runs(&self, uid: &str) {
        let pod = self.namespace.get("Pod", &self.pod());
        let restarts = &pod["status"]["containerStatuses"][0]["restartCount"];
        assert_eq!((&pod["metadata"]["uid"], restarts), (&json!(uid), &json!(0)), "uid and restarts of the pod");
    }

    /// Waits until another pod than this one serves.
    #[track_caller]
    pub fn wait_for_other_pod(&self, uid: &str) -> &Self {
        let is_other =
            |pod: &Option<Value>| pod.as_ref().is_some_and(|pod| pod["metadata"]["uid"] != uid && is_ready(pod));
        wait_until("another pod serves", || self.namespace.find("Pod", &self.pod()), is_other);
        self
    }

    /// One of the API keys.
    #[track_caller]
    pub fn key(&self, role: &str) -> String {
        let resource = self.get();
        let generated = format!("{}-api-keys", self.name);
        let secret = resource["spec"]["apiKeys"]["secretName"].as_str().unwrap_or(&generated);
        let encoded = self.namespace.get("Secret", secret)["data"][role].as_str().unwrap_or_default().to_owned();
        String::from_utf8(STANDARD.decode(encoded).unwrap()).unwrap().trim().to_owned()
    }

    /// A user who calls it with the backend key through its Service.
    #[track_caller]
    pub fn client(&self, user: &str) -> Client {
        Client::new(self, "backend", user)
    }

    /// A user who calls it with the admin key.
    #[track_caller]
    pub fn administrator(&self) -> Client {
        Client::new(self, "admin", "administrator")
    }
}

/// Whether the condition `Ready` of a pod or a node is true.
pub fn is_ready(object: &Value) -> bool {
    let conditions = object["status"]["conditions"].as_array().map(Vec::as_slice).unwrap_or_default();
    conditions.iter().any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
}

/// A volume, which no namespace has and which may outlive its claim.
pub struct Volume(String);

impl Volume {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.0
    }

    /// The PersistentVolume, as long as there is one.
    #[track_caller]
    pub fn find(&self) -> Option<Value> {
        CLUSTER.find("PersistentVolume", &self.0)
    }

    /// Waits until its claim has gone, checks that it outlived it, and deletes it.
    #[track_caller]
    pub fn check_kept(&self) {
        let see = || CLUSTER.get("PersistentVolume", &self.0);
        let kept = wait_until("the volume is released", see, |volume| volume["status"]["phase"] == "Released");
        assert_eq!(kept["spec"]["persistentVolumeReclaimPolicy"], "Retain");
        CLUSTER.delete("PersistentVolume", &self.0);
    }
}
