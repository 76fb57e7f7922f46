//! For operators: counts, rows in readable form, users and their keys, retention, metrics.
//!
//! The middleware lets only admin keys through. Lists hold keys, not objects, and are always limited.

use axum::body::Body;
use axum::http::StatusCode;
use axum::response::Response;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::admin_rows::show;
use super::audited::{audited, written};
use super::error::Error;
use super::health::metrics_text;
use super::output;
use super::page::{ADMIN_LIMIT, PageRequest, Pagination, limit, parameter};
use super::parameters::{
    LimitQuery, MessageCursorQuery, MessagePath, RowCursorQuery, ThreadCursorQuery, ThreadPath, UserPath,
};
use super::request::{Query, Request};
use crate::db::{Db, NamedRow, Purged, RowRequest, RowStore};
use crate::model::{MessageId, MessageKey, Page, ThreadId, UserId};

/// Positions of the ids in `/admin/users/{user_id}/threads/{thread_key}/messages/{message_key}`.
const USER: usize = 2;
const THREAD: usize = 4;
const MESSAGE: usize = 6;
/// Position of the key in `/admin/keys/{key}`.
const KEY: usize = 2;

/// The process is alive.
#[derive(Serialize, ToSchema)]
pub(super) struct AdminHealth {
    #[schema(example = "ok")]
    status: &'static str,
    #[schema(example = "progressdb")]
    service: &'static str,
}

/// Counts of the whole store.
#[derive(Serialize, ToSchema)]
pub(super) struct StatsResponse {
    /// Threads that are not deleted.
    threads: u64,
    /// Messages ever created.
    messages: u64,
}

/// Names of rows.
#[derive(Serialize, ToSchema)]
pub(super) struct KeyPage {
    keys: Vec<String>,
    pagination: Pagination,
}

/// User ids.
#[derive(Serialize, ToSchema)]
pub(super) struct UserIdPage {
    users: Vec<String>,
    pagination: Pagination,
}

/// Thread keys.
#[derive(Serialize, ToSchema)]
pub(super) struct ThreadKeyPage {
    threads: Vec<String>,
    pagination: Pagination,
}

/// Message keys.
#[derive(Serialize, ToSchema)]
pub(super) struct MessageKeyPage {
    messages: Vec<String>,
    pagination: Pagination,
}

/// How to purge.
#[derive(Default, Deserialize, ToSchema)]
pub(super) struct PurgeRequest {
    /// Only count what would be removed.
    #[serde(default)]
    dry_run: bool,
}

/// What a purge removed, or would remove.
#[derive(Serialize, ToSchema)]
pub(super) struct PurgeResponse {
    #[schema(example = "ok")]
    status: &'static str,
    #[schema(example = "retention run triggered")]
    message: &'static str,
    dry_run: bool,
    threads: u64,
    messages: u64,
    idempotency_records: u64,
}

/// Says that the process is alive.
#[utoipa::path(get, path = "/admin/health", tag = "admin", responses((status = 200, description = "Alive", body = AdminHealth)))]
pub(super) async fn get_admin_health() -> Response {
    output::json(StatusCode::OK, &AdminHealth { status: "ok", service: "progressdb" })
}

/// Counts threads and messages.
#[utoipa::path(get, path = "/admin/stats", tag = "admin", responses((status = 200, description = "Counts", body = StatsResponse)))]
pub(super) async fn get_stats(request: Request) -> Result<Response, Error> {
    let stats = request.db()?.stats().await?;
    Ok(output::json(StatusCode::OK, &StatsResponse { threads: stats.threads, messages: stats.messages }))
}

