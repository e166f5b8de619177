//! The routes with which DJL Serving is managed: what can be read is answered, what would change
//! something is refused by name. Here methods count, as they do there.

use std::sync::Arc;

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::response::Response;
use sconce_api::models;
use sconce_core::ServeError;

use crate::app::Shared;
use crate::properties::Properties;
use crate::refusal::Refusal;
use crate::respond;

/// `GET /models?limit=…&next_page_token=…`.
pub(crate) async fn list(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let (parts, _) = request.into_parts();
    let properties = Properties::new(&parts);
    let page = number(&properties, "next_page_token", 0)
        .and_then(|start| Ok((start, number(&properties, "limit", models::LONGEST_PAGE)?)));
    match page {
        Ok((start, limit)) => {
            let body = models::list(&shared.gateway.status(), start, limit.max(1));
            respond::success(respond::JSON, body.into())
        }
        Err(refusal) => shared.native.failure(&refusal),
    }
}

fn number(properties: &Properties<'_>, name: &str, default: usize) -> Result<usize, Refusal> {
    properties.asked(name).map_or(Ok(default), |text| {
        text.parse().map_err(|_| {
            Refusal::BadRequest(format!("Parameter {name} is {text:?} and must be a number"))
        })
    })
}

/// `GET /models/{name}`.
pub(crate) async fn describe(
    State(shared): State<Arc<Shared>>,
    name: Result<Path<String>, PathRejection>,
) -> Response {
    let name = name.map_or_else(|error| error.to_string(), |Path(name)| name);
    let models = shared.gateway.status();
    match models.iter().find(|model| model.name == name) {
        Some(model) => respond::success(respond::JSON, models::describe(model).into()),
        None => shared
            .native
            .failure(&ServeError::UnknownModel(name).into()),
    }
}

/// `GET /models/{name}/{version}`: models have no versions.
pub(crate) async fn describe_version(
    State(shared): State<Arc<Shared>>,
    names: Result<Path<(String, String)>, PathRejection>,
) -> Response {
    let name = names.map_or_else(|error| error.to_string(), |Path((name, _))| name);
    shared
        .native
        .failure(&ServeError::UnknownModel(name).into())
}

/// Registering, scaling and removing models.
pub(crate) async fn change(State(shared): State<Arc<Shared>>) -> Response {
    let text = "Models are loaded at the start and not registered, scaled or removed later; \
                configure them in the model store and start the server again.";
    shared.native.failure(&Refusal::Unsupported(text))
}

/// Workflows.
pub(crate) async fn workflow(State(shared): State<Arc<Shared>>) -> Response {
    let text = "Workflows are not served; call each model by itself.";
    shared.native.failure(&Refusal::Unsupported(text))
}

/// `/server/logging`.
pub(crate) async fn logging(State(shared): State<Arc<Shared>>) -> Response {
    let text = "The log level cannot be changed while the server runs; set it before the start.";
    shared.native.failure(&Refusal::Unsupported(text))
}

/// `/server/metrics`: what DJL Serving answers where its exporter is not switched on is 400.
pub(crate) async fn metrics(State(shared): State<Arc<Shared>>) -> Response {
    let text = "Prometheus metrics are not served.";
    shared.native.failure(&Refusal::Unsupported(text))
}

/// Adapters of a model.
pub(crate) async fn adapters(State(shared): State<Arc<Shared>>) -> Response {
    let refusal = Refusal::BadRequest("LoRA is not enabled.".into());
    shared.native.failure(&refusal)
}

/// Any other method, on a list of models or workflows.
pub(crate) async fn neither_get_nor_post(State(shared): State<Arc<Shared>>) -> Response {
    shared.native.failure(&Refusal::Method("GET, POST"))
}

/// Any other method, on one model or workflow.
pub(crate) async fn no_such_method(State(shared): State<Arc<Shared>>) -> Response {
    shared.native.failure(&Refusal::Method("GET, PUT, DELETE"))
}

/// Any other method, where something is generated.
pub(crate) async fn only_post(State(shared): State<Arc<Shared>>) -> Response {
    shared.native.failure(&Refusal::Method("POST"))
}

/// Any other method, where something can only be read.
pub(crate) async fn only_get(State(shared): State<Arc<Shared>>) -> Response {
    shared.native.failure(&Refusal::Method("GET"))
}
