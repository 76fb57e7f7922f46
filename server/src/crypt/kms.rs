//! Key management services: wrap the epoch keys, so that what lies on disk opens nothing by itself.
//!
//! One handle, [`Kms`], over four providers: master keys in files, AWS KMS, Vault's transit engine, and services that
//! speak the protocol of `prgkms`. A wrapped key is bound to the database and the epoch it was made for and opens in no
//! other. Every call but a probe passes one guard: a timeout, few tries, a rate limit and a circuit breaker, so that a
//! KMS that fails or is slow costs little. An [`Error`] has the KMS's own message.
//!
//! Keys are never logged and are wiped from memory. When to wrap, what to cache and where wrapped keys lie is decided
//! above.

mod aws;
mod context;
mod error;
mod files;
mod guard;
mod health;
mod http;
mod local;
mod rest;
pub mod settings;
mod vault;

use std::{fmt, sync::Arc};

use aws_lc_rs::rand;

pub(crate) use self::rest::is_url;
use self::{
    aws::Aws,
    guard::{Guard, Policy},
    health::Monitor,
    http::Http,
    local::Local,
    vault::Vault,
};
pub use self::{context::Context, error::Error, health::Health, settings::Settings};
use super::KeyBytes;
use crate::clock::monotonic;
pub use crate::model::{ProviderKind, UnknownProvider, Wrapped};

/// A KMS; clones share it.
#[derive(Clone)]
pub struct Kms(Arc<Shared>);

struct Shared {
    kind: ProviderKind,
    provider: Provider,
    guard: Guard,
    monitor: Monitor,
}

/// What each provider does. The key id that comes with a blob is what [`Kms::describe`] gives after it.
enum Provider {
    Local(Local),
    Aws(Aws),
    Vault(Vault),
    Http(Http),
}

impl Kms {
    /// Reads what the settings name (key files, certificates), and makes no call.
    pub fn new(settings: Settings) -> Result<Self, Error> {
        let kind = settings.kind();
        let guard = Guard::new(kind, Policy::new(settings.timeout));
        let monitor = Monitor::new(settings.grace, settings.seal_grace, monotonic());
        let proxies = settings.proxies;
        let provider = match settings.provider {
            settings::Provider::Local(local) => Provider::Local(Local::new(local)?),
            settings::Provider::Aws(aws) => Provider::Aws(Aws::new(aws, proxies)),
            settings::Provider::Vault(vault) => Provider::Vault(Vault::new(vault, &proxies)?),
            settings::Provider::Http(http) => Provider::Http(Http::new(http, &proxies)?),
        };
        Ok(Self(Arc::new(Shared { kind, provider, guard, monitor })))
    }

    /// Which provider it is.
    pub fn kind(&self) -> ProviderKind {
        self.0.kind
    }

    /// Wraps a key by the current version of the KMS's key.
    pub async fn wrap(&self, key: &KeyBytes, context: Context) -> Result<Wrapped, Error> {
        let wrapped = self.wrap_guarded(key, context).await?;
        let (provider, key_id, epoch) = (wrapped.provider.as_str(), &wrapped.key_id, context.epoch);
        tracing::info!(target: "audit", event = "kms.wrapped", provider, key_id, epoch, "wrapped an epoch key");
        Ok(wrapped)
    }

    /// Unwraps what [`Kms::wrap`] gave, in the same context.
    pub async fn unwrap(&self, wrapped: &Wrapped, context: Context) -> Result<KeyBytes, Error> {
        let key = self.unwrap_guarded(wrapped, context).await?;
        let (provider, key_id, epoch) = (wrapped.provider.as_str(), &wrapped.key_id, context.epoch);
        tracing::info!(target: "audit", event = "kms.unwrapped", provider, key_id, epoch, "unwrapped an epoch key");
        Ok(key)
    }

    /// The key id, with its version, by which [`Kms::wrap`] would wrap now; what differs from it is to be rewrapped.
    pub async fn describe(&self) -> Result<String, Error> {
        self.0.guard.call("describe", || Box::pin(self.0.provider.describe())).await
    }

    /// Checks health: unwraps a key that must open or, without one, wraps and unwraps a random key. One try, even while
    /// the breaker is open.
    pub async fn probe(&self, canary: Option<(&Wrapped, Context)>) -> Result<(), Error> {
        let result = self.0.guard.probe(Box::pin(self.0.probe(canary))).await;
        self.0.monitor.note(&result, monotonic());
        result
    }

