//! `kubectl progressdb`: how a database is, everything about a problem, its keys, and a way to it.
//!
//! It uses the kubeconfig of the one who calls it and can do no more than that person can. `report` leaves Secrets out.

use std::io::Write;

use anyhow::Context as _;
use k8s_openapi::api::core::v1::{Event, Pod, Secret};
use kube::{
    Api, Client, Config, ResourceExt,
    api::{DynamicObject, ListParams, LogParams},
    config::{KubeConfigOptions, Kubeconfig},
};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};

use crate::{
    args::{PluginArgs, PluginCommand},
    crd::ProgressDB,
    kind::Kind,
    objects::{API_PORT, api_key_secret, labels},
};

/// Lines of a log that a report holds.
const LOG_LINES: i64 = 500;

/// Does what the command line says.
pub async fn run(args: PluginArgs, out: &mut impl Write) -> anyhow::Result<()> {
    let client = connect(&args).await?;
    let namespace = args.namespace.unwrap_or_else(|| client.default_namespace().to_owned());
    execute(&client, &namespace, &args.command, out).await
}

/// Does one command with this client.
pub async fn execute(
    client: &Client,
    namespace: &str,
    command: &PluginCommand,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    match command {
        PluginCommand::Status { name } => {
            let resource = get(client, namespace, name).await?;
            out.write_all(status(&resource).as_bytes()).context("writing")
        }
        PluginCommand::Report { name } => {
            let report = report(client, namespace, name).await?;
            out.write_all(serde_saphyr::to_string(&report)?.as_bytes()).context("writing")
        }
        PluginCommand::Keys { name } => keys(client, namespace, name, out).await,
        PluginCommand::Connect { name, port } => forward(client, namespace, name, *port, out).await,
    }
}

async fn connect(args: &PluginArgs) -> anyhow::Result<Client> {
    let options = KubeConfigOptions { context: args.context.clone(), ..KubeConfigOptions::default() };
    let config = match &args.kubeconfig {
        Some(file) => Config::from_custom_kubeconfig(Kubeconfig::read_from(file)?, &options).await?,
        None if args.context.is_some() => Config::from_kubeconfig(&options).await?,
        None => Config::infer().await?,
    };
    Client::try_from(config).context("connecting to the API server")
}

async fn get(client: &Client, namespace: &str, name: &str) -> anyhow::Result<ProgressDB> {
    let resources: Api<ProgressDB> = Api::namespaced(client.clone(), namespace);
    let found = resources.get_opt(name).await.context("reading the resource")?;
    found.with_context(|| format!("there is no ProgressDB {name} in the namespace {namespace}"))
}

/// What people want to know first.
fn status(resource: &ProgressDB) -> String {
    let status = resource.status.clone().unwrap_or_default();
    let known = |value: Option<String>| value.unwrap_or_else(|| "-".to_owned());
    let mut text = format!("{}: {}\n\n", resource.name_any(), known(status.phase));
    let lines = [
        ("image", known(status.image)),
        ("version", known(status.version)),
        ("data format", known(status.data_format.map(|format| format.to_string()))),
        ("service", known(status.service)),
        ("claim", known(status.claim)),
        ("kms", known(status.kms.and_then(|kms| kms.provider))),
    ];
    lines.iter().for_each(|(name, value)| text.push_str(&format!("{name:<12} {value}\n")));
    text.push('\n');
    for condition in &status.conditions {
        let line =
            format!("{:<19} {:<8} {:<22} {}", condition.type_, condition.status, condition.reason, condition.message);
        text.push_str(line.trim_end());
        text.push('\n');
    }
    if resource.metadata.generation != status.observed_generation {
        text.push_str("\nThe operator has not seen the last change yet: is it running?\n");
    }
    text
}

