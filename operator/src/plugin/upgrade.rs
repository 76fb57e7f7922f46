//! `upgrade`: asks for another image, and follows what becomes of it.

use std::io::Write;

use kube::{Client, ResourceExt};

use super::{
    WELL, get_readable, set_image,
    watch::{Followed, Screen},
};
use crate::crd::{Outcome, ProgressDB, UpgradeStatus, UpgradeStep, UpgradeStrategy};

/// Returns the exit code.
pub(super) async fn upgrade(
    client: &Client,
    (namespace, name): (&str, &str),
    image: &str,
    is_followed: bool,
    screen: Screen<'_, impl Write>,
) -> anyhow::Result<u8> {
    let resource = get_readable(client, namespace, name).await?;
    let record = resource.status.as_ref().and_then(|status| status.upgrade.as_deref());
    let generation = if resource.spec.image == image {
        if !is_still_to_be(record, image)? && !is_followed {
            writeln!(screen.out, "{name} asks for {image} already")?;
        }
        resource.metadata.generation
    } else {
        let changed = set_image(client, namespace, name, image).await?;
        writeln!(screen.out, "{}", asked(&resource, record, image))?;
        changed
    };
    if !is_followed {
        writeln!(screen.out, "kubectl progressdb -n {namespace} upgrade {name} --image {image} --watch")?;
        return Ok(WELL);
    }
    // One that had ended before is another one, unless nothing was asked for.
    let is_asked = resource.spec.image != image;
    let ended = record.filter(|record| is_asked && record.outcome.is_some()).map(|record| record.id.clone());
    Followed { client, namespace, name, image, ended, generation }.run(screen).await
}

/// Whether the image that is asked for already is still on its way; refuses to ask once more for one that did not pass.
fn is_still_to_be(record: Option<&UpgradeStatus>, image: &str) -> anyhow::Result<bool> {
    let Some(record) = record.filter(|record| record.to.image == image) else { return Ok(false) };
    match record.outcome {
        None => Ok(true),
        Some(Outcome::Succeeded) => Ok(false),
        Some(outcome) => anyhow::bail!(
            "{image} is asked for already and was tried: {outcome:?}, {}. Once the cause is gone, type rollback and then \
             this again",
            record.message.as_deref().unwrap_or_default()
        ),
    }
}

/// What was asked for, and what becomes of it.
fn asked(resource: &ProgressDB, record: Option<&UpgradeStatus>, image: &str) -> String {
    let name = resource.name_any();
    let under_way = record.filter(|record| record.outcome.is_none());
    let then = match under_way {
        _ if resource.spec.suspend => "it is suspended and starts with it".to_owned(),
        Some(record) if record.from.image == image => format!("the upgrade {} goes back", record.id),
        Some(record) if record.step < UpgradeStep::Drain || record.has_canaries() => {
            format!("the upgrade {} to {} is given up for it", record.id, record.to.image)
        }
        Some(record) => format!("it waits until the upgrade {} to {} has ended", record.id, record.to.image),
        None => untouched(resource).to_owned(),
    };
    format!("{name} asks for {image}: {then}. Change it in your manifest too, if there is one")
}

/// What becomes of it where nothing is under way.
fn untouched(resource: &ProgressDB) -> &'static str {
    let is_direct = resource.spec.upgrade.strategy == UpgradeStrategy::Direct;
    match (is_direct, resource.spec.storage.cassandra()) {
        (true, None) => "the server stops and starts with it, because spec.upgrade.strategy is Direct",
        (true, Some(_)) => {
            "its servers take it one after the other and untried, because spec.upgrade.strategy is Direct"
        }
        (false, None) => "it is proved before clients meet it",
        (false, Some(_)) => "canaries with it serve some of the users before all servers take it",
    }
}