/// Lists names of rows in key order.
#[utoipa::path(
    get,
    path = "/admin/keys",
    tag = "admin",
    params(
        ("prefix" = Option<String>, Query, description = "What the names begin with"),
        ("store" = Option<String>, Query, description = "`main` (default) or `index`", pattern = "^(main|index)$"),
        LimitQuery,
        RowCursorQuery,
    ),
    responses((status = 200, description = "A page", body = KeyPage)),
)]
pub(super) async fn list_keys(request: Request) -> Result<Response, Error> {
    let query = request.query();
    let store = match parameter(query, "store")?.as_deref() {
        None | Some("main") => RowStore::Main,
        Some("index") => RowStore::Index,
        Some(_) => return Err(Error::Malformed("store")),
    };
    let row_request = RowRequest {
        prefix: owned(query, "prefix")?.unwrap_or_default(),
        before: owned(query, "before")?,
        after: owned(query, "after")?,
        anchor: owned(query, "anchor")?,
        limit: limit(query, ADMIN_LIMIT)?,
    };
    let page = request.db()?.list_rows(store, row_request).await?;
    let pagination = Pagination::of_rows(&page);
    request.show_page(&KeyPage { keys: page.names, pagination })
}

/// Reads one row as JSON.
#[utoipa::path(
    get,
    path = "/admin/keys/{key}",
    tag = "admin",
    params(
        ("key" = String, Path, description = "A name as `/admin/keys` lists it", example = "s:format"),
        ("open" = Option<bool>, Query, description = "Open sealed parts; audited"),
    ),
    responses((status = 200, description = "The row", body = serde_json::Value)),
)]
pub(super) async fn get_key(request: Request) -> Result<Response, Error> {
    let key = request.segment(KEY).ok_or(Error::Malformed("key"))?;
    let row = read_row(&request, async |open| Ok(request.db()?.get_row(&key, open).await?)).await?;
    Ok(output::json(StatusCode::OK, &row.ok_or(Error::RowNotFound)?))
}

/// Lists users, each page sorted; continue with `after=after_anchor` while `has_after`.
#[utoipa::path(
    get,
    path = "/admin/users",
    tag = "admin",
    params(LimitQuery, ("after" = Option<String>, Query, description = "The users behind this id")),
    responses((status = 200, description = "A page", body = UserIdPage)),
)]
pub(super) async fn list_users(request: Request) -> Result<Response, Error> {
    let limit = limit(request.query(), ADMIN_LIMIT)?;
    let after = parameter(request.query(), "after")?.map(|text| UserId::parse(&text)).transpose();
    let after = after.map_err(|_| Error::InvalidUserIdFormat)?;
    let page = request.db()?.list_users(after.as_ref(), limit).await?;
    let users = page.users.iter().map(|user| user.as_str().to_owned()).collect();
    let next = page.next.map(|user| user.as_str().to_owned());
    let page = Page { items: users, has_before: after.is_some(), has_after: next.is_some(), total: page.total };
    let mut pagination = Pagination::of(&page, String::clone);
    // Each page is sorted by itself: the next page follows this id, which need not be the last on the page.
    pagination.after_anchor = next.unwrap_or(pagination.after_anchor);
    request.show_page(&UserIdPage { users: page.items, pagination })
}

/// Lists the keys of a user's threads, oldest first.
#[utoipa::path(
    get,
    path = "/admin/users/{user_id}/threads",
    tag = "admin",
    params(UserPath, LimitQuery, ThreadCursorQuery),
    responses((status = 200, description = "A page", body = ThreadKeyPage)),
)]
pub(super) async fn list_user_threads(request: Request) -> Result<Response, Error> {
    let user = request.user(USER)?;
    let page_request = PageRequest::<ThreadId>::parse(request.query(), ADMIN_LIMIT)?;
    let page = request.db()?.list_user_threads(&user, page_request.cursor, page_request.limit).await?;
    let pagination = Pagination::of(&page, |key| *key);
    let threads = page.items.iter().map(ToString::to_string).collect();
    request.show_page(&ThreadKeyPage { threads, pagination })
}

