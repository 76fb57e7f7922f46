//! Resources that we wrote to, until the watch shows them: a decision must not rest on an older version than our own last
//! write, and our own writes must not trigger a reconcile.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard},
};

use kube::{Resource, ResourceExt};

use crate::{crd::ProgressDB, raw::Raw};

/// The resources that we wrote to and that the watch has not shown yet, by uid.
#[derive(Debug, Default)]
pub(super) struct OwnWrites(Mutex<HashMap<String, Arc<ProgressDB>>>);

impl OwnWrites {
    /// The resource as we wrote it last, until the watch shows that or something later.
    pub(super) fn newest(&self, resource: Arc<ProgressDB>) -> Arc<ProgressDB> {
        let uid = resource.uid().unwrap_or_default();
        let mut written = self.lock();
        match written.get(&uid) {
            Some(ours) if version(&**ours) > version(&*resource) => Arc::clone(ours),
            Some(_) => {
                written.remove(&uid);
                resource
            }
            None => resource,
        }
    }

    /// Keeps what the API server answered to a write; returns the resource as it then is.
    pub(super) fn keep(&self, resource: Arc<ProgressDB>, written: Option<ProgressDB>) -> Arc<ProgressDB> {
        let Some(written) = written else { return resource };
        let written = Arc::new(written);
        let uid = written.uid().unwrap_or_default();
        let mut kept = self.lock();
        if written.meta().deletion_timestamp.is_some() && written.finalizers().is_empty() {
            // It is gone, and no watch will show a later version.
            kept.remove(&uid);
        } else {
            kept.insert(uid, Arc::clone(&written));
        }
        written
    }

    /// Whether a version that the watch shows is one that we wrote, or an older one.
    pub(super) fn contains(&self, shown: &Raw) -> bool {
        let mut written = self.lock();
        let uid = shown.uid().unwrap_or_default();
        let Some(ours) = written.get(&uid).map(|ours| version(&**ours)) else { return false };
        // From now on the cache has it.
        if ours == version(shown) {
            written.remove(&uid);
        }
        ours >= version(shown)
    }

    /// Forgets a resource that is gone.
    pub(super) fn forget(&self, uid: &str) {
        self.lock().remove(uid);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Arc<ProgressDB>>> {
        self.0.lock().expect("nobody panics while holding it")
    }
}

fn version(resource: &impl ResourceExt) -> u64 {
    resource.resource_version().and_then(|version| version.parse().ok()).unwrap_or(0)
}
