//! What changes without a restart: API keys when their files change, and on SIGHUP every setting that can.
//!
//! The files are read in a thread of their own, because a read from a network file system may never return; the thread has
//! no access to the database. Requests in progress go on with the keys they began with. If a file cannot be used, the
//! former keys or settings stay in force, and an event says why.
//!
//! | Metric | Kind | Labels |
//! |---|---|---|
//! | `progressdb_api_keys` | gauge | list: `backend`, `frontend`, `admin`, `signing` |
//! | `progressdb_key_files_refused` | gauge | |
//! | `progressdb_config_reloads_total` | counter | outcome: `taken`, `refused` |

use std::io;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use metrics::{counter, gauge};

use crate::config::{Config, Found, KeyFiles, Reread, Running, log_warnings};
use crate::http::{ApiKeys, KeysInForce};
use crate::telemetry;

/// Time between two looks at the key files. A change is in force after two looks, so that no half-written file counts.
const LOOK_EVERY: Duration = Duration::from_secs(1);

struct Reloader {
    in_force: KeysInForce,
    key_files: KeyFiles,
    running: Running,
}

/// Starts the thread: it looks at key files all the time, and reads the whole configuration after each message of
/// `hangups`. It ends when their sender is dropped.
pub(super) fn start(in_force: KeysInForce, config: &Config, running: Running, hangups: Receiver<()>) -> io::Result<()> {
    for outcome in ["taken", "refused"] {
        counter!("progressdb_config_reloads_total", "outcome" => outcome).increment(0);
    }
    let mut reloader = Reloader { in_force, key_files: config.key_files.clone(), running };
    reloader.measure(&config.keys);
    thread::Builder::new().name("reload".to_owned()).spawn(move || {
        loop {
            match hangups.recv_timeout(LOOK_EVERY) {
                Ok(()) => reloader.reread(),
                Err(RecvTimeoutError::Timeout) => reloader.look(),
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    })?;
    Ok(())
}

impl Reloader {
    fn look(&mut self) {
        let found = self.key_files.look();
        if found.is_empty() {
            return;
        }
        let (mut lists, mut all_added, mut all_removed) = (Vec::new(), 0, 0);
        for found in found {
            match found {
                Found::Changed { list, added, removed } => {
                    lists.push(list);
                    all_added += added;
                    all_removed += removed;
                }
                Found::Refused { list, path, why } => tracing::warn!(
                    event = "keys.file_refused", list, path = %path.display(), why, "its former keys stay in force"
                ),
                Found::Mended { list, path } => {
                    tracing::info!(event = "keys.file_mended", list, path = %path.display());
                }
            }
        }
        if lists.is_empty() {
            gauge!("progressdb_key_files_refused").set(self.key_files.refused() as f64);
        } else {
            self.take(&self.key_files.keys(), &lists.join(" "), all_added, all_removed);
        }
    }

    fn reread(&mut self) {
        let reread = match self.running.reread() {
            Ok(reread) => reread,
            Err(error) => {
                counter!("progressdb_config_reloads_total", "outcome" => "refused").increment(1);
                let why = error.to_string().replace('\n', "; ");
                tracing::error!(target: "audit", event = "config.reload_refused", why, "everything stays as it was");
                return;
            }
        };
        let Reread { keys, log, taken, needs_restart, warnings } = reread;
        telemetry::set_level(&log);
        if let Some((keys, key_files)) = keys {
            let (lists, added, removed) = self.key_files.compare(&key_files);
            self.key_files = key_files;
            if lists.is_empty() {
                self.measure(&keys);
            } else {
                self.take(&keys, &lists.join(" "), added, removed);
            }
        }
        log_warnings(&warnings);
        counter!("progressdb_config_reloads_total", "outcome" => "taken").increment(1);
        let (taken, needs_restart) = (taken.join(", "), needs_restart.join(", "));
        tracing::info!(target: "audit", event = "config.reloaded", taken, needs_restart);
    }

    fn take(&self, keys: &ApiKeys, lists: &str, added: usize, removed: usize) {
        self.in_force.replace(keys);
        self.measure(keys);
        tracing::info!(
            target: "audit",
            event = "keys.changed",
            lists,
            added,
            removed,
            backend = keys.backend.len(),
            frontend = keys.frontend.len(),
            admin = keys.admin.len(),
            signing = keys.signing.len(),
        );
    }

    fn measure(&self, keys: &ApiKeys) {
        let ApiKeys { backend, frontend, admin, signing } = keys;
        for (list, keys) in [("backend", backend), ("frontend", frontend), ("admin", admin), ("signing", signing)] {
            gauge!("progressdb_api_keys", "list" => list).set(keys.len() as f64);
        }
        gauge!("progressdb_key_files_refused").set(self.key_files.refused() as f64);
    }
}
