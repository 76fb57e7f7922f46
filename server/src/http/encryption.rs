//! For operators: the state of encryption, and its jobs.

use axum::body::Body;
use axum::http::StatusCode;
use axum::response::Response;
use serde::{Deserialize, Serialize, Serializer};
use utoipa::ToSchema;

use super::audited::audited;
use super::error::Error;
use super::input;
use super::output;
use super::request::Request;
use crate::db::{Db, JobProgress, SealedThread};
use crate::model::ThreadId;

/// The state of encryption.
#[derive(Serialize, ToSchema)]
pub(super) struct EncryptionStatus {
    enabled: bool,
    /// Every value is sealed, and a plain one is damage.
    all_sealed: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    kms: Option<KmsStatus>,
    epochs: Vec<EpochStatus>,
    /// The job that seals what is plain and wraps data keys anew.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    sealing: Option<SealingStatus>,
    /// Data keys in memory.
    cached_keys: u64,
    /// Unix nanoseconds since when the remains of an erased thread wait for a compaction.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    erasure_pending_since_ts: Option<u64>,
}

/// The key management service.
#[derive(Serialize, ToSchema)]
struct KmsStatus {
    #[schema(example = "vault")]
    provider: &'static str,
    /// `false` if writes are refused because it has been gone for too long.
    may_seal: bool,
    /// `false` if reads are refused too.
    may_open: bool,
    /// Seconds since its last successful call.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    seconds_since_success: Option<u64>,
    /// Its last error, if it has not succeeded since.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    failure: Option<String>,
}

/// A key that wraps data keys.
#[derive(Serialize, ToSchema)]
struct EpochStatus {
    epoch: u32,
    /// Unix nanoseconds.
    created_ts: u64,
    /// Providers and their keys.
    #[schema(example = "vault:progressdb:v3")]
    wrapped_by: String,
}

/// Progress of the sealing job.
#[derive(Serialize, ToSchema)]
pub(super) struct SealingStatus {
    #[schema(example = "running")]
    state: &'static str,
    /// The epoch that it works for.
    epoch: u32,
    /// Unix nanoseconds.
    started_ts: u64,
    /// Threads visited.
    threads: u64,
    /// Users visited.
    users: u64,
    /// Values sealed, or sealed anew.
    values: u64,
    /// Data keys wrapped anew.
    keys: u64,
    /// Threads and users that failed; the log names them.
    failed: u64,
}

impl SealingStatus {
    fn of(progress: &JobProgress, current_epoch: u32) -> Self {
        let state = match progress {
            JobProgress { finished: 0, .. } => "running",
            JobProgress { failed: 1.., .. } => "failed",
            JobProgress { epoch, .. } if *epoch != current_epoch => "waiting",
            _ => "done",
        };
        let JobProgress { epoch, started, threads, users, values, keys, failed, .. } = *progress;
        Self { state, epoch, started_ts: started, threads, users, values, keys, failed }
    }
}

/// The state of encryption.
#[utoipa::path(
    get,
    path = "/admin/encryption/status",
    tag = "encryption",
    responses((status = 200, description = "State", body = EncryptionStatus)),
)]
pub(super) async fn get_status(request: Request) -> Result<Response, Error> {
    let db = request.db()?;
    let kms = db.kms_health().map(|(provider, health)| KmsStatus {
        provider: provider.as_str(),
        may_seal: health.may_seal,
        may_open: health.may_open,
        seconds_since_success: health.since_success.map(|since| since.as_secs()),
        failure: health.failure,
    });
    let epochs = db.epochs().await?;
    let current = epochs.last().map_or(0, |(epoch, ..)| *epoch);
    let epochs = epochs.into_iter();
    let epochs = epochs.map(|(epoch, created_ts, wrapped_by)| EpochStatus { epoch, created_ts, wrapped_by });
    let status = EncryptionStatus {
        enabled: kms.is_some(),
        all_sealed: db.is_all_sealed(),
        kms,
        epochs: epochs.collect(),
        sealing: db.sealing_progress().await?.as_ref().map(|progress| SealingStatus::of(progress, current)),
        cached_keys: db.cached_keys(),
        erasure_pending_since_ts: db.erasure_pending_since().await?,
    };
    Ok(output::json(StatusCode::OK, &status))
}

/// What to rotate.
#[derive(Deserialize, Default, ToSchema)]
#[serde(default)]
pub(super) struct RotateRequest {
    /// Only count the data keys that would be wrapped anew, and the values that would be sealed.
    dry_run: bool,
}

/// What a rotation started, or would start.
#[derive(Serialize, ToSchema)]
pub(super) struct RotateResponse {
    dry_run: bool,
    /// The newest epoch.
    epoch: u32,
    /// What a dry run counted.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    would_change: Option<SealingStatus>,
}

