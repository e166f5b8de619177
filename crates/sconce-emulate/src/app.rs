//! The routes, and what all calls share.

use std::sync::Arc;

use axum::Router;
use axum::extract::Request;
use axum::response::Response;
use axum::routing::post;
use tokio::sync::watch;

use crate::call;
use crate::failure::Failure;
use crate::health::Health;
use crate::invoke;
use crate::models::Models;
use crate::settings::Settings;

/// What all calls share.
pub(crate) struct Shared {
    pub(crate) settings: Settings,
    pub(crate) health: Health,
    pub(crate) models: Option<Models>,
    /// True when nothing is waited for any more.
    pub(crate) cut: watch::Sender<bool>,
}

impl Shared {
    pub(crate) fn new(settings: Settings) -> Arc<Self> {
        let folder = settings.multi_model.clone();
        let models = folder.map(|folder| Models::new(settings.upstream.clone(), folder));
        Arc::new(Self {
            health: Health::new(settings.upstream.clone()),
            models,
            settings,
            cut: watch::channel(false).0,
        })
    }
}

pub(crate) fn routes(shared: Arc<Shared>) -> Router {
    Router::new()
        .route("/endpoints/{name}/invocations", post(invoke::whole))
        .route(
            "/endpoints/{name}/invocations-response-stream",
            post(invoke::streamed),
        )
        .fallback(unknown)
        .method_not_allowed_fallback(unknown)
        .with_state(shared)
}

async fn unknown(request: Request) -> Response {
    let text = format!(
        "{} {} is no operation of this stand-in, which has POST /endpoints/NAME/invocations and \
         POST /endpoints/NAME/invocations-response-stream",
        request.method(),
        request.uri().path()
    );
    call::discard(request.into_body());
    tracing::warn!("{text}");
    Failure::UnknownOperation(text).response("")
}
