//! The session with Vault: a token, how long it lives, and how it is replaced.
//!
//! A token is renewed when two thirds of its life are over, and replaced where renewal is not possible. Nothing runs in
//! the background: each call checks the token first, and a probe calls every minute.

use std::time::{Duration, Instant};

use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::sync::Mutex;

use super::{
    super::{
        Error,
        rest::{self, Refusal},
        settings::{Secret, VaultAuth},
    },
    Response, Server,
};
use crate::clock::monotonic;

/// The token in use, shared by all calls: one logs in, the others wait for it.
#[derive(Debug)]
pub(crate) struct Session {
    auth: VaultAuth,
    current: Mutex<Option<Token>>,
}

#[derive(Clone, Debug)]
struct Token {
    secret: SecretString,
    renewable: bool,
    /// When to renew or replace it; none if it does not expire or that is not known.
    renew_at: Option<Instant>,
}

/// `auth` of a login and of a renewal.
#[derive(Deserialize)]
struct Granted {
    client_token: String,
    lease_duration: u64,
    renewable: bool,
}

#[derive(Deserialize)]
struct Login {
    auth: Granted,
}

/// `data` of a token that is looked up.
#[derive(Deserialize)]
struct Lookup {
    ttl: u64,
    #[serde(default)]
    renewable: bool,
}

impl Session {
    pub(crate) fn new(auth: VaultAuth) -> Self {
        Self { auth, current: Mutex::new(None) }
    }

    /// A token that is valid as far as known.
    pub(crate) async fn token(&self, server: &Server) -> Result<SecretString, Error> {
        let mut current = self.current.lock().await;
        if let Some(token) = &*current
            && !self.was_replaced(token)?
        {
            if token.renew_at.is_none_or(|at| monotonic() < at) {
                return Ok(token.secret.clone());
            }
            if let Some(renewed) = renew(server, token).await {
                return Ok(current.insert(renewed).secret.clone());
            }
        }
        let token = self.log_in(server).await?;
        Ok(current.insert(token).secret.clone())
    }

    /// A token other than `refused`, if there is one.
    pub(crate) async fn token_after(
        &self,
        server: &Server,
        refused: &SecretString,
    ) -> Result<Option<SecretString>, Error> {
        let mut current = self.current.lock().await;
        // Meanwhile another call may have got one.
        if let Some(token) = &*current
            && !is_same(&token.secret, refused)
        {
            return Ok(Some(token.secret.clone()));
        }
        *current = None;
        if let VaultAuth::Token(secret) = &self.auth
            && is_same(&secret.read()?, refused)
        {
            return Ok(None);
        }
        let token = self.log_in(server).await?;
        Ok(Some(current.insert(token).secret.clone()))
    }

    /// Whether the file holds another token now.
    fn was_replaced(&self, token: &Token) -> Result<bool, Error> {
        match &self.auth {
            VaultAuth::Token(secret @ Secret::File(_)) => Ok(!is_same(&secret.read()?, &token.secret)),
            _ => Ok(false),
        }
    }

    async fn log_in(&self, server: &Server) -> Result<Token, Error> {
        match &self.auth {
            VaultAuth::Token(secret) => look_up(server, secret.read()?).await,
            VaultAuth::AppRole { mount, role_id, secret_id } => {
                let secret_id = secret_id.read()?;
                log_in_at(server, mount, &json!({ "role_id": role_id, "secret_id": secret_id.expose_secret() })).await
            }
            VaultAuth::Kubernetes { mount, role, jwt_file } => {
                let jwt = Secret::File(jwt_file.clone()).read()?;
                log_in_at(server, mount, &json!({ "role": role, "jwt": jwt.expose_secret() })).await
            }
        }
    }
}

async fn log_in_at(server: &Server, mount: &str, body: &impl Serialize) -> Result<Token, Error> {
    let path = format!("/v1/auth/{}/login", rest::segments(mount));
    let response: Login = server.send(server.rest.post(&path, body), None, classify_login).await?;
    Ok(Token::of(response.auth))
}

/// Reads how long a token lives; its policies need not allow that.
async fn look_up(server: &Server, secret: SecretString) -> Result<Token, Error> {
    let request = server.rest.get("/v1/auth/token/lookup-self");
    let known = server.send::<Response<Lookup>>(request, Some(&secret), classify_login).await;
    match known {
        Ok(Response { data: Lookup { ttl, renewable } }) => {
            Ok(Token { secret, renewable, renew_at: renewal(ttl, monotonic()) })
        }
        Err(Error::Denied { .. }) => Ok(Token { secret, renewable: false, renew_at: None }),
        Err(error) => Err(error),
    }
}

/// None if this token cannot be renewed and a new login is needed; if Vault is down, the login finds that out.
async fn renew(server: &Server, token: &Token) -> Option<Token> {
    if !token.renewable {
        return None;
    }
    let request = server.rest.post("/v1/auth/token/renew-self", &json!({}));
    match server.send::<Login>(request, Some(&token.secret), classify_login).await {
        Ok(response) => Some(Token::of(response.auth)),
        Err(error) => {
            let reason = error.to_string();
            tracing::warn!(event = "kms.renewal_failed", reason, "a token of Vault could not be renewed");
            None
        }
    }
}

impl Token {
    fn of(granted: Granted) -> Self {
        let renew_at = renewal(granted.lease_duration, monotonic());
        Self { secret: SecretString::from(granted.client_token), renewable: granted.renewable, renew_at }
    }
}

/// After two thirds of `ttl` seconds; 0 is for ever.
fn renewal(ttl: u64, now: Instant) -> Option<Instant> {
    if ttl == 0 { None } else { now.checked_add(Duration::from_secs(ttl) * 2 / 3) }
}

/// A refused login is a denial, whatever the status: some of Vault's refusals have status 500.
fn classify_login(refusal: Refusal) -> Error {
    if refusal.status == 500 && ["invalid", "unauthorized"].iter().any(|message| refusal.message.contains(message)) {
        return Error::denied(refusal.message);
    }
    rest::classify_status(&refusal)
        .filter(|error| !matches!(error, Error::KeyUnusable { .. }))
        .unwrap_or_else(|| Error::denied(refusal.message))
}

fn is_same(left: &SecretString, right: &SecretString) -> bool {
    left.expose_secret() == right.expose_secret()
}

#[cfg(test)]
mod tests {
    use reqwest::StatusCode;

    use super::*;

    #[test]
    fn a_token_is_renewed_after_two_thirds_of_its_life() {
        let now = monotonic();
        assert_eq!(renewal(90, now), Some(now + Duration::from_secs(60)));
        assert_eq!(renewal(0, now), None);
    }

    #[test]
    fn a_refused_login_is_denied_unless_vault_itself_is_down() {
        let code = |(status, message): (u16, &str)| {
            let status = StatusCode::from_u16(status).unwrap();
            classify_login(Refusal { status, message: message.to_owned(), retry_after: None }).code()
        };
        let denied = [(400, "invalid role ID"), (401, ""), (403, ""), (404, ""), (500, "invalid secret id")];
        assert_eq!(denied.map(code), ["denied"; 5]);
        assert_eq!([(500, "internal error"), (503, "Vault is sealed")].map(code), ["unavailable"; 2]);
        assert_eq!(code((429, "")), "throttled");
    }
}
