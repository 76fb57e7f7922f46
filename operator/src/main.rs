//! Reads the command line, connects, leads and works until a signal. Called `kubectl-progressdb` it is the plugin.

use std::{path::Path, process::ExitCode, sync::Arc, time::Duration};

use anyhow::Context as _;
use clap::Parser;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::{Api, Client, ResourceExt};
use progressdb_operator::{
    args::{Args, PLUGIN, PluginArgs},
    clock::Clock,
    controller::{self, Context},
    crd,
    error::chain,
    gates::Gates,
    lease::{Candidate, Leadership},
    observe::{Cache, Installation, Probe},
    plugin, probe, telemetry,
};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::watch,
};

/// The CRD that must be there.
const CRD: &str = "progressdbs.progressdb.io";

fn main() -> ExitCode {
    let called = std::env::args_os().next().unwrap_or_default();
    let is_plugin = Path::new(&called).file_stem().is_some_and(|name| name == PLUGIN);
    // One thread is enough for what waits mostly, and takes less memory than several.
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&error.into()),
    };
    let result = if is_plugin {
        runtime.block_on(plugin::run(PluginArgs::parse())).map(ExitCode::from)
    } else {
        runtime.block_on(operate(Args::parse())).map(|()| ExitCode::SUCCESS)
    };
    // No reconcile is waited for: the next process repeats it.
    runtime.shutdown_background();
    result.unwrap_or_else(|error| fail(&error))
}

fn fail(error: &anyhow::Error) -> ExitCode {
    eprintln!("error: {error:#}");
    ExitCode::FAILURE
}

async fn operate(args: Args) -> anyhow::Result<()> {
    if let Some(address) = &args.probe {
        return print_readiness(address).await;
    }
    telemetry::install_logs(&args.log_level, args.log_format);
    telemetry::install_metrics();
    let client = Client::try_default().await.context("connecting to the API server")?;
    let (unready, readiness) = watch::channel(Some("starting".to_owned()));
    let (stopping, stop) = watch::channel(false);
    tokio::spawn(stop_on_signal(stopping));
    tokio::select! {
        served = telemetry::serve(args.listen, readiness) => served.context("serving health and metrics"),
        worked = work(client, &args, unready, stop) => worked,
    }
}

/// What `helm test` runs, because the image holds no other HTTP client.
async fn print_readiness(address: &str) -> anyhow::Result<()> {
    let response = probe::readiness(address).await.with_context(|| format!("asking {address}"))?;
    let (status, body) = probe::status_and_body(&response).context("that is no answer of an operator")?;
    std::io::Write::write_all(&mut std::io::stdout(), body.as_bytes())?;
    anyhow::ensure!(status == 200, "the operator is not ready");
    Ok(())
}

async fn work(
    client: Client,
    args: &Args,
    unready: watch::Sender<Option<String>>,
    stop: watch::Receiver<bool>,
) -> anyhow::Result<()> {
    tokio::select! {
        () = crd_is_new_enough(&client, &unready) => {}
        () = stopped(stop.clone()) => return Ok(()),
    }
    unready.send_replace(None);
    let (candidate, mut leadership) = match (&args.lease_namespace, &args.identity) {
        (Some(namespace), Some(identity)) => {
            let (candidate, leadership) =
                Candidate::new(client.clone(), namespace, &args.lease, identity, Clock::System);
            (Some(candidate), leadership)
        }
        _ => (None, Leadership::alone()),
    };
    let candidacy = tokio::spawn({
        let stop = stop.clone();
        async move {
            if let Some(candidate) = candidate {
                candidate.run(stopped(stop)).await;
            }
        }
    });
    tokio::select! {
        () = leadership.gained() => {}
        () = stopped(stop.clone()) => return Ok(candidacy.await?),
    }
    let cache = Arc::new(Cache::default());
    let watched = follow_health(Arc::clone(&cache), unready);
    let context = Context::new(client.clone(), cache, leadership.clone(), Clock::System, Probe::over_http())
        .of(args.lease_namespace.clone().map(|namespace| Installation { namespace, lease: args.lease.clone() }));
    let context = context.with_gates(Arc::new(Gates::new(client.clone())));
    let passes = controller::run(client, args.namespace.as_deref(), Arc::new(context), stopped(stop.clone()));
    tokio::select! {
        () = passes => Ok(candidacy.await?),
        () = watched => Ok(()),
        () = leadership.lost(), if !*stop.borrow() => anyhow::bail!("the lease was lost: another operator may lead now"),
    }
}

/// Returns once the cluster has a CRD that this operator can work with; until then the operator is not ready and says why.
async fn crd_is_new_enough(client: &Client, unready: &watch::Sender<Option<String>>) {
    let crds: Api<CustomResourceDefinition> = Api::all(client.clone());
    loop {
        let problem = match crds.get_metadata_opt(CRD).await {
            Ok(Some(crd)) => match crd::too_old(CRD, crd.annotations()) {
                Some(problem) => problem,
                None => return,
            },
            Ok(None) => format!("the CRD {CRD} is missing: install the chart progressdb-crds"),
            Err(error) => format!("the CRD {CRD} cannot be read: {}", chain(&error)),
        };
        tracing::error!(event = "crd.unusable", problem, "waiting");
        unready.send_replace(Some(problem));
        tokio::time::sleep(Duration::from_secs(5)).await;
    }
}

/// Makes the operator not ready for as long as a watch fails.
async fn follow_health(cache: Arc<Cache>, unready: watch::Sender<Option<String>>) {
    loop {
        tokio::time::sleep(Duration::from_secs(5)).await;
        let problem = cache.health.problem();
        unready.send_if_modified(|told| std::mem::replace(told, problem.clone()) != problem);
    }
}

async fn stop_on_signal(stopping: watch::Sender<bool>) {
    let mut terminate = signal(SignalKind::terminate()).expect("a process can listen for SIGTERM");
    tokio::select! {
        _ = terminate.recv() => {}
        _ = tokio::signal::ctrl_c() => {}
    }
    stopping.send_replace(true);
}

async fn stopped(mut stop: watch::Receiver<bool>) {
    // The sender is gone: there will be no stop.
    if stop.wait_for(|stop| *stop).await.is_err() {
        std::future::pending::<()>().await;
    }
}
