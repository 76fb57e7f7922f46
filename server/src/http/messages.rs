//! Messages of a thread: append, page through, read, change, delete.

use axum::body::Body;
use axum::response::Response;

use super::conditional::tag_of_messages;
use super::error::Error;
use super::input::{self, MessageInput, MessageUpdateInput};
use super::output;
use super::output::{MessageAck, MessageObject, MessagePage, MessageResponse};
use super::page::{self, FRONTEND_LIMIT, PageRequest, Pagination};
use super::parameters::{
    AuthorQuery, CallerHeaders, ConditionHeaders, LimitQuery, MessageCursorQuery, MessagePath, OrderQuery, ThreadPath,
    WriteHeaders,
};
use super::request::{Request, Storing};
use super::threads::THREAD;
use crate::db::{self, Caller, Written};
use crate::model::{MessageKey, ThreadId};

/// Position of the message key in `/frontend/v1/threads/{thread_key}/messages/{message_key}`.
const MESSAGE: usize = 5;

/// Appends a message.
#[utoipa::path(
    post,
    path = "/frontend/v1/threads/{thread_key}/messages",
    tag = "messages",
    params(ThreadPath, CallerHeaders, WriteHeaders, AuthorQuery),
    request_body(content = MessageInput),
    responses((status = 202, description = "Committed", body = MessageAck)),
)]
pub(super) async fn create_message(request: Request, body: Body) -> Result<Response, Error> {
    let thread = request.thread(THREAD)?;
    let caller = request.caller()?;
    let bytes = request.read(body).await?;
    let message = input::new_message(&bytes, thread)?;
    let options = request.create_options(&bytes)?;
    let written = request.db()?.create_message(&caller, thread, message, options).await?;
    acknowledge(&request, &caller, thread, written).await
}

/// Lists a thread's messages, oldest first. `sort_by=updated_ts` reorders within the page only.
#[utoipa::path(
    get,
    path = "/frontend/v1/threads/{thread_key}/messages",
    tag = "messages",
    params(ThreadPath, CallerHeaders, ConditionHeaders, LimitQuery, MessageCursorQuery, OrderQuery, AuthorQuery),
    responses((status = 200, description = "A page", body = MessagePage)),
)]
pub(super) async fn list_messages(request: Request) -> Result<Response, Error> {
    let caller = request.caller()?;
    let thread = request.thread(THREAD)?;
    let page_request = match PageRequest::<MessageKey>::parse(request.query(), FRONTEND_LIMIT) {
        Ok(page_request) => page_request,
        Err(error) => {
            // Access to the thread is checked first.
            request.db()?.get_thread(&caller, thread).await?;
            return Err(error);
        }
    };
    let page = request.db()?.list_messages(&caller, thread, page_request.cursor, page_request.limit).await;
    let mut page = page.map_err(foreign_cursor)?;
    let pagination = Pagination::of(&page, |message| MessageKey::new(message.thread, message.id));
    if page_request.by_update {
        page.items.sort_by_key(|message| message.updated_ts);
    }
    request.show_tagged(tag_of_messages(thread, &page), || {
        let messages = page.items.iter().map(|message| MessageObject::from(&**message)).collect();
        MessagePage { thread, messages, pagination }.write()
    })
}

fn foreign_cursor(error: db::Error) -> Error {
    match error {
        db::Error::MessageNotInThread => page::invalid("cursor belongs to another thread"),
        other => other.into(),
    }
}

/// Reads a message.
#[utoipa::path(
    get,
    path = "/frontend/v1/threads/{thread_key}/messages/{message_key}",
    tag = "messages",
    params(ThreadPath, MessagePath, CallerHeaders, ConditionHeaders, AuthorQuery),
    responses((status = 200, description = "The message", body = MessageResponse)),
)]
pub(super) async fn get_message(request: Request) -> Result<Response, Error> {
    let caller = request.caller()?;
    let (thread, message) = (request.thread(THREAD)?, request.message(MESSAGE)?);
    let message = request.db()?.get_message(&caller, thread, message).await?;
    request.show_object(&MessageResponse { message: (&message).into() }, message.revision, Storing::Revalidate)
}

/// Replaces a message's body, and its metadata if given.
#[utoipa::path(
    put,
    path = "/frontend/v1/threads/{thread_key}/messages/{message_key}",
    tag = "messages",
    params(ThreadPath, MessagePath, CallerHeaders, WriteHeaders, ConditionHeaders, AuthorQuery),
    request_body(content = MessageUpdateInput),
    responses((status = 202, description = "Committed", body = MessageAck)),
)]
pub(super) async fn update_message(request: Request, body: Body) -> Result<Response, Error> {
    let (thread, message) = (request.thread(THREAD)?, request.message(MESSAGE)?);
    let caller = request.caller()?;
    let bytes = request.read(body).await?;
    let update = input::message_update(&bytes)?;
    let options = request.write_options(&bytes)?;
    let written = request.db()?.update_message(&caller, thread, message, update, options).await?;
    acknowledge(&request, &caller, thread, written).await
}

/// Deletes a message.
#[utoipa::path(
    delete,
    path = "/frontend/v1/threads/{thread_key}/messages/{message_key}",
    tag = "messages",
    params(ThreadPath, MessagePath, CallerHeaders, WriteHeaders, ConditionHeaders, AuthorQuery),
    responses((status = 202, description = "Committed", body = MessageAck)),
)]
pub(super) async fn delete_message(request: Request) -> Result<Response, Error> {
    let (thread, message) = (request.thread(THREAD)?, request.message(MESSAGE)?);
    let caller = request.caller()?;
    let options = request.write_options(&[])?;
    let written = request.db()?.delete_message(&caller, thread, message, options).await?;
    Ok(output::acknowledge(&written, &MessageAck { key: written.key, message: None }, None))
}

/// The key, and the message as it is now if the client wants it and it is still there.
async fn acknowledge(
    request: &Request,
    caller: &Caller,
    thread: ThreadId,
    written: Written<MessageKey>,
) -> Result<Response, Error> {
    let message = if request.wants_representation() {
        request.db()?.get_message(caller, thread, written.key).await.ok()
    } else {
        None
    };
    let ack = |message| MessageAck { key: written.key, message };
    let represented = message.as_ref().map(|message| ack(Some(message.into())));
    Ok(output::acknowledge(&written, &ack(None), represented.as_ref()))
}
