//! What is done at each step, and what is demanded of the responses.

use reqwest::Method;
use serde_json::{Value, json};

use super::super::client::{Response, with_key};
use super::super::plan::Metrics;
use super::super::shapes::{Ack, Message, MessagePage, OneMessage, OneThread, Ready, Signed, Thread, ThreadPage};
use super::super::trouble::Trouble;
use super::{Made, Probe, THREADS, messages_path, thread_path};
use crate::model::{MessageKey, ThreadId};

/// A family that counts every request, so that it is never absent.
const REQUESTS: &str = "progressdb_http_requests_total";
/// A family that says whose metrics they are.
const INSTANCE: &str = "progressdb_instance_info";

impl Probe<'_> {
    pub(super) async fn healthz(&self) -> Result<(), Trouble> {
        let response = self.client().send(self.client().request(Method::GET, "/healthz")).await?.expect(200)?;
        let found: Value = response.json()?;
        response.check(found == json!({ "status": "ok" }), || format!("want {{\"status\":\"ok\"}}, got {found}"))
    }

    pub(super) async fn readyz(&mut self) -> Result<(), Trouble> {
        let response = self.client().send(self.client().request(Method::GET, "/readyz")).await?.expect(200)?;
        let Ready { status, version, incarnation, writes, reason } = response.json()?;
        response.check(status == "ok" && !version.is_empty() && !incarnation.is_empty(), || {
            format!("want status ok, a version and an incarnation; got {status:?}, {version:?}, {incarnation:?}")
        })?;
        let takes_writes = writes.as_deref() != Some("refused");
        response.check(takes_writes || !self.writes, || {
            let reason = reason.unwrap_or_default();
            format!("the server refuses writes ({reason}): end that, or try reads alone with --read-only")
        })?;
        self.incarnation = incarnation;
        Ok(())
    }

    pub(super) async fn sign_user(&self) -> Result<(), Trouble> {
        let request = self.client().request(Method::POST, "/backend/v1/sign").json(&json!({ "userId": self.user }));
        let response = self.client().send(with_key(request, &self.plan.backend)).await?.expect(200)?;
        let Signed { user_id, signature } = response.json()?;
        response.check(user_id == self.user, || format!("the signature is for user {user_id:?}"))?;
        let is_digest =
            signature.len() == 64 && signature.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        response.check(is_digest, || "the signature is not 64 hexadecimal digits in lower case".to_owned())
    }

    pub(super) async fn create_thread(&mut self) -> Result<(), Trouble> {
        self.thread = Made::Perhaps;
        let created = match self.send_create().await {
            Err(trouble) if trouble.is_certain() => {
                self.thread = Made::No;
                return Err(trouble);
            }
            created => created?,
        };
        let key = created.json::<Ack>()?.key;
        created.check(key.parse::<ThreadId>().is_ok(), || format!("{key:?} is not the key of a thread"))?;
        self.thread = Made::Yes(key.clone());
        let response = self.get(&thread_path(&key)).await?.expect(200)?;
        let Thread { key: read, title, author } = response.json::<OneThread>()?.thread;
        response.check(read == key && title == self.title() && author == self.user, || {
            format!("want thread {key}, {:?}, of {}; got {read}, {title:?}, of {author}", self.title(), self.user)
        })
    }

    pub(super) async fn post_message(&mut self) -> Result<(), Trouble> {
        let thread = self.thread_key().to_owned();
        let body = message_of(&self.first_body());
        let request = self.as_user(Method::POST, &messages_path(&thread)).body(body);
        let response = self.client().send(request).await?.expect(202)?;
        let key = response.json::<Ack>()?.key;
        let is_of_thread = key.parse::<MessageKey>().is_ok_and(|key| key.thread.to_string() == thread);
        response.check(is_of_thread, || format!("{key:?} is not the key of a message in {thread}"))?;
        self.message = key;
        Ok(())
    }

    pub(super) async fn list_messages(&self) -> Result<(), Trouble> {
        let thread = self.thread_key();
        let response = self.get(&messages_path(thread)).await?.expect(200)?;
        let listed = response.json::<MessagePage>()?.messages;
        let [message] = listed.as_slice() else {
            return Err(response.wrong(format!("want one message, got {}", listed.len())));
        };
        self.check_message(&response, message, &self.first_body())?;
        let (response, threads) = self.list_threads().await?;
        response.check(threads.iter().any(|listed| listed.key == thread), || {
            format!("thread {thread} was made and is not in the list of its user's threads")
        })
    }

    pub(super) async fn read_message(&self, body: &str) -> Result<(), Trouble> {
        let response = self.get(&self.message_path()).await?.expect(200)?;
        self.check_message(&response, &response.json::<OneMessage>()?.message, body)
    }

    pub(super) async fn edit_message(&self) -> Result<(), Trouble> {
        let edited = format!(r#"{{"text": "edited \u00e9", "mark":"{}"}}"#, self.mark);
        let request = self.as_user(Method::PUT, &self.message_path()).body(message_of(&edited));
        let response = self.client().send(request).await?.expect(202)?;
        let key = response.json::<Ack>()?.key;
        response
            .check(key == self.message, || format!("message {} was edited, and {key} was changed", self.message))?;
        self.read_message(&edited).await
    }

    pub(super) async fn delete_message(&self) -> Result<(), Trouble> {
        let deleted = self.client().send(self.as_user(Method::DELETE, &self.message_path())).await?.expect(202)?;
        let key = deleted.json::<Ack>()?.key;
        deleted.check(key == self.message, || format!("message {} was deleted, and {key} is gone", self.message))?;
        self.get(&self.message_path()).await?.expect(404)?;
        let response = self.get(&messages_path(self.thread_key())).await?.expect(200)?;
        let listed = response.json::<MessagePage>()?.messages;
        response.check(listed.is_empty(), || "the message was deleted and is still listed".to_owned())
    }

    pub(super) async fn delete_thread(&mut self) -> Result<(), Trouble> {
        let key = self.thread_key().to_owned();
        let response = self.send_purge(&key).await?.expect(202)?;
        let ack: Ack = response.json()?;
        response.check(ack.key == key && ack.receipt.is_some(), || format!("want a receipt for thread {key}"))?;
        self.check_gone(&key).await?;
        self.thread = Made::No;
        Ok(())
    }

    pub(super) async fn metrics(&self) -> Result<(), Trouble> {
        let response = match &self.plan.metrics {
            Metrics::Api(key) => {
                self.client().send(with_key(self.client().request(Method::GET, "/metrics"), key)).await
            }
            Metrics::Management(client) => client.send(client.request(Method::GET, "/metrics")).await,
        };
        let response = response?.expect(200)?;
        let text = response.text()?;
        let samples = || text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
        let is_sample = |line: &str| line.rsplit_once(' ').is_some_and(|(_, value)| value.parse::<f64>().is_ok());
        if let Some(line) = samples().find(|line| !is_sample(line)) {
            return Err(response.wrong(format!("{line:?} is not a line of Prometheus text")));
        }
        response.check(samples().any(|line| line.starts_with(REQUESTS)), || format!("{REQUESTS} is missing"))?;
        let instance = samples().find(|line| line.starts_with(INSTANCE));
        let instance = instance.ok_or_else(|| response.wrong(format!("{INSTANCE} is missing")))?;
        response.check(instance.contains(&format!("incarnation=\"{}\"", self.incarnation)), || {
            format!("these are metrics of another server: want incarnation {}, got {instance}", self.incarnation)
        })
    }

    pub(super) async fn list_threads(&self) -> Result<(Response, Vec<Thread>), Trouble> {
        let response = self.get(THREADS).await?.expect(200)?;
        let threads = response.json::<ThreadPage>()?.threads;
        let others = threads.iter().find(|thread| thread.author != self.user);
        response.check(others.is_none(), || {
            let author = others.map(|thread| thread.author.as_str()).unwrap_or_default();
            format!("the list of {} holds a thread of {author}", self.user)
        })?;
        Ok((response, threads))
    }

    fn check_message(&self, response: &Response, message: &Message, body: &str) -> Result<(), Trouble> {
        let Message { key, author, body: found } = message;
        response.check(*key == self.message && *author == self.user, || {
            format!("want message {} of {}, got {key} of {author}", self.message, self.user)
        })?;
        response.check(found.get() == body, || format!("want the body {body} byte for byte, got {}", found.get()))
    }
}

/// The request that carries a body of a message as it stands.
fn message_of(body: &str) -> String {
    format!(r#"{{"body":{body}}}"#)
}
