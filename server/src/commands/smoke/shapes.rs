//! What the server's responses have to hold, as far as the test looks. They are written anew here: a test that took the
//! server's own types could not see that they have changed.

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

#[derive(Deserialize)]
pub(super) struct Ready {
    pub(super) status: String,
    pub(super) version: String,
    pub(super) incarnation: String,
    pub(super) writes: Option<String>,
    pub(super) reason: Option<String>,
}

#[derive(Deserialize)]
pub(super) struct Signed {
    #[serde(rename = "userId")]
    pub(super) user_id: String,
    pub(super) signature: String,
}

#[derive(Deserialize)]
pub(super) struct Ack {
    pub(super) key: String,
    pub(super) receipt: Option<Value>,
}

#[derive(Deserialize)]
pub(super) struct OneThread {
    pub(super) thread: Thread,
}

#[derive(Deserialize)]
pub(super) struct ThreadPage {
    pub(super) threads: Vec<Thread>,
}

#[derive(Deserialize)]
pub(super) struct Thread {
    pub(super) key: String,
    pub(super) title: String,
    pub(super) author: String,
}

#[derive(Deserialize)]
pub(super) struct OneMessage {
    pub(super) message: Message,
}

#[derive(Deserialize)]
pub(super) struct MessagePage {
    pub(super) messages: Vec<Message>,
}

#[derive(Deserialize)]
pub(super) struct Message {
    pub(super) key: String,
    pub(super) author: String,
    pub(super) body: Box<RawValue>,
}
