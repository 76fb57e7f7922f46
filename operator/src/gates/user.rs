//! A probe user: how it calls a server, what it demands of answers, and how it removes what it made.

use std::time::Duration;

use hyper::{Method, body::Bytes};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep, timeout};

use super::{
    client::{Answer, Client, Lost, Request},
    keys::Headers,
};
use crate::gate::shortened;

/// Ids that begin so are reserved for probe users.
pub(super) const PREFIX: &str = "progressdb-probe-";
pub(super) const THREADS: &str = "/frontend/v1/threads";
/// The patience of a new user.
const PATIENCE: Duration = Duration::from_secs(5);
/// From one try to the next.
const PAUSE: Duration = Duration::from_millis(200);
/// So often a request is repeated that came too early for the rate limit, and the longest wait for it.
const RATE_LIMIT: (u32, Duration) = (4, Duration::from_secs(5));
/// So long the removal of what was made may take.
const REMOVAL: Duration = Duration::from_secs(15);
/// More pages of left-over threads than any gate leaves.
const MAX_PAGES: usize = 10;

/// Why an answer is not the right one: what was asked, the status if there was one, and what was said.
#[derive(Debug, thiserror::Error)]
#[error("{asked}: {what}")]
pub(super) struct Trouble {
    asked: String,
    what: String,
}

/// An answer, and what was asked.
pub(super) struct Said {
    asked: String,
    status: u16,
    body: Bytes,
}

/// A thread, as far as a list or an answer is looked at.
#[derive(Deserialize)]
pub(super) struct Thread {
    pub(super) key: String,
    pub(super) title: String,
    pub(super) author: String,
}

#[derive(Deserialize)]
struct ThreadPage {
    threads: Vec<Thread>,
}

/// What a write is answered with.
#[derive(Deserialize)]
pub(super) struct Ack {
    pub(super) key: String,
    pub(super) receipt: Option<Value>,
}

/// A probe user of one server.
pub(super) struct User {
    client: Client,
    pub(super) id: String,
    headers: Headers,
    /// So long a server may refuse connections: it may be between two processes.
    pub(super) patience: Duration,
    /// Whether it asked for a thread that was not seen to be gone.
    may_have_threads: bool,
}

impl User {
    /// `headers` say who it is.
    pub(super) fn new(client: Client, id: String, headers: Headers) -> Self {
        Self { client, id, headers, patience: PATIENCE, may_have_threads: false }
    }

    /// A request of this user.
    pub(super) async fn ask(&mut self, method: Method, path: &str, body: impl Into<String>) -> Result<Said, Trouble> {
        let headers = self.headers.clone();
        self.ask_with(&headers, method, path, body).await
    }

    pub(super) async fn get(&mut self, path: &str) -> Result<Said, Trouble> {
        self.ask(Method::GET, path, "").await?.expect(&[200])
    }

