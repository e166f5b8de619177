//! The routes by which models come and go, DJL Serving's and those of SageMaker's contract for
//! several models, and the level of the log. Here methods count, as they do there; who may change
//! something is said by the configuration.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::http::header::CONTENT_TYPE;
use axum::http::request::Parts;
use axum::http::{Method, StatusCode};
use axum::response::Response;
use sconce_api::models::{self, Noun};
use sconce_core::{ModelStatus, Registry, RegistryError, ServeError};
use tokio::time::Instant;

use crate::app::Shared;
use crate::properties::Properties;
use crate::refusal::Refusal;
use crate::settings::Management;
use crate::{blocking, respond};

/// Where a connection comes from; a request extension.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Peer(pub(crate) SocketAddr);

type Answer = Result<Response, Refusal>;

fn told(shared: &Shared, answer: Answer) -> Response {
    answer.unwrap_or_else(|refusal| shared.native().failure(&refusal))
}

/// `GET /models?limit=…&next_page_token=…`.
pub(crate) async fn models(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    told(&shared, list(&shared, Noun::Model, request))
}

/// `GET /workflows`: each model is one, as in DJL Serving.
pub(crate) async fn workflows(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    told(&shared, list(&shared, Noun::Workflow, request))
}

fn list(shared: &Shared, noun: Noun, request: Request) -> Answer {
    let (parts, _) = request.into_parts();
    let properties = Properties::new(&parts);
    let start = number(&properties, "next_page_token")?.unwrap_or(0);
    let limit = number(&properties, "limit")?.unwrap_or(models::LONGEST_PAGE);
    let body = models::list(noun, &shared.gateway.status(), start, limit.max(1));
    Ok(respond::success(respond::JSON, body.into()))
}

pub(crate) fn number(properties: &Properties<'_>, name: &str) -> Result<Option<usize>, Refusal> {
    let text = properties.asked(name).unwrap_or_default();
    models::number(text).map_err(|problem| unusable(name, text, problem))
}

fn unusable(name: &str, value: &str, problem: &str) -> Refusal {
    Refusal::BadRequest(format!("Parameter {name} is {value:?}: {problem}"))
}

/// `POST /models`: parameters in the query, or in a JSON body.
pub(crate) async fn register(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let answer = add(&shared, request).await;
    told(&shared, answer)
}

async fn add(shared: &Arc<Shared>, request: Request) -> Answer {
    let (parts, body) = request.into_parts();
    allow(shared, &parts, true)?;
    let longest = shared.settings.body_timeout;
    let body = shared.bodies.read(body, Instant::now(), longest).await?;
    let kind = parts.headers.get(CONTENT_TYPE);
    let is_json = kind.is_some_and(|kind| kind.as_bytes().starts_with(b"application/json"));
    let parameters = match is_json && !body.is_empty() {
        true => models::parameters(&body).map_err(Refusal::BadRequest)?,
        false => Properties::new(&parts).query().to_vec(),
    };
    let read = models::registration(&parameters);
    let (wanted, synchronous) =
        read.map_err(|(name, value, problem)| unusable(&name, &value, problem))?;
    if wanted.url.is_empty() {
        return Err(Refusal::BadRequest("Parameter url is required.".into()));
    }
    let registering = registry(shared, move |registry| {
        let coming = registry.register(&wanted)?;
        let name = coming.name().to_owned();
        match synchronous {
            true => coming.wait()?,
            false => coming.watch()?,
        }
        Ok(name)
    });
    let name = registering.await?;
    let status = match synchronous {
        true => StatusCode::OK,
        false => StatusCode::ACCEPTED,
    };
    let body = models::registered(&name, synchronous);
    Ok(respond::with_type(status, respond::JSON, body.into()))
}

/// `POST /workflows`: what several models would do together.
pub(crate) async fn add_workflow(State(shared): State<Arc<Shared>>) -> Response {
    let text = "Workflows of several models are not served: register each model at /models, and \
                call one after the other.";
    shared.native().failure(&Refusal::Unsupported(text))
}

/// `GET`, `PUT` and `DELETE /models/{name}`.
pub(crate) async fn model(
    State(shared): State<Arc<Shared>>,
    name: Result<Path<String>, PathRejection>,
    request: Request,
) -> Response {
    one(shared, name.map(|Path(name)| (name, None)), request).await
}

/// The same of one version.
pub(crate) async fn version(
    State(shared): State<Arc<Shared>>,
    names: Result<Path<(String, String)>, PathRejection>,
    request: Request,
) -> Response {
    let names = names.map(|Path((name, version))| (name, Some(version)));
    one(shared, names, request).await
}

/// A model by its other name.
pub(crate) async fn workflow(
    shared: State<Arc<Shared>>,
    name: Result<Path<String>, PathRejection>,
    request: Request,
) -> Response {
    model(shared, name, request).await
}

/// The same of one version.
pub(crate) async fn workflow_version(
    shared: State<Arc<Shared>>,
    names: Result<Path<(String, String)>, PathRejection>,
    request: Request,
) -> Response {
    version(shared, names, request).await
}

/// A name and a version, if one is named.
type Named = (String, Option<String>);

async fn one(
    shared: Arc<Shared>,
    named: Result<Named, PathRejection>,
    request: Request,
) -> Response {
    let (parts, _) = request.into_parts();
    let answer = match named {
        // The name is no UTF-8, so that no model can have it.
        Err(_) => Err(ServeError::UnknownModel(parts.uri.path().into()).into()),
        Ok(named) if parts.method == Method::DELETE => remove(&shared, &parts, named).await,
        Ok(named) if parts.method == Method::PUT => scale(&shared, &parts, named).await,
        Ok(named) => describe(&shared, named),
    };
    told(&shared, answer)
}

