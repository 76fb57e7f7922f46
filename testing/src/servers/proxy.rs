//! A proxy that passes requests through, records them, and injects faults that the server cannot be made to show.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
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
    fault: Fault,
}

#[derive(Clone)]
enum Fault {
    /// Answers so.
    Reply(Reply),
    /// Passes it on, and alters what the server answers.
    Alter(Arc<dyn Fn(Reply) -> Reply + Send + Sync>),
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
    server: SocketAddr,
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
        let listener = listen(Ipv4Addr::LOCALHOST.into(), server, authority, &state);
        Self { addr: listener.addr, server, state, _listener: listener }
    }

    /// Listens at another address of this machine as well, without TLS, until the listener is dropped.
    pub fn listen_at(&self, address: IpAddr) -> Listener {
        listen(address, self.server, None, &self.state)
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

    /// Answers the next `times` of those requests so.
    pub fn times_when(&self, times: usize, applies: impl Fn(&Call) -> bool + Send + 'static, reply: Reply) {
        self.add(Some(times), Box::new(applies), reply);
    }

    /// Passes those requests on, the next `times` of them if so many are given, and alters what the server answers.
    pub fn alter(
        &self,
        times: Option<usize>,
        applies: impl Fn(&Call) -> bool + Send + 'static,
        alter: impl Fn(Reply) -> Reply + Send + Sync + 'static,
    ) {
        let (applies, fault) = (Box::new(applies), Fault::Alter(Arc::new(alter)));
        self.state.lock().unwrap().rules.push(Rule { left: times, applies, fault });
    }

    fn add(&self, left: Option<usize>, applies: Applies, reply: Reply) {
        self.state.lock().unwrap().rules.push(Rule { left, applies, fault: Fault::Reply(reply) });
    }

    /// Passes everything through again.
    pub fn clear(&self) {
        self.state.lock().unwrap().rules.clear();
    }

    /// The requests so far, including those answered with a fault.
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

fn listen(address: IpAddr, server: SocketAddr, authority: Option<&Authority>, state: &Arc<Mutex<State>>) -> Listener {
    let tls = authority.map(|authority| Arc::clone(&authority.server));
    let state = Arc::clone(state);
    Listener::start_at(address, tls, move |call| {
        let fault = notice(&mut state.lock().unwrap(), &call);
        match fault {
            None => pass(server, &call),
            Some(Fault::Reply(reply)) => reply,
            Some(Fault::Alter(alter)) => alter(pass(server, &call)),
        }
    })
}

/// Records a call and returns the fault for it, if any.
fn notice(state: &mut State, call: &Call) -> Option<Fault> {
    state.calls.push(call.clone());
    let rule = state.rules.iter_mut().rev().find(|rule| rule.left != Some(0) && (rule.applies)(call))?;
    rule.left = rule.left.map(|left| left - 1);
    Some(rule.fault.clone())
}

/// Passes a request on; when the server cannot be reached, the connection is cut.
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
