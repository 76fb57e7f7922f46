//! Objects by their names, from the API server through one `kubectl proxy`: a test asks many times, and a `kubectl` for
//! each question would keep a core busy.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::sync::{OnceLock, mpsc};

use serde_json::Value;

use crate::wait_for;
use testing::http::{Connection, Request};

/// What the API server has at a path; `None` if there is nothing, and an error if it does not say.
pub(crate) fn get(path: &str) -> Result<Option<Value>, String> {
    let mut connection = Connection::open(proxy()).map_err(|error| error.to_string())?;
    let answer = connection.send(&Request::get(path)).map_err(|error| error.to_string())?;
    match answer.status {
        200 => Ok(Some(serde_json::from_slice(&answer.body).map_err(|error| error.to_string())?)),
        404 => Ok(None),
        500.. => Err(answer.to_string()),
        _ => panic!("{path}: {answer}"),
    }
}

/// The object at a path, as soon as the API server says whether there is one.
#[track_caller]
pub(crate) fn find(path: &str) -> Option<Value> {
    wait_for("the API server answers", || get(path).ok())
}

/// Where the API has the objects of a kind, as kubectl names it.
pub(crate) fn path(namespace: &str, kind: &str) -> String {
    let (group, plural) = match kind {
        "pod" => ("api/v1", "pods"),
        "service" => ("api/v1", "services"),
        "secret" => ("api/v1", "secrets"),
        "configmap" => ("api/v1", "configmaps"),
        "serviceaccount" => ("api/v1", "serviceaccounts"),
        "persistentvolumeclaim" => ("api/v1", "persistentvolumeclaims"),
        "statefulset" => ("apis/apps/v1", "statefulsets"),
        "job" => ("apis/batch/v1", "jobs"),
        "networkpolicy" => ("apis/networking.k8s.io/v1", "networkpolicies"),
        "volumesnapshot" => ("apis/snapshot.storage.k8s.io/v1", "volumesnapshots"),
        "progressdb" => ("apis/progressdb.io/v1alpha1", "progressdbs"),
        other => panic!("where does the API have a {other}?"),
    };
    format!("/{group}/namespaces/{namespace}/{plural}")
}

/// The proxy of this process. It ends with the thread that started it, and that with the process.
fn proxy() -> SocketAddr {
    static PROXY: OnceLock<SocketAddr> = OnceLock::new();
    *PROXY.get_or_init(|| {
        let (said, address) = mpsc::channel();
        std::thread::spawn(move || {
            let mut command = Command::new("setpriv");
            command.args(["--pdeathsig", "TERM", "kubectl", "proxy", "--port=0", "--accept-hosts=^test$"]);
            command.stdout(Stdio::piped());
            let mut child = command.spawn().expect("setpriv and kubectl are there");
            let mut line = String::new();
            let _ = BufReader::new(child.stdout.take().unwrap()).read_line(&mut line);
            let _ = said.send(line);
            let _ = child.wait();
        });
        let line = address.recv().unwrap();
        line.split_whitespace().find_map(|word| word.parse().ok()).unwrap_or_else(|| panic!("kubectl proxy: {line}"))
    })
}
