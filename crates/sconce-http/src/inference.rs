//! Inference: a request in, an answer out.
//!
//! The handlers of all routes end here. What a body means and how an answer is written is
//! `sconce-api`'s, from events to bytes is `produce`'s, answers that are fetched later are
//! `deferred`'s, statuses are `respond`'s.

use std::borrow::Cow;
use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::http::Method;
use axum::http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use axum::http::request::Parts;
use axum::response::Response;
use sconce_api::content::{self, Raw};
use sconce_api::openai::{self, OpenAiRoute, Stamp};
use sconce_api::pictures;
use sconce_api::tasks::{self, AcceptedTask, tei::TeiRoute};
use sconce_api::tgi::Route;
use sconce_api::{Accepted, Answer, Incoming};
use sconce_core::{Ask, Input, Job, ModelStatus, Phase, ServeError, Task};
use tokio::time::Instant;
use uuid::Uuid;

use crate::access::Tally;
use crate::app::Shared;
use crate::formatted::Script;
use crate::produce::{self, Body as Answered, Produced, Waiter, Watch, Work};
use crate::properties::Properties;
use crate::refusal::Refusal;
use crate::respond::Responder;
use crate::target::{self, Place};
use crate::{deferred, limits, raw, reply, respond};

/// Asks the model that the request names somewhere, else the only one.
pub(crate) async fn invocations(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let door = Door::native(&shared, Place::default());
    infer(shared, door, request).await
}

/// TGI's `/`.
pub(crate) async fn compatible(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let door = Door::tgi(&shared, Route::Compatible);
    infer(shared, door, request).await
}

/// TGI's `/generate`.
pub(crate) async fn generate(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let door = Door::tgi(&shared, Route::Generate);
    infer(shared, door, request).await
}

/// TGI's `/generate_stream`.
pub(crate) async fn generate_stream(
    State(shared): State<Arc<Shared>>,
    request: Request,
) -> Response {
    let door = Door::tgi(&shared, Route::GenerateStream);
    infer(shared, door, request).await
}

/// TEI's `/embed`, `/rerank` and `/predict`.
pub(crate) async fn tei(route: TeiRoute, shared: Arc<Shared>, request: Request) -> Response {
    let door = Door::for_tasks(&shared, &shared.tei, Form::Tei(route));
    infer(shared, door, request).await
}

/// OpenAI's `/v1/embeddings`.
pub(crate) async fn embeddings(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let door = Door::for_tasks(&shared, &shared.openai, Form::OpenAi);
    infer(shared, door, request).await
}

/// OpenAI's `/v1/images/generations`.
pub(crate) async fn generations(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let door = Door::for_tasks(&shared, &shared.openai, Form::OpenAiImages);
    infer(shared, door, request).await
}

/// Asks the model that the path names.
pub(crate) async fn named(
    State(shared): State<Arc<Shared>>,
    model: Result<Path<String>, PathRejection>,
    request: Request,
) -> Response {
    let place = model.map(|Path(model)| Place {
        model: Some(model),
        version: None,
    });
    at(shared, place, request).await
}

/// Asks the model and the version that the path names.
pub(crate) async fn versioned(
    State(shared): State<Arc<Shared>>,
    names: Result<Path<(String, String)>, PathRejection>,
    request: Request,
) -> Response {
    let place = names.map(|Path((model, version))| Place {
        model: Some(model),
        version: Some(version),
    });
    at(shared, place, request).await
}

async fn at(
    shared: Arc<Shared>,
    place: Result<Place, PathRejection>,
    request: Request,
) -> Response {
    match place {
        Ok(place) => {
            let door = Door::native(&shared, place);
            infer(shared, door, request).await
        }
        // The name is no UTF-8, so that no model can have it.
        Err(_) => {
            let unknown = ServeError::UnknownModel(request.uri().path().into());
            shared.native.failure(&unknown.into())
        }
    }
}

/// What the route says of a request.
pub(crate) struct Door {
    pub(crate) responder: Arc<Responder>,
    pub(crate) place: Place,
    form: Form,
}

/// In which form the route's requests are.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    /// The model's dialect.
    Native,
    /// TGI's.
    Tgi(Route),
    /// TEI's.
    Tei(TeiRoute),
    /// OpenAI's, for vectors.
    OpenAi,
    /// OpenAI's, for texts.
    OpenAiTexts(OpenAiRoute),
    /// OpenAI's, for pictures.
    OpenAiImages,
}

impl Door {
    /// Whether requests are what the model makes of them.
    pub(crate) fn is_native(&self) -> bool {
        self.form == Form::Native
    }

    fn native(shared: &Shared, place: Place) -> Self {
        Self {
            place,
            ..Self::for_tasks(shared, &shared.tasks, Form::Native)
        }
    }

    /// Whether a request by the route of OpenAI's chat is in the model's dialect: DJL Serving has it as one more name of
    /// `/invocations`.
    fn is_alias(&self, body: &[u8], task: Task) -> bool {
        self.form == Form::OpenAiTexts(OpenAiRoute::Chat)
            && (task != Task::TextGeneration || openai::is_native(body))
    }

