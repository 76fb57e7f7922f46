//! What writers know, and the check that the store holds exactly that.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::USER;
use super::write::{Effect, Write};
use crate::http::{Answer, Request, encode};
use crate::{BACKEND_KEY, Random, Server, THREADS, messages, thread};

/// What the writers know: the acknowledged state of every thread and message that they touched.
#[derive(Default)]
pub struct Book {
    /// Thread to title; `None` once deleted.
    threads: BTreeMap<String, Option<String>>,
    /// Message to thread and text; `None` once deleted.
    messages: BTreeMap<String, (String, Option<String>)>,
    /// Sent, and the connection broke before the answer.
    open: Vec<Write>,
    /// A few acknowledged ones with their keys, to be sent again.
    samples: Vec<(Write, String)>,
}

impl Book {
    /// A write was acknowledged with this key; `sampled` if it is to be sent again at the end.
    pub(super) fn acknowledged(&mut self, write: Write, key: String, sampled: bool) {
        self.apply(&write, &key);
        if sampled {
            self.samples.push((write, key));
        }
    }

    /// The fate of a write is not known.
    pub(super) fn unanswered(&mut self, write: Write) {
        self.open.push(write);
    }

    /// A thread was created with this key, which is returned.
    pub(super) fn created(&mut self, key: String, title: String) -> String {
        self.threads.insert(key.clone(), Some(title));
        key
    }

    /// One of its newest messages that live, after its thread.
    pub(super) fn some_message(&self, random: &mut Random) -> Option<(String, String)> {
        let live =
            |(thread, text): &(String, Option<String>)| text.is_some() && self.threads.get(thread) != Some(&None);
        let live: Vec<_> = self.messages.iter().filter(|(_, message)| live(message)).rev().take(10).collect();
        let (key, (thread, _)) = (!live.is_empty()).then(|| live[random.below(live.len())])?;
        Some((thread.clone(), key.clone()))
    }

    /// One of its newest threads that live.
    pub(super) fn some_thread(&self, random: &mut Random) -> Option<String> {
        let live: Vec<_> = self.live_threads().collect();
        let newest = &live[live.len().saturating_sub(10)..];
        (!newest.is_empty()).then(|| newest[random.below(newest.len())].clone())
    }

    fn apply(&mut self, write: &Write, key: &str) {
        match &write.effect {
            Effect::CreateThread { title } => {
                let before = self.threads.insert(key.to_owned(), Some(title.clone()));
                assert_eq!(before, None, "{key} was given out twice");
            }
            Effect::RenameThread { thread, title } => {
                self.threads.insert(thread.clone(), Some(title.clone()));
            }
            Effect::DeleteThread { thread } => {
                self.threads.insert(thread.clone(), None);
            }
            Effect::Append { thread, text } => {
                let before = self.messages.insert(key.to_owned(), (thread.clone(), Some(text.clone())));
                assert!(before.is_none(), "{key} was given out twice");
            }
            Effect::Edit { thread, message, text } => {
                self.messages.insert(message.clone(), (thread.clone(), Some(text.clone())));
            }
            Effect::Delete { thread, message } => {
                self.messages.insert(message.clone(), (thread.clone(), None));
            }
        }
    }

    /// Takes over what another book knows; no message may be in both.
    pub fn absorb(&mut self, other: Self) {
        for (key, title) in other.threads {
            self.threads.insert(key, title);
        }
        for (key, entry) in other.messages {
            assert!(self.messages.insert(key.clone(), entry).is_none(), "{key} was given out twice");
        }
        self.open.extend(other.open);
        self.samples.extend(other.samples);
    }

    /// Writes whose fate is not known.
    pub fn open_writes(&self) -> usize {
        self.open.len()
    }

    /// Acknowledged appends.
    pub fn appends(&self) -> usize {
        self.messages.len()
    }

