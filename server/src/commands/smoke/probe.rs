//! A probe user: what it has made so far, how it calls, and how it removes what it made.

mod steps;

use aws_lc_rs::rand;
use reqwest::{Method, RequestBuilder};
use serde_json::json;

use super::client::{Client, Response, with_key};
use super::plan::Plan;
use super::shapes::Ack;
use super::step::Step;
use super::trouble::Trouble;
use crate::model::UserId;
use crate::serve::StartupError;

/// Behind [`UserId::PROBE_PREFIX`].
const WHO: &str = "smoke";
const THREADS: &str = "/frontend/v1/threads";
/// A probe user in the middle of its test.
pub(super) struct Probe<'a> {
    plan: &'a Plan,
    writes: bool,
    user: String,
    /// Tells this test from all others: in the title of its thread and in its messages.
    mark: String,
    incarnation: String,
    thread: Made,
    message: String,
}

/// Whether the thread of the test is there.
enum Made {
    No,
    /// It was asked for, and no response said whether it was made.
    Perhaps,
    Yes(String),
}

impl<'a> Probe<'a> {
    pub(super) fn new(plan: &'a Plan, writes: bool) -> Result<Self, StartupError> {
        let mut mark = [0; 8];
        rand::fill(&mut mark).map_err(|_| StartupError::Config("the system gives no random bytes".to_owned()))?;
        Ok(Self {
            plan,
            writes,
            user: format!("{}{WHO}", UserId::PROBE_PREFIX),
            mark: hex::encode(mark),
            incarnation: String::new(),
            thread: Made::No,
            message: String::new(),
        })
    }

    pub(super) async fn take(&mut self, step: Step) -> Result<(), Trouble> {
        match step {
            Step::Healthz => self.healthz().await,
            Step::Readyz => self.readyz().await,
            Step::SignUser => self.sign_user().await,
            Step::CreateThread => self.create_thread().await,
            Step::PostMessage => self.post_message().await,
            Step::ListMessages => self.list_messages().await,
            Step::ReadMessage => self.read_message(&self.first_body()).await,
            Step::EditMessage => self.edit_message().await,
            Step::DeleteMessage => self.delete_message().await,
            Step::DeleteThread => self.delete_thread().await,
            Step::ListThreads => self.list_threads().await.map(drop),
            Step::Metrics => self.metrics().await,
        }
    }

    pub(super) fn may_have_left_something(&self) -> bool {
        !matches!(self.thread, Made::No)
    }

    /// What it may have left.
    pub(super) fn remains(&self) -> String {
        match &self.thread {
            Made::Yes(key) => format!("thread {key} of user {}", self.user),
            Made::No | Made::Perhaps => format!("a thread titled {:?} of user {}", self.title(), self.user),
        }
    }

    /// Removes the thread, if it was made.
    pub(super) async fn clean_up(&mut self) -> Result<(), Trouble> {
        if matches!(self.thread, Made::Perhaps) {
            // The same request again gets the thread that the first has made, even if that is still at work.
            let key = self.send_create().await?.json::<Ack>()?.key;
            self.thread = Made::Yes(key);
        }
        let Made::Yes(key) = &self.thread else { return Ok(()) };
        // What is gone already is refused, as all is that this user may not see.
        self.send_purge(key).await?.expect_one_of(&[202, 403, 404])?;
        self.check_gone(key).await?;
        self.thread = Made::No;
        Ok(())
    }

    async fn send_create(&self) -> Result<Response, Trouble> {
        let request = self.as_user(Method::POST, THREADS).header("Idempotency-Key", &self.mark);
        self.client().send(request.body(json!({ "title": self.title() }).to_string())).await?.expect(202)
    }

    async fn send_purge(&self, key: &str) -> Result<Response, Trouble> {
        self.client().send(self.as_user(Method::DELETE, &format!("{}?purge=true", thread_path(key)))).await
    }

    async fn check_gone(&self, key: &str) -> Result<(), Trouble> {
        self.get(&thread_path(key)).await?.expect_one_of(&[403, 404])?;
        let (response, threads) = self.list_threads().await?;
        response.check(threads.iter().all(|thread| thread.key != key), || {
            format!("thread {key} was deleted and is still listed")
        })
    }

    async fn get(&self, path: &str) -> Result<Response, Trouble> {
        self.client().send(self.as_user(Method::GET, path)).await
    }

    fn as_user(&self, method: Method, path: &str) -> RequestBuilder {
        let request = with_key(self.client().request(method, path), &self.plan.backend);
        request.header("X-User-ID", &self.user).header("Content-Type", "application/json")
    }

    fn client(&self) -> &'a Client {
        &self.plan.client
    }

    fn title(&self) -> String {
        format!("smoke test {}", self.mark)
    }

    /// What a server that reads and writes bodies anew would change: white space, order, escapes, long numbers.
    fn first_body(&self) -> String {
        format!(r#"{{ "text":"caf\u00e9 ☕", "n": 12345678901234567890.10, "mark":"{}" , "a":null}}"#, self.mark)
    }

    fn thread_key(&self) -> &str {
        match &self.thread {
            Made::Yes(key) => key,
            Made::No | Made::Perhaps => "",
        }
    }

    fn message_path(&self) -> String {
        format!("{}/{}", messages_path(self.thread_key()), self.message)
    }
}

/// Keys are letters, digits and colons, which a path may hold as they are.
fn thread_path(key: &str) -> String {
    format!("{THREADS}/{key}")
}

fn messages_path(thread: &str) -> String {
    format!("{}/messages", thread_path(thread))
}
