//! Which events are logged: those of the level or of `RUST_LOG`, and audit events always.

use std::sync::OnceLock;

use tracing::level_filters::LevelFilter;
use tracing::{Level, Metadata};
use tracing_subscriber::filter::{FilterExt as _, filter_fn};
use tracing_subscriber::layer::Filter;
use tracing_subscriber::{EnvFilter, Registry, reload};

use super::Log;

/// The target of audit events: who did what to keys, rows and users.
const AUDIT: &str = "audit";

/// The part that can be changed while the process runs.
static REQUESTED: OnceLock<reload::Handle<EnvFilter, Registry>> = OnceLock::new();

pub(super) fn is_audit(event: &Metadata<'_>) -> bool {
    event.target() == AUDIT
}

/// The filter, and the directives of `RUST_LOG` that are invalid.
pub(super) fn new(log: &Log) -> (impl Filter<Registry> + use<>, Vec<String>) {
    let (requested, refused) = requested(log);
    let (requested, handle) = reload::Layer::new(requested);
    let _ = REQUESTED.set(handle);
    let audit = filter_fn(is_audit).with_max_level_hint(LevelFilter::INFO);
    let events = filter_fn(|metadata| metadata.is_event()).with_max_level_hint(LevelFilter::TRACE);
    (requested.or(audit).and(events), refused)
}

/// Changes what is logged from now on.
pub fn set_level(log: &Log) {
    if let Some(handle) = REQUESTED.get() {
        // Fails only when the log is gone already.
        let _ = handle.reload(requested(log).0);
    }
}

/// At the level `info` the first two libraries log their credentials' names, and the last two each request that they try
/// again: what comes of that is told by who asked.
fn level_of(level: Level) -> String {
    let retries = if level > Level::INFO { level } else { level.min(Level::WARN) };
    let attempts = if level > Level::INFO { level.to_string() } else { "off".to_owned() };
    format!("{level},aws_config=warn,aws_runtime=warn,object_store={retries},scylla={attempts}").to_lowercase()
}

fn requested(log: &Log) -> (EnvFilter, Vec<String>) {
    let level = level_of(log.level);
    let of_level = || EnvFilter::builder().parse_lossy(&level);
    let Some(directives) = &log.directives else { return (of_level(), Vec::new()) };
    if let Ok(filter) = EnvFilter::builder().parse(directives) {
        return (filter, Vec::new());
    }
    // An invalid directive must not disable the others.
    let (good, bad): (Vec<&str>, Vec<&str>) =
        directives.split(',').partition(|directive| EnvFilter::builder().parse(directive).is_ok());
    let filter = match EnvFilter::builder().parse(good.join(",")) {
        Ok(filter) if !good.is_empty() => filter,
        _ => of_level(),
    };
    (filter, bad.into_iter().map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(directives: Option<&str>, filter: &str, refused: &[&str]) {
        let directives = directives.map(str::to_owned);
        let log = Log { level: tracing::Level::WARN, directives, format: super::super::LogFormat::Text };
        let (got, got_refused) = requested(&log);
        let sorted = |text: &str| text.split(',').map(str::to_owned).collect::<std::collections::BTreeSet<_>>();
        assert_eq!(sorted(&got.to_string()), sorted(filter));
        assert_eq!(got_refused, refused);
    }

    #[test]
    fn an_invalid_directive_is_named_and_the_others_hold() {
        let level = "aws_config=warn,aws_runtime=warn,object_store=warn,scylla=off,warn";
        check(None, level, &[]);
        check(Some("error"), "error", &[]);
        check(Some("progressdb_server=debug,info"), "progressdb_server=debug,info", &[]);
        check(Some("=no=where,info"), "info", &["=no=where"]);
        check(Some("=no=where"), level, &["=no=where"]);
    }

    #[test]
    fn requests_that_are_tried_again_are_logged_for_those_who_look_for_causes() {
        for (level, told, driver) in [
            ("error", "error", "off"),
            ("warn", "warn", "off"),
            ("info", "warn", "off"),
            ("debug", "debug", "debug"),
            ("trace", "trace", "trace"),
        ] {
            let filter = level_of(level.parse().unwrap());
            let libraries = format!(",object_store={told},scylla={driver}");
            assert!(filter.starts_with(level) && filter.ends_with(&libraries), "{filter}");
        }
    }
}