    /// Sends again what got no answer, and some of what did: each must be there once.
    pub fn settle(&mut self, server: &Server) {
        for (write, key) in std::mem::take(&mut self.samples) {
            let answer = server.send(&write.request());
            assert_eq!(answer.written(), key);
            assert_eq!(answer.header("idempotency-replayed"), Some("true"), "{answer}");
        }
        for write in std::mem::take(&mut self.open) {
            let key = server.send(&write.request()).written();
            assert_eq!(server.send(&write.request()).written(), key);
            self.apply(&write, &key);
        }
    }

    /// The store holds exactly what was acknowledged, in key order, with dense sequence numbers.
    pub fn check(&self, server: &Server) {
        for (t, title) in &self.threads {
            let Some(title) = title else {
                get(server, &thread(t)).check_error(404, "thread not found");
                continue;
            };
            let found = get(server, &thread(t)).check_status(200).json();
            assert_eq!(found["thread"]["title"], json!(title), "{t}");
            self.check_messages(server, t);
        }
    }

    fn check_messages(&self, server: &Server, t: &str) {
        let of_thread = || self.messages.iter().filter(|(_, (thread, _))| thread == t);
        let want: Vec<(String, String)> =
            of_thread().filter_map(|(key, (_, text))| Some((key.clone(), text.clone()?))).collect();
        let mut found = Vec::new();
        let mut target = format!("{}?limit=1000&after={t}:m:0", messages(t));
        loop {
            let page = get(server, &target).check_status(200).json();
            for item in page["messages"].as_array().unwrap() {
                let text = |field: &Value| field.as_str().unwrap().to_owned();
                found.push((text(&item["key"]), text(&item["body"]["id"])));
            }
            assert_eq!(page["pagination"]["total"], json!(want.len()), "{t}: {}", differences(&want, &found));
            if page["pagination"]["has_after"] != json!(true) {
                break;
            }
            target =
                format!("{}?limit=1000&after={}", messages(t), page["pagination"]["after_anchor"].as_str().unwrap());
        }
        assert!(found == want, "{t}: {}", differences(&want, &found));

        let sequences: Vec<usize> =
            of_thread().map(|(key, _)| key.rsplit(':').next().unwrap().parse().unwrap()).collect();
        assert!(sequences.iter().copied().eq(0..sequences.len()), "{t}: sequences are not dense: {sequences:?}");
        let target = format!("/admin/users/{USER}/threads/{}/messages?limit=1", encode(t));
        let ever = server.admin(&target).check_status(200).json();
        assert_eq!(ever["pagination"]["total"], json!(sequences.len()), "{t}: messages ever, deleted ones included");
    }

    /// What `/admin/stats` must add up to: live threads, messages ever.
    pub fn counts(&self) -> (usize, usize) {
        (self.live_threads().count(), self.messages.len())
    }

    /// Keys of the threads that were not deleted, oldest first.
    pub fn live_threads(&self) -> impl DoubleEndedIterator<Item = &String> {
        self.threads.iter().filter(|(_, title)| title.is_some()).map(|(key, _)| key)
    }
}

fn differences(want: &[(String, String)], found: &[(String, String)]) -> String {
    let missing: Vec<_> = want.iter().filter(|item| !found.contains(item)).collect();
    let extra: Vec<_> = found.iter().filter(|item| !want.contains(item)).collect();
    format!("{} wanted, {} found; missing {missing:?}; extra {extra:?}", want.len(), found.len())
}

/// Every thread in the writers' list, oldest first, checked against the total that it names.
pub fn listed_threads(server: &Server, query: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut target = format!("{THREADS}?limit=1000&{query}");
    loop {
        let page = get(server, &target);
        found.extend(page.check_status(200).keys("threads"));
        let pagination = &page.json()["pagination"];
        if pagination["has_after"] != json!(true) {
            assert_eq!(pagination["total"], json!(found.len()), "{query}");
            found.reverse();
            return found;
        }
        target = format!("{THREADS}?limit=1000&{query}&after={}", pagination["after_anchor"].as_str().unwrap());
    }
}

fn get(server: &Server, target: &str) -> Answer {
    server.send(&Request::get(target).key(BACKEND_KEY).header("X-User-ID", USER))
}
