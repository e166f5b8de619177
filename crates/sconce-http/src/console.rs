//! The console: a page that shows the models and what they are doing, and lets one try them.
//!
//! It is a few files without a build step, embedded here, and a client like any other: all that it knows it asks of
//! the routes that everybody has, with the key that its user types in.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, State};
use axum::http::HeaderValue;
use axum::http::header::{CONTENT_SECURITY_POLICY, LOCATION, REFERRER_POLICY};
use axum::http::{HeaderName, StatusCode};
use axum::response::Response;
use axum::routing::get;
use sconce_core::ServeError;

use crate::app::Shared;
use crate::{management, respond};

const PAGE: &str = include_str!("console/index.html");
const JAVASCRIPT: &str = "text/javascript; charset=utf-8";

/// What the page loads: name, type, text.
const FILES: &[(&str, &str, &str)] = &[
    (
        "style.css",
        "text/css; charset=utf-8",
        include_str!("console/style.css"),
    ),
    ("app.js", JAVASCRIPT, include_str!("console/app.js")),
    ("api.js", JAVASCRIPT, include_str!("console/api.js")),
    ("dom.js", JAVASCRIPT, include_str!("console/dom.js")),
    ("metrics.js", JAVASCRIPT, include_str!("console/metrics.js")),
    (
        "playground.js",
        JAVASCRIPT,
        include_str!("console/playground.js"),
    ),
];

/// Nothing comes from elsewhere, and nothing goes there.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
                      img-src data: blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// The page and its files.
pub(crate) fn routes() -> Router<Arc<Shared>> {
    Router::new()
        .route("/console", get(page).fallback(management::only_get))
        .route("/console/", get(moved).fallback(management::only_get))
        .route("/console/{file}", get(file).fallback(management::only_get))
}

async fn page(State(shared): State<Arc<Shared>>) -> Response {
    told(&shared, Some(("text/html; charset=utf-8", PAGE)))
}

/// Addresses on the page are relative to the server, so that it can stand below a path of a proxy.
async fn moved(shared: State<Arc<Shared>>) -> Response {
    let mut response = page(shared).await;
    if response.status() == StatusCode::OK {
        *response.status_mut() = StatusCode::PERMANENT_REDIRECT;
        let headers = response.headers_mut();
        headers.insert(LOCATION, HeaderValue::from_static("../console"));
    }
    response
}

async fn file(State(shared): State<Arc<Shared>>, Path(name): Path<String>) -> Response {
    let found = FILES.iter().find(|(file, _, _)| *file == name);
    told(&shared, found.map(|(_, kind, text)| (*kind, *text)))
}

fn told(shared: &Shared, found: Option<(&'static str, &'static str)>) -> Response {
    let Some((kind, text)) = found.filter(|_| shared.settings.console) else {
        return shared.native().failure(&ServeError::UnknownRoute.into());
    };
    let mut response = respond::success(kind, text.into());
    let headers = response.headers_mut();
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    let sniffing = HeaderName::from_static("x-content-type-options");
    headers.insert(sniffing, HeaderValue::from_static("nosniff"));
    response
}
