//! Which installation of the operator looks after a resource. Two whose namespaces overlap have a Lease each, so neither
//! waits for the other: whoever wrote the status first goes on, and the other leaves the resource alone as long as the
//! first one renews its Lease.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::coordination::v1::Lease;
use kube::Api;

use super::Observer;
use crate::{crd::ProgressDB, error::Error};

/// A Lease that was renewed within this time is somebody's; clocks may differ by half of it.
const ALIVE: SignedDuration = SignedDuration::from_secs(30);

/// One installation, which may be several processes: where its Lease is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Installation {
    /// The namespace that it lives in.
    pub namespace: String,
    /// The name of its Lease.
    pub lease: String,
}

impl std::fmt::Display for Installation {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}/{}", self.namespace, self.lease)
    }
}

impl Observer {
    /// The other installation that looks after this resource, if there is one that works.
    pub async fn looked_after_by_another(
        &self,
        resource: &ProgressDB,
        now: Timestamp,
    ) -> Result<Option<String>, Error> {
        let named = resource.status.as_ref().and_then(|status| status.operator.as_deref());
        let (Some(ours), Some(named)) = (&self.installation, named) else { return Ok(None) };
        let Some((namespace, lease)) = named.split_once('/').filter(|_| named != ours.to_string()) else {
            return Ok(None);
        };
        let leases: Api<Lease> = Api::namespaced(self.client.clone(), namespace);
        let found = match leases
            .get_opt(lease)
            .await
            .map_err(|error| Error::new(format!("reading the Lease {named}"), error))
        {
            // Who may not look cannot leave it to somebody who may have gone.
            Err(Error::Refused { .. }) => return Ok(None),
            found => found?,
        };
        let spec = found.and_then(|lease| lease.spec).filter(|spec| spec.holder_identity.is_some());
        let renewed = spec.and_then(|spec| spec.renew_time);
        Ok(renewed.filter(|renewed| now.duration_since(renewed.0) < ALIVE).map(|_| named.to_owned()))
    }
}
