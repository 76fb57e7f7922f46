//! HTTP: routes, wire types, authentication, limits and errors. Handlers are thin; what is promised lives in [`db`].
//!
//! [`router`] is the API, [`management_router`] health and metrics without a key, [`listen::serve`] the connections.
//! Router and OpenAPI document come from one list, [`routes()`]. Every request passes [`middleware`] once.
//!
//! [`db`]: crate::db

mod activity;
mod admin;
mod admin_rows;
mod audited;
mod auth;
mod backup;
mod clock;
mod conditional;
mod cors;
mod docs;
mod encryption;
mod error;
mod head;
mod health;
mod input;
mod limits;
pub mod listen;
mod messages;
mod metrics;
mod middleware;
mod output;
mod page;
mod parameters;
mod request;
mod settings;
mod sign;
mod threads;
mod wrapped_keys;

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use axum::Router;
use axum::middleware::from_fn_with_state;
use utoipa::openapi::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::backup::Backups;
use crate::db::Db;
use auth::Auth;
pub use auth::KeysInForce;
use cors::Cors;
use error::Error;
pub(crate) use error::refusal;
use limits::Limits;
use metrics::RequestMetrics;
use middleware::RequestIds;
pub use settings::{ApiKeys, RateLimit, Settings};
pub use wrapped_keys::{parse_wrapped_keys, wrapped_keys_to_json};

/// What all requests share; a cheap clone.
///
/// Starts without a database, so that health can be probed while it opens. Install the metrics recorder first.
#[derive(Clone)]
pub struct App(Arc<Shared>);

/// What a program puts around the service of each listener; every request passes it first.
pub type Around = fn(Router) -> Router;

/// What there is once the store is open.
struct Open {
    db: Db,
    engine: &'static str,
    /// None if the engine cannot be backed up by us.
    backups: Option<Backups>,
}

struct Shared {
    open: OnceLock<Open>,
    draining: AtomicBool,
    awaits_storage: AtomicBool,
    awaits_kms: AtomicBool,
    migrating: AtomicBool,
    rehearsal: bool,
    auth: KeysInForce,
    cors: Cors,
    limits: Limits,
    whitelist: Vec<IpAddr>,
    metrics: RequestMetrics,
    request_ids: RequestIds,
}

impl App {
    /// An app that is still opening.
    pub fn new(settings: &Settings) -> Self {
        Self(Arc::new(Shared {
            open: OnceLock::new(),
            draining: AtomicBool::new(false),
            awaits_storage: AtomicBool::new(false),
            awaits_kms: AtomicBool::new(false),
            migrating: AtomicBool::new(false),
            rehearsal: settings.rehearsal,
            auth: KeysInForce::new(&settings.keys),
            cors: Cors::new(&settings.cors_allowed_origins),
            limits: Limits::new(settings),
            whitelist: settings.ip_whitelist.iter().map(IpAddr::to_canonical).collect(),
            metrics: RequestMetrics::new(docs::operations(&openapi())),
            request_ids: RequestIds::new(),
        }))
    }

    /// Ready: the database is open, on an engine of that name, and may be backed up where there are `backups`. Only the first
    /// call counts.
    pub fn open(&self, db: Db, engine: &'static str, backups: Option<Backups>) {
        let _ = self.0.open.set(Open { db, engine, backups });
    }

    /// The storage engine does not answer yet.
    pub fn await_storage(&self) {
        self.0.awaits_storage.store(true, Ordering::Relaxed);
    }

    /// The store is open, but the KMS does not open its keys.
    pub fn await_kms(&self) {
        self.0.awaits_kms.store(true, Ordering::Relaxed);
    }

    /// The store is open, and its rows are changed before it is served.
    pub fn migrate(&self) {
        self.0.migrating.store(true, Ordering::Relaxed);
    }

    /// No longer ready, though still serving: the process is about to stop.
    pub fn drain(&self) {
        self.0.draining.store(true, Ordering::Relaxed);
    }

    fn db(&self) -> Option<&Db> {
        self.0.open.get().map(|open| &open.db)
    }

