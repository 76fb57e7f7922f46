//! `status`: what people want to know first.

use kube::ResourceExt;

use super::{in_namespace, sentence, status_of};
use crate::{crd::UpgradeStatus, raw::Raw};

/// How many canaries of a fleet are to be among its servers.
fn canaries(record: Option<&UpgradeStatus>) -> String {
    let record = record.filter(|record| record.outcome.is_none() && record.has_canaries());
    let canary = record.and_then(|record| record.canary.as_ref()).filter(|canary| canary.replicas > 0);
    let told = canary.map(|canary| format!("; {} of them to be canaries, step {}", canary.replicas, canary.step));
    told.unwrap_or_default()
}

/// How a resource is.
pub(super) fn status(resource: &Raw, namespace: &str) -> String {
    let status = status_of(resource);
    let known = |value: Option<String>| value.unwrap_or_else(|| "-".to_owned());
    let mut text = format!("{}: {}\n\n", resource.name_any(), known(status.phase));
    let claim = status.selector.is_none().then(|| ("claim", known(status.claim)));
    let lines = [
        ("image", known(status.image)),
        ("version", known(status.version)),
        ("data format", known(status.data_format.map(|format| format.to_string()))),
        ("service", known(status.service)),
    ];
    let kms = ("kms", known(status.kms.and_then(|kms| kms.provider)));
    let lines = lines.into_iter().chain(claim).chain([kms]);
    lines.for_each(|(name, value)| text.push_str(&format!("{name:<12} {value}\n")));
    if status.selector.is_some() {
        let count = |count: Option<i32>| count.unwrap_or(0);
        let (all, ready) = (count(status.replicas), count(status.ready_replicas));
        let canaries = canaries(status.upgrade.as_deref());
        text.push_str(&format!("{:<12} {ready} of {all} take requests{canaries}\n", "servers"));
    }
    if let Some(upgrade) = &status.upgrade {
        text.push_str(&format!("{:<12} {}\n", "upgrade", sentence(upgrade)));
        if let Some(hold) = upgrade.hold.as_ref().filter(|_| upgrade.outcome.is_none()) {
            text.push_str(&format!("{:<12} {}: {}\n", "", hold.reason, hold.message));
            let command = hold.next_command.as_ref().map(|command| in_namespace(command, namespace));
            command.into_iter().for_each(|command| text.push_str(&format!("{:<12} type: {command}\n", "")));
        }
    }
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
