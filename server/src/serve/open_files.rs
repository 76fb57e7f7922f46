//! The limit of open files, divided so that connections can never take what the store needs.
//!
//! Clients open connections, and anybody can be a client; the store opens files as it grows, and one that it cannot open
//! stops the server; the KMS, the collector and key files need some at any time. So each gets a fixed share at the start:
//! first all other uses, then the store; connections get what is left.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::StartupError;
use crate::config::Config;

/// For all uses but connections and the store's tables: the write-ahead log, files that a flush or a compaction writes,
/// listeners, the KMS, the collector, key files, and the runtime.
const OTHER: u64 = 64;
/// The tables that the store may have open: enough to read one of each level and family.
const TABLES: std::ops::RangeInclusive<u64> = 32..=8192;
/// Connections of the management listener: probes, scrapes, and people.
const MANAGEMENT: std::ops::RangeInclusive<u64> = 8..=128;
/// With fewer a server is of no use.
const LEAST_CONNECTIONS: u64 = 16;
/// The least limit under which a server starts.
const LEAST: u64 = OTHER + *TABLES.start() + *MANAGEMENT.start() + LEAST_CONNECTIONS;

/// The shares of one process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct OpenFiles {
    /// The process's limit, if it has one.
    limit: Option<u64>,
    /// Tables of the store.
    pub(super) tables: u64,
    /// Connections of the management listener.
    pub(super) management: usize,
    /// Connections of the API.
    pub(super) connections: usize,
}

impl OpenFiles {
    /// Raises the process's limit as far as it may, and divides it.
    pub(super) fn of_process(config: &Config) -> Result<Self, StartupError> {
        let limit = raise_limit();
        Self::share(limit, config.max_connections).ok_or_else(|| {
            let limit = limit.unwrap_or_default();
            StartupError::Config(format!(
                "open files: the system allows {limit}: want at least {LEAST}, better 65536; raise it with \
                 `ulimit -Hn`, LimitNOFILE= of systemd or --ulimit nofile= of the container"
            ))
        })
    }

    fn share(limit: Option<u64>, max_connections: usize) -> Option<Self> {
        let rest = limit.unwrap_or(u64::MAX).checked_sub(OTHER)?;
        let tables = (rest / 4).clamp(*TABLES.start(), *TABLES.end());
        let rest = rest.checked_sub(tables)?;
        let management = (rest / 8).clamp(*MANAGEMENT.start(), *MANAGEMENT.end());
        let rest = rest.checked_sub(management).filter(|rest| *rest >= LEAST_CONNECTIONS)?;
        let count = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
        let (connections, management) = (count(rest).min(max_connections), count(management));
        Some(Self { limit, tables, management, connections })
    }

    /// Logs the shares, and warns if the configured number of connections is not reached.
    pub(super) fn log(&self, configured: usize) {
        let open_files = self.limit.map_or_else(|| "unlimited".to_owned(), |limit| limit.to_string());
        let Self { tables, management, connections, .. } = *self;
        tracing::info!(event = "server.limits", open_files, connections, management, tables);
        if connections < configured {
            tracing::warn!(
                event = "server.connections_reduced",
                connections,
                configured,
                "the limit of open files allows no more: raise it to serve server.max_connections"
            );
        }
    }
}

/// Raises the soft limit of open files to the hard one, if the system allows it. Returns the limit then in force; none if
/// it is unlimited.
fn raise_limit() -> Option<u64> {
    let limit = getrlimit(Resource::Nofile);
    match setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum }) {
        Ok(()) => limit.maximum,
        Err(error) => {
            tracing::warn!(event = "startup.open_files_limit", %error, "the limit of open files stays as it is");
            limit.current
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_share_is_larger_than_what_is_left() {
        for limit in (0..5_000).chain([65_536, 524_288, 1 << 20, u64::MAX]) {
            let Some(shares) = OpenFiles::share(Some(limit), 1_000_000) else {
                assert!(limit < LEAST, "{limit} is refused");
                continue;
            };
            assert!(limit >= LEAST, "{limit} is accepted");
            let used = OTHER + shares.tables + (shares.management + shares.connections) as u64;
            assert!(used <= limit, "{limit}: {shares:?}");
            assert!(shares.connections as u64 >= LEAST_CONNECTIONS, "{limit}: {shares:?}");
        }
    }

    #[test]
    fn connections_are_as_configured_where_the_limit_allows_it() {
        let shares = |limit, configured| OpenFiles::share(limit, configured).expect("above the least");
        assert_eq!(shares(Some(65_536), 10_000).connections, 10_000);
        assert_eq!(shares(None, 10_000).connections, 10_000);
        assert_eq!(shares(Some(65_536), 1).connections, 1);
        let small = OpenFiles { limit: Some(256), tables: 48, management: 18, connections: 126 };
        assert_eq!(shares(Some(256), 10_000), small);
    }

    #[test]
    fn the_limit_of_open_files_is_raised_to_the_hard_one() {
        let raised = raise_limit();
        let limit = getrlimit(Resource::Nofile);
        assert_eq!((limit.current, raised), (limit.maximum, limit.maximum));
    }
}
