//! Actions that are audited: none is done while nobody could see its line.
//!
//! Audit lines go through a buffer, so that a reader of standard error who stands still holds up nobody else. Whoever
//! asks for such an action waits a moment for the lines before it, and is refused if they do not get through.

use std::time::Duration;

use super::error::Error;
use crate::telemetry;

/// How long somebody waits for the reader of the log.
const PATIENCE: Duration = Duration::from_secs(2);

/// Does what is audited once all audit lines before it are written, or refuses. What was done is answered when its own
/// line is written or, because it is done, a moment later.
pub(super) async fn audited<T>(action: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    written().await?;
    let done = action.await?;
    // A line that still waits comes when somebody reads again.
    let _ = written().await;
    Ok(done)
}

/// Waits until all audit lines are written. What is only shown is not shown before.
pub(super) async fn written() -> Result<(), Error> {
    if telemetry::audit_is_written(PATIENCE).await { Ok(()) } else { Err(Error::AuditUnwritable) }
}
