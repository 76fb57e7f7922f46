//! Threads: create, list, read, change, delete.

use axum::body::Body;
use axum::response::Response;

use super::audited::audited;
use super::error::Error;
use super::input::{self, ThreadInput};
use super::output;
use super::output::{ErasureReceipt, ThreadAck, ThreadObject, ThreadPage, ThreadResponse};
use super::page::{FRONTEND_LIMIT, PageRequest, Pagination, parameter};
use super::parameters::{
    AuthorQuery, CallerHeaders, ConditionHeaders, LimitQuery, OrderQuery, PurgeQuery, ThreadCursorQuery, ThreadPath,
    WriteHeaders,
};
use super::request::{Request, Storing};
use crate::db::{Caller, Written};
use crate::model::{ThreadId, ThreadOrder};

/// Position of the thread key in `/frontend/v1/threads/{thread_key}`.
pub(super) const THREAD: usize = 3;

/// Creates a thread.
#[utoipa::path(
    post,
    path = "/frontend/v1/threads",
    tag = "threads",
    params(CallerHeaders, WriteHeaders, AuthorQuery),
    request_body(content = ThreadInput),
    responses((status = 202, description = "Committed", body = ThreadAck)),
)]
pub(super) async fn create_thread(request: Request, body: Body) -> Result<Response, Error> {
    let caller = request.caller()?;
    let bytes = request.read(body).await?;
    let content = input::thread_content(&bytes)?;
    let options = request.create_options(&bytes)?;
    let written = request.db()?.create_thread(&caller, content, options).await?;
    acknowledge(&request, &caller, written).await
}

/// Lists the caller's threads, newest or most recently active first.
#[utoipa::path(
    get,
    path = "/frontend/v1/threads",
    tag = "threads",
    params(CallerHeaders, ConditionHeaders, LimitQuery, ThreadCursorQuery, OrderQuery, AuthorQuery),
    responses((status = 200, description = "A page", body = ThreadPage)),
)]
pub(super) async fn list_threads(request: Request) -> Result<Response, Error> {
    let caller = request.caller()?;
    let page_request = PageRequest::parse(request.query(), FRONTEND_LIMIT)?;
    let order = if page_request.by_update { ThreadOrder::Updated } else { ThreadOrder::Created };
    let page = request.db()?.list_threads(&caller, order, page_request.cursor, page_request.limit).await?;
    let pagination = Pagination::of(&page, |thread| thread.id);
    let threads = page.items.iter().map(ThreadObject::from).collect();
    request.show_page(&ThreadPage { threads, pagination })
}

/// Reads a thread.
#[utoipa::path(
    get,
    path = "/frontend/v1/threads/{thread_key}",
    tag = "threads",
    params(ThreadPath, CallerHeaders, ConditionHeaders, AuthorQuery),
    responses((status = 200, description = "The thread", body = ThreadResponse)),
)]
pub(super) async fn get_thread(request: Request) -> Result<Response, Error> {
    let caller = request.caller()?;
    let thread = request.db()?.get_thread(&caller, request.thread(THREAD)?).await?;
    // The tag covers what can be edited. Counts and times in the same object change without it, so no cache may keep
    // it.
    request.show_object(&ThreadResponse { thread: (&thread).into() }, thread.revision, Storing::Never)
}

/// Changes the title, and slug and metadata if given.
#[utoipa::path(
    put,
    path = "/frontend/v1/threads/{thread_key}",
    tag = "threads",
    params(ThreadPath, CallerHeaders, WriteHeaders, ConditionHeaders, AuthorQuery),
    request_body(content = ThreadInput),
    responses((status = 202, description = "Committed", body = ThreadAck)),
)]
pub(super) async fn update_thread(request: Request, body: Body) -> Result<Response, Error> {
    let thread = request.thread(THREAD)?;
    let caller = request.caller()?;
    let bytes = request.read(body).await?;
    let update = input::thread_update(&bytes)?;
    let options = request.write_options(&bytes)?;
    let written = request.db()?.update_thread(&caller, thread, update, options).await?;
    acknowledge(&request, &caller, written).await
}

/// Deletes a thread with all its messages: hidden until retention removes it or, with `purge=true`, erased at once. An
/// erasure destroys the keys of the thread and responds with a receipt; it also erases what was deleted before.
/// Repeated with its `Idempotency-Key` it gives the first receipt again, for 24 hours; without one the thread is no
/// longer there (403). `If-Match` is compared with the `ETag` that the thread has or had when it was deleted.
#[utoipa::path(
    delete,
    path = "/frontend/v1/threads/{thread_key}",
    tag = "threads",
    params(ThreadPath, CallerHeaders, WriteHeaders, ConditionHeaders, AuthorQuery, PurgeQuery),
    responses((status = 202, description = "Committed", body = ThreadAck)),
)]
pub(super) async fn delete_thread(request: Request) -> Result<Response, Error> {
    let thread = request.thread(THREAD)?;
    let caller = request.caller()?;
    let options = request.write_options(&[])?;
    if flag(&request, "purge")? {
        request.check_backend()?;
        let db = request.db()?;
        let erased = audited(async { Ok(db.erase_thread(&caller, thread, options).await?) });
        let (receipt, replayed) = erased.await?;
        let ack = ThreadAck { key: thread, thread: None, receipt: Some(ErasureReceipt::from(&receipt)) };
        return Ok(output::acknowledge(&Written { key: thread, revision: 0, replayed }, &ack, None));
    }
    let written = request.db()?.delete_thread(&caller, thread, options).await?;
    Ok(output::acknowledge(&written, &ThreadAck { key: written.key, thread: None, receipt: None }, None))
}

/// The key, and the thread as it is now if the client wants it and it is still there.
async fn acknowledge(request: &Request, caller: &Caller, written: Written<ThreadId>) -> Result<Response, Error> {
    let thread =
        if request.wants_representation() { request.db()?.get_thread(caller, written.key).await.ok() } else { None };
    let ack = |thread| ThreadAck { key: written.key, thread, receipt: None };
    let represented = thread.as_ref().map(|thread| ack(Some(thread.into())));
    Ok(output::acknowledge(&written, &ack(None), represented.as_ref()))
}

/// A query parameter that is true or false.
fn flag(request: &Request, name: &'static str) -> Result<bool, Error> {
    match parameter(request.query(), name)?.as_deref() {
        None | Some("false") => Ok(false),
        Some("true") => Ok(true),
        Some(_) => Err(Error::Malformed(name)),
    }
}
