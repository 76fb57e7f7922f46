//! What a server is asked with keys from the Secret: whether it accepts them, for the wrapped keys of its store, and for
//! the key of its KMS. The Secret is read for this, and forgotten when the answers are there.

use std::net::IpAddr;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use kube::{Api, ResourceExt};

use super::{Fact, LONGEST, Observed, Observer, SecretSeen, keys::Keys};
use crate::{decide, error::Error, kind::Kind, objects::api_key_secret};

impl Observer {
    /// Asks what is not known yet. A Secret whose keys were accepted is not read again until it changes, but for the
    /// name of the KMS' key now and then.
    pub(super) async fn observe_keys(&self, seen: &mut Observed, now: Timestamp) -> Result<(), Error> {
        let (Some(namespace), Some(version)) = (seen.resource.namespace(), seen.key_secret_version()) else {
            return Ok(());
        };
        let is_accepted = seen.accepted_keys() == Some(version);
        let has_generated = seen.resource.spec.api_keys.is_none();
        let address = seen.ready_address();
        let about = ("kms key", namespace.clone(), seen.resource.name_any());
        let tries_kms = address.is_some() && decide::awaits_kms_check(seen);
        let asks_kms_key =
            address.is_some() && seen.resource.spec.kms.is_some() && self.recall(&about, LONGEST, now).is_none();
        let reads = (!is_accepted && (has_generated || address.is_some())) || tries_kms || asks_kms_key;
        if !reads {
            return Ok(());
        }
        let name = api_key_secret(&seen.resource);
        let secrets: Api<Secret> = Api::namespaced(self.client.clone(), &namespace);
        let failed = |error| Error::new(format!("reading the Secret {name}"), error);
        let Some(secret) = secrets.get_opt(&name).await.map_err(failed)? else { return Ok(()) };
        if has_generated && !is_accepted {
            seen.generated_keys = Some(SecretSeen::of(Some(&secret)));
        }
        let Some(address) = address else { return Ok(()) };
        let keys = Keys::of(&secret);
        if !is_accepted {
            seen.verdict = Some(keys.try_all(&self.ask, address).await);
        }
        if tries_kms {
            seen.wrapped_keys = keys.wrapped_keys(&self.ask, address).await;
        }
        if asks_kms_key {
            seen.kms_key = keys.kms_key(&self.ask, address).await;
            self.remember(about, now, Fact::KmsKey);
        }
        Ok(())
    }
}

impl Observed {
    /// Which state of the Secret with the API keys is there.
    pub fn key_secret_version(&self) -> Option<&str> {
        let name = api_key_secret(&self.resource);
        match &self.resource.spec.api_keys {
            Some(_) => self.secrets.get(&name)?.version(),
            None => Some(self.objects.get(&(Kind::Secret, name))?.version()),
        }
    }

    /// The state of that Secret whose keys the server accepted last.
    pub fn accepted_keys(&self) -> Option<&str> {
        self.resource.status.as_ref()?.api_keys.as_ref()?.accepted_version.as_deref()
    }

    /// Where a server that takes requests is reached.
    fn ready_address(&self) -> Option<IpAddr> {
        let is_ready = |status: &str| status == "True";
        let pod = self.pod().filter(|pod| pod.condition("Ready").is_some_and(|(status, ..)| is_ready(status)))?;
        pod.at("/status/podIP").as_str()?.parse().ok()
    }
}