    /// Wraps a random key and unwraps it again; gives the key id that it was wrapped by.
    pub async fn check(&self) -> Result<String, Error> {
        let (key, context) = random()?;
        let wrapped = self.wrap_guarded(&key, context).await?;
        same(&key, &self.unwrap_guarded(&wrapped, context).await?)?;
        Ok(wrapped.key_id)
    }

    /// The health that the last calls showed. Cheap enough for every request.
    pub fn health(&self) -> Health {
        self.0.monitor.health(monotonic())
    }

    async fn wrap_guarded(&self, key: &KeyBytes, context: Context) -> Result<Wrapped, Error> {
        let Shared { guard, monitor, .. } = &*self.0;
        let result = guard.call("wrap", || Box::pin(self.0.wrap(key, context))).await;
        monitor.note(&result, monotonic());
        result
    }

    async fn unwrap_guarded(&self, wrapped: &Wrapped, context: Context) -> Result<KeyBytes, Error> {
        let Shared { guard, monitor, .. } = &*self.0;
        let result = guard.call("unwrap", || Box::pin(self.0.unwrap(wrapped, context))).await;
        monitor.note_one(&result, monotonic());
        result
    }
}

impl Shared {
    async fn wrap(&self, key: &KeyBytes, context: Context) -> Result<Wrapped, Error> {
        let (key_id, blob) = self.provider.wrap(key, context).await?;
        Ok(Wrapped { provider: self.kind, key_id, blob })
    }

    async fn unwrap(&self, wrapped: &Wrapped, context: Context) -> Result<KeyBytes, Error> {
        if wrapped.provider != self.kind {
            let wanted = format!("{} ({})", wrapped.provider, wrapped.key_id);
            return Err(Error::WrongKey { wanted, have: format!("the provider {}", self.kind) });
        }
        self.provider.unwrap(wrapped, context).await
    }

    async fn probe(&self, canary: Option<(&Wrapped, Context)>) -> Result<(), Error> {
        if let Provider::Local(local) = &self.provider {
            local.check()?;
        }
        if let Some((wrapped, context)) = canary {
            return self.unwrap(wrapped, context).await.map(|_| ());
        }
        let (key, context) = random()?;
        let wrapped = self.wrap(&key, context).await?;
        same(&key, &self.unwrap(&wrapped, context).await?)
    }
}

impl Provider {
    async fn wrap(&self, key: &KeyBytes, context: Context) -> Result<(String, Vec<u8>), Error> {
        match self {
            Self::Local(local) => Ok((local.key_id(), local.wrap(key, context)?)),
            Self::Aws(aws) => aws.wrap(key, context).await,
            Self::Vault(vault) => vault.wrap(key, context).await,
            Self::Http(http) => http.wrap(key, context).await,
        }
    }

    async fn unwrap(&self, wrapped: &Wrapped, context: Context) -> Result<KeyBytes, Error> {
        match self {
            Self::Local(local) => local.unwrap(&wrapped.blob, context),
            Self::Aws(aws) => aws.unwrap(wrapped, context).await,
            Self::Vault(vault) => vault.unwrap(wrapped, context).await,
            Self::Http(http) => http.unwrap(wrapped, context).await,
        }
    }

    async fn describe(&self) -> Result<String, Error> {
        match self {
            Self::Local(local) => Ok(local.key_id()),
            Self::Aws(aws) => aws.describe().await,
            Self::Vault(vault) => vault.describe().await,
            Self::Http(http) => http.describe().await,
        }
    }
}

/// A random key in a random context, for a check.
fn random() -> Result<(KeyBytes, Context), Error> {
    let (mut key, mut database_id) = (KeyBytes::default(), [0; 16]);
    rand::fill(key.as_mut_slice())
        .and_then(|()| rand::fill(&mut database_id))
        .map_err(|_| Error::unavailable("the system gives no random bytes"))?;
    Ok((key, Context { database_id, epoch: 0 }))
}

fn same(key: &KeyBytes, unwrapped: &KeyBytes) -> Result<(), Error> {
    let same = aws_lc_rs::constant_time::verify_slices_are_equal(key.as_slice(), unwrapped.as_slice());
    same.map_err(|_| Error::invalid("a key came back as another one"))
}

impl fmt::Debug for Kms {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Kms({})", self.0.kind)
    }
}

#[cfg(test)]
mod tests;
