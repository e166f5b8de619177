//! OpenAI's routes for texts, and its list of models.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::response::Response;
use sconce_api::openai::OpenAiRoute;
use sconce_api::{Dialect, models};
use sconce_core::ServeError;

use crate::app::Shared;
use crate::inference::{self, Door};
use crate::respond;

/// `/v1/chat/completions`.
pub(crate) async fn chat(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    texts(shared, OpenAiRoute::Chat, request).await
}

/// `/v1/completions`.
pub(crate) async fn completions(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    texts(shared, OpenAiRoute::Completions, request).await
}

/// Seconds since 1970.
pub(crate) fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}

async fn texts(shared: Arc<Shared>, route: OpenAiRoute, request: Request) -> Response {
    inference::infer(shared, Door::for_texts(route), request).await
}

/// `GET /v1/models`.
pub(crate) async fn list(State(shared): State<Arc<Shared>>) -> Response {
    let body = models::openai_list(&shared.gateway.status(), shared.started);
    respond::success(respond::JSON, Body::from(body))
}

/// `GET /v1/models/{model}`.
pub(crate) async fn one(
    State(shared): State<Arc<Shared>>,
    name: Result<Path<String>, PathRejection>,
) -> Response {
    let name = name.map_or_else(|_| String::new(), |Path(name)| name);
    let models = shared.gateway.status();
    match models.iter().find(|model| model.name == name) {
        Some(model) => {
            let body = models::openai_one(model, shared.started);
            respond::success(respond::JSON, Body::from(body))
        }
        None => shared
            .speaking(Some(Dialect::OpenAi))
            .failure(&ServeError::UnknownModel(name).into()),
    }
}
