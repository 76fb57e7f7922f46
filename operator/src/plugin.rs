//! `kubectl progressdb`: how a database is, everything about a problem, its keys, a way to it, and its upgrades.
//!
//! It uses the kubeconfig of the one who calls it and can do no more than that person can. `report` leaves Secrets out.

mod abort;
mod approve;
mod connect;
mod history;
mod keys;
mod notes;
mod override_gate;
mod report;
mod restart;
mod rollback;
mod status;
mod upgrade;
mod watch;

use std::io::{IsTerminal, Write};

use anyhow::Context as _;
use jiff::Timestamp;
use kube::{
    Api, Client, Config, ResourceExt,
    api::{ApiResource, ListParams, Patch, PatchParams},
    config::{KubeConfigOptions, Kubeconfig},
};
use serde_json::{Value, json};

use self::watch::Screen;
use crate::{
    args::{PLUGIN, PluginArgs, PluginCommand},
    clock::Clock,
    crd::{self, ProgressDB, ProgressDBStatus, UpgradeStatus},
    kind::Kind,
    objects::{for_people, names},
    raw::Raw,
};

/// The exit code if all is well.
pub const WELL: u8 = 0;
/// If something failed.
pub const FAILED: u8 = 1;
/// If an upgrade waits for somebody.
pub const NEEDS_SOMEBODY: u8 = 2;

/// Does what the command line says; returns the exit code.
pub async fn run(args: PluginArgs) -> anyhow::Result<u8> {
    let client = connect(&args).await?;
    let namespace = args.namespace.unwrap_or_else(|| client.default_namespace().to_owned());
    let mut out = std::io::stdout();
    let is_terminal = out.is_terminal();
    execute_on(&client, &namespace, &args.command, Screen { out: &mut out, is_terminal }).await
}

/// Does one command with this client, and writes plain lines; returns the exit code.
pub async fn execute(
    client: &Client,
    namespace: &str,
    command: &PluginCommand,
    out: &mut impl Write,
) -> anyhow::Result<u8> {
    execute_on(client, namespace, command, Screen { out, is_terminal: false }).await
}

