//! For operators: a backup of the running server, on its own disks.

use std::io;
use std::time::Duration;

use axum::body::Body;
use axum::http::StatusCode;
use axum::response::Response;
use serde::{Deserialize, Serialize};
use tokio::task::spawn_blocking;
use utoipa::ToSchema;

use super::audited::audited;
use super::error::{Error, Row, row};
use super::output;
use super::request::Request;
use crate::backup::remote::Error as PlaceError;
use crate::backup::{Backups, CutError, Failed, Form, Made, MakeError};

/// Where the backup goes, and as what.
#[derive(Deserialize, Default, ToSchema)]
#[serde(default)]
pub(super) struct BackupRequest {
    /// Its name in `backup.root`, which must be free: up to 100 letters, digits, dots, dashes and underscores, no dot first.
    /// Without one it is called after the time.
    #[schema(nullable = false, example = "before-upgrade.pdbk")]
    name: Option<String>,
    format: Format,
}

/// An archive, or a directory with the same files.
#[derive(Clone, Copy, Deserialize, Serialize, Default, ToSchema)]
#[serde(rename_all = "lowercase")]
enum Format {
    #[default]
    Tar,
    Dir,
}

/// A backup that was made, read again and compared.
#[derive(Serialize, ToSchema)]
pub(super) struct BackupResponse {
    /// On the server.
    #[schema(example = "/var/backups/progressdb/progressdb-20260102T030405Z.pdbk")]
    path: String,
    /// What it takes on disk.
    bytes: u64,
    /// Client writes that are in it, counted like `sequence` of `/readyz`.
    sequence: u64,
    /// SHA-256 of its `manifest.json`, which has that of every file: 64 hexadecimal digits.
    sha256: String,
    seconds: f64,
}

impl BackupResponse {
    fn of(made: Made, took: Duration) -> Self {
        let (sequence, sha256) = (made.manifest.sequence, hex::encode(made.manifest.sha256()));
        Self { path: made.at, bytes: made.bytes, sequence, sha256, seconds: took.as_secs_f64() }
    }
}

/// Makes a backup of the running server in `backup.root`, one at a time, and answers when it is whole. It goes on if the
/// client hangs up. Audited.
#[utoipa::path(
    post,
    path = "/admin/backup",
    tag = "admin",
    request_body(content = Option<BackupRequest>),
    responses((status = 201, description = "Made", body = BackupResponse)),
)]
pub(super) async fn create_backup(request: Request, body: Body) -> Result<Response, Error> {
    let BackupRequest { name, format } = request.options(body).await?;
    let form = match format {
        Format::Tar => Form::Tar,
        Format::Dir => Form::Dir,
    };
    let backups = request.backups()?.clone();
    let (made, took) = audited(make(backups, name, form)).await?;
    Ok(output::json(StatusCode::CREATED, &BackupResponse::of(made, took)))
}

async fn make(backups: Backups, name: Option<String>, form: Form) -> Result<(Made, Duration), Error> {
    let making = spawn_blocking(move || {
        let made = backups.make_in_root(name.as_deref(), form);
        if let Ok((Made { at, bytes, .. }, took)) = &made {
            let ms = took.as_millis() as u64;
            tracing::info!(target: "audit", event = "admin.backup_made", path = at, bytes, ms);
        }
        made
    });
    let made = making.await.unwrap_or_else(|error| {
        let (what, source) = ("the backup ended by a panic".to_owned(), io::Error::other(error));
        Err(MakeError::Failed(Failed::Io { what, source }.into()))
    });
    made.map_err(Error::Backup)
}

/// The part of the table of errors that is about backups.
pub(super) fn row_of(error: &MakeError) -> Row {
    use MakeError as E;
    use StatusCode as S;
    match error {
        E::NoRoot | E::RootMissing(_) => row(S::CONFLICT, "backup_root_missing", error.to_string()),
        E::Name => row(S::BAD_REQUEST, "validation_failed", format!("validation errors: name: {error}")),
        E::Running => row(S::CONFLICT, "backup_running", error.to_string()),
        E::Failed(PlaceError::Failed(Failed::Exists { .. })) => row(S::CONFLICT, "backup_exists", error.to_string()),
        E::Failed(PlaceError::Failed(Failed::Inside { .. })) => {
            row(S::CONFLICT, "backup_root_inside", error.to_string())
        }
        E::Cut(CutError::TooMany) => row(S::TOO_MANY_REQUESTS, "too_many_backups", error.to_string()),
        E::Cut(CutError::DiskFull) => row(S::INSUFFICIENT_STORAGE, "disk_full", error.to_string()),
        E::Failed(PlaceError::Failed(Failed::Io { source, .. })) if source.kind() == io::ErrorKind::StorageFull => {
            row(S::INSUFFICIENT_STORAGE, "backup_disk_full", "no backup was made: the disk of backup.root is full")
        }
        E::Stopped => row(S::SERVICE_UNAVAILABLE, "stopped", "server shutting down"),
        E::Cut(CutError::Engine(_) | CutError::Unreadable(_)) | E::Failed(_) => {
            row(S::INTERNAL_SERVER_ERROR, "backup_failed", "no backup was made: the server's log says why")
        }
    }
}