    /// OpenAI's routes for texts. Where the model's own code answers, the chat is one more name of `/invocations`, as it is
    /// in DJL Serving.
    pub(crate) fn for_texts(shared: &Shared, route: OpenAiRoute) -> Self {
        if route == OpenAiRoute::Chat && shared.gateway.takes_raw(None) {
            return Self::native(shared, Place::default());
        }
        Self::of(&shared.openai, Form::OpenAiTexts(route))
    }

    /// With that responder where the model does not generate text. What a model does is known once it is ready; until
    /// then, and where it generates text, failures have the dialect of the configuration.
    fn for_tasks(shared: &Shared, responder: &Arc<Responder>, form: Form) -> Self {
        let wire = &shared.native.wire;
        let does_tasks =
            |model: &ModelStatus| model.task.is_some_and(|task| !wire.has_prompts_for(task));
        let known = shared.gateway.status().iter().any(does_tasks);
        Self::of(if known { responder } else { &shared.native }, form)
    }

    fn tgi(shared: &Shared, route: Route) -> Self {
        Self::of(&shared.tgi, Form::Tgi(route))
    }

    fn of(responder: &Arc<Responder>, form: Form) -> Self {
        Self {
            responder: Arc::clone(responder),
            place: Place::default(),
            form,
        }
    }

    /// What the model is asked, and how it is answered.
    fn accept(
        &self,
        (body, raw): (&[u8], &Raw<'_>),
        stamp: Stamp<'_>,
        task: Task,
    ) -> Result<(Vec<Input>, Answer), Refusal> {
        let generates = task == Task::TextGeneration || task.reads_and_writes();
        let has_prompts = self.responder.wire.has_prompts_for(task);
        let AcceptedTask { asks, answer } = match self.form {
            Form::Native if task == Task::TextToImage => pictures::accept(raw)?,
            Form::Native if !has_prompts => tasks::accept(task, body)?,
            Form::OpenAiTexts(_) if task != Task::TextGeneration => {
                return Err(ServeError::UnknownRoute.into());
            }
            Form::Native | Form::Tgi(_) | Form::OpenAiTexts(_) => {
                let wire = &self.responder.wire;
                let mut incoming = Incoming {
                    body,
                    stamp,
                    ..Incoming::default()
                };
                let Accepted { prompts, answer } = match self.form {
                    Form::OpenAiTexts(route) => wire.accept_openai(route, &incoming)?,
                    Form::Tgi(route) => {
                        incoming.route = route;
                        wire.accept(&incoming)?
                    }
                    _ => wire.accept(&incoming)?,
                };
                return Ok((prompts.into_iter().map(Input::Generate).collect(), answer));
            }
            // A model that generates text has no such route, as in DJL Serving.
            Form::OpenAiImages if task != Task::TextToImage => {
                return Err(ServeError::UnknownRoute.into());
            }
            Form::OpenAiImages => pictures::openai::generations(body)?,
            Form::Tei(_) | Form::OpenAi if generates => return Err(ServeError::UnknownRoute.into()),
            Form::Tei(route) => tasks::tei::accept(route, body)?,
            Form::OpenAi => tasks::openai::embeddings(body, stamp.model)?,
        };
        Ok((asks.into_iter().map(Input::Task).collect(), answer))
    }
}

pub(crate) async fn infer(shared: Arc<Shared>, door: Door, request: Request) -> Response {
    let responder = Arc::clone(&door.responder);
    answer(shared, door, request)
        .await
        .unwrap_or_else(|refusal| responder.failure(&refusal))
}

async fn answer(shared: Arc<Shared>, door: Door, request: Request) -> Result<Response, Refusal> {
    let deadline = Instant::now() + shared.settings.predict_timeout;
    let (parts, body) = request.into_parts();
    let properties = Properties::new(&parts);
    if parts.method == Method::OPTIONS {
        return options(&shared, &door.place, &properties);
    }
    if let Some(asked) = deferred::Poll::read(&properties)? {
        return deferred::poll(&shared.results, &asked);
    }
    let defers = deferred::wanted(&properties)?;
    let body = limits::read_body(body, &shared.settings, deadline).await?;
    let watch = Watch {
        tally: parts.extensions.get::<Tally>().cloned().unwrap_or_default(),
        pause: shared.settings.chunked_read_timeout,
        responder: Arc::clone(&door.responder),
    };
    let work = {
        let shared = Arc::clone(&shared);
        // Parsing and tokenising a large body takes long enough to hold up other requests.
        let accepting =
            tokio::task::spawn_blocking(move || accept(&shared, &door, &parts, &body, deadline));
        match accepting.await {
            Ok(accepted) => accepted?,
            Err(died) => match died.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(_) => return Err(ServeError::Draining.into()),
            },
        }
    };
    if defers {
        return Ok(deferred::start(&shared.results, work, watch));
    }
    let Produced { head, body } = produce::produce(work, watch).await?;
    let body = match body {
        Answered::Whole(bytes) => Body::from(bytes),
        Answered::Stream(chunks) => Body::from_stream(chunks),
    };
    Ok(respond::with_head(head, body))
}

