//! `kubectl progressdb`: how a database is, everything about a problem, its keys, and a way to it.
//!
//! It uses the kubeconfig of the one who calls it and can do no more than that person can. `report` leaves Secrets out.

use std::io::Write;

use anyhow::Context as _;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Event, Pod, Secret};
use kube::{
    Api, Client, Config, ResourceExt,
    api::{ApiResource, DynamicObject, ListParams, LogParams, Patch, PatchParams},
    config::{KubeConfigOptions, Kubeconfig},
};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};

use crate::{
    args::{PLUGIN, PluginArgs, PluginCommand},
    clock::Clock,
    conditions::ConditionType,
    crd::{self, ProgressDB, ProgressDBStatus},
    kind::Kind,
    objects::{API_PORT, api_key_secret, keys_of, labels, names},
    raw::Raw,
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
        PluginCommand::Restart { name } => restart(client, namespace, name, out).await,
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

fn resources(client: &Client, namespace: &str) -> Api<Raw> {
    Api::namespaced_with(client.clone(), namespace, &ApiResource::erase::<ProgressDB>(&()))
}

async fn get(client: &Client, namespace: &str, name: &str) -> anyhow::Result<Raw> {
    let found = resources(client, namespace).get_opt(name).await.context("reading the resource")?;
    found.with_context(|| format!("there is no ProgressDB {name} in the namespace {namespace}"))
}

/// The resource as the operator reads it.
async fn get_readable(client: &Client, namespace: &str, name: &str) -> anyhow::Result<ProgressDB> {
    let read = crd::read(get(client, namespace, name).await?.text());
    read.map_err(|unreadable| anyhow::anyhow!("{name} cannot be read: correct {}", unreadable.why))
}

/// The status as the operator reads it, also of a resource that it cannot read.
fn status_of(resource: &Raw) -> ProgressDBStatus {
    let status = crd::read(resource.text()).map_or_else(|unreadable| unreadable.status, |resource| resource.status);
    status.unwrap_or_default()
}

/// What people want to know first.
fn status(resource: &Raw) -> String {
    let status = status_of(resource);
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
    let is_about = |event: &Event| is_about(event, name, &objects);
    let events: Vec<Value> = events.iter().filter(|event| is_about(event)).map(without_managed_fields).collect();
    let pod = names::pod(name);
    Ok(json!({
        "operator": env!("CARGO_PKG_VERSION"),
        "resource": without_managed_fields(&resource.to_value()),
        "objects": objects,
        "events": events,
        "log": log(client, namespace, &pod, false).await,
        "previousLog": log(client, namespace, &pod, true).await,
    }))
}

/// Whether an Event is about the resource or something of its own; what it had before has gone, and only names are left.
fn is_about(event: &Event, instance: &str, objects: &[Value]) -> bool {
    let about = &event.involved_object;
    let Some(name) = about.name.as_deref() else { return false };
    let is_there = objects.iter().any(|object| about.uid.is_some() && object["metadata"]["uid"] == json!(about.uid));
    match about.kind.as_deref() {
        _ if is_there => true,
        Some("ProgressDB") => name == instance,
        Some(_) => names::is_of(instance, name),
        None => false,
    }
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

/// Asks for a restart as `kubectl rollout restart` does for kinds that it knows.
async fn restart(client: &Client, namespace: &str, name: &str, out: &mut impl Write) -> anyhow::Result<()> {
    let resource = get_readable(client, namespace, name).await?;
    anyhow::ensure!(!resource.spec.suspend, "{name} is stopped: set spec.suspend to false to start it");
    let at = Timestamp::from_second(Clock::System.now().as_second())?;
    let patch = json!({ "metadata": { "annotations": { labels::RESTARTED_AT: at.to_string() } } });
    let params = PatchParams { field_manager: Some(PLUGIN.to_owned()), ..PatchParams::default() };
    let asked = resources(client, namespace).patch(name, &params, &Patch::Merge(&patch)).await;
    asked.context("asking for the restart")?;
    let again = format!("kubectl progressdb -n {namespace} status {name}");
    writeln!(out, "{name} is to restart once its settings and keys are found good: {again}")?;
    Ok(())
}

async fn keys(client: &Client, namespace: &str, name: &str, out: &mut impl Write) -> anyhow::Result<()> {
    let secret = api_key_secret(&get_readable(client, namespace, name).await?);
    let secrets: Api<Secret> = Api::namespaced(client.clone(), namespace);
    let found = secrets.get_opt(&secret).await.context("reading the Secret")?;
    let found = found.with_context(|| format!("there is no Secret {secret} in the namespace {namespace}"))?;
    for (entry, value) in found.data.into_iter().flatten() {
        for key in keys_of(&value.0) {
            writeln!(out, "{entry:<9} {key}")?;
        }
    }
    Ok(())
}

async fn forward(client: &Client, namespace: &str, name: &str, port: u16, out: &mut impl Write) -> anyhow::Result<()> {
    let resource = get(client, namespace, name).await?;
    let pod = names::pod(&resource.name_any());
    let pods: Api<Raw> = Api::namespaced_with(client.clone(), namespace, &Kind::Pod.api_resource());
    let found = pods.get_opt(&pod).await.context("looking for the pod")?;
    let runs = found.is_some_and(|pod| pod.to_value().pointer("/status/phase") == Some(&json!("Running")));
    anyhow::ensure!(runs, "{}", why_not(&resource));
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

/// Why there is nothing to connect to.
fn why_not(resource: &Raw) -> String {
    let (name, status) = (resource.name_any(), status_of(resource));
    let ready = status.conditions.iter().find(|condition| condition.type_ == ConditionType::Ready.name());
    let why = ready.filter(|ready| ready.status != "True").map(|ready| ready.message.as_str());
    format!("the server of {name} does not run: {}", why.unwrap_or("its pod has not started yet, try again"))
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
