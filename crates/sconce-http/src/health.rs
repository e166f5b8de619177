//! What platforms and clients ask about the server: whether it answers, what it is, how much it
//! takes.

use std::sync::Arc;

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use sconce_api::{Dialect, models, ping, tgi};
use sconce_core::{ModelStatus, Phase, ServeError};

use crate::app::Shared;
use crate::respond;

/// 200 when all models of the start are ready, 503 (or 207) while one is loading, 500 once one has
/// failed.
pub(crate) async fn ping(State(shared): State<Arc<Shared>>) -> Response {
    let (health, body) = ping::ping(&shared.gateway.status());
    respond::health(health, shared.settings.ping, body)
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

/// KServe's `/v2/health/live`: whoever reads this has been answered.
pub(crate) async fn live() -> Response {
    respond::success(respond::JSON, models::live().into())
}

/// KServe's `/v2/health/ready`: whether all models of the start answer; 200, or 503.
pub(crate) async fn ready(State(shared): State<Arc<Shared>>) -> Response {
    let models = shared.gateway.status();
    let ready = models
        .iter()
        .filter(|model| model.at_startup)
        .all(ModelStatus::is_ready);
    readiness(ready, models::ready(ready))
}

/// KServe's `/v2/models/{model}/ready`: whether a version of it answers.
pub(crate) async fn model_ready(
    State(shared): State<Arc<Shared>>,
    model: Result<Path<String>, PathRejection>,
) -> Response {
    one_ready(&shared, model.map(|Path(name)| (name, None)))
}

/// The same of one version.
pub(crate) async fn version_ready(
    State(shared): State<Arc<Shared>>,
    model: Result<Path<(String, String)>, PathRejection>,
) -> Response {
    one_ready(
        &shared,
        model.map(|Path((name, version))| (name, Some(version))),
    )
}

fn one_ready(shared: &Shared, model: Result<(String, Option<String>), PathRejection>) -> Response {
    let unknown = |name: String| {
        shared
            .native()
            .failure(&ServeError::UnknownModel(name).into())
    };
    let Ok((name, version)) = model else {
        return unknown("a name that is no UTF-8".into());
    };
    let mut versions = shared.gateway.status();
    versions.retain(|model| model.name == name && (version.is_none() || model.version == version));
    if versions.is_empty() {
        return unknown(name);
    }
    let ready = versions.iter().find(|model| model.is_ready());
    let told = ready.unwrap_or(&versions[0]);
    readiness(ready.is_some(), models::model_ready(told))
}

fn readiness(ready: bool, body: Vec<u8>) -> Response {
    let status = match ready {
        true => StatusCode::OK,
        false => StatusCode::SERVICE_UNAVAILABLE,
    };
    respond::with_type(status, respond::JSON, body.into())
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
