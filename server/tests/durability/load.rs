//! Writers that remember what was acknowledged, and the check that the store holds exactly that.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use serde_json::{Value, json};
use testing::http::{Answer, Connection, Request, encode};
use testing::{BACKEND_KEY, Random, Server, THREADS, message, messages, thread};

/// Everyone who writes is this user: all write to the same threads.
const USER: &str = "writer";

/// One write as it was sent. It can be sent again, word for word.
#[derive(Clone)]
struct Write {
    method: &'static str,
    target: String,
    body: Value,
    idempotency_key: String,
    effect: Effect,
}

/// What the store must hold once the write is acknowledged.
#[derive(Clone)]
enum Effect {
    CreateThread { title: String },
    RenameThread { thread: String, title: String },
    Append { thread: String, text: String },
    Edit { thread: String, message: String, text: String },
    Delete { thread: String, message: String },
    DeleteThread { thread: String },
}

impl Write {
    fn request(&self) -> Request {
        let request = Request::new(self.method, &self.target).key(BACKEND_KEY).header("X-User-ID", USER);
        request.header("Idempotency-Key", &self.idempotency_key).json(&self.body)
    }
}

/// What the writers know: the acknowledged state of every thread and message that they touched.
#[derive(Default)]
pub(crate) struct Book {
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
    pub(crate) fn absorb(&mut self, other: Self) {
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
    pub(crate) fn open_writes(&self) -> usize {
        self.open.len()
    }

    /// Acknowledged appends.
    pub(crate) fn appends(&self) -> usize {
        self.messages.len()
    }

    /// Sends again what got no answer, and some of what did: each must be there once.
    pub(crate) fn settle(&mut self, server: &Server) {
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
    pub(crate) fn check(&self, server: &Server) {
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
    pub(crate) fn counts(&self) -> (usize, usize) {
        (self.live_threads().count(), self.messages.len())
    }

    /// Keys of the threads that were not deleted, oldest first.
    pub(crate) fn live_threads(&self) -> impl Iterator<Item = &String> {
        self.threads.iter().filter(|(_, title)| title.is_some()).map(|(key, _)| key)
    }
}

fn differences(want: &[(String, String)], found: &[(String, String)]) -> String {
    let missing: Vec<_> = want.iter().filter(|item| !found.contains(item)).collect();
    let extra: Vec<_> = found.iter().filter(|item| !want.contains(item)).collect();
    format!("{} wanted, {} found; missing {missing:?}; extra {extra:?}", want.len(), found.len())
}

/// Every thread in the writers' list, oldest first, checked against the total that it names.
pub(crate) fn listed_threads(server: &Server, query: &str) -> Vec<String> {
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

/// Counters and the switch that writers and their controller share.
#[derive(Default)]
pub(crate) struct Control {
    pub(crate) acknowledged: AtomicUsize,
    pub(crate) stop: AtomicBool,
}

/// Creates the threads that the writers of one run share; the first is the hot one.
pub(crate) fn shared_threads(server: &Server, book: &mut Book, run: &str, count: usize) -> Vec<String> {
    let user = server.user(USER);
    let titles = (0..count).map(|n| format!("{run} shared {n}"));
    let created: Vec<(String, String)> = titles.map(|title| (user.create_thread(&title), title)).collect();
    book.threads.extend(created.iter().map(|(key, title)| (key.clone(), Some(title.clone()))));
    created.into_iter().map(|(key, _)| key).collect()
}

/// Writes until the connection breaks or `control.stop`; returns what it knows.
pub(crate) fn write_until_stopped(
    addr: SocketAddr,
    name: &str,
    shared: &[String],
    mut random: Random,
    control: &Control,
) -> Book {
    let mut book = Book::default();
    let Ok(mut connection) = Connection::open(addr) else { return book };
    for number in 0.. {
        if control.stop.load(Ordering::Relaxed) {
            break;
        }
        let write = next_write(&book, &format!("{name}-{number}"), shared, &mut random);
        match connection.send(&write.request()) {
            Ok(answer) if answer.status == 202 => {
                let key = answer.written();
                book.apply(&write, &key);
                control.acknowledged.fetch_add(1, Ordering::Relaxed);
                if random.below(100) == 0 {
                    book.samples.push((write, key));
                }
            }
            // A server about to stop may refuse; what it refused must not be there, unless it is sent again.
            Ok(answer) if answer.status == 503 => break,
            Ok(answer) => panic!("{name}: {answer}"),
            Err(_) => {
                book.open.push(write);
                break;
            }
        }
    }
    book
}

fn next_write(book: &Book, id: &str, shared: &[String], random: &mut Random) -> Write {
    let own_message = |random: &mut Random| {
        let live =
            |(thread, text): &(String, Option<String>)| text.is_some() && book.threads.get(thread) != Some(&None);
        let live: Vec<_> = book.messages.iter().filter(|(_, message)| live(message)).rev().take(10).collect();
        (!live.is_empty())
            .then(|| live[random.below(live.len())])
            .map(|(key, (thread, _))| (key.clone(), thread.clone()))
    };
    let own_thread = |random: &mut Random| {
        let own: Vec<_> =
            book.threads.iter().filter(|(_, title)| title.is_some()).map(|(t, _)| t).rev().take(10).collect();
        (!own.is_empty()).then(|| own[random.below(own.len())].clone())
    };
    let text = format!("{id} {}", "x".repeat(random.below(400)));
    let body = |text: &str| json!({ "body": { "id": text } });
    let (method, target, body, effect) = match (random.below(40), own_message(random), own_thread(random)) {
        (0 | 1, ..) => ("POST", THREADS.to_owned(), json!({ "title": text }), Effect::CreateThread { title: text }),
        (2, _, Some(t)) => ("DELETE", thread(&t), json!({}), Effect::DeleteThread { thread: t }),
        (3 | 4, _, Some(t)) => {
            ("PUT", thread(&t), json!({ "title": text }), Effect::RenameThread { thread: t, title: text })
        }
        (5..=8, Some((m, t)), _) => ("PUT", message(&t, &m), body(&text), Effect::Edit { thread: t, message: m, text }),
        (9 | 10, Some((m, t)), _) => ("DELETE", message(&t, &m), json!({}), Effect::Delete { thread: t, message: m }),
        (11..=14, _, Some(t)) => ("POST", messages(&t), body(&text), Effect::Append { thread: t, text }),
        (15..=26, ..) => {
            let t = shared[0].clone();
            ("POST", messages(&t), body(&text), Effect::Append { thread: t, text })
        }
        _ => {
            let t = shared[random.below(shared.len())].clone();
            ("POST", messages(&t), body(&text), Effect::Append { thread: t, text })
        }
    };
    Write { method, target, body, idempotency_key: id.to_owned(), effect }
}

/// Starts `writers` writers, lets `control` decide, and returns all they know together.
pub(crate) fn run(
    server: &Server,
    name: &str,
    writers: usize,
    shared: &[String],
    random: &mut Random,
    during: impl FnOnce(&Control),
) -> Book {
    let control = Control::default();
    let addr = server.addr;
    std::thread::scope(|scope| {
        let handles: Vec<_> = (0..writers)
            .map(|n| (format!("{name}-w{n}"), random.fork()))
            .map(|(name, random)| {
                let control = &control;
                scope.spawn(move || write_until_stopped(addr, &name, shared, random, control))
            })
            .collect();
        during(&control);
        let mut all = Book::default();
        for handle in handles {
            all.absorb(handle.join().unwrap());
        }
        all
    })
}
