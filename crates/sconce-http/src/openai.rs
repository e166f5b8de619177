//! OpenAI's routes for texts, and its list of models.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::response::Response;
use sconce_api::openai::OpenAiRoute;
use sconce_api::{Dialect, models};
use sconce_core::{AdapterInfo, ModelStatus, ServeError};

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

/// The models, once each whatever their versions, and behind each its adapters, which are asked as models are.
fn listed(shared: &Shared) -> Vec<models::Named> {
    let statuses = shared.gateway.status();
    let names = statuses.chunk_by(|one, next| one.name == next.name);
    let with_adapters = |same: &[ModelStatus]| {
        let name = same[0].name.clone();
        let found = shared
            .gateway
            .find(Some(&name), same[0].version.as_deref())
            .ok();
        let adapters = found.and_then(|model| model.adapters());
        let adapters = adapters.map_or_else(Vec::new, |adapters| adapters.list());
        let of_adapter = |adapter: AdapterInfo| models::Named {
            id: adapter.name,
            parent: Some(name.clone()),
        };
        let adapters: Vec<_> = adapters.into_iter().map(of_adapter).collect();
        let model = models::Named {
            id: name,
            parent: None,
        };
        std::iter::once(model).chain(adapters)
    };
    names.flat_map(with_adapters).collect()
}

/// `GET /v1/models`.
pub(crate) async fn list(State(shared): State<Arc<Shared>>) -> Response {
    let body = models::openai_list(&listed(&shared), shared.started);
    respond::success(respond::JSON, Body::from(body))
}

/// `GET /v1/models/{model}`.
pub(crate) async fn one(
    State(shared): State<Arc<Shared>>,
    name: Result<Path<String>, PathRejection>,
) -> Response {
    let name = name.map_or_else(|_| String::new(), |Path(name)| name);
    match listed(&shared).iter().find(|one| one.id == name) {
        Some(found) => {
            let body = models::openai_one(found, shared.started);
            respond::success(respond::JSON, Body::from(body))
        }
        None => shared
            .speaking(Some(Dialect::OpenAi))
            .failure(&ServeError::UnknownModel(name).into()),
    }
}