fn describe(shared: &Shared, (name, version): Named) -> Answer {
    let is_meant =
        |model: &ModelStatus| model.name == name && (version.is_none() || model.version == version);
    let mut versions = shared.gateway.status();
    versions.retain(is_meant);
    if versions.is_empty() {
        return Err(ServeError::UnknownModel(name).into());
    }
    let body = models::describe(&versions);
    Ok(respond::success(respond::JSON, body.into()))
}

async fn scale(shared: &Arc<Shared>, parts: &Parts, (name, version): Named) -> Answer {
    allow(shared, parts, false)?;
    let properties = Properties::new(parts);
    let min = number(&properties, "min_worker")?;
    let max = number(&properties, "max_worker")?;
    let called = name.clone();
    let scaling = registry(shared, move |registry| {
        registry.scale(&called, version.as_deref(), min, max)
    });
    let body = models::scaled(&name, &scaling.await?);
    Ok(respond::success(respond::JSON, body.into()))
}

async fn remove(shared: &Arc<Shared>, parts: &Parts, (name, version): Named) -> Answer {
    allow(shared, parts, true)?;
    let called = name.clone();
    let removing = registry(shared, move |registry| {
        registry.unregister(&called, version.as_deref())
    });
    removing.await?;
    let body = models::unregistered(&name);
    Ok(respond::success(respond::JSON, body.into()))
}

/// Asks who keeps the models, where waiting holds up nobody. A client that leaves changes nothing.
async fn registry<T: Send + 'static>(
    shared: &Arc<Shared>,
    ask: impl FnOnce(&dyn Registry) -> Result<T, RegistryError> + Send + 'static,
) -> Result<T, Refusal> {
    let Ok(turn) = Arc::clone(&shared.changes).try_acquire_owned() else {
        return Err(Refusal::Busy(
            "Too many models are being registered, scaled and removed already; retry later.",
        ));
    };
    let registry = Arc::clone(&shared.registry);
    let ask = move |registry: &dyn Registry| {
        // Kept as long as the thread is, also when the client leaves.
        let _turn = turn;
        ask(registry)
    };
    Ok(blocking::run(move || ask(&*registry)).await??)
}

/// Whether this client may change something; `of_contract`: SageMaker's contract for several models
/// asks for it.
pub(crate) fn allow(shared: &Shared, parts: &Parts, of_contract: bool) -> Result<(), Refusal> {
    let settings = &shared.settings;
    let peer = parts.extensions.get::<Peer>();
    let is_here = || peer.is_some_and(|Peer(address)| address.ip().to_canonical().is_loopback());
    match settings.management {
        _ if of_contract && settings.multi_model => Ok(()),
        Management::Everybody => Ok(()),
        Management::Loopback if is_here() => Ok(()),
        Management::Loopback => Err(Refusal::Forbidden(
            "Models and the log are managed by clients of this machine only; set \
             SCONCE_MANAGEMENT=on to let everybody.",
        )),
        Management::Nobody => Err(Refusal::Forbidden(
            "Models and the log are not managed while the server runs; set SCONCE_MANAGEMENT=on or \
             =loopback to change that.",
        )),
    }
}

/// `/server/logging?level=…`.
pub(crate) async fn logging(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    told(&shared, set_level(&shared, request))
}

fn set_level(shared: &Shared, request: Request) -> Answer {
    const LEVELS: [&str; 5] = ["trace", "debug", "info", "warn", "error"];
    let (parts, _) = request.into_parts();
    allow(shared, &parts, false)?;
    let properties = Properties::new(&parts);
    let level = properties
        .asked("level")
        .unwrap_or("info")
        .to_ascii_lowercase();
    if !LEVELS.contains(&level.as_str()) {
        return Err(Refusal::BadRequest(format!(
            "Parameter level is {level:?}: it must be one of {}",
            LEVELS.join(", ")
        )));
    }
    let Some(log) = &shared.settings.log else {
        return Err(Refusal::Unsupported("The log has no level here."));
    };
    (log.0)(&level).map_err(Refusal::BadRequest)?;
    Ok(respond::success(respond::JSON, models::status("OK").into()))
}

/// `/metrics` and `/server/metrics`, whose parameter `name[]` chooses some; where they are switched off it is 400, as in
/// DJL Serving.
pub(crate) async fn metrics(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    if !shared.settings.metrics {
        let off = "Prometheus metrics are switched off: SERVING_PROMETHEUS is false.";
        return shared.native().failure(&Refusal::BadRequest(off.into()));
    }
    let (parts, _) = request.into_parts();
    let query = Properties::new(&parts);
    let named = query.query().iter().filter(|(name, _)| name == "name[]");
    let names: Vec<String> = named.map(|(_, value)| value.clone()).collect();
    let metrics = &shared.settings.telemetry.metrics;
    let text = metrics.text(&shared.gateway.status(), &names);
    respond::success(sconce_telemetry::CONTENT_TYPE, text.into())
}

/// Any other method, on a list of models or workflows.
pub(crate) async fn neither_get_nor_post(State(shared): State<Arc<Shared>>) -> Response {
    shared.native().failure(&Refusal::Method("GET, POST"))
}

/// Any other method, on one model or workflow.
pub(crate) async fn no_such_method(State(shared): State<Arc<Shared>>) -> Response {
    shared
        .native()
        .failure(&Refusal::Method("GET, PUT, DELETE"))
}

/// Any other method, where something is generated.
pub(crate) async fn only_post(State(shared): State<Arc<Shared>>) -> Response {
    shared.native().failure(&Refusal::Method("POST"))
}

/// Any other method, where something can only be read.
pub(crate) async fn only_get(State(shared): State<Arc<Shared>>) -> Response {
    shared.native().failure(&Refusal::Method("GET"))
}
