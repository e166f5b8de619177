//! The routes, and what all handlers share.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::Router;
use axum::extract::{Request, State};
use axum::http::header::CONTENT_TYPE;
use axum::middleware;
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, any, get, post};
use sconce_api::tasks::tei::TeiRoute;
use sconce_api::{Dialect, Wire};
use sconce_core::{Gateway, JobId, Registry, ServeError};
use tokio::sync::Semaphore;

use crate::adapters::adapters;
use crate::flights::Flights;
use crate::limits::Bodies;
use crate::respond::{self, Responder};
use crate::results::Results;
use crate::settings::HttpSettings;
use crate::{access, auth, connections, console, health, inference, management, openai, record};

/// So many models may be registered, scaled and removed at the same time. The threads for that are those in which requests
/// are read, of which there are hundreds.
const MOST_CHANGES: usize = 64;

/// What all handlers share.
pub(crate) struct Shared {
    pub(crate) gateway: Arc<dyn Gateway>,
    pub(crate) registry: Arc<dyn Registry>,
    pub(crate) settings: HttpSettings,
    pub(crate) results: Arc<Results>,
    pub(crate) flights: Arc<Flights>,
    pub(crate) bodies: Bodies,
    /// Changes of models at the same time: each holds a thread.
    pub(crate) changes: Arc<Semaphore>,
    /// When the server was made, in seconds since 1970.
    pub(crate) started: u64,
    jobs: AtomicU64,
}

impl Shared {
    pub(crate) fn new(models: Models, settings: HttpSettings) -> Arc<Self> {
        Arc::new(Self {
            gateway: models.gateway,
            registry: models.registry,
            results: Results::new(settings.results),
            bodies: Bodies::new(&settings),
            changes: Arc::new(Semaphore::new(MOST_CHANGES)),
            settings,
            flights: Arc::default(),
            started: openai::now(),
            jobs: AtomicU64::new(0),
        })
    }

    /// How the server itself speaks.
    pub(crate) fn native(&self) -> Responder {
        self.speaking(None)
    }

    /// The same in another dialect.
    pub(crate) fn speaking(&self, dialect: Option<Dialect>) -> Responder {
        let wire = Wire::from(&self.gateway.manner());
        Responder {
            wire: Wire {
                dialect: dialect.unwrap_or(wire.dialect),
                ..wire
            },
            codes: self.settings.codes,
        }
    }

    /// A job id that this process has not used yet.
    pub(crate) fn next_job(&self) -> JobId {
        JobId(self.jobs.fetch_add(1, Ordering::Relaxed))
    }
}

/// The rest of the server, as HTTP sees it.
#[derive(Clone)]
pub struct Models {
    /// Who is asked.
    pub gateway: Arc<dyn Gateway>,
    /// Who lets models come and go.
    pub registry: Arc<dyn Registry>,
}

impl Models {
    /// Both in one.
    pub fn of(all: Arc<impl Gateway + Registry + 'static>) -> Self {
        Self {
            gateway: Arc::clone(&all) as Arc<dyn Gateway>,
            registry: all,
        }
    }
}

/// All routes, to be served by any axum server; [`crate::serve`] adds the connection's limits
/// and the orderly end.
pub fn router(models: Models, settings: HttpSettings) -> Router {
    routes(Shared::new(models, settings))
}

pub(crate) fn routes(shared: Arc<Shared>) -> Router {
    Router::new()
        .merge(answering())
        .merge(tgi())
        .merge(tei())
        .merge(openai_texts())
        .merge(pictures())
        .merge(managing())
        .merge(readiness())
        .merge(console::routes())
        .fallback(unknown)
        .layer(middleware::from_fn_with_state(
            Arc::clone(&shared),
            record::keep,
        ))
        .layer(middleware::from_fn_with_state(
            Arc::clone(&shared),
            auth::require,
        ))
        .layer(middleware::from_fn_with_state(
            Arc::clone(&shared),
            connections::turn_away,
        ))
        .layer(middleware::from_fn_with_state(
            Arc::clone(&shared),
            access::envelope,
        ))
        .with_state(shared)
}

/// What asks models, and what asks about the server. Methods are not checked here, because DJL
/// Serving does not check them, and more after a `/` does not matter, because it does not there.
fn answering() -> Router<Arc<Shared>> {
    let mut routes = Router::new()
        .route("/predictions/{model}", any(inference::named))
        .route("/predictions/{model}/", any(inference::named))
        .route("/predictions/{model}/{version}", any(inference::versioned))
        .route("/models/{model}/invoke", any(inference::named))
        .route(
            "/execution-parameters",
            get(health::execution_parameters).fallback(management::only_get),
        );
    for more in ["", "/", "/{*more}"] {
        routes = routes
            .route(&format!("/ping{more}"), any(health::ping))
            .route(&format!("/invocations{more}"), any(inference::invocations))
            .route(&format!("/v1/chat/completions{more}"), any(openai::chat));
    }
    routes
}

