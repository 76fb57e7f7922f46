//! What a backup says of the store that it is made from.

use std::collections::BTreeSet;

use serde_json::Value;
use tokio::runtime::Handle;

use crate::backup::{Counts, Describe, Description, KmsMetadata};
use crate::config::Config;
use crate::db::{Db, Inspected, OpenError, WrappedKeys};
use crate::format::{Formats, Identity};
use crate::http::wrapped_keys_to_json;
use crate::model::ProviderKind;
use crate::store::Engine;

/// Reads counters and wrapped keys of the store; asks no KMS. `settings` are those that the backup lists.
pub(super) async fn describe(
    engine: &Engine,
    identity: Identity,
    formats: &Formats,
    config: &Config,
    settings: Value,
) -> Result<Description, OpenError> {
    let inspected = Db::inspect(&engine.store(), formats).await?;
    let endpoint = config.encryption.kms.as_ref().and_then(|kms| kms.endpoint());
    describe_inspected(engine, identity, formats.version, inspected, endpoint, settings).await
}

/// What describes the checkpoints of a running server, by what its rows said at the cut.
pub(super) fn of_checkpoints(
    engine: &Engine,
    identity: Identity,
    formats: &Formats,
    config: &Config,
    settings: Value,
) -> Describe {
    let (engine, formats, runtime) = (engine.clone(), *formats, Handle::current());
    let endpoint = config.encryption.kms.as_ref().and_then(|kms| kms.endpoint()).map(str::to_owned);
    Box::new(move |values| {
        let inspected = Inspected::of(values, &formats)?;
        let settings = settings.clone();
        runtime.block_on(describe_inspected(
            &engine,
            identity,
            formats.version,
            inspected,
            endpoint.as_deref(),
            settings,
        ))
    })
}

async fn describe_inspected(
    engine: &Engine,
    identity: Identity,
    version: &str,
    inspected: Inspected,
    endpoint: Option<&str>,
    settings: Value,
) -> Result<Description, OpenError> {
    if inspected.database_id != identity.database_id {
        return Err(OpenError::Foreign);
    }
    // Wrapped keys are only ever added while a server runs, so those of the checkpoint are among them.
    let keys = WrappedKeys::of(&engine.store(), identity.database_id).await?;
    Ok(Description {
        database_id: identity.database_id,
        incarnation: identity.incarnation.to_string(),
        version: version.to_owned(),
        store_format: inspected.format,
        engine: engine.name().to_owned(),
        sequence: u64::try_from(inspected.sequence).unwrap_or(0),
        counts: Counts { threads: inspected.threads, messages: inspected.messages, users: inspected.users },
        kms: kms_metadata(&keys, endpoint),
        settings,
    })
}

/// None if no key was ever wrapped.
fn kms_metadata(keys: &WrappedKeys, endpoint: Option<&str>) -> Option<KmsMetadata> {
    let wraps = || keys.epochs.iter().flat_map(|epoch| &epoch.wraps);
    let newest = wraps().last()?;
    let key_ids: BTreeSet<&String> = wraps().map(|wrap| &wrap.key_id).collect();
    Some(KmsMetadata {
        provider: newest.provider.to_string(),
        endpoint: endpoint.map(str::to_owned),
        key_ids: key_ids.into_iter().cloned().collect(),
        // The key id of local keys is made of their fingerprints.
        master_key: (newest.provider == ProviderKind::Local).then(|| newest.key_id.clone()),
        wrapped_keys: wrapped_keys_to_json(keys),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::db::WrappedEpoch;
    use crate::model::{Commitment, Wrapped};

    #[test]
    fn keys_are_named_and_the_newest_says_who_opens_the_store() {
        let wrapped = |provider, key_id: &str| Wrapped { provider, key_id: key_id.to_owned(), blob: vec![1] };
        let epoch = |epoch, wraps| WrappedEpoch { epoch, commitment: Commitment([7; 32]), wraps };
        let (old, new) = (wrapped(ProviderKind::Vault, "k:v1"), wrapped(ProviderKind::Local, "aa+bb"));
        let epochs = vec![epoch(1, vec![old.clone()]), epoch(2, vec![old, new])];
        let keys = WrappedKeys { database_id: [2; 16], epochs };
        let metadata = kms_metadata(&keys, Some("https://vault")).unwrap();
        assert_eq!((metadata.provider.as_str(), metadata.master_key.as_deref()), ("local", Some("aa+bb")));
        assert_eq!(metadata.key_ids, ["aa+bb", "k:v1"]);
        assert_eq!(metadata.wrapped_keys["keys"].as_array().map(Vec::len), Some(3));
        assert_eq!(kms_metadata(&WrappedKeys { database_id: [2; 16], epochs: Vec::new() }, None), None);
    }
}
