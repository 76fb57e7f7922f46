//! One write, chosen at random, with what it must lead to.

use serde_json::{Value, json};

use super::{Book, USER};
use crate::http::Request;
use crate::{BACKEND_KEY, Random, THREADS, message, messages, thread};

/// One write as it was sent. It can be sent again, word for word.
#[derive(Clone)]
pub(super) struct Write {
    method: &'static str,
    target: String,
    body: Value,
    idempotency_key: String,
    pub(super) effect: Effect,
}

/// What the store must hold once the write is acknowledged.
#[derive(Clone)]
pub(super) enum Effect {
    CreateThread { title: String },
    RenameThread { thread: String, title: String },
    Append { thread: String, text: String },
    Edit { thread: String, message: String, text: String },
    Delete { thread: String, message: String },
    DeleteThread { thread: String },
}

impl Write {
    pub(super) fn request(&self) -> Request {
        let request = Request::new(self.method, &self.target).key(BACKEND_KEY).header("X-User-ID", USER);
        request.header("Idempotency-Key", &self.idempotency_key).json(&self.body)
    }

    /// A write by somebody who knows `book`: mostly appends to the shared threads, and half of those to the first.
    pub(super) fn next(book: &Book, id: &str, shared: &[String], random: &mut Random) -> Self {
        let text = format!("{id} {}", "x".repeat(random.below(400)));
        let body = |text: &str| json!({ "body": { "id": text } });
        let choice = (random.below(40), book.some_message(random), book.some_thread(random));
        let (method, target, body, effect) = match choice {
            (0 | 1, ..) => ("POST", THREADS.to_owned(), json!({ "title": text }), Effect::CreateThread { title: text }),
            (2, _, Some(t)) => ("DELETE", thread(&t), json!({}), Effect::DeleteThread { thread: t }),
            (3 | 4, _, Some(t)) => {
                ("PUT", thread(&t), json!({ "title": text }), Effect::RenameThread { thread: t, title: text })
            }
            (5..=8, Some((t, m)), _) => {
                ("PUT", message(&t, &m), body(&text), Effect::Edit { thread: t, message: m, text })
            }
            (9 | 10, Some((t, m)), _) => {
                ("DELETE", message(&t, &m), json!({}), Effect::Delete { thread: t, message: m })
            }
            (11..=14, _, Some(t)) => ("POST", messages(&t), body(&text), Effect::Append { thread: t, text }),
            (chosen, ..) => {
                let t = shared[if (15..=26).contains(&chosen) { 0 } else { random.below(shared.len()) }].clone();
                ("POST", messages(&t), body(&text), Effect::Append { thread: t, text })
            }
        };
        Self { method, target, body, idempotency_key: id.to_owned(), effect }
    }
}
