//! The connection to the engine: contact points, credentials, consistency, and what an error means.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use scylla::authentication::{AuthError, AuthenticatorProvider, AuthenticatorSession};
use scylla::client::execution_profile::ExecutionProfile;
use scylla::client::session::Session;
use scylla::client::session_builder::SessionBuilder;
use scylla::errors::{DbError, ExecutionError, NewSessionError, RequestAttemptError};
use scylla::policies::load_balancing::{DefaultPolicy, NodeIdentifier, SingleTargetLoadBalancingPolicy};
use scylla::statement::{Consistency, SerialConsistency, Statement};
use secrecy::{ExposeSecret, SecretString};

use super::{Settings, tls};
use crate::store::{Error, OpenError};

/// Longer than the engine's own limits, so that it is the engine that says what became of a request.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// A node that is silent for this long, twice, is taken for gone: what waits for it goes to another.
const KEEPALIVE: Duration = Duration::from_secs(2);

/// A name or a password, as it is or in a file that is read at each connection.
#[derive(Clone, Debug)]
pub enum Credential {
    /// As it is.
    Inline(SecretString),
    /// The first line of a file.
    File(PathBuf),
}

impl Credential {
    fn read(&self) -> Result<SecretString, String> {
        match self {
            Self::Inline(text) => Ok(text.clone()),
            Self::File(path) => match fs::read_to_string(path) {
                Ok(text) => Ok(SecretString::from(text.lines().next().unwrap_or_default())),
                Err(error) => Err(format!("{}: {error}", path.display())),
            },
        }
    }
}

/// Who the server says it is.
#[derive(Clone, Debug)]
pub struct Credentials {
    /// The role.
    pub username: Credential,
    /// Its password.
    pub password: Credential,
}

#[async_trait::async_trait]
impl AuthenticatorProvider for Credentials {
    async fn start_authentication_session(
        &self,
        _authenticator: &str,
    ) -> Result<(Option<Vec<u8>>, Box<dyn AuthenticatorSession>), AuthError> {
        let (username, password) = (self.username.read()?, self.password.read()?);
        let response = format!("\0{}\0{}", username.expose_secret(), password.expose_secret());
        Ok((Some(response.into_bytes()), Box::new(Answered)))
    }
}

/// A dialogue in which everything has been said.
struct Answered;

#[async_trait::async_trait]
impl AuthenticatorSession for Answered {
    async fn evaluate_challenge(&mut self, _token: Option<&[u8]>) -> Result<Option<Vec<u8>>, AuthError> {
        Err("the engine asks for more than a name and a password".into())
    }

    async fn success(&mut self, _token: Option<&[u8]>) -> Result<(), AuthError> {
        Ok(())
    }
}

/// Connects. Every request reads and writes a majority of one data centre.
pub(super) async fn connect(settings: &Settings) -> Result<Session, OpenError> {
    let balancing = DefaultPolicy::builder().token_aware(true);
    let balancing = match &settings.datacenter {
        Some(datacenter) => balancing.prefer_datacenter(datacenter.clone()).permit_dc_failover(false),
        None => balancing,
    };
    let profile = ExecutionProfile::builder()
        .consistency(Consistency::LocalQuorum)
        .serial_consistency(Some(SerialConsistency::LocalSerial))
        .request_timeout(Some(REQUEST_TIMEOUT))
        .load_balancing_policy(balancing.build())
        .build();
    let mut builder = SessionBuilder::new()
        .known_nodes(&settings.contact_points)
        .default_execution_profile_handle(profile.into_handle())
        .connection_timeout(Duration::from_secs(5))
        .keepalive_interval(KEEPALIVE)
        .keepalive_timeout(KEEPALIVE)
        // Its replication says which nodes have a row.
        .keyspaces_to_fetch([settings.keyspace.clone()])
        .tcp_nodelay(true);
    if let Some(credentials) = &settings.credentials {
        builder = builder.authenticator_provider(Arc::new(credentials.clone()));
    }
    if let Some(tls) = &settings.tls {
        builder = builder.tls_context(Some(Arc::new(tls.config().map_err(OpenError::Tls)?)));
    }
    builder.build().await.map_err(unreachable)
}

fn unreachable(error: NewSessionError) -> OpenError {
    match tls::refusal(&error) {
        Some(refusal) => OpenError::Tls(refusal),
        None => OpenError::Failed(Error::Unavailable(error.to_string())),
    }
}

/// What a request that failed means, where it is known that it did nothing or does not matter.
pub(super) fn failed(error: &ExecutionError) -> Error {
    match error {
        ExecutionError::BadQuery(_) => Error::Read(error.to_string()),
        ExecutionError::LastAttemptError(RequestAttemptError::DbError(
            DbError::Invalid | DbError::SyntaxError | DbError::ConfigError,
            _,
        )) => Error::Read(error.to_string()),
        _ => Error::Unavailable(error.to_string()),
    }
}

/// Whether a request certainly did nothing: it was not sent, or was refused before anything happened.
pub(super) fn did_nothing(error: &ExecutionError) -> bool {
    match error {
        ExecutionError::BadQuery(_)
        | ExecutionError::EmptyPlan
        | ExecutionError::PrepareError(_)
        | ExecutionError::ConnectionPoolError(_) => true,
        ExecutionError::LastAttemptError(RequestAttemptError::DbError(error, _)) => matches!(
            error,
            DbError::Invalid
                | DbError::SyntaxError
                | DbError::ConfigError
                | DbError::Unauthorized
                | DbError::AuthenticationError
                | DbError::Overloaded
                | DbError::IsBootstrapping
        ),
        ExecutionError::LastAttemptError(
            RequestAttemptError::SerializationError(_)
            | RequestAttemptError::CqlRequestSerialization(_)
            | RequestAttemptError::UnableToAllocStreamId,
        ) => true,
        _ => false,
    }
}

/// Whether the engine refused because too few replicas are alive, which no pause of ours will bring back.
pub(super) fn lacks_replicas(error: &ExecutionError) -> bool {
    matches!(error, ExecutionError::LastAttemptError(RequestAttemptError::DbError(DbError::Unavailable { .. }, _)))
}

/// Warns of each node that acknowledges a write before it is on disk: there an acknowledged message lies in the memory of
/// a majority of the replicas until the next sync.
pub(super) async fn warn_of_late_syncs(session: &Session) {
    for node in session.get_cluster_state().get_nodes_info() {
        let mut asked = Statement::new("SELECT value FROM system_views.settings WHERE name = 'commitlog_sync'");
        let only = SingleTargetLoadBalancingPolicy::new(NodeIdentifier::Node(node.clone()), None);
        asked.set_load_balancing_policy(Some(only));
        asked.set_consistency(Consistency::One);
        // Other engines have no such table, and a node may be down.
        let Ok(answer) = session.query_unpaged(asked, ()).await else { continue };
        let Ok(rows) = answer.into_rows_result() else { continue };
        if let Ok(Some((Some(sync),))) = rows.maybe_first_row::<(Option<String>,)>()
            && sync == "periodic"
        {
            let node = node.address.to_string();
            tracing::warn!(
                event = "storage.late_sync",
                node,
                "acknowledges before it syncs: set commitlog_sync to batch or group, or an acknowledged message may be lost when a majority of the replicas loses power at once"
            );
        }
    }
}
