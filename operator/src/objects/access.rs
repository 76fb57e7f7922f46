//! The service account of the pods, and the Secret with the generated API keys.

use serde_json::{Value, json};

use super::{Inputs, config, kept, labels, names, owned};

/// The service account of the pods; `None` if the resource names one. It has no rights, and its token is in no pod but
/// one that shows it to Vault.
pub fn service_account(inputs: &Inputs<'_>) -> Option<Value> {
    let aws = inputs.resource.spec.kms.as_ref().and_then(|kms| kms.aws.as_ref());
    if aws
        .and_then(|aws| aws.credentials.as_ref())
        .is_some_and(|credentials| credentials.service_account_name.is_some())
    {
        return None;
    }
    let name = inputs.name();
    Some(json!({
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": owned(
            inputs.resource,
            &names::service_account(&name),
            labels::of(&name, labels::Component::Server),
        ),
        "automountServiceAccountToken": false,
    }))
}

/// The Secret with generated API keys, every entry empty: the one who creates it fills them. `None` if the resource names
/// a Secret. It outlives the resource, as the data does.
pub fn api_keys(inputs: &Inputs<'_>) -> Option<Value> {
    if inputs.resource.spec.api_keys.is_some() {
        return None;
    }
    let name = inputs.name();
    Some(json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": kept(inputs.resource, &names::api_keys(&name), labels::of(&name, labels::Component::Server)),
        "type": "Opaque",
        "stringData": config::KEY_ENTRIES.map(|entry| (entry.to_owned(), String::new())).into_iter().collect::<std::collections::BTreeMap<_, _>>(),
    }))
}
