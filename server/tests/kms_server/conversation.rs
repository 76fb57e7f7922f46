//! What one user writes, reads and was told is kept.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use testing::{Server, Setup, THREADS, User, message, messages, thread};

use crate::{CANARY, check_kms_unavailable};

/// A thread and what its user knows of it.
pub(crate) struct Conversation {
    user: User,
    thread: String,
    /// Bodies of acknowledged messages by their keys.
    kept: BTreeMap<String, Value>,
    /// The message that is edited.
    first: String,
    writes: usize,
}

impl Conversation {
    /// A new thread with one message.
    #[track_caller]
    pub(crate) fn begin(server: &Server) -> Self {
        let user = server.user("ann");
        let thread = user.create_thread(CANARY);
        let mut conversation = Self { user, thread, kept: BTreeMap::new(), first: String::new(), writes: 0 };
        conversation.first = conversation.append();
        conversation
    }

    /// Goes on with another server on the same directory.
    pub(crate) fn go_on(&mut self, server: &Server) {
        self.user = server.user(&self.user.id);
    }

    /// A server on this directory serves what was acknowledged.
    #[track_caller]
    pub(crate) fn check_in(&mut self, setup: &Setup) {
        let server = setup.start();
        self.go_on(&server);
        self.check_kept();
        server.stop().check_code(0);
    }

    fn next_body(&mut self) -> Value {
        self.writes += 1;
        json!(format!("{CANARY} {}", self.writes))
    }

    /// One message more.
    #[track_caller]
    pub(crate) fn append(&mut self) -> String {
        let body = self.next_body();
        let key = self.user.append(&self.thread, body.clone());
        self.kept.insert(key.clone(), body);
        key
    }

    /// Edits a message; false if that is refused because the KMS is gone.
    #[track_caller]
    pub(crate) fn try_write(&mut self) -> bool {
        let body = self.next_body();
        let answer = self.user.put(&message(&self.thread, &self.first), &json!({ "body": body }));
        if answer.status != 202 {
            check_kms_unavailable(&answer);
            return false;
        }
        self.kept.insert(self.first.clone(), body);
        true
    }

    /// Every kind of write is refused because the KMS is gone.
    #[track_caller]
    pub(crate) fn check_writes_nothing(&mut self) {
        assert!(!self.try_write(), "an edit was accepted");
        let body = json!({ "title": CANARY, "body": CANARY });
        check_kms_unavailable(&self.user.post(THREADS, &body));
        check_kms_unavailable(&self.user.post(&messages(&self.thread), &body));
        check_kms_unavailable(&self.user.put(&thread(&self.thread), &body));
        check_kms_unavailable(&self.user.delete(&message(&self.thread, &self.first)));
        // Nor does somebody who is new here get a key.
        let mut newcomer = self.user.clone();
        newcomer.id.push_str("-new");
        check_kms_unavailable(&newcomer.post(THREADS, &body));
    }

    /// Reads the messages; false if that is refused because the KMS is gone.
    #[track_caller]
    pub(crate) fn try_read(&self) -> bool {
        let answer = self.user.get(&messages(&self.thread));
        if answer.status != 200 {
            check_kms_unavailable(&answer);
        }
        answer.status == 200
    }

    /// Every kind of read is refused because the KMS is gone.
    #[track_caller]
    pub(crate) fn check_reads_nothing(&self) {
        let targets = [THREADS, &thread(&self.thread), &messages(&self.thread), &message(&self.thread, &self.first)];
        for target in targets {
            check_kms_unavailable(&self.user.get(target));
        }
    }

    /// What was acknowledged is there, and nothing that was not.
    #[track_caller]
    pub(crate) fn check_kept(&self) {
        let title = &self.user.get(&thread(&self.thread)).check_status(200).json()["thread"]["title"];
        assert_eq!(title, &json!(CANARY));
        assert_eq!(self.user.thread_keys("limit=100"), [self.thread.as_str()]);
        let page = self.user.get(&format!("{}?limit=100", messages(&self.thread))).check_status(200).json();
        let listed = page["messages"].as_array().unwrap().iter();
        let listed = listed.map(|message| (message["key"].as_str().unwrap().to_owned(), message["body"].clone()));
        assert_eq!(listed.collect::<BTreeMap<_, _>>(), self.kept);
    }
}
