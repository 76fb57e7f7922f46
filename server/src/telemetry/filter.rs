//! Which events become lines: those that a level or `RUST_LOG` asks for, and what is audited, whatever they say.

use std::sync::OnceLock;

use tracing::Metadata;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::{FilterExt as _, filter_fn};
use tracing_subscriber::layer::Filter;
use tracing_subscriber::{EnvFilter, Registry, reload};

use super::Log;

/// The target of events that tell who did what to keys, rows and users.
const AUDIT: &str = "audit";

/// The part that can be changed while the process runs.
static ASKED_FOR: OnceLock<reload::Handle<EnvFilter, Registry>> = OnceLock::new();

pub(super) fn is_audit(event: &Metadata<'_>) -> bool {
    event.target() == AUDIT
}

/// The filter, and the directives of `RUST_LOG` that mean nothing.
pub(super) fn new(log: &Log) -> (impl Filter<Registry> + use<>, Vec<String>) {
    let (asked_for, refused) = asked_for(log);
    let (asked_for, handle) = reload::Layer::new(asked_for);
    let _ = ASKED_FOR.set(handle);
    let audit = filter_fn(is_audit).with_max_level_hint(LevelFilter::INFO);
    let events = filter_fn(|metadata| metadata.is_event()).with_max_level_hint(LevelFilter::TRACE);
    (asked_for.or(audit).and(events), refused)
}

/// Logs from now on what this asks for.
pub fn set_level(log: &Log) {
    if let Some(handle) = ASKED_FOR.get() {
        // It fails only when the process has no log any more.
        let _ = handle.reload(asked_for(log).0);
    }
}

fn asked_for(log: &Log) -> (EnvFilter, Vec<String>) {
    // Libraries tell who they log in as where we tell what happened.
    let level = format!("{},aws_config=warn,aws_runtime=warn", log.level.to_string().to_lowercase());
    let of_level = || EnvFilter::builder().parse_lossy(&level);
    let Some(directives) = &log.directives else { return (of_level(), Vec::new()) };
    if let Ok(filter) = EnvFilter::builder().parse(directives) {
        return (filter, Vec::new());
    }
    // One that is wrong must not take the others with it.
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
        let (got, got_refused) = asked_for(&log);
        let sorted = |text: &str| text.split(',').map(str::to_owned).collect::<std::collections::BTreeSet<_>>();
        assert_eq!(sorted(&got.to_string()), sorted(filter));
        assert_eq!(got_refused, refused);
    }

    #[test]
    fn a_directive_that_means_nothing_is_named_and_the_others_hold() {
        let level = "aws_config=warn,aws_runtime=warn,warn";
        check(None, level, &[]);
        check(Some("error"), "error", &[]);
        check(Some("progressdb_server=debug,info"), "progressdb_server=debug,info", &[]);
        check(Some("=no=where,info"), "info", &["=no=where"]);
        check(Some("=no=where"), level, &["=no=where"]);
    }
}
