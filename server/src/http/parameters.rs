//! Parameters of path, query and header for the OpenAPI document. Their values are read in `request` and `page`.

use utoipa::IntoParams;

/// Who the request is made for.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
#[expect(dead_code, reason = "names parameters")]
pub(super) struct CallerHeaders {
    /// The user. Required with a frontend key; a backend key may use `?author=` instead.
    #[param(rename = "X-User-ID", min_length = 1, max_length = 128, example = "user1")]
    user: Option<String>,
    /// Signature of `X-User-ID`. Required with a frontend key, not looked at with a backend key.
    #[param(rename = "X-User-Signature", pattern = "^[0-9a-f]{64}$")]
    signature: Option<String>,
}

/// What may come with a write.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
#[expect(dead_code, reason = "names parameters")]
pub(super) struct WriteHeaders {
    /// Makes the request safe to repeat for 24 hours.
    #[param(rename = "Idempotency-Key", min_length = 1, max_length = 255, pattern = "^[!-~]{1,255}$")]
    idempotency_key: Option<String>,
    /// `return=representation` asks for the object in the response.
    #[param(rename = "Prefer", example = "return=representation")]
    prefer: Option<String>,
}

/// The conditions of RFC 9110 on what has an `ETag`.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
#[expect(dead_code, reason = "names parameters")]
pub(super) struct ConditionHeaders {
    /// Entity tags of which the target must have one, else 412; `*` for any. Compared strongly: `W/"1"` never matches.
    #[param(
        rename = "If-Match",
        pattern = "^(\\*|(W/)?\"[!#-~]*\"([ \\t]*,[ \\t]*(W/)?\"[!#-~]*\")*)$",
        example = "\"1\""
    )]
    if_match: Option<String>,
    /// Entity tags of which the target must have none, else 304 to a read and 412 to a change; `*` for any. Compared
    /// weakly: `W/"1"` matches `"1"`.
    #[param(
        rename = "If-None-Match",
        pattern = "^(\\*|(W/)?\"[!#-~]*\"([ \\t]*,[ \\t]*(W/)?\"[!#-~]*\")*)$",
        example = "\"2\""
    )]
    if_none_match: Option<String>,
}

/// A thread in a path.
#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
#[expect(dead_code, reason = "names parameters")]
pub(super) struct ThreadPath {
    /// `t:<timestamp>`.
    #[param(pattern = "^t:[1-9][0-9]{0,18}$", example = "t:1763700000000000000")]
    thread_key: String,
}

/// A message in a path.
#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
#[expect(dead_code, reason = "names parameters")]
pub(super) struct MessagePath {
    /// `t:<timestamp>:m:<timestamp>:<sequence>`; the sequence may be left out.
    #[param(
        pattern = "^t:[1-9][0-9]{0,18}:m:[1-9][0-9]{0,18}(:[0-9]{9})?$",
        example = "t:1763700000000000000:m:1763700001000000000:000000000"
    )]
    message_key: String,
}

/// A user in a path.
#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
#[expect(dead_code, reason = "names parameters")]
pub(super) struct UserPath {
    /// The user's id.
    #[param(min_length = 1, max_length = 128, example = "user1")]
    user_id: String,
}

/// How much of a list.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "names parameters")]
pub(super) struct LimitQuery {
    /// Items on the page; 50 by default, 100 on admin routes.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u32>,
}

/// Names the parameters that say where in a list a page starts.
macro_rules! cursor_query {
    ($name:ident, $text:literal, $pattern:literal) => {
        #[doc = $text]
        #[derive(IntoParams)]
        #[into_params(parameter_in = Query)]
        #[expect(dead_code, reason = "names parameters")]
        pub(super) struct $name {
            /// The page in front of this key, in display order. At most one of `before`, `after` and `anchor`.
            #[param(pattern = $pattern)]
            before: Option<String>,
            /// The page behind this key, in display order.
            #[param(pattern = $pattern)]
            after: Option<String>,
            /// Up to `limit` items on each side of this key, and the item itself.
            #[param(pattern = $pattern)]
            anchor: Option<String>,
        }
    };
}

cursor_query!(ThreadCursorQuery, "Where in a list of threads.", "^t:[1-9][0-9]{0,18}$");
cursor_query!(
    MessageCursorQuery,
    "Where in a list of messages.",
    "^t:[1-9][0-9]{0,18}:m:[1-9][0-9]{0,18}(:[0-9]{9})?$"
);
cursor_query!(RowCursorQuery, "Where in a list of rows.", "^[ -~]*$");

/// In which order.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "names parameters")]
pub(super) struct OrderQuery {
    /// `created_ts` (default) or `updated_ts`.
    #[param(pattern = "^(created_ts|updated_ts)$")]
    sort_by: Option<String>,
}

/// How a thread is deleted.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "names parameters")]
pub(super) struct PurgeQuery {
    /// `true` erases the thread for good instead of hiding it; for backend keys only.
    #[param(pattern = "^(true|false)$")]
    purge: Option<String>,
}

/// For whom, with a backend key.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "names parameters")]
pub(super) struct AuthorQuery {
    /// The user, if `X-User-ID` does not say. With a frontend key: absent or the signed user.
    #[param(min_length = 1, max_length = 128)]
    author: Option<String>,
}
