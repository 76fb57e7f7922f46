//! Signatures for users, made for the application's servers.

use axum::body::Body;
use axum::http::StatusCode;
use axum::response::Response;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::error::Error;
use super::input;
use super::output;
use super::request::Request;
use crate::model::UserId;

/// Whom to sign for.
#[derive(Deserialize, ToSchema)]
#[schema(example = json!({"userId": "user1"}))]
pub(super) struct SignRequest {
    /// 1 to 128 bytes without control characters, and without white space at either end.
    #[serde(default, rename = "userId")]
    #[schema(
        min_length = 1,
        max_length = 128,
        pattern = "^[^\\s\\u0000-\\u001f\\u007f]([^\\u0000-\\u001f\\u007f]*[^\\s\\u0000-\\u001f\\u007f])?$",
        required
    )]
    user_id: String,
}

/// A user id and the signature that a frontend key needs beside it.
#[derive(Serialize, ToSchema)]
pub(super) struct Signed<'a> {
    #[serde(rename = "userId")]
    user_id: &'a str,
    /// Lowercase hex HMAC-SHA256 of the user id.
    #[schema(pattern = "^[0-9a-f]{64}$")]
    signature: String,
}

/// Signs a user id with the first signing key.
#[utoipa::path(
    post,
    path = "/backend/v1/sign",
    tag = "backend",
    request_body(content = SignRequest),
    responses((status = 200, description = "Signed", body = Signed)),
)]
pub(super) async fn sign_user(request: Request, body: Body) -> Result<Response, Error> {
    let bytes = request.read(body).await?;
    let input: SignRequest = input::parse(&bytes, "invalid JSON payload")?;
    let user = UserId::of_request(&input.user_id).map_err(Error::InvalidUserId)?;
    let signature = request.app().auth().sign(&user)?;
    Ok(output::json(StatusCode::OK, &Signed { user_id: user.as_str(), signature }))
}
