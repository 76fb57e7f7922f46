//! `keys`: the API keys.

use std::io::Write;

use anyhow::Context as _;
use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client};

use super::get_readable;
use crate::objects::{api_key_secret, keys_of};

pub(super) async fn keys(client: &Client, namespace: &str, name: &str, out: &mut impl Write) -> anyhow::Result<()> {
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
