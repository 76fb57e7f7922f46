//! A user of the server, and the paths of the API.

use std::net::SocketAddr;

use serde_json::{Value, json};

use crate::BACKEND_KEY;
use crate::http::{self, Answer, Connection, Request};

/// A user who calls the server with the backend key.
#[derive(Clone)]
pub struct User {
    addr: SocketAddr,
    /// The user id.
    pub id: String,
}

impl User {
    /// Calls the server at this address.
    pub fn new(addr: SocketAddr, id: &str) -> Self {
        Self { addr, id: id.to_owned() }
    }

    /// A request with the backend key and this user id.
    pub fn request(&self, method: &str, target: &str) -> Request {
        Request::new(method, target).key(BACKEND_KEY).header("X-User-ID", &self.id)
    }

    /// Sends a request on a connection of its own.
    #[track_caller]
    pub fn send(&self, request: &Request) -> Answer {
        send(self.addr, request)
    }

    /// GET.
    #[track_caller]
    pub fn get(&self, target: &str) -> Answer {
        self.send(&self.request("GET", target))
    }

    /// POST of JSON.
    #[track_caller]
    pub fn post(&self, target: &str, body: &Value) -> Answer {
        self.send(&self.request("POST", target).json(body))
    }

    /// PUT of JSON.
    #[track_caller]
    pub fn put(&self, target: &str, body: &Value) -> Answer {
        self.send(&self.request("PUT", target).json(body))
    }

    /// DELETE.
    #[track_caller]
    pub fn delete(&self, target: &str) -> Answer {
        self.send(&self.request("DELETE", target))
    }

    /// Creates a thread and returns its key.
    #[track_caller]
    pub fn create_thread(&self, title: &str) -> String {
        self.post(THREADS, &json!({ "title": title })).written()
    }

    /// Appends a message with this body and returns its key.
    #[track_caller]
    pub fn append(&self, thread: &str, body: impl Into<Value>) -> String {
        self.post(&messages(thread), &json!({ "body": body.into() })).written()
    }

    /// Keys of a page of threads.
    #[track_caller]
    pub fn thread_keys(&self, query: &str) -> Vec<String> {
        self.get(&format!("{THREADS}?{query}")).check_status(200).keys("threads")
    }

    /// Keys of a page of messages.
    #[track_caller]
    pub fn message_keys(&self, thread: &str, query: &str) -> Vec<String> {
        self.get(&format!("{}?{query}", messages(thread))).check_status(200).keys("messages")
    }
}

/// Where threads are created and listed.
pub const THREADS: &str = "/frontend/v1/threads";

/// `/frontend/v1/threads/{thread}`
pub fn thread(key: &str) -> String {
    format!("{THREADS}/{}", http::encode(key))
}

/// `/frontend/v1/threads/{thread}/messages`
pub fn messages(key: &str) -> String {
    format!("{}/messages", thread(key))
}

/// `/frontend/v1/threads/{thread}/messages/{message}`
pub fn message(thread: &str, key: &str) -> String {
    format!("{}/{}", messages(thread), http::encode(key))
}

/// Sends a request on a connection of its own, which must bring an answer.
#[track_caller]
pub fn send(addr: SocketAddr, request: &Request) -> Answer {
    match Connection::open(addr)
        .and_then(|mut connection| connection.send(&request.clone().header("Connection", "close")))
    {
        Ok(answer) => answer,
        Err(error) => panic!("{} {}: {error}", request.method, request.target),
    }
}
