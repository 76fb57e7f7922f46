//! What a server is probed for with the API keys of its Secret: whether it accepts them, the wrapped keys of its store, and
//! the key of its KMS. The Secret is read for this, and not kept.

mod probe;

use std::net::IpAddr;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use kube::{Api, ResourceExt};

use self::probe::Keys;
pub use self::probe::{Verdict, Wrapped};
use super::{Live, Lookup, MAX_AGE, Observed, Observer, SecretSeen};
use crate::{error::Error, kind::Kind, objects::api_key_secret};

impl Observer {
    /// Probes for what is not known yet. A Secret whose keys were accepted is read again when it changed, and every ten minutes
    /// if the server has a KMS, whose key may have another name by then.
    pub(super) async fn observe_keys(
        &self,
        seen: &mut Observed,
        awaits_kms_check: fn(&Observed) -> bool,
        now: Timestamp,
    ) -> Result<(), Error> {
        let (Some(namespace), Some(version)) = (seen.resource.namespace(), seen.key_secret_version()) else {
            return Ok(());
        };
        let is_accepted = seen.accepted_keys() == Some(version);
        let has_generated = seen.resource.spec.api_keys.is_none();
        let addresses: Vec<IpAddr> = seen.ready_servers().filter_map(address_of).collect();
        let address = addresses.first().copied();
        let lookup = ("kms key", namespace.clone(), seen.resource.name_any());
        let tries_kms = address.is_some() && awaits_kms_check(seen);
        let needs_kms_key =
            address.is_some() && seen.resource.spec.kms.is_some() && self.recall(&lookup, MAX_AGE, now).is_none();
        let reads = (!is_accepted && (has_generated || address.is_some())) || tries_kms || needs_kms_key;
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
            seen.verdict = Some(self.try_keys(&keys, &addresses).await);
        }
        if tries_kms {
            seen.wrapped_keys = keys.wrapped_keys(&self.probe, address).await;
        }
        if needs_kms_key {
            seen.kms_key = keys.kms_key(&self.probe, address).await;
            self.remember(lookup, now, Lookup::KmsKey);
        }
        Ok(())
    }
}

impl Observer {
    /// What the first of these servers says that does not accept every key; each reads the Secret for itself.
    async fn try_keys(&self, keys: &Keys, servers: &[IpAddr]) -> Verdict {
        for address in servers {
            match keys.try_all(&self.probe, *address).await {
                Verdict::Accepted => {}
                other => return other,
            }
        }
        Verdict::Accepted
    }
}

fn address_of(pod: &Live) -> Option<IpAddr> {
    pod.at("/status/podIP").as_str()?.parse().ok()
}

impl Observed {
    /// The resource version of the Secret with the API keys.
    pub fn key_secret_version(&self) -> Option<&str> {
        let name = api_key_secret(&self.resource);
        match &self.resource.spec.api_keys {
            Some(_) => self.secrets.get(&name)?.version(),
            None => Some(self.objects.get(&(Kind::Secret, name))?.version()),
        }
    }

    /// The resource version of that Secret at which the server accepted its keys last.
    pub fn accepted_keys(&self) -> Option<&str> {
        self.resource.status.as_ref()?.api_keys.as_ref()?.accepted_version.as_deref()
    }
}
