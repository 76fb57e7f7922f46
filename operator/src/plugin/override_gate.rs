//! `override`: lets an upgrade pass a gate or a hold, for a time.

use std::io::Write;

use anyhow::Context as _;
use jiff::{SignedDuration, Timestamp};
use kube::{Client, ResourceExt};
use serde_json::json;

use super::{annotate, get, now, under_way};
use crate::objects::{labels::OVERRIDE, overrides};

pub(super) async fn override_gate(
    client: &Client,
    namespace: &str,
    name: &str,
    (gate, lasts): (&str, &str),
    out: &mut impl Write,
) -> anyhow::Result<()> {
    let resource = get(client, namespace, name).await?;
    let record = under_way(&resource)?;
    let lasts: SignedDuration = lasts.parse().with_context(|| format!("{lasts} is no duration, such as 1h or 30m"))?;
    anyhow::ensure!(lasts.is_positive(), "{lasts} is over at once: say for how long, such as 1h or 30m");
    overrides::known(gate).map_err(anyhow::Error::msg)?;
    let (now, what) = (now()?, format!("{}/{gate}", record.id));
    let until = Timestamp::from_second(now.checked_add(lasts)?.as_second())?;
    // Those that still count stay.
    let known = resource.annotations().get(OVERRIDE).cloned().unwrap_or_default();
    let counts = |part: &&str| {
        let (of, until) = part.split_once('@').unwrap_or_default();
        of != what && until.parse::<Timestamp>().is_ok_and(|until| until > now)
    };
    let mut parts: Vec<String> = known.split(',').map(str::trim).filter(counts).map(str::to_owned).collect();
    parts.push(format!("{what}@{until}"));
    annotate(client, namespace, name, json!({ OVERRIDE: parts.join(",") })).await?;
    writeln!(out, "{gate} does not stop the upgrade {} of {name} until {until}", record.id)?;
    Ok(())
}