    fn backups(&self) -> Option<Option<&Backups>> {
        self.0.open.get().map(|open| open.backups.as_ref())
    }

    /// The name of the engine below the database.
    fn engine(&self) -> Option<&'static str> {
        self.0.open.get().map(|open| open.engine)
    }

    /// Why there is no database yet.
    fn opening(&self) -> &'static str {
        let is = |state: &AtomicBool| state.load(Ordering::Relaxed);
        match () {
            () if is(&self.0.migrating) => "migrating",
            () if is(&self.0.awaits_kms) => "waiting for the KMS",
            () if is(&self.0.awaits_storage) => "waiting for the storage engine",
            () => "opening",
        }
    }

    /// The server is a rehearsal on a copy of the data.
    fn is_rehearsal(&self) -> bool {
        self.0.rehearsal
    }

    fn is_draining(&self) -> bool {
        self.0.draining.load(Ordering::Relaxed)
    }

    /// The handle by which the keys are replaced. It holds no database, so it may outlive one.
    pub fn keys_in_force(&self) -> KeysInForce {
        self.0.auth.clone()
    }

    fn auth(&self) -> Arc<Auth> {
        self.0.auth.get()
    }

    fn cors(&self) -> &Cors {
        &self.0.cors
    }

    fn limits(&self) -> &Limits {
        &self.0.limits
    }

    fn whitelist(&self) -> &[IpAddr] {
        &self.0.whitelist
    }

    fn metrics(&self) -> &RequestMetrics {
        &self.0.metrics
    }

    fn request_ids(&self) -> &RequestIds {
        &self.0.request_ids
    }
}

/// The list of everything that the API offers.
fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::with_openapi(docs::introduction())
        .routes(routes!(threads::create_thread, threads::list_threads))
        .routes(routes!(threads::get_thread, threads::update_thread, threads::delete_thread))
        .routes(routes!(messages::create_message, messages::list_messages))
        .routes(routes!(messages::get_message, messages::update_message, messages::delete_message))
        .routes(routes!(sign::sign_user))
        .routes(routes!(admin::get_admin_health))
        .routes(routes!(admin::get_stats))
        .routes(routes!(admin::list_keys))
        .routes(routes!(admin::get_key))
        .routes(routes!(admin::list_users))
        .routes(routes!(admin::list_user_threads))
        .routes(routes!(admin::list_thread_messages))
        .routes(routes!(admin::get_message_row))
        .routes(routes!(admin::purge))
        .routes(routes!(admin::get_prometheus))
        .routes(routes!(backup::create_backup))
        .routes(routes!(clock::get_clock, clock::accept_clock))
        .routes(routes!(encryption::get_status))
        .routes(routes!(encryption::rotate))
        .routes(routes!(encryption::reencrypt))
        .routes(routes!(encryption::encrypt_threads))
        .routes(routes!(encryption::compact))
        .routes(routes!(wrapped_keys::get_wrapped_keys))
        .routes(routes!(health::get_metrics))
        .routes(routes!(health::get_healthz))
        .routes(routes!(health::get_readyz))
}

/// The OpenAPI 3.1 document of the API.
pub fn openapi() -> OpenApi {
    docs::complete(routes().into_openapi())
}

/// The API of the main listener.
pub fn router(app: App) -> Router {
    Router::from(routes())
        .merge(docs::router(&openapi()))
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(from_fn_with_state(app.clone(), middleware::guard))
        .with_state(app)
}

/// Health and metrics without a key, for the management listener.
pub fn management_router(app: App) -> Router {
    Router::from(
        OpenApiRouter::new()
            .routes(routes!(health::get_healthz))
            .routes(routes!(health::get_readyz))
            .routes(routes!(health::get_metrics)),
    )
    .fallback(not_found)
    .method_not_allowed_fallback(method_not_allowed)
    .layer(from_fn_with_state(app.clone(), middleware::label))
    .with_state(app)
}

async fn not_found() -> Error {
    Error::NotFound
}

async fn method_not_allowed() -> Error {
    Error::MethodNotAllowed
}
