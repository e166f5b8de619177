//! `/ping`: whether every model answers.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;

use crate::app::Shared;
use crate::respond;

/// 200 when all models are ready, 503 while one is loading, 500 once one has failed.
pub(crate) async fn ping(State(shared): State<Arc<Shared>>) -> Response {
    let (health, body) = sconce_api::ping::ping(&shared.gateway.status());
    respond::health(health, body)
}
