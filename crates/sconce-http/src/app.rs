//! The routes, and what all handlers share.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::Router;
use axum::http::header::CONTENT_TYPE;
use axum::middleware;
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get};
use sconce_core::{Gateway, JobId, ServeError};

use crate::flights::Flights;
use crate::settings::HttpSettings;
use crate::{access, health, inference, respond};

/// What all handlers share.
pub(crate) struct Shared {
    pub(crate) gateway: Arc<dyn Gateway>,
    pub(crate) settings: HttpSettings,
    pub(crate) flights: Arc<Flights>,
    jobs: AtomicU64,
}

impl Shared {
    pub(crate) fn new(gateway: Arc<dyn Gateway>, settings: HttpSettings) -> Arc<Self> {
        Arc::new(Self {
            gateway,
            settings,
            flights: Arc::default(),
            jobs: AtomicU64::new(0),
        })
    }

    /// A job id that this process has not used yet.
    pub(crate) fn next_job(&self) -> JobId {
        JobId(self.jobs.fetch_add(1, Ordering::Relaxed))
    }
}

/// All routes, to be served by any axum server; [`crate::serve`] adds the connection's limits
/// and the orderly end.
pub fn router(gateway: Arc<dyn Gateway>, settings: HttpSettings) -> Router {
    routes(Shared::new(gateway, settings))
}

/// Methods are not checked on the routes of DJL, because DJL does not check them.
pub(crate) fn routes(shared: Arc<Shared>) -> Router {
    Router::new()
        .route("/", get(welcome).fallback(unknown))
        .route("/ping", any(health::ping))
        .route("/invocations", any(inference::invocations))
        .route("/predictions/{model}", any(inference::named))
        .route("/models/{model}/invoke", any(inference::named))
        .fallback(unknown)
        .layer(middleware::from_fn_with_state(
            Arc::clone(&shared),
            access::envelope,
        ))
        .with_state(shared)
}

async fn welcome() -> Response {
    let text = concat!(
        "sconce ",
        env!("CARGO_PKG_VERSION"),
        ": POST {\"inputs\": \"...\"} to /invocations; GET /ping tells the state\n"
    );
    ([(CONTENT_TYPE, "text/plain")], text).into_response()
}

async fn unknown() -> Response {
    respond::failure(&ServeError::UnknownRoute)
}
