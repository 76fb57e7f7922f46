//! A ProgressDB resource, what it says of itself, and a way to its Service.

use std::net::SocketAddr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::forward::{Forward, reaches};
use crate::{Namespace, TO_ANSWER, api, image, kubectl, wait_for, wait_until};
use testing::http::{Answer, Connection, Request};

/// A resource by its name; it need not be there.
pub struct Database<'a> {
    /// Where it is.
    pub namespace: &'a Namespace,
    /// Its name, which its objects' names begin with.
    pub name: String,
}

impl<'a> Database<'a> {
    /// Names a resource and creates nothing.
    pub fn new(namespace: &'a Namespace, name: &str) -> Self {
        Self { namespace, name: name.to_owned() }
    }

    /// The resource with the least there can be, and `more` over it.
    pub fn resource(&self, more: Value) -> Value {
        let mut spec = json!({ "image": image("progressdb:dev"), "storage": { "embedded": { "size": "1Gi" } } });
        merge(&mut spec, more);
        json!({
            "apiVersion": "progressdb.io/v1alpha1", "kind": "ProgressDB", "metadata": { "name": self.name }, "spec": spec,
        })
    }

    /// The resource, which is there.
    #[track_caller]
    pub fn get(&self) -> Value {
        self.namespace.get("progressdb", &self.name)
    }

    /// Whether the resource is there.
    pub fn is_there(&self) -> bool {
        self.namespace.find("progressdb", &self.name).is_some()
    }

    /// Merges into the spec; null removes.
    #[track_caller]
    pub fn change(&self, spec: Value) {
        let patch = json!({ "spec": spec }).to_string();
        self.namespace.kubectl(&["patch", "progressdb", &self.name, "--type=merge", "-p", &patch]);
    }

    /// Asks for its deletion, and does not wait for it.
    #[track_caller]
    pub fn delete(&self) {
        self.namespace.kubectl(&["delete", "progressdb", &self.name, "--wait=false"]);
    }

    /// Status, reason and message of a condition, if it is about what is asked for now.
    #[track_caller]
    pub fn condition(&self, kind: &str) -> Option<(String, String, String)> {
        let resource = self.get();
        let generation = &resource["metadata"]["generation"];
        let conditions = resource["status"]["conditions"].as_array()?;
        let found = conditions.iter().find(|condition| condition["type"] == kind)?;
        let text = |field: &str| found[field].as_str().unwrap_or_default().to_owned();
        (found["observedGeneration"] == *generation).then(|| (text("status"), text("reason"), text("message")))
    }

    /// Waits until a condition has this status and reason; its message.
    #[track_caller]
    pub fn wait_for(&self, kind: &str, status: &str, reason: &str) -> String {
        wait_for(&format!("{} has {kind}={status} because {reason}", self.name), || {
            let found = self.condition(kind)?;
            (found.0 == status && found.1 == reason).then_some(found.2)
        })
    }

    /// Waits until it serves what was last asked for.
    #[track_caller]
    pub fn ready(&self) -> &Self {
        self.wait_for("Ready", "True", "Serving");
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

    /// The volume under its claim.
    #[track_caller]
    pub fn volume(&self) -> Volume {
        let claim = self.namespace.get("persistentvolumeclaim", &self.claim());
        Volume(claim["spec"]["volumeName"].as_str().unwrap().to_owned())
    }

    /// Tells its pod from the pod that replaces it.
    #[track_caller]
    pub fn pod_uid(&self) -> String {
        self.namespace.get("pod", &self.pod())["metadata"]["uid"].as_str().unwrap().to_owned()
    }

    /// How often the server was started anew in its pod.
    #[track_caller]
    pub fn restarts(&self) -> i64 {
        self.namespace.get("pod", &self.pod())["status"]["containerStatuses"][0]["restartCount"].as_i64().unwrap()
    }

    /// Waits until another pod than this one serves.
    #[track_caller]
    pub fn wait_for_other_pod(&self, uid: &str) {
        wait_until("another pod serves", || {
            let pod = self.namespace.find("pod", &self.pod());
            pod.is_some_and(|pod| pod["metadata"]["uid"] != uid && is_ready(&pod))
        });
    }

    /// One of the API keys.
    #[track_caller]
    pub fn key(&self, role: &str) -> String {
        let resource = self.get();
        let generated = format!("{}-api-keys", self.name);
        let secret = resource["spec"]["apiKeys"]["secretName"].as_str().unwrap_or(&generated);
        let encoded = self.namespace.get("secret", secret)["data"][role].as_str().unwrap_or_default().to_owned();
        String::from_utf8(STANDARD.decode(encoded).unwrap()).unwrap().trim().to_owned()
    }

    /// A person who calls it with the backend key through its Service.
    #[track_caller]
    pub fn client(&self, user: &str) -> Client {
        self.caller("backend", user)
    }

    /// A person who calls it with the admin key.
    #[track_caller]
    pub fn administrator(&self) -> Client {
        self.caller("admin", "administrator")
    }

    #[track_caller]
    fn caller(&self, role: &str, user: &str) -> Client {
        let service = self.namespace.get("service", &self.name);
        let cluster_ip: SocketAddr =
            format!("{}:8080", service["spec"]["clusterIP"].as_str().unwrap()).parse().unwrap();
        let forward = (!reaches(cluster_ip)).then(|| Forward::new(&self.namespace.name, &self.name));
        Client { service: cluster_ip, forward, key: self.key(role), user: user.to_owned() }
    }
}

/// A volume, which no namespace has and which may outlive its claim.
pub struct Volume(String);

impl Volume {
    /// The PersistentVolume, as long as there is one.
    #[track_caller]
    pub fn find(&self) -> Option<Value> {
        api::find(&format!("/api/v1/persistentvolumes/{}", self.0))
    }

