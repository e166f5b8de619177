//! The routes by which adapters of a model come and go, and where a request names one.

use std::collections::HashMap;
use std::sync::Arc;

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::http::Method;
use axum::http::request::Parts;
use axum::response::Response;
use sconce_api::{adapters, models};
use sconce_core::{AdapterRefusal, Adapters, Dialect, Gateway, ServeError, Served};

use crate::app::Shared;
use crate::blocking;
use crate::management::{allow, number};
use crate::properties::Properties;
use crate::refusal::Refusal;
use crate::respond;

/// The header that names the adapter of a request.
const IDENTIFIER: &str = "x-amzn-sagemaker-adapter-identifier";
/// The header with the name that answers have for an adapter.
const ALIAS: &str = "x-amzn-sagemaker-adapter-alias";

/// The adapter that a request names beside its body: in a header, else in the query.
pub(crate) fn named<'a>(properties: &'a Properties<'_>) -> Option<&'a str> {
    let named = properties
        .get(IDENTIFIER)
        .or_else(|| properties.asked("adapter"));
    named.filter(|name| !name.is_empty())
}

/// The model that has an adapter of that name.
pub(crate) fn model_of(gateway: &dyn Gateway, adapter: &str) -> Option<Arc<dyn Served>> {
    let mut found = gateway.status().into_iter().filter_map(|status| {
        gateway
            .find(Some(&status.name), status.version.as_deref())
            .ok()
    });
    found.find(|model| has(&**model, adapter))
}

/// Whether a model has an adapter of that name.
pub(crate) fn has(model: &dyn Served, adapter: &str) -> bool {
    let adapters = model.adapters();
    adapters.is_some_and(|adapters| adapters.find(adapter).is_some())
}

/// Whether a model has adapters.
pub(crate) fn has_any(model: &dyn Served) -> bool {
    let adapters = model.adapters();
    adapters.is_some_and(|adapters| !adapters.list().is_empty())
}

/// `/adapters…` and `/models/{model}/adapters…`.
pub(crate) async fn adapters(
    State(shared): State<Arc<Shared>>,
    place: Result<Path<HashMap<String, String>>, PathRejection>,
    request: Request,
) -> Response {
    let place = place.map(|Path(place)| place).unwrap_or_default();
    let (parts, _) = request.into_parts();
    let answer = answer(&shared, &place, &parts).await;
    answer.unwrap_or_else(|refusal| shared.native().failure(&refusal))
}

async fn answer(
    shared: &Arc<Shared>,
    place: &HashMap<String, String>,
    parts: &Parts,
) -> Result<Response, Refusal> {
    let model = find(shared, place.get("model").map(String::as_str))?;
    let taken = model.adapters().ok_or(AdapterRefusal::NotEnabled)?;
    let properties = Properties::new(parts);
    let rest = place
        .get("more")
        .map_or("", String::as_str)
        .trim_matches('/');
    let (name, verb) = match rest.split_once('/') {
        Some((name, verb)) => (name, verb),
        None => (rest, ""),
    };
    let body = match (&parts.method, name, verb) {
        (&Method::GET, "", "") => {
            let start = number(&properties, "next_page_token")?.unwrap_or(0);
            let limit = number(&properties, "limit")?.unwrap_or(models::LONGEST_PAGE);
            adapters::list(&taken.list(), start, limit)
        }
        (&Method::GET, name, "") => {
            let found = taken
                .find(name)
                .ok_or_else(|| AdapterRefusal::Unknown(name.into()))?;
            adapters::describe(&found)
        }
        (&Method::POST, "", "") => {
            allow(shared, parts, false)?;
            let read = adapters::registration(None, properties.query(), None);
            let adapter = read.map_err(Refusal::BadRequest)?;
            let name = adapter.name.clone();
            change(taken, move |adapters| adapters.register(adapter)).await?;
            said(&*model, &properties, &name, "registered")
        }
        (&Method::POST, name, "update") => {
            allow(shared, parts, false)?;
            let known = taken
                .find(name)
                .ok_or_else(|| AdapterRefusal::Unknown(name.into()))?;
            let read = adapters::registration(Some(name), properties.query(), Some(known));
            let adapter = read.map_err(Refusal::BadRequest)?;
            change(taken, move |adapters| adapters.update(adapter)).await?;
            said(&*model, &properties, name, "updated")
        }
        (&Method::DELETE, name, "") if !name.is_empty() => {
            allow(shared, parts, false)?;
            let gone = name.to_owned();
            change(taken, move |adapters| adapters.remove(&gone)).await?;
            said(&*model, &properties, name, "unregistered")
        }
        (_, "", "") => return Err(Refusal::Method("GET, POST")),
        (_, _, "update") => return Err(Refusal::Method("POST")),
        (_, _, "") => return Err(Refusal::Method("GET, DELETE")),
        _ => return Err(ServeError::UnknownRoute.into()),
    };
    Ok(respond::success(respond::JSON, body.into()))
}

fn find(shared: &Shared, name: Option<&str>) -> Result<Arc<dyn Served>, Refusal> {
    let model = shared
        .gateway
        .find(name, None)
        .map_err(|error| match error {
            ServeError::UnknownModel(name) => {
                Refusal::NotFound(format!("The model {name} was not found"))
            }
            // Without a name the server says as of old what it takes.
            ServeError::Unnamed => AdapterRefusal::NotEnabled.into(),
            other => other.into(),
        })?;
    let status = model.status();
    if status.phase.is_coming() {
        return Err(ServeError::NotReady {
            model: status.name,
            phase: status.phase.to_string(),
        }
        .into());
    }
    Ok(model)
}

/// Changes what there is, where reading files holds up nobody.
async fn change(
    adapters: Arc<dyn Adapters>,
    ask: impl FnOnce(&dyn Adapters) -> Result<(), AdapterRefusal> + Send + 'static,
) -> Result<(), Refusal> {
    Ok(blocking::run(move || ask(&*adapters)).await??)
}

/// What DJL Serving's handlers say; those of the asynchronous mode are brief.
fn said(model: &dyn Served, properties: &Properties<'_>, name: &str, what: &str) -> Vec<u8> {
    if model.manner().dialect == Dialect::Async {
        return models::status("OK");
    }
    let alias = properties.get(ALIAS).unwrap_or(name);
    models::status(&format!("Adapter {alias} {what}"))
}
