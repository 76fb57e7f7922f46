//! A way to a Service from where its address is not reached: a port of this machine, and for every connection to it a
//! port-forward of its own through the API server.
//!
//! A connection ends with the pod that it goes to, and the next one goes to the pod that the Service has then. Where
//! none is ready, the caller is told so as by a gateway, with 502, and is to try again.

use std::net::SocketAddr;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::Api;
use kube::api::{ListParams, Portforwarder};
use tokio::io::{AsyncWriteExt as _, copy, copy_bidirectional, sink};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::Database;
use crate::cluster::{RUNTIME, TO_ANSWER, client};

/// Listens until it is dropped.
pub(crate) struct Forward {
    address: SocketAddr,
    listening: JoinHandle<()>,
}

struct Service {
    namespace: String,
    name: String,
}

impl Forward {
    /// A way to the Service of a database.
    pub(crate) fn to(database: &Database<'_>) -> Self {
        let service = Service { namespace: database.namespace.name.to_string(), name: database.name.clone() };
        let listener = RUNTIME.block_on(TcpListener::bind(("127.0.0.1", 0))).unwrap();
        let address = listener.local_addr().unwrap();
        Self { address, listening: RUNTIME.spawn(listen(listener, Arc::new(service))) }
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Forward {
    fn drop(&mut self) {
        self.listening.abort();
    }
}

async fn listen(listener: TcpListener, service: Arc<Service>) {
    while let Ok((connection, _)) = listener.accept().await {
        let service = Arc::clone(&service);
        tokio::spawn(async move {
            match timeout(TO_ANSWER, service.open()).await {
                Ok(Ok((way, port))) => carry(connection, way, port).await,
                Ok(Err(why)) => refuse(connection, &why).await,
                Err(_) => refuse(connection, "the API server does not answer").await,
            }
        });
    }
}

impl Service {
    /// Opens a way to a pod that the Service sends its callers to now, and the port there.
    async fn open(&self) -> Result<(Portforwarder, u16), String> {
        let slices: Api<EndpointSlice> = Api::namespaced(client(), &self.namespace);
        let of_service = ListParams::default().labels(&format!("kubernetes.io/service-name={}", self.name));
        let found = slices.list(&of_service).await.map_err(|error| error.to_string())?;
        let (pod, port) = found.iter().find_map(ready_pod).ok_or("no pod of the Service is ready")?;
        let pods: Api<Pod> = Api::namespaced(client(), &self.namespace);
        let way = pods.portforward(&pod, &[port]).await.map_err(|error| error.to_string())?;
        Ok((way, port))
    }
}

fn ready_pod(slice: &EndpointSlice) -> Option<(String, u16)> {
    let is_ready = |ready: Option<bool>| ready.unwrap_or(true);
    let ready = slice
        .endpoints
        .iter()
        .find(|endpoint| endpoint.conditions.as_ref().is_none_or(|conditions| is_ready(conditions.ready)))?;
    let port = slice.ports.as_ref()?.first()?.port?;
    Some((ready.target_ref.as_ref()?.name.clone()?, u16::try_from(port).ok()?))
}

/// Carries bytes both ways until either side ends, or the pod's port is found dead.
async fn carry(mut connection: TcpStream, mut way: Portforwarder, port: u16) {
    let mut stream = way.take_stream(port).expect("the port was asked for");
    let dead = way.take_error(port).expect("the port was asked for");
    tokio::select! {
        _ = copy_bidirectional(&mut connection, &mut stream) => {}
        Some(_) = dead => {}
    }
    way.abort();
}

/// Answers whatever is asked with 502 and why.
async fn refuse(mut connection: TcpStream, why: &str) {
    let head = format!("HTTP/1.1 502 Bad Gateway\r\nConnection: close\r\nContent-Length: {}\r\n\r\n", why.len());
    let _ = connection.write_all(format!("{head}{why}").as_bytes()).await;
    let _ = connection.shutdown().await;
    // What is closed with something unread is reset, and then the answer may be lost.
    let _ = timeout(TO_ANSWER, copy(&mut connection, &mut sink())).await;
}