async fn execute_on(
    client: &Client,
    namespace: &str,
    command: &PluginCommand,
    screen: Screen<'_, impl Write>,
) -> anyhow::Result<u8> {
    let out = &mut *screen.out;
    match command {
        PluginCommand::Status { name } => {
            let resource = get(client, namespace, name).await?;
            out.write_all(status::status(&resource, namespace).as_bytes()).context("writing")?;
        }
        PluginCommand::Report { name, upgrade: None } => report::write(client, namespace, name, out).await?,
        PluginCommand::Report { name, upgrade: Some(id) } => {
            report::write_upgrade(client, namespace, name, id, out).await?;
        }
        PluginCommand::Restart { name } => restart::restart(client, namespace, name, out).await?,
        PluginCommand::Keys { name } => keys::keys(client, namespace, name, out).await?,
        PluginCommand::Connect { name, port } => connect::forward(client, namespace, name, *port, out).await?,
        PluginCommand::Upgrade { name, image, watch } => {
            return upgrade::upgrade(client, (namespace, name), image, *watch, screen).await;
        }
        PluginCommand::Approve { name, rollback } => approve::approve(client, namespace, name, *rollback, out).await?,
        PluginCommand::Override { name, gate, lasts } => {
            override_gate::override_gate(client, namespace, name, (gate, lasts), out).await?;
        }
        PluginCommand::Abort { name } => abort::abort(client, namespace, name, out).await?,
        PluginCommand::Rollback { name } => rollback::rollback(client, namespace, name, out).await?,
        PluginCommand::History { name } => history::history(client, namespace, name, out).await?,
    }
    Ok(WELL)
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

/// The pods of the servers: of a single one by its name, of a fleet by the labels that its status names.
async fn servers(client: &Client, namespace: &str, resource: &Raw) -> anyhow::Result<Vec<Raw>> {
    let pods: Api<Raw> = Api::namespaced_with(client.clone(), namespace, &Kind::Pod.api_resource());
    let failed = "looking for the pods";
    match status_of(resource).selector {
        Some(selector) => Ok(pods.list(&ListParams::default().labels(&selector)).await.context(failed)?.items),
        None => Ok(pods.get_opt(&names::pod(&resource.name_any())).await.context(failed)?.into_iter().collect()),
    }
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

/// The upgrade of a resource that is under way.
fn under_way(resource: &Raw) -> anyhow::Result<Box<UpgradeStatus>> {
    under_way_of(&resource.name_any(), Some(&status_of(resource)))
}

fn under_way_of(name: &str, status: Option<&ProgressDBStatus>) -> anyhow::Result<Box<UpgradeStatus>> {
    let record = status.and_then(|status| status.upgrade.clone());
    record.filter(|record| record.outcome.is_none()).with_context(|| format!("no upgrade of {name} is under way"))
}

/// Sets annotations of a resource as the person.
async fn annotate(client: &Client, namespace: &str, name: &str, annotations: Value) -> anyhow::Result<()> {
    let patch = json!({ "metadata": { "annotations": annotations } });
    let asked = resources(client, namespace).patch(name, &as_person(), &Patch::Merge(&patch)).await;
    asked.map(drop).with_context(|| format!("annotating {name}"))
}

/// Asks for another image as the person; returns the generation that does.
async fn set_image(client: &Client, namespace: &str, name: &str, image: &str) -> anyhow::Result<Option<i64>> {
    let patch = json!({ "spec": { "image": image } });
    let asked = resources(client, namespace).patch(name, &as_person(), &Patch::Merge(&patch)).await;
    Ok(asked.with_context(|| format!("asking for {image}"))?.metadata.generation)
}

fn as_person() -> PatchParams {
    PatchParams { field_manager: Some(PLUGIN.to_owned()), ..PatchParams::default() }
}

/// The time, in whole seconds.
fn now() -> anyhow::Result<Timestamp> {
    Ok(Timestamp::from_second(Clock::System.now().as_second())?)
}

/// A command of the operator, which does not name the namespace.
fn in_namespace(command: &str, namespace: &str) -> String {
    // kubectl takes no flag before the name of a plugin.
    for program in ["kubectl progressdb", "kubectl"] {
        if let Some(rest) = command.strip_prefix(program).filter(|rest| rest.starts_with(' ')) {
            return format!("{program} -n {namespace}{rest}");
        }
    }
    command.to_owned()
}

/// An image without its registry, and of a digest only the beginning.
fn short_image(image: &str) -> &str {
    let short = image.rsplit('/').next().unwrap_or(image);
    match short.find("@sha256:") {
        Some(at) => short.get(..at + "@sha256:".len() + 8).unwrap_or(short),
        None => short,
    }
}

/// An upgrade in one sentence.
fn sentence(record: &UpgradeStatus) -> String {
    let (from, to) = (short_image(&record.from.image), short_image(&record.to.image));
    let end = match record.outcome {
        Some(outcome) => format!("{outcome:?}, {}", record.message.as_deref().unwrap_or_default()),
        None => {
            let lasts = record.step_started_at.zip(now().ok()).map(|(since, now)| now.duration_since(since));
            let lasts = lasts.map(|lasts| format!(" for {}", for_people(lasts))).unwrap_or_default();
            format!("in {:?}{lasts}", record.step)
        }
    };
    format!("{}: {from} → {to}, {end}", record.id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_gets_the_namespace_where_kubectl_takes_it() {
        let cases = [
            ("kubectl annotate prdb db a=b", "kubectl -n ns annotate prdb db a=b"),
            ("kubectl progressdb override db Smoke", "kubectl progressdb -n ns override db Smoke"),
            ("kubectl describe pod db-0", "kubectl -n ns describe pod db-0"),
            ("see the node", "see the node"),
        ];
        for (command, wanted) in cases {
            assert_eq!(in_namespace(command, "ns"), wanted);
        }
    }

    #[test]
    fn an_image_is_short_and_still_tells_which_it_is() {
        assert_eq!(short_image("registry:5000/a/progressdb:0.3.0"), "progressdb:0.3.0");
        assert_eq!(
            short_image(&format!("registry/progressdb@sha256:{}", "ab".repeat(32))),
            "progressdb@sha256:abababab"
        );
    }
}