/// The resource, its objects, its events and the end of its logs.
async fn report(client: &Client, namespace: &str, name: &str) -> anyhow::Result<Value> {
    let resource = get(client, namespace, name).await?;
    let selector = ListParams::default().labels(&format!("{}={name}", labels::INSTANCE));
    let mut objects = Vec::new();
    for kind in Kind::ALL.into_iter().filter(|kind| *kind != Kind::Secret) {
        let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), namespace, &kind.api_resource());
        match api.list(&selector).await {
            Ok(found) => objects.extend(found.into_iter().map(|object| without_managed_fields(&object))),
            Err(kube::Error::Api(status)) if status.is_not_found() => {}
            Err(error) => objects.push(json!({ "kind": kind.name(), "error": error.to_string() })),
        }
    }
    let events: Api<Event> = Api::namespaced(client.clone(), namespace);
    let events = events.list(&ListParams::default()).await.context("listing events")?;
    let is_about = |event: &Event| event.involved_object.name.as_deref().is_some_and(|about| about.starts_with(name));
    let events: Vec<Value> = events.iter().filter(|event| is_about(event)).map(without_managed_fields).collect();
    let pod = format!("{name}-0");
    Ok(json!({
        "operator": env!("CARGO_PKG_VERSION"),
        "resource": without_managed_fields(&resource),
        "objects": objects,
        "events": events,
        "log": log(client, namespace, &pod, false).await,
        "previousLog": log(client, namespace, &pod, true).await,
    }))
}

fn without_managed_fields(object: &impl serde::Serialize) -> Value {
    let mut object = serde_json::to_value(object).expect("an object is JSON");
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.remove("managedFields");
    }
    object
}

async fn log(client: &Client, namespace: &str, pod: &str, previous: bool) -> String {
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let params = LogParams { previous, tail_lines: Some(LOG_LINES), ..LogParams::default() };
    pods.logs(pod, &params).await.unwrap_or_else(|error| format!("none: {error}"))
}

async fn keys(client: &Client, namespace: &str, name: &str, out: &mut impl Write) -> anyhow::Result<()> {
    let secret = api_key_secret(&get(client, namespace, name).await?);
    let secrets: Api<Secret> = Api::namespaced(client.clone(), namespace);
    let found = secrets.get_opt(&secret).await.context("reading the Secret")?;
    let found = found.with_context(|| format!("there is no Secret {secret} in the namespace {namespace}"))?;
    for (entry, value) in found.data.into_iter().flatten() {
        for key in String::from_utf8_lossy(&value.0).lines().map(str::trim).filter(|key| !key.is_empty()) {
            writeln!(out, "{entry:<9} {key}")?;
        }
    }
    Ok(())
}

async fn forward(client: &Client, namespace: &str, name: &str, port: u16, out: &mut impl Write) -> anyhow::Result<()> {
    let pod = format!("{}-0", get(client, namespace, name).await?.name_any());
    let listener = TcpListener::bind(("127.0.0.1", port)).await.with_context(|| format!("listening on port {port}"))?;
    writeln!(out, "http://{} is {name} until Ctrl-C", listener.local_addr()?)?;
    out.flush()?;
    loop {
        let (connection, _) = tokio::select! {
            accepted = listener.accept() => accepted?,
            _ = tokio::signal::ctrl_c() => return Ok(()),
        };
        let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
        tokio::spawn(carry(pods, pod.clone(), connection));
    }
}

/// Carries one connection; each has its own way, so that one that breaks takes no other with it.
async fn carry(pods: Api<Pod>, pod: String, mut connection: TcpStream) {
    let result: anyhow::Result<()> = async {
        let mut forwarder = pods.portforward(&pod, &[API_PORT]).await?;
        let mut stream = forwarder.take_stream(API_PORT).context("the port was not forwarded")?;
        tokio::io::copy_bidirectional(&mut connection, &mut stream).await?;
        drop(stream);
        Ok(forwarder.join().await?)
    }
    .await;
    if let Err(error) = result {
        tracing::warn!(event = "forward.failed", %error);
    }
}
