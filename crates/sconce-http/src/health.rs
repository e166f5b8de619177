//! What platforms and clients ask about the server: whether it answers, what it is, how much it
//! takes.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use sconce_api::{Dialect, models, ping, tgi};
use sconce_core::{Phase, ServeError};

use crate::app::Shared;
use crate::respond;

/// 200 when all models of the start are ready, 503 (or 207) while one is loading, 500 once one has
/// failed.
pub(crate) async fn ping(State(shared): State<Arc<Shared>>) -> Response {
    let (health, body) = ping::ping(&shared.gateway.status());
    respond::health(health, shared.settings.allow_multi_status, body)
}

/// What batch transform may send.
pub(crate) async fn execution_parameters(State(shared): State<Arc<Shared>>) -> Response {
    let settings = &shared.settings;
    let body = models::execution_parameters(
        shared.gateway.manner().concurrency,
        settings.max_request_size,
    );
    respond::success(respond::JSON, body.into())
}

/// TGI's `/health`: 200 without a body when all models of the start are ready, else 503 with the reason.
pub(crate) async fn health(State(shared): State<Arc<Shared>>) -> Response {
    let models = shared.gateway.status();
    let mut own = models.iter().filter(|model| model.at_startup);
    let waiting = own.find(|model| model.phase != Phase::Ready);
    match waiting {
        None => Response::default(),
        Some(model) => {
            let failure = ServeError::NotReady {
                model: model.name.clone(),
                phase: model.phase.to_string(),
            };
            shared.speaking(Some(Dialect::Tgi)).failure(&failure.into())
        }
    }
}

/// TGI's `/info`.
pub(crate) async fn info(State(shared): State<Arc<Shared>>) -> Response {
    let models = shared.gateway.status();
    let info = shared.gateway.manner();
    // The server speaks for the models of its start.
    let own = models.iter().find(|model| model.at_startup);
    let name = || own.or(models.first()).map_or("", |model| &model.name);
    let body = tgi::info(&tgi::Info {
        model_id: info.model_id.as_deref().unwrap_or_else(name),
        model_sha: None,
        max_concurrent_requests: info.queue,
        // One token must be left for the answer.
        max_input_tokens: info.max_total_tokens.map(|total| total.saturating_sub(1)),
        max_total_tokens: info.max_total_tokens,
    });
    respond::success(respond::JSON, body.into())
}