/// Begins a new epoch. Data keys are wrapped anew in the background: see the status.
#[utoipa::path(
    post,
    path = "/admin/encryption/rotate",
    tag = "encryption",
    request_body(content = Option<RotateRequest>),
    responses((status = 202, description = "Begun", body = RotateResponse)),
)]
pub(super) async fn rotate(request: Request, body: Body) -> Result<Response, Error> {
    let RotateRequest { dry_run } = request.options(body).await?;
    let db = request.db()?;
    let response = if dry_run {
        let counted = db.count_unsealed().await?;
        let would_change = SealingStatus { state: "counted", ..SealingStatus::of(&counted, counted.epoch) };
        RotateResponse { dry_run, epoch: counted.epoch, would_change: Some(would_change) }
    } else {
        let epoch = audited(async { Ok(db.begin_epoch().await?) }).await?;
        db.want_sealing();
        RotateResponse { dry_run, epoch, would_change: None }
    };
    Ok(output::json(StatusCode::ACCEPTED, &response))
}

/// The thread to encrypt anew.
#[derive(Deserialize, ToSchema)]
pub(super) struct ReencryptRequest {
    #[schema(example = "t:1763700000000000000")]
    thread: String,
}

/// What was encrypted anew.
#[derive(Serialize, ToSchema)]
pub(super) struct ReencryptResponse {
    #[serde(serialize_with = "display")]
    #[schema(value_type = String, example = "t:1763700000000000000")]
    thread: ThreadId,
    /// Values sealed with the new key.
    values: u64,
}

/// Encrypts one thread again, with a new key of its own.
#[utoipa::path(
    post,
    path = "/admin/encryption/reencrypt",
    tag = "encryption",
    request_body(content = ReencryptRequest),
    responses((status = 200, description = "Done", body = ReencryptResponse)),
)]
pub(super) async fn reencrypt(request: Request, body: Body) -> Result<Response, Error> {
    let input: ReencryptRequest = input::parse(&request.read(body).await?, "invalid request")?;
    let thread = input.thread.parse().map_err(Error::InvalidKey)?;
    let db = request.db()?;
    let visit = audited(async { Ok(db.reencrypt_thread(thread).await?) }).await?;
    Ok(output::json(StatusCode::OK, &ReencryptResponse { thread, values: visit.values }))
}

/// The results of encrypting threads.
#[derive(Serialize, ToSchema)]
pub(super) struct EncryptResponse {
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    message: Option<&'static str>,
    summary: EncryptSummary,
    /// The threads that were not encrypted yet, at most 1 000 of them; the rest follows in the background.
    results: Vec<EncryptResult>,
}

#[derive(Serialize, Default, ToSchema)]
struct EncryptSummary {
    /// Threads looked at.
    total: u64,
    success: u64,
    /// Threads that were encrypted before.
    skipped: u64,
    errors: u64,
}

#[derive(Serialize, ToSchema)]
struct EncryptResult {
    #[serde(serialize_with = "display")]
    #[schema(value_type = String, example = "t:1763700000000000000")]
    thread_key: ThreadId,
    #[schema(example = "ok")]
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    error: Option<String>,
    /// The name of the thread's key.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    dek_key_id: Option<String>,
}

/// Encrypts threads that were written before encryption was turned on, without waiting for the background job.
#[utoipa::path(
    post,
    path = "/admin/encryption/encrypt-threads",
    tag = "encryption",
    request_body(content = Object),
    responses((status = 200, description = "Done", body = EncryptResponse)),
)]
pub(super) async fn encrypt_threads(request: Request, body: Body) -> Result<Response, Error> {
    let _: serde_json::Map<String, serde_json::Value> = input::parse(&request.read(body).await?, "invalid request")?;
    let db = request.db()?;
    let (sealed, skipped) = db.seal_threads().await?;
    db.want_sealing();
    let mut summary = EncryptSummary { total: skipped + sealed.len() as u64, skipped, ..EncryptSummary::default() };
    let mut results = Vec::with_capacity(sealed.len());
    for SealedThread { thread, outcome } in sealed {
        let (status, error, dek_key_id) = match outcome {
            Ok(key_id) => ("ok", None, key_id),
            Err(error) => ("error", Some(error.to_string()), None),
        };
        *(if error.is_none() { &mut summary.success } else { &mut summary.errors }) += 1;
        results.push(EncryptResult { thread_key: thread, status, error, dek_key_id });
    }
    let message = (summary.total == 0).then_some("no threads found");
    Ok(output::json(StatusCode::OK, &EncryptResponse { message, summary, results }))
}

/// What a compaction did.
#[derive(Serialize, ToSchema)]
pub(super) struct CompactResponse {
    #[schema(example = "ok")]
    status: &'static str,
    /// Checkpoints that were deleted: a rollback to what they held is no longer possible.
    checkpoints_deleted: Vec<String>,
}

/// Rewrites every file of the store, so that nothing of what was erased is left on the disk. Checkpoints are deleted,
/// and with them the way back to an earlier version of the server.
#[utoipa::path(
    post,
    path = "/admin/encryption/compact",
    tag = "encryption",
    responses((status = 200, description = "Done", body = CompactResponse)),
)]
pub(super) async fn compact(request: Request) -> Result<Response, Error> {
    let db = request.db()?;
    let checkpoints_deleted = audited(compact_everything(db)).await?;
    Ok(output::json(StatusCode::OK, &CompactResponse { status: "ok", checkpoints_deleted }))
}

async fn compact_everything(db: &Db) -> Result<Vec<String>, Error> {
    let checkpoints = db.checkpoints();
    db.compact_everything().await?;
    Ok(checkpoints)
}

fn display<S: Serializer>(thread: &ThreadId, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(thread)
}
