//! Which installation of the operator reconciles a resource. Two installations whose namespaces overlap have a Lease each,
//! so neither waits for the other: the one that wrote the status first continues, and the other leaves the resource alone as
//! long as the first one renews its Lease.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::coordination::v1::Lease;
use kube::Api;

use super::Observer;
use crate::{crd::ProgressDB, error::Error};

/// An installation that renewed its Lease within this time works; clocks may differ by half of it.
const ALIVE: SignedDuration = SignedDuration::from_secs(30);

/// One installation, which may be several processes: the Lease that they share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Installation {
    /// The namespace of the Lease.
    pub namespace: String,
    /// The name of the Lease.
    pub lease: String,
}

impl std::fmt::Display for Installation {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}/{}", self.namespace, self.lease)
    }
}

impl Observer {
    /// The other installation that reconciles this resource, if there is one that works.
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
            // Without the right to read that Lease it is unknown whether the other one works: reconcile.
            Err(Error::Refused { .. }) => return Ok(None),
            found => found?,
        };
        let spec = found.and_then(|lease| lease.spec).filter(|spec| spec.holder_identity.is_some());
        let renewed = spec.and_then(|spec| spec.renew_time);
        Ok(renewed.filter(|renewed| now.duration_since(renewed.0) < ALIVE).map(|_| named.to_owned()))
    }
}
