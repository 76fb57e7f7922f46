//! The OpenAPI document around the routes, and the pages that show it.
//!
//! Handlers document their parameters and success; what every route of a kind shares (security, errors, headers of
//! responses) is added here by rule, so that no route can lack it.

use axum::extract::Path;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Redirect;
use axum::{Router, routing::get};
use bytes::Bytes;
use serde_json::json;
use utoipa::openapi::path::{Operation, Parameter};
use utoipa::openapi::security::{
    ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme,
};
use utoipa::openapi::tag::TagBuilder;
use utoipa::openapi::{
    ComponentsBuilder, ContentBuilder, Header, InfoBuilder, ObjectBuilder, OpenApi, OpenApiBuilder, Ref, RefOr,
    Response, ResponseBuilder, Type,
};
use utoipa::{PartialSchema, ToSchema};

use super::App;
use super::error::{Error, ErrorBody};
use super::metrics::Documented;
use super::middleware::is_public;
use super::output;

const DESCRIPTION: &str = "A database for chat threads. A write is acknowledged when it is on disk, and every read \
    after that shows it. Keys are percent-encoded in paths. Send the API key as `Authorization: Bearer` or \
    `X-API-Key`: a frontend key needs `X-User-ID` with its `X-User-Signature`, a backend key names any user in \
    `X-User-ID` or `?author=`, an admin key opens `/admin` only.";

/// The statuses of all errors.
const ERRORS: [u16; 14] = [400, 401, 403, 404, 408, 409, 412, 413, 415, 422, 429, 500, 503, 507];

/// The document without its paths.
pub(super) fn introduction() -> OpenApi {
    let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).description(Some("An API key.")).build();
    let header = ApiKeyValue::with_description("X-API-Key", "An API key.");
    let tag = |name: &str, text: &str| TagBuilder::new().name(name).description(Some(text)).build();
    OpenApiBuilder::new()
        .info(
            InfoBuilder::new()
                .title("ProgressDB")
                .version(env!("CARGO_PKG_VERSION"))
                .description(Some(DESCRIPTION))
                .license(Some(
                    utoipa::openapi::LicenseBuilder::new().name("Apache-2.0").identifier(Some("Apache-2.0")).build(),
                ))
                .build(),
        )
        .components(Some(
            ComponentsBuilder::new()
                .security_scheme("bearer", SecurityScheme::Http(bearer))
                .security_scheme("api_key", SecurityScheme::ApiKey(ApiKey::Header(header)))
                .schema(ErrorBody::name(), ErrorBody::schema())
                .build(),
        ))
        .tags(Some([
            tag("threads", "Threads. Only their owner sees and changes them."),
            tag("messages", "The messages of a thread, in one order that never changes."),
            tag("backend", "For the application's servers."),
            tag("admin", "For operators."),
            tag("encryption", "Keys, rotation and erasure."),
            tag("health", "For probes and scrapers."),
        ]))
        .build()
}

/// Adds to every operation what its kind shares.
pub(super) fn complete(mut api: OpenApi) -> OpenApi {
    let components = api.components.get_or_insert_default();
    components.responses.extend(ERRORS.map(|status| (response_name(status), RefOr::T(error_response(status)))));
    for (path, item) in &mut api.paths.paths {
        let operations =
            [("get", &mut item.get), ("put", &mut item.put), ("post", &mut item.post), ("delete", &mut item.delete)];
        for (method, operation) in operations {
            if let Some(operation) = operation {
                complete_operation(path, method, operation);
            }
        }
    }
    api
}

/// Every operation of the document with its statuses.
pub(super) fn operations(api: &OpenApi) -> Vec<Documented> {
    let mut documented = Vec::new();
    for (route, item) in &api.paths.paths {
        let operations = [("GET", &item.get), ("PUT", &item.put), ("POST", &item.post), ("DELETE", &item.delete)];
        for (method, operation) in operations {
            let Some(operation) = operation else { continue };
            let statuses = operation.responses.responses.keys().filter_map(|status| status.parse().ok()).collect();
            documented.push(Documented { route: route.clone(), method, statuses });
        }
    }
    documented
}

