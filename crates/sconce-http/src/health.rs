//! What platforms ask about the server: whether it answers, and how much it takes.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use sconce_api::{models, ping};

use crate::app::Shared;
use crate::respond;

/// 200 when all models are ready, 503 (or 207) while one is loading, 500 once one has failed.
pub(crate) async fn ping(State(shared): State<Arc<Shared>>) -> Response {
    let (health, body) = ping::ping(&shared.gateway.status());
    respond::health(health, shared.settings.allow_multi_status, body)
}

/// What batch transform may send.
pub(crate) async fn execution_parameters(State(shared): State<Arc<Shared>>) -> Response {
    let settings = &shared.settings;
    let body = models::execution_parameters(settings.concurrency, settings.max_request_size);
    respond::success(respond::JSON, body.into())
}
