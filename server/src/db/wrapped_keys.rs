//! The wrapped epoch keys of a store, outside of it, and whether a KMS opens them.
//!
//! Whoever is about to change the KMS or its settings learns beforehand whether the store would open at the next start.
//! Wrapped keys open nothing without the KMS; they are listed for administrators, and plain keys never leave.

use super::epochs::{EpochError, list_epochs, unwrap_by};
use super::{Db, Error};
use crate::crypt::kms::{Context, Kms};
use crate::model::{Commitment, Wrapped};
use crate::rows::EpochKey;
use crate::store::Store;

/// All wrapped epoch keys of one store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WrappedKeys {
    /// What they are bound to, beside the number of the epoch.
    pub database_id: [u8; 16],
    /// Oldest first.
    pub epochs: Vec<WrappedEpoch>,
}

/// The key of one epoch, as often as it was wrapped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WrappedEpoch {
    /// The number of the epoch.
    pub epoch: u32,
    /// What the key commits to.
    pub commitment: Commitment,
    /// By whom it was wrapped; the newest last.
    pub wraps: Vec<Wrapped>,
}

impl WrappedKeys {
    /// Those in a store; none if nothing in it is encrypted. Opens none of them.
    pub async fn of(store: &Store, database_id: [u8; 16]) -> Result<Self, Error> {
        let wrapped = |(epoch, row, _): (u32, EpochKey, _)| {
            let EpochKey { commitment, wraps, .. } = row;
            WrappedEpoch { epoch, commitment, wraps }
        };
        Ok(Self { database_id, epochs: list_epochs(store).await?.into_iter().map(wrapped).collect() })
    }

    /// Has the KMS open the key of every epoch; those that it does not open, and why.
    pub async fn open_with(&self, kms: &Kms) -> Vec<(u32, EpochError)> {
        let mut failed = Vec::new();
        for WrappedEpoch { epoch, commitment, wraps } in &self.epochs {
            let context = Context { database_id: self.database_id, epoch: *epoch };
            // When the epoch began does not matter for its key.
            let row = EpochKey { created: 0, commitment: *commitment, wraps: wraps.clone() };
            if let Err(error) = unwrap_by(kms, context, &row).await {
                failed.push((*epoch, error));
            }
        }
        failed
    }
}

impl Db {
    /// The wrapped keys of all epochs; none if nothing is encrypted.
    pub async fn wrapped_keys(&self) -> Result<WrappedKeys, Error> {
        WrappedKeys::of(&self.0.store, self.0.database_id).await
    }
}
