//! Audited actions: none is done while its audit line could not be written.
//!
//! Audit lines go through a buffer, so that a stalled reader of standard error delays nothing else. An audited action
//! first waits until the lines before its own are written, and is refused if they are not within two seconds.

use std::time::Duration;

use super::error::Error;
use crate::telemetry;

/// How long an action waits for lines to be written.
const PATIENCE: Duration = Duration::from_secs(2);

/// Does the action once all audit lines before it are written, or refuses it. Afterwards waits for the action's own
/// line as well, but does not fail if that is late, because the action is done.
pub(super) async fn audited<T>(action: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    written().await?;
    let done = action.await?;
    // A line that still waits is written as soon as the log can be written again.
    let _ = written().await;
    Ok(done)
}

/// Waits until all audit lines are written; call it before something audited is shown.
pub(super) async fn written() -> Result<(), Error> {
    if telemetry::audit_is_written(PATIENCE).await { Ok(()) } else { Err(Error::AuditUnwritable) }
}
