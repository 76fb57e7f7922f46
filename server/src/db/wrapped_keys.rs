//! The wrapped epoch keys of a store, outside of it, and whether a KMS opens them.
//!
//! Whoever is about to change the KMS or its settings learns beforehand whether the store would open at the next start.
//! Wrapped keys open nothing without the KMS; they are listed for administrators, and plain keys never leave.

use super::epochs::{EpochError, list_epochs, unwrap_by};
use super::{Db, Error};
use crate::crypt::kms::{Context, Kms};
use crate::rows::EpochKey;

/// All wrapped epoch keys of one store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WrappedKeys {
    /// What they are bound to, beside the number of the epoch.
    pub database_id: [u8; 16],
    /// By epoch, oldest first.
    pub epochs: Vec<(u32, EpochKey)>,
}

impl WrappedKeys {
    /// Has the KMS open the key of every epoch; those that it does not open, and why.
    pub async fn open_with(&self, kms: &Kms) -> Vec<(u32, EpochError)> {
        let mut failed = Vec::new();
        for (epoch, row) in &self.epochs {
            let context = Context { database_id: self.database_id, epoch: *epoch };
            if let Err(error) = unwrap_by(kms, context, row).await {
                failed.push((*epoch, error));
            }
        }
        failed
    }
}

impl Db {
    /// The wrapped keys of all epochs; none if nothing is encrypted.
    pub async fn wrapped_keys(&self) -> Result<WrappedKeys, Error> {
        let epochs = list_epochs(&self.0.store).await?;
        let epochs = epochs.into_iter().map(|(epoch, row, _)| (epoch, row)).collect();
        Ok(WrappedKeys { database_id: self.0.database_id, epochs })
    }
}