/// The routes of Text Generation Inference. Those that generate take POST only, as there.
fn tgi() -> Router<Arc<Shared>> {
    let posted = |handler: MethodRouter<Arc<Shared>>| {
        handler.options(preflight).fallback(management::only_post)
    };
    Router::new()
        .route(
            "/",
            get(welcome)
                .options(preflight)
                .post(inference::compatible)
                .fallback(unknown),
        )
        .route("/generate", posted(post(inference::generate)))
        .route("/generate_stream", posted(post(inference::generate_stream)))
        .route("/info", get(health::info).fallback(management::only_get))
        .route(
            "/health",
            get(health::health).fallback(management::only_get),
        )
}

/// The routes of Text Embeddings Inference, and OpenAI's for embeddings.
fn tei() -> Router<Arc<Shared>> {
    let posted = |route: TeiRoute| {
        let handler = move |State(shared): State<Arc<Shared>>, request: Request| {
            inference::tei(route, shared, request)
        };
        post(handler).options(preflight).fallback(unknown)
    };
    Router::new()
        .route("/embed", posted(TeiRoute::Embed))
        .route("/rerank", posted(TeiRoute::Rerank))
        .route("/predict", posted(TeiRoute::Predict))
        .route(
            "/v1/embeddings",
            post(inference::embeddings)
                .options(preflight)
                .fallback(unknown),
        )
}

/// OpenAI's routes for texts, but for the chat, which DJL Serving has too.
fn openai_texts() -> Router<Arc<Shared>> {
    let completions = post(openai::completions)
        .options(preflight)
        .fallback(unknown);
    Router::new()
        .route("/v1/completions", completions)
        .route("/v1/models", get(openai::list).fallback(unknown))
        .route("/v1/models/{*model}", get(openai::one).fallback(unknown))
}

/// OpenAI's route for pictures.
fn pictures() -> Router<Arc<Shared>> {
    let posted = post(inference::generations)
        .options(preflight)
        .fallback(unknown);
    Router::new().route("/v1/images/generations", posted)
}

/// Whether the server, and each model, is ready: the routes of KServe's protocol, version 2.
fn readiness() -> Router<Arc<Shared>> {
    let asked = |handler: MethodRouter<Arc<Shared>>| handler.fallback(management::only_get);
    Router::new()
        .route("/v2/health/live", asked(get(health::live)))
        .route("/v2/health/ready", asked(get(health::ready)))
        .route("/v2/models/{model}/ready", asked(get(health::model_ready)))
        .route(
            "/v2/models/{model}/versions/{version}/ready",
            asked(get(health::version_ready)),
        )
}

/// What manages the server.
fn managing() -> Router<Arc<Shared>> {
    use management::{
        add_workflow, logging, metrics, model, models, neither_get_nor_post, no_such_method,
        only_get, register, version, workflow, workflow_version, workflows,
    };
    Router::new()
        .route(
            "/models",
            get(models).post(register).fallback(neither_get_nor_post),
        )
        .route(
            "/models/{model}",
            get(model).put(model).delete(model).fallback(no_such_method),
        )
        .route(
            "/models/{model}/{version}",
            get(version)
                .put(version)
                .delete(version)
                .fallback(no_such_method),
        )
        .route(
            "/workflows",
            get(workflows)
                .post(add_workflow)
                .fallback(neither_get_nor_post),
        )
        .route(
            "/workflows/{name}",
            get(workflow)
                .put(workflow)
                .delete(workflow)
                .fallback(no_such_method),
        )
        .route(
            "/workflows/{name}/{version}",
            get(workflow_version)
                .put(workflow_version)
                .delete(workflow_version)
                .fallback(no_such_method),
        )
        .route("/adapters", any(adapters))
        .route("/adapters/{*more}", any(adapters))
        .route("/models/{model}/adapters", any(adapters))
        .route("/models/{model}/adapters/{*more}", any(adapters))
        .route("/server/logging", any(logging))
        .route("/server/metrics", get(metrics).fallback(only_get))
        .route("/metrics", get(metrics).fallback(only_get))
}

async fn welcome() -> Response {
    let text = concat!(
        "sconce ",
        env!("CARGO_PKG_VERSION"),
        ": POST {\"inputs\": \"...\"} to /invocations; GET /ping tells the state, /console shows it\n"
    );
    ([(CONTENT_TYPE, "text/plain")], text).into_response()
}

async fn preflight() -> Response {
    respond::preflight()
}

async fn unknown(State(shared): State<Arc<Shared>>) -> Response {
    shared.native().failure(&ServeError::UnknownRoute.into())
}