fn complete_operation(path: &str, method: &str, operation: &mut Operation) {
    if !is_public(path) {
        operation.security = Some(["bearer", "api_key"].map(|name| SecurityRequirement::new(name, [""; 0])).into());
    }
    let conditional = has_header(operation, "If-Match");
    let mut statuses = errors(path, method, operation.request_body.is_some());
    if conditional {
        statuses.push(412);
    }
    for status in statuses {
        let reference = || RefOr::Ref(Ref::from_response_name(response_name(status)));
        operation.responses.responses.entry(status.to_string()).or_insert_with(reference);
    }
    if conditional {
        add_conditional_responses(method, operation);
    }
    for response in operation.responses.responses.values_mut() {
        if let RefOr::T(response) = response {
            response.headers.insert("X-Request-Id".into(), request_id_header());
        }
    }
}

fn has_header(operation: &Operation, name: &str) -> bool {
    let is_it = |parameter: &RefOr<Parameter>| matches!(parameter, RefOr::T(parameter) if parameter.name == name);
    operation.parameters.iter().flatten().any(is_it)
}

/// What an operation with conditions adds to its responses: the entity tag, and 304.
fn add_conditional_responses(method: &str, operation: &mut Operation) {
    let tag = || Header::builder().description(Some("The entity tag, strong.")).build();
    for (status, response) in &mut operation.responses.responses {
        if let (true, RefOr::T(response)) = (status.starts_with('2'), response) {
            response.headers.insert("ETag".into(), RefOr::T(tag()));
        }
    }
    if method == "get" {
        let unchanged = ResponseBuilder::new()
            .description("The client has it already: see `If-None-Match`")
            .header("ETag", tag())
            .build();
        operation.responses.responses.insert("304".into(), RefOr::T(unchanged));
    }
}

/// The errors of an operation.
fn errors(path: &str, method: &str, has_body: bool) -> Vec<u16> {
    let mut statuses = vec![403];
    if !is_public(path) {
        statuses.extend([401, 429]);
    }
    let touches_store = path.starts_with("/frontend") || (path.starts_with("/admin") && !is_static(path));
    if touches_store || has_body {
        statuses.extend([500, 503]);
    }
    if touches_store && path != "/admin/stats" {
        statuses.push(400);
    }
    if has_body {
        statuses.extend([400, 408, 413, 415]);
    }
    if path.contains("_key}") || path.ends_with("{key}") {
        statuses.push(404);
    }
    if path.starts_with("/frontend") && method != "get" {
        statuses.extend([422, 507]);
    }
    if path == "/admin/clock" && method == "post" {
        statuses.push(409);
    }
    if path == "/admin/backup"
        || path == "/admin/jobs/purge"
        || (path.starts_with("/admin/encryption/") && method != "get")
    {
        statuses.extend([409, 507]);
    }
    statuses
}

/// Admin routes that read nothing but memory.
fn is_static(path: &str) -> bool {
    matches!(path, "/admin/health" | "/admin/debug/prometheus")
}

fn response_name(status: u16) -> String {
    format!("Error{status}")
}

fn request_id_header() -> RefOr<Header> {
    RefOr::T(Header::builder().description(Some("Names the request in the log.")).build())
}

/// What is common to all errors of one status.
fn error_response(status: u16) -> Response {
    let (description, code, text) = match status {
        400 => ("The request is malformed", "invalid_payload", "invalid message payload"),
        401 => ("No valid API key or signature", "unauthorized", "unauthorized"),
        403 => ("Not for this caller", "access_denied", "access denied: not thread owner or participant"),
        404 => ("Deleted, or never there", "thread_not_found", "thread not found"),
        408 => ("The body did not arrive in time", "body_timeout", "request body did not arrive in time"),
        409 => ("The feature is disabled", "retention_disabled", "retention is disabled"),
        412 => ("Changed since it was read: see `ETag`", "precondition_failed", "precondition failed"),
        415 => (
            "The body is compressed: no coding is supported",
            "unsupported_content_coding",
            "no content coding is supported",
        ),
        413 => ("The body is too large", "payload_too_large", "payload too large (maximum 102400 bytes)"),
        422 => ("The idempotency key belongs to another request", "idempotency_mismatch", "idempotency key reused"),
        429 => ("Too many requests: see `Retry-After`", "rate_limited", "rate limit exceeded"),
        503 => ("Busy, opening or stopping: try again", "busy", "server busy; try again"),
        507 => ("Almost no disk is free: writes are refused", "disk_full", "writes refused"),
        _ => ("The server failed", "internal", "internal error"),
    };
    let content = ContentBuilder::new()
        .schema(Some(Ref::from_schema_name(ErrorBody::name())))
        .example(Some(json!({"error": text, "code": code})))
        .build();
    let mut response = ResponseBuilder::new().description(description).content("application/json", content).build();
    let headers: &[(&str, Type)] = match status {
        401 => &[("WWW-Authenticate", Type::String)],
        412 => &[("ETag", Type::String)],
        415 => &[("Accept-Encoding", Type::String)],
        429 => &[
            ("Retry-After", Type::Integer),
            ("X-RateLimit-Limit", Type::Integer),
            ("X-RateLimit-Remaining", Type::Integer),
            ("X-RateLimit-Reset", Type::Integer),
        ],
        503 => &[("Retry-After", Type::Integer)],
        _ => &[],
    };
    response.headers.insert("X-Request-Id".into(), request_id_header());
    for (name, kind) in headers {
        let header = Header::new(ObjectBuilder::new().schema_type(kind.clone()).build());
        response.headers.insert((*name).to_owned(), RefOr::T(header));
    }
    response
}

