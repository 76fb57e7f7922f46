//! The listeners of a server: the API, and health and metrics on an address of their own where one is configured.

use std::net::SocketAddr;

use axum::Router;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::StartupError;
use super::open_files::OpenFiles;
use crate::config::Config;
use crate::http::listen::{self, Drained};
use crate::http::{self, App, Around};

/// Listeners that serve, until they are drained.
pub(super) struct Listeners {
    /// Where the API listens; the system chose the port if the configuration did not.
    pub(super) address: SocketAddr,
    serving: Vec<JoinHandle<Drained>>,
    stop: watch::Sender<bool>,
}

impl Listeners {
    /// Binds the addresses and serves on them.
    pub(super) fn start(
        app: &App,
        around: Around,
        config: &Config,
        open_files: &OpenFiles,
    ) -> Result<Self, StartupError> {
        let (stop, stopping) = watch::channel(false);
        let main = config.listener("main", open_files.connections);
        let (main, address) = listen_on(config.listen, around(http::router(app.clone())), main, &stopping)?;
        let mut serving = vec![main];
        if let Some(address) = config.management {
            let management = config.listener("management", open_files.management);
            let router = around(http::management_router(app.clone()));
            serving.push(listen_on(address, router, management, &stopping)?.0);
        }
        Ok(Self { address, serving, stop })
    }

    /// Takes no more connections, and waits until requests in flight are answered or their time is over.
    pub(super) async fn drain(self) {
        self.stop.send_replace(true);
        for listener in self.serving {
            if let Ok(Drained { aborted: aborted @ 1.. }) = listener.await {
                tracing::warn!(event = "server.connections_aborted", aborted, "drain.timeout was over");
            }
        }
    }
}

fn listen_on(
    address: SocketAddr,
    router: Router,
    settings: listen::Settings,
    stopping: &watch::Receiver<bool>,
) -> Result<(JoinHandle<Drained>, SocketAddr), StartupError> {
    let failed = |error| StartupError::io(format!("cannot listen on {address}: choose another with --addr"), error);
    let listener = listen::bind(address).map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    tracing::info!(event = "server.listening", listener = settings.name, addr = %address);
    let serving = listen::serve(listener, router, settings, stopping.clone());
    Ok((tokio::spawn(serving), address))
}