/// Lists the keys of a thread's messages, oldest first, deleted ones included.
#[utoipa::path(
    get,
    path = "/admin/users/{user_id}/threads/{thread_key}/messages",
    tag = "admin",
    params(UserPath, ThreadPath, LimitQuery, MessageCursorQuery),
    responses((status = 200, description = "A page", body = MessageKeyPage)),
)]
pub(super) async fn list_thread_messages(request: Request) -> Result<Response, Error> {
    request.user(USER)?;
    let thread = request.thread(THREAD)?;
    let page_request = PageRequest::<MessageKey>::parse(request.query(), ADMIN_LIMIT)?;
    let page = request.db()?.list_thread_keys(thread, page_request.cursor, page_request.limit).await?;
    let pagination = Pagination::of(&page, |key| *key);
    let messages = page.items.iter().map(ToString::to_string).collect();
    request.show_page(&MessageKeyPage { messages, pagination })
}

/// Reads a message's row as JSON, deleted or not.
#[utoipa::path(
    get,
    path = "/admin/users/{user_id}/threads/{thread_key}/messages/{message_key}",
    tag = "admin",
    params(UserPath, ThreadPath, MessagePath, ("open" = Option<bool>, Query, description = "Open sealed parts; audited")),
    responses((status = 200, description = "The row", body = serde_json::Value)),
)]
pub(super) async fn get_message_row(request: Request) -> Result<Response, Error> {
    request.user(USER)?;
    let (thread, message) = (request.thread(THREAD)?, request.message(MESSAGE)?);
    if message.thread != thread {
        return Err(crate::db::Error::MessageNotInThread.into());
    }
    let seq = message.seq.ok_or(crate::db::Error::MessageNotFound)?;
    let id = MessageId { ts: message.ts, seq };
    let row = read_row(&request, async |open| Ok(request.db()?.get_message_row(thread, id, open).await?)).await?;
    Ok(output::json(StatusCode::OK, &row.ok_or(crate::db::Error::MessageNotFound)?))
}

/// Removes for good what was deleted long enough ago.
#[utoipa::path(
    post,
    path = "/admin/jobs/purge",
    tag = "admin",
    request_body(content = Option<PurgeRequest>),
    responses((status = 200, description = "Done", body = PurgeResponse)),
)]
pub(super) async fn purge(request: Request, body: Body) -> Result<Response, Error> {
    let PurgeRequest { dry_run } = request.options(body).await?;
    let db = request.db()?;
    let purged = if dry_run { purge_now(db, true).await? } else { audited(purge_now(db, false)).await? };
    let response = PurgeResponse {
        status: "ok",
        message: "retention run triggered",
        dry_run,
        threads: purged.threads,
        messages: purged.messages,
        idempotency_records: purged.idempotency_records,
    };
    Ok(output::json(StatusCode::OK, &response))
}

/// All metrics as Prometheus text.
#[utoipa::path(
    get,
    path = "/admin/debug/prometheus",
    tag = "admin",
    responses((status = 200, description = "Prometheus text", body = String, content_type = "text/plain")),
)]
pub(super) async fn get_prometheus() -> Response {
    metrics_text()
}

async fn purge_now(db: &Db, dry_run: bool) -> Result<Purged, Error> {
    let purged = db.purge(dry_run).await?;
    let Purged { threads, messages, .. } = purged;
    tracing::info!(target: "audit", event = "admin.purge", dry_run, threads, messages);
    Ok(purged)
}

/// A row, with its sealed parts opened if the query says so.
async fn read_row(
    request: &Request,
    read: impl AsyncFnOnce(bool) -> Result<Option<NamedRow>, Error>,
) -> Result<Option<serde_json::Value>, Error> {
    let open = match parameter(request.query(), "open")?.as_deref() {
        None | Some("false") => false,
        Some("true") => true,
        Some(_) => return Err(Error::Malformed("open")),
    };
    if open {
        written().await?;
    }
    let Some(NamedRow { name, row }) = read(open).await? else { return Ok(None) };
    if open {
        tracing::info!(target: "audit", event = "admin.row_opened", key = name);
        written().await?;
    }
    Ok(Some(show(&name, &row)))
}

fn owned(query: Query<'_>, name: &'static str) -> Result<Option<String>, Error> {
    Ok(parameter(query, name)?.map(|text| text.into_owned()))
}