/// The page that starts Swagger UI.
const PAGE: &str = include_str!("docs/index.html");

/// What the page loads, compressed by `build.rs`: name, type, content.
const FILES: [(&str, &str, &[u8]); 4] = [
    ("favicon-32x32.png", "image/png", include_bytes!(concat!(env!("OUT_DIR"), "/favicon-32x32.png.gz"))),
    ("swagger-ui-bundle.js", "text/javascript", include_bytes!(concat!(env!("OUT_DIR"), "/swagger-ui-bundle.js.gz"))),
    (
        "swagger-ui-standalone-preset.js",
        "text/javascript",
        include_bytes!(concat!(env!("OUT_DIR"), "/swagger-ui-standalone-preset.js.gz")),
    ),
    ("swagger-ui.css", "text/css", include_bytes!(concat!(env!("OUT_DIR"), "/swagger-ui.css.gz"))),
];

/// `/openapi.json` and the Swagger UI at `/docs`.
pub(super) fn router(api: &OpenApi) -> Router<App> {
    let document = Bytes::from(serde_json::to_vec(api).expect("the document has string keys only"));
    Router::new()
        .route("/openapi.json", get(async move || output::text(StatusCode::OK, "application/json", document.clone())))
        .route("/docs", get(async || Redirect::permanent("/docs/")))
        .route("/docs/", get(show_page))
        .route("/docs/index.html", get(show_page))
        .route("/docs/{*file}", get(async |Path(file): Path<String>| show_file(&file)))
}

async fn show_page() -> axum::response::Response {
    output::text(StatusCode::OK, "text/html", PAGE)
}

/// A file of Swagger UI, always compressed: every browser accepts gzip, and a request that names no coding accepts all.
fn show_file(name: &str) -> Result<axum::response::Response, Error> {
    let file = FILES.iter().find(|(known, ..)| *known == name);
    let &(_, content_type, content) = file.ok_or(Error::NotFound)?;
    let mut response = output::text(StatusCode::OK, content_type, content);
    response.headers_mut().insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    Ok(response)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use crate::config::Environment;

    /// `UPDATE=1` rewrites the file.
    #[test]
    fn the_committed_document_is_current() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/openapi.json");
        let current = super::super::openapi().to_pretty_json().unwrap() + "\n";
        if Environment::of_process().get("UPDATE").is_some() {
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, &current).unwrap();
        }
        let committed = std::fs::read_to_string(&path).unwrap();
        assert!(committed == current, "docs/openapi.json is stale: run the tests once with UPDATE=1");
    }

    #[test]
    fn every_operation_has_its_own_name_and_success() {
        let api = super::super::openapi();
        let mut names = std::collections::BTreeSet::new();
        for item in api.paths.paths.values() {
            for operation in [&item.get, &item.put, &item.post, &item.delete].into_iter().flatten() {
                assert!(names.insert(operation.operation_id.clone().unwrap()));
                assert!(operation.responses.responses.keys().any(|status| status.starts_with('2')));
            }
        }
    }

    #[test]
    fn the_page_loads_exactly_the_files_that_are_served() {
        let named = |attribute| super::PAGE.split(attribute).skip(1).map(|rest| rest.split('"').next().unwrap());
        let mut loaded: Vec<&str> = named(" src=\"").chain(named(" href=\"")).collect();
        loaded.sort_unstable();
        assert_eq!(loaded, super::FILES.map(|(name, ..)| name));
    }
}