    /// Waits until its claim has gone, and deletes it when it was seen to outlive that.
    #[track_caller]
    pub fn check_kept(&self) {
        let kept = wait_for("the volume that is kept is released", || {
            let volume = self.find().unwrap_or_else(|| panic!("the volume {} went with its claim", self.0));
            (volume["status"]["phase"] == "Released").then_some(volume)
        });
        assert_eq!(kept["spec"]["persistentVolumeReclaimPolicy"], "Retain");
        kubectl(&["delete", "persistentvolume", &self.0, "--wait=false"]);
    }
}

pub(crate) fn is_ready(pod: &Value) -> bool {
    let conditions = pod["status"]["conditions"].as_array().cloned().unwrap_or_default();
    conditions.iter().any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
}

/// As `kubectl patch --type=merge` does.
fn merge(into: &mut Value, from: Value) {
    let Value::Object(fields) = from else {
        *into = from;
        return;
    };
    if !into.is_object() {
        *into = json!({});
    }
    for (name, value) in fields {
        match value {
            Value::Null => {
                into.as_object_mut().unwrap().remove(&name);
            }
            value => merge(into.as_object_mut().unwrap().entry(name).or_insert(Value::Null), value),
        }
    }
}

/// A person who calls a database through its Service.
pub struct Client {
    service: SocketAddr,
    /// Where this machine does not reach Services of the cluster.
    forward: Option<Forward>,
    key: String,
    user: String,
}

impl Client {
    /// Where the Service is reached from here.
    pub fn address(&self) -> SocketAddr {
        self.forward.as_ref().map_or(self.service, Forward::address)
    }

    /// A connection to the Service; every answer on it must come within seconds.
    pub fn connect(&self) -> std::io::Result<Connection> {
        Connection::open_within(self.address(), TO_ANSWER)
    }

    /// A request with this caller's key and user id.
    pub fn request(&self, method: &str, target: &str) -> Request {
        Request::new(method, target).key(&self.key).header("X-User-ID", &self.user)
    }

    /// Sends a request on a connection of its own, again until there is an answer.
    #[track_caller]
    pub fn send(&self, request: &Request) -> Answer {
        wait_for("the Service answers", || self.connect().and_then(|mut connection| connection.send(request)).ok())
    }

    /// Creates a thread and returns its key.
    #[track_caller]
    pub fn create_thread(&self, title: &str) -> String {
        let request = self.request("POST", "/frontend/v1/threads").header("Idempotency-Key", title);
        self.send(&request.json(&json!({ "title": title }))).written()
    }

    /// Appends a message with this body.
    #[track_caller]
    pub fn append(&self, thread: &str, body: Value) -> String {
        let request = self.request("POST", &crate::writers::messages(thread));
        self.send(&request.header("Idempotency-Key", body.to_string()).json(&json!({ "body": body }))).written()
    }

    /// The bodies of all messages of a thread, the oldest first.
    #[track_caller]
    pub fn bodies(&self, thread: &str) -> Vec<Value> {
        let (mut bodies, mut cursor) = (Vec::new(), String::new());
        loop {
            let target = format!("{}?limit=100{cursor}", crate::writers::messages(thread));
            let page = self.send(&self.request("GET", &target)).check_status(200).json();
            let messages = page["messages"].as_array().unwrap();
            bodies.splice(0..0, messages.iter().map(|message| message["body"].clone()));
            // Without a cursor it is the newest page, so that the rest is in front of it.
            if page["pagination"]["has_before"] != true {
                return bodies;
            }
            let anchor = page["pagination"]["before_anchor"].as_str().unwrap();
            cursor = format!("&before={}", testing::http::encode(anchor));
        }
    }
}
