//! A user who calls a database through its Service, and tries again as a client should.

use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::{Value, json};
use testing::http::{Answer, Connection, Request, encode};
use testing::{THREADS, messages};

use crate::forward::Forward;
use crate::{Database, wait_until};

/// How long a server may take to answer; after that the connection is given up.
const TO_ANSWER: Duration = Duration::from_secs(5);
/// What says that nobody takes it just now: the server's own word, that of [`Forward`], and that of a full disk.
const NOT_NOW: [u16; 3] = [503, 502, 507];

/// A user with a key, and a way to the Service.
pub struct Client {
    service: SocketAddr,
    /// Where this machine does not reach Services of the cluster.
    forward: Option<Forward>,
    key: String,
    user: String,
}

impl Client {
    /// A user who has the key of this role.
    #[track_caller]
    pub fn new(database: &Database<'_>, role: &str, user: &str) -> Self {
        let service = database.namespace.get("Service", &database.name);
        let address = format!("{}:8080", service["spec"]["clusterIP"].as_str().unwrap());
        let service = address.parse().unwrap_or_else(|error| panic!("{address}: {error}"));
        let forward = (!reaches(service)).then(|| Forward::to(database));
        Self { service, forward, key: database.key(role), user: user.to_owned() }
    }

    /// The same user of another database.
    #[track_caller]
    pub(crate) fn of(&self, database: &Database<'_>) -> Self {
        Self::new(database, "backend", &self.user)
    }

    /// The same user, through the API server even where the Service can be reached.
    pub fn by_port_forward(self, database: &Database<'_>) -> Self {
        Self { forward: Some(Forward::to(database)), ..self }
    }

    /// Where the Service is reached from here.
    pub fn address(&self) -> SocketAddr {
        self.forward.as_ref().map_or(self.service, Forward::address)
    }

    /// A request with this user's key and id.
    pub fn request(&self, method: &str, target: &str) -> Request {
        Request::new(method, target).key(&self.key).header("X-User-ID", &self.user)
    }

    /// Sends a request on this connection, or on a new one. An error says why there is no answer; the connection is
    /// then gone, and the request should be sent again.
    pub fn try_send(&self, connection: &mut Option<Connection>, request: &Request) -> Result<Answer, String> {
        let result = match connection.take() {
            Some(open) => Ok(open),
            None => Connection::open_within(self.address(), TO_ANSWER),
        };
        let sent = result.and_then(|mut open| Ok((open.send(request)?, open)));
        let (answer, open) = sent.map_err(|error| error.to_string())?;
        if NOT_NOW.contains(&answer.status) {
            return Err(answer.to_string());
        }
        *connection = Some(open);
        Ok(answer)
    }

    /// Sends a request until there is an answer to it.
    #[track_caller]
    pub fn send(&self, request: &Request) -> Answer {
        let what = format!("{} {} is answered", request.method, request.target);
        wait_until(&what, || self.try_send(&mut None, request), Result::is_ok).unwrap()
    }

    /// GET, which must find something.
    #[track_caller]
    pub fn get(&self, target: &str) -> Answer {
        let answer = self.send(&self.request("GET", target));
        answer.check_status(200);
        answer
    }

    /// Creates a thread and returns its key.
    #[track_caller]
    pub fn create_thread(&self, title: &str) -> String {
        let request = self.request("POST", THREADS).header("Idempotency-Key", title);
        self.send(&request.json(&json!({ "title": title }))).written()
    }

    /// Appends a message with this body.
    #[track_caller]
    pub fn append(&self, thread: &str, body: Value) {
        let request = self.request("POST", &messages(thread)).header("Idempotency-Key", body.to_string());
        self.send(&request.json(&json!({ "body": body }))).written();
    }

    /// The bodies of all messages of a thread, the oldest first.
    #[track_caller]
    pub fn bodies(&self, thread: &str) -> Vec<Value> {
        let (mut bodies, mut cursor) = (Vec::new(), String::new());
        loop {
            let page = self.get(&format!("{}?limit=100{cursor}", messages(thread))).json();
            let messages = page["messages"].as_array().unwrap();
            bodies.splice(0..0, messages.iter().map(|message| message["body"].clone()));
            // Without a cursor it is the newest page, so that the rest is in front of it.
            if page["pagination"]["has_before"] != true {
                return bodies;
            }
            cursor = format!("&before={}", encode(page["pagination"]["before_anchor"].as_str().unwrap()));
        }
    }
}

/// Whether this machine reaches an address of the cluster; what is refused there was reached.
fn reaches(address: SocketAddr) -> bool {
    match TcpStream::connect_timeout(&address, Duration::from_secs(3)) {
        Ok(_) => true,
        Err(error) => error.kind() == std::io::ErrorKind::ConnectionRefused,
    }
}
