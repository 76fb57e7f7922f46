//! A proxy that passes requests through, keeps what it saw, and commits the faults that a server cannot be made to.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use serde_json::json;

use super::listen::{Call, Listener, Reply};
use super::tls::Authority;
use crate::http::Connection;

type Applies = Box<dyn Fn(&Call) -> bool + Send>;

struct Rule {
    /// How often it still applies; `None` is for ever.
    left: Option<usize>,
    applies: Applies,
    reply: Reply,
}

#[derive(Default)]
struct State {
    rules: Vec<Rule>,
    calls: Vec<Call>,
}

/// A proxy in front of one server. Of several faults that apply, the one given last wins.
pub struct Proxy {
    /// Where it listens.
    pub addr: SocketAddr,
    state: Arc<Mutex<State>>,
    _listener: Listener,
}

impl Proxy {
    /// In front of this server.
    pub fn before(server: SocketAddr) -> Self {
        Self::start(server, None)
    }

    /// With TLS towards the client.
    pub fn with_tls(server: SocketAddr, authority: &Authority) -> Self {
        Self::start(server, Some(authority))
    }

    fn start(server: SocketAddr, authority: Option<&Authority>) -> Self {
        let state = Arc::new(Mutex::new(State::default()));
        let mine = Arc::clone(&state);
        let tls = authority.map(|authority| Arc::clone(&authority.server));
        let listener = Listener::start(tls, move |call| {
            let fault = notice(&mut mine.lock().unwrap(), &call);
            fault.unwrap_or_else(|| pass(server, &call))
        });
        Self { addr: listener.addr, state, _listener: listener }
    }

    /// Its address as a URL without TLS.
    pub fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// Answers every request so.
    pub fn always(&self, reply: Reply) {
        self.add(None, Box::new(|_| true), reply);
    }

    /// Answers the next `times` requests so.
    pub fn times(&self, times: usize, reply: Reply) {
        self.add(Some(times), Box::new(|_| true), reply);
    }

    /// Answers those requests so.
    pub fn when(&self, applies: impl Fn(&Call) -> bool + Send + 'static, reply: Reply) {
        self.add(None, Box::new(applies), reply);
    }

    fn add(&self, left: Option<usize>, applies: Applies, reply: Reply) {
        self.state.lock().unwrap().rules.push(Rule { left, applies, reply });
    }

    /// Passes everything through again.
    pub fn clear(&self) {
        self.state.lock().unwrap().rules.clear();
    }

    /// What arrived so far, also what was answered with a fault.
    pub fn calls(&self) -> Vec<Call> {
        self.state.lock().unwrap().calls.clone()
    }

    /// How many requests arrived so far.
    pub fn count(&self) -> usize {
        self.state.lock().unwrap().calls.len()
    }

    /// How often a target that ends so was asked for.
    pub fn count_of(&self, target: &str) -> usize {
        self.calls().iter().filter(|call| call.target.ends_with(target)).count()
    }
}

/// Keeps the call; the fault for it, if any.
fn notice(state: &mut State, call: &Call) -> Option<Reply> {
    state.calls.push(call.clone());
    let rule = state.rules.iter_mut().rev().find(|rule| rule.left != Some(0) && (rule.applies)(call))?;
    rule.left = rule.left.map(|left| left - 1);
    Some(rule.reply.clone())
}

/// Asks the server. One that cannot be reached cuts the connection here too.
pub fn pass(server: SocketAddr, call: &Call) -> Reply {
    let answer = Connection::open(server).and_then(|mut connection| {
        connection.write(&call.bytes())?;
        connection.read_answer(call.method == "HEAD")
    });
    let Ok(answer) = answer else { return Reply::Cut };
    let ours = |name: &str| ["connection", "content-length", "transfer-encoding"].contains(&name);
    let headers = answer.headers.into_iter().filter(|(name, _)| !ours(name)).collect();
    Reply::Answer { status: answer.status, headers, body: answer.body }
}

/// An error as AWS KMS answers it.
pub fn aws_error(status: u16, code: &str, message: &str) -> Reply {
    Reply::json(status, &json!({ "__type": code, "message": message }))
        .header("x-amzn-errortype", code)
        .header("x-amzn-requestid", "00000000-0000-4000-8000-000000000000")
}

/// An error as Vault answers it.
pub fn vault_error(status: u16, message: &str) -> Reply {
    Reply::json(status, &json!({ "errors": [message] }))
}