/// What a browser asks before it posts.
fn options(
    shared: &Shared,
    place: &Place,
    properties: &Properties<'_>,
) -> Result<Response, Refusal> {
    let models = shared.gateway.status();
    match target::model(place, properties, &[], &models)? {
        Some(name) if !models.iter().any(|model| model.name == name) => {
            Err(ServeError::UnknownModel(name).into())
        }
        _ => Ok(respond::preflight()),
    }
}

/// DJL Serving hands compressed bytes to the handler, which cannot read them.
fn refuse_encoded(parts: &Parts) -> Result<(), Refusal> {
    let encodings = parts.headers.get_all(CONTENT_ENCODING).iter();
    let other =
        |value: &&axum::http::HeaderValue| !value.as_bytes().eq_ignore_ascii_case(b"identity");
    match encodings.into_iter().find(other) {
        None => Ok(()),
        Some(value) => Err(Refusal::Encoded(
            String::from_utf8_lossy(value.as_bytes()).into_owned(),
        )),
    }
}

/// Parses and submits; all prompts are queued or none is answered.
fn accept(
    shared: &Shared,
    door: &Door,
    parts: &Parts,
    body: &Bytes,
    deadline: Instant,
) -> Result<Work, Refusal> {
    let properties = Properties::new(parts);
    let content_type = parts.headers.get(CONTENT_TYPE);
    let content_type = content_type.and_then(|value| value.to_str().ok());
    let raw = Raw {
        body,
        content_type,
        query: properties.query(),
        tables: door.form == Form::Native,
    };
    let models = shared.gateway.status();
    let asked = raw::Asked {
        parts,
        properties: &properties,
        raw,
        body,
        models: &models,
        deadline,
    };
    if let Some(waiter) = raw::accept(shared, door, &asked)? {
        return Ok(Work::Raw(waiter));
    }
    refuse_encoded(parts)?;
    // What a model makes of a body depends on what it does: pictures come as parts of forms.
    let draws = models
        .iter()
        .any(|model| model.task == Some(Task::TextToImage));
    let mut script = Script::find(shared, door, &asked)?;
    let read = script.as_mut().map_or(Ok(None), Script::read)?;
    let (json, model) = match (read, &script) {
        (Some(json), Some(script)) => (Cow::from(json.to_vec()), script.model.clone()),
        _ if draws => (
            Cow::from(raw.body),
            target::model(&door.place, &properties, &[], &models)?,
        ),
        _ => {
            let content = content::decode(&raw)?;
            let model = target::model(&door.place, &properties, &content.routing, &models)?;
            (content.json, model)
        }
    };
    let status = match &model {
        Some(name) => models.iter().find(|model| model.name == *name),
        None => models.first(),
    };
    let name = model
        .clone()
        .or_else(|| Some(status?.name.clone()))
        .unwrap_or_default();
    let task = task(status)?;
    let id = Uuid::new_v4().to_string();
    let stamp = Stamp {
        id: &id,
        created: crate::openai::now(),
        model: &name,
    };
    let native = door
        .is_alias(&json, task)
        .then(|| Door::native(shared, door.place.clone()));
    let door = native.as_ref().unwrap_or(door);
    let (inputs, answer) = door.accept((&json, &raw), stamp, task)?;
    let submit = |input: Input| {
        let most = match &input {
            Input::Generate(generate) => generate.params.max_tokens.bound(),
            // Some schedulers take two predictions for a step.
            Input::Task(Ask::Draw(draw)) if draw.tells.is_some() => 2 * draw.steps.unwrap_or(50),
            Input::Task(_) | Input::Raw(_) => 1,
        };
        let (reply, events) = reply::reply(most);
        shared.gateway.submit(
            model.as_deref(),
            Job {
                id: shared.next_job(),
                input,
                reply: Box::new(reply),
                deadline: deadline.into_std(),
            },
        )?;
        Ok(Waiter {
            events,
            deadline,
            seconds: shared.settings.predict_timeout.as_secs(),
            model: name.clone(),
        })
    };
    let waiters: Result<Vec<_>, ServeError> = inputs.into_iter().map(submit).collect();
    let script = script.filter(|script| task == Task::TextGeneration && script.answers(&json));
    match script {
        Some(script) => Ok(Work::Formatted(Box::new(script.output(&json, waiters?)?))),
        None => Ok(Work::Native(answer, waiters?)),
    }
}

/// What a model does; one that is on its way does not say yet, and its requests cannot be read.
fn task(status: Option<&ModelStatus>) -> Result<Task, ServeError> {
    let Some(status) = status else {
        return Ok(Task::TextGeneration);
    };
    match (&status.phase, status.task) {
        (Phase::Pending | Phase::Fetching | Phase::Loading | Phase::Warming, None) => {
            Err(ServeError::NotReady {
                model: status.name.clone(),
                phase: status.phase.to_string(),
            })
        }
        (_, task) => Ok(task.unwrap_or_default()),
    }
}