    /// A request with other headers than those of this user. A connection that is refused is tried again for a while, and so is
    /// what the rate limit refuses.
    pub(super) async fn ask_with(
        &mut self,
        headers: &[(&'static str, String)],
        method: Method,
        path: &str,
        body: impl Into<String>,
    ) -> Result<Said, Trouble> {
        let (body, until, mut refused) = (body.into(), Instant::now() + self.patience, 0);
        let asked = format!("{method} {path}");
        loop {
            let request = Request { method: method.clone(), path, headers, body: body.clone() };
            match self.client.send(request).await {
                Ok(Answer { status: 429, retry_after: Some(wait), .. }) if refused < RATE_LIMIT.0 => {
                    refused += 1;
                    sleep(wait.min(RATE_LIMIT.1)).await;
                }
                Ok(Answer { status, body, .. }) => return Ok(Said { asked, status, body }),
                Err(Lost::Unreachable { .. }) if Instant::now() < until => sleep(PAUSE).await,
                Err(lost) => return Err(Trouble { asked, what: lost.to_string() }),
            }
        }
    }

    /// A request of this user that is tried once.
    pub(super) async fn ask_once(&mut self, method: Method, path: &str, body: String) -> Result<Answer, Lost> {
        self.client.send(Request { method, path, headers: &self.headers, body }).await
    }

    /// The threads of this user, or some of them; none is of anybody else.
    pub(super) async fn threads(&mut self) -> Result<(Said, Vec<Thread>), Trouble> {
        let said = self.get(&format!("{THREADS}?limit=100")).await?;
        let threads = said.json::<ThreadPage>()?.threads;
        let others = threads.iter().find(|thread| thread.author != self.id);
        said.check(others.is_none(), || {
            let author = others.map(|thread| thread.author.as_str()).unwrap_or_default();
            format!("the list of {} holds a thread of {author}", self.id)
        })?;
        Ok((said, threads))
    }

    pub(super) async fn purge(&mut self, thread: &str) -> Result<Said, Trouble> {
        self.ask(Method::DELETE, &format!("{THREADS}/{thread}?purge=true"), "").await
    }

    pub(super) async fn create_thread(&mut self, title: &str) -> Result<(Said, String), Trouble> {
        self.may_have_threads = true;
        let said = self.ask(Method::POST, THREADS, json!({ "title": title }).to_string()).await?.expect(&[202])?;
        let key = said.json::<Ack>()?.key;
        Ok((said, key))
    }

    /// No thread is left: there is nothing to clean up.
    pub(super) fn has_no_threads(&mut self) {
        self.may_have_threads = false;
    }

    /// Removes what it made, if anything: this thread, if it is known, and all that the list has.
    pub(super) async fn clean_up(&mut self, thread: Option<&str>) -> Result<(), Trouble> {
        if self.may_have_threads { self.remove_all(thread).await } else { Ok(()) }
    }

    /// Removes what gates that ended in the middle have left.
    pub(super) async fn remove_left_overs(&mut self) -> Result<(), Trouble> {
        self.remove_all(None).await
    }

    async fn remove_all(&mut self, thread: Option<&str>) -> Result<(), Trouble> {
        let asked = format!("removing the threads of {}", self.id);
        let late = |_| Trouble { asked, what: format!("not done within {REMOVAL:?}") };
        timeout(REMOVAL, self.remove_pages(thread)).await.map_err(late)?
    }

    async fn remove_pages(&mut self, thread: Option<&str>) -> Result<(), Trouble> {
        // What is gone already is refused, as all is that this user may not see.
        const GONE: [u16; 3] = [202, 403, 404];
        if let Some(thread) = thread {
            self.purge(thread).await?.expect(&GONE)?;
        }
        for _ in 0..MAX_PAGES {
            let (_, threads) = self.threads().await?;
            if threads.is_empty() {
                break;
            }
            for thread in threads {
                self.purge(&thread.key).await?.expect(&GONE)?;
            }
        }
        Ok(())
    }
}

impl Said {
    /// The status is one of these.
    pub(super) fn expect(self, statuses: &[u16]) -> Result<Self, Trouble> {
        if statuses.contains(&self.status) {
            return Ok(self);
        }
        let what = format!("want {}, got {}: {}", one_of(statuses), self.status, message(&self.body));
        Err(Trouble { asked: self.asked, what })
    }

    /// The body as JSON of this shape.
    pub(super) fn json<T: DeserializeOwned>(&self) -> Result<T, Trouble> {
        serde_json::from_slice(&self.body).map_err(|error| {
            let got = shortened(&String::from_utf8_lossy(&self.body));
            self.wrong(format!("want another JSON ({error}), got {got}"))
        })
    }

    /// The content is what it has to be, or else `what` is said.
    pub(super) fn check(&self, holds: bool, what: impl FnOnce() -> String) -> Result<(), Trouble> {
        if holds { Ok(()) } else { Err(self.wrong(what())) }
    }

    fn wrong(&self, what: String) -> Trouble {
        Trouble { asked: self.asked.clone(), what: format!("{}: {what}", self.status) }
    }
}

fn one_of(statuses: &[u16]) -> String {
    let all: Vec<String> = statuses.iter().map(u16::to_string).collect();
    all.join(" or ")
}

/// What an error says: the text and code of a server's own, or else the body as it is.
pub(super) fn message(body: &[u8]) -> String {
    let error: Value = serde_json::from_slice(body).unwrap_or_default();
    let text = match (error["error"].as_str(), error["code"].as_str(), error["reason"].as_str()) {
        (Some(text), Some(code), Some(reason)) => format!("{text} ({code}): {reason}"),
        (Some(text), Some(code), None) => format!("{text} ({code})"),
        _ if body.is_empty() => "an empty body".to_owned(),
        _ => String::from_utf8_lossy(body).into_owned(),
    };
    shortened(&text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(status: u16, body: &str) -> Said {
        Said { asked: "GET /x".into(), status, body: Bytes::copy_from_slice(body.as_bytes()) }
    }

    fn refused(status: u16, body: &str) -> String {
        said(status, body).expect(&[202, 404]).err().unwrap().to_string()
    }

    #[test]
    fn a_wrong_status_is_told_with_what_the_server_said() {
        let full = r#"{"error":"disk almost full","code":"disk_full","reason":"3 % are free"}"#;
        assert_eq!(refused(507, full), "GET /x: want 202 or 404, got 507: disk almost full (disk_full): 3 % are free");
        assert_eq!(refused(502, "<html>\n bad"), "GET /x: want 202 or 404, got 502: <html> bad");
        assert_eq!(refused(200, ""), "GET /x: want 202 or 404, got 200: an empty body");
        assert!(said(404, "").expect(&[202, 404]).is_ok());
    }

    #[test]
    fn another_shape_is_told_with_the_body() {
        let why = said(200, r#"{"keys":"x"}"#).json::<Ack>().err().unwrap().to_string();
        assert!(why.starts_with("GET /x: 200: want another JSON (missing field `key`"), "{why}");
        assert!(why.ends_with(r#"got {"keys":"x"}"#), "{why}");
    }
}
