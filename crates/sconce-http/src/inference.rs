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
use sconce_api::{Accepted, Answer, Dialect, Incoming, Wire};
use sconce_core::{Ask, Input, Job, Manner, ModelStatus, ServeError, Served, Task};
use tokio::time::Instant;
use uuid::Uuid;

use crate::access::Tally;
use crate::app::Shared;
use crate::formatted::Script;
use crate::produce::{self, Body as Answered, Produced, Waiter, Watch, Work};
use crate::properties::Properties;
use crate::record::Fate;
use crate::refusal::Refusal;
use crate::respond::Responder;
use crate::target::{self, Place};
use crate::{adapters, blocking, deferred, raw, reply, respond};

/// Asks the model that the request names somewhere, else the only one.
pub(crate) async fn invocations(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let door = Door::native(Place::default());
    infer(shared, door, request).await
}

/// TGI's `/`.
pub(crate) async fn compatible(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let door = Door::of(Form::Tgi(Route::Compatible));
    infer(shared, door, request).await
}

/// TGI's `/generate`.
pub(crate) async fn generate(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let door = Door::of(Form::Tgi(Route::Generate));
    infer(shared, door, request).await
}

/// TGI's `/generate_stream`.
pub(crate) async fn generate_stream(
    State(shared): State<Arc<Shared>>,
    request: Request,
) -> Response {
    let door = Door::of(Form::Tgi(Route::GenerateStream));
    infer(shared, door, request).await
}

/// TEI's `/embed`, `/rerank` and `/predict`.
pub(crate) async fn tei(route: TeiRoute, shared: Arc<Shared>, request: Request) -> Response {
    let door = Door::of(Form::Tei(route));
    infer(shared, door, request).await
}

/// OpenAI's `/v1/embeddings`.
pub(crate) async fn embeddings(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let door = Door::of(Form::OpenAi);
    infer(shared, door, request).await
}

/// OpenAI's `/v1/images/generations`.
pub(crate) async fn generations(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let door = Door::of(Form::OpenAiImages);
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
            let door = Door::native(place);
            infer(shared, door, request).await
        }
        // The name is no UTF-8, so that no model can have it.
        Err(_) => {
            let unknown = ServeError::UnknownModel(request.uri().path().into());
            shared.native().failure(&unknown.into())
        }
    }
}

/// What the route says of a request.
pub(crate) struct Door {
    place: Place,
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

    fn native(place: Place) -> Self {
        Self {
            place,
            form: Form::Native,
        }
    }

    /// Whether bodies may name the model, as OpenAI's do.
    fn reads_model(&self) -> bool {
        matches!(
            self.form,
            Form::OpenAi | Form::OpenAiTexts(_) | Form::OpenAiImages
        )
    }

    /// Whether a request by the route of OpenAI's chat is in the model's dialect: DJL Serving has it as one more name of
    /// `/invocations`.
    fn is_alias(&self, body: &[u8], task: Task) -> bool {
        self.form == Form::OpenAiTexts(OpenAiRoute::Chat)
            && (task != Task::TextGeneration || openai::is_native(body))
    }

    /// OpenAI's routes for texts.
    pub(crate) fn for_texts(route: OpenAiRoute) -> Self {
        Self::of(Form::OpenAiTexts(route))
    }

    /// The door at which such a model is asked: where its own code answers, the chat is one more name of `/invocations`, as
    /// it is in DJL Serving.
    fn of_model(self, model: &dyn Served) -> Self {
        match self.form {
            Form::OpenAiTexts(OpenAiRoute::Chat) if model.takes_raw() => Self::native(self.place),
            _ => self,
        }
    }

    fn of(form: Form) -> Self {
        Self {
            place: Place::default(),
            form,
        }
    }

    /// How a model that is spoken to so is answered for here. What a model does is known once it is
    /// ready; until then, and where it generates text, failures have the dialect of its
    /// configuration.
    fn wire(&self, manner: &Manner, task: Option<Task>) -> Wire {
        let wire = Wire::from(manner);
        let does_tasks = task.is_some_and(|task| !wire.has_prompts_for(task));
        let dialect = match self.form {
            Form::Tgi(_) => Dialect::Tgi,
            Form::Native if does_tasks => return wire.of_tasks(),
            Form::Tei(_) if does_tasks => Dialect::Tei,
            Form::OpenAi | Form::OpenAiImages if does_tasks => Dialect::OpenAi,
            Form::OpenAiTexts(_) => Dialect::OpenAi,
            _ => wire.dialect,
        };
        Wire { dialect, ..wire }
    }

    /// How such a model, of which that much is known, is answered for. Where no model is known, it speaks as the server
    /// does.
    fn responder(
        &self,
        shared: &Shared,
        model: Option<(&dyn Served, Option<Task>)>,
    ) -> Arc<Responder> {
        let wire = match model {
            Some((model, task)) => self.wire(model.manner(), task),
            None => self.wire(&shared.gateway.manner(), None),
        };
        Arc::new(Responder {
            wire,
            codes: shared.settings.codes,
        })
    }

    /// What the model is asked, and how it is answered.
    fn accept(
        &self,
        wire: &Wire,
        (body, raw): (&[u8], &Raw<'_>),
        stamp: Stamp<'_>,
        task: Task,
    ) -> Result<(Vec<Input>, Answer), Refusal> {
        let generates = task == Task::TextGeneration || task.reads_and_writes();
        let has_prompts = wire.has_prompts_for(task);
        let is_for = |wanted| {
            let task = task.name();
            ServeError::OtherTask { wanted, task }
        };
        let AcceptedTask { asks, answer } = match self.form {
            Form::Native if task == Task::TextToImage => pictures::accept(raw)?,
            Form::Native if !has_prompts => tasks::accept(task, body)?,
            Form::OpenAiTexts(_) if task != Task::TextGeneration => {
                return Err(is_for("models that generate text").into());
            }
            Form::Native | Form::Tgi(_) | Form::OpenAiTexts(_) => {
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
            Form::OpenAiImages if task != Task::TextToImage => {
                return Err(is_for("models that draw").into());
            }
            Form::OpenAiImages => pictures::openai::generations(body, stamp.created)?,
            Form::Tei(_) | Form::OpenAi if generates => {
                return Err(is_for("models that embed or classify texts").into());
            }
            Form::Tei(route) => tasks::tei::accept(route, body)?,
            Form::OpenAi => tasks::openai::embeddings(body, stamp.model)?,
        };
        Ok((asks.into_iter().map(Input::Task).collect(), answer))
    }
}

/// The model that is asked, as far as that is known before the body is read, which may name one. It
/// is looked for once, since versions take turns.
type Early = Option<Result<Known, Refusal>>;

/// A model that is asked, and how it is answered for if it does nothing else by then.
struct Known {
    model: Arc<dyn Served>,
    task: Option<Task>,
    responder: Arc<Responder>,
}

pub(crate) async fn infer(shared: Arc<Shared>, door: Door, request: Request) -> Response {
    let began = Instant::now();
    let (parts, body) = request.into_parts();
    let is_preflight = parts.method == Method::OPTIONS;
    let body_may_name = door.reads_model() || content::may_be_form(content_type(&parts));
    let found = (is_preflight || !body_may_name).then(|| {
        let properties = Properties::new(&parts);
        target::find(&*shared.gateway, &door.place, &properties, &[])
    });
    let door = match &found {
        Some(Ok(model)) => door.of_model(&**model),
        _ => door,
    };
    let early: Early = found.map(|found| {
        let model = found?;
        let task = model.task();
        let responder = door.responder(&shared, Some((&*model, task)));
        Ok(Known {
            model,
            task,
            responder,
        })
    });
    let mut responder = match &early {
        Some(Ok(known)) => Arc::clone(&known.responder),
        _ => door.responder(&shared, None),
    };
    let answered = match (is_preflight, early) {
        (true, Some(Err(refusal))) if refusal != ServeError::Unnamed.into() => Err(refusal),
        (true, _) => Ok(respond::preflight()),
        (false, early) => {
            let request = Request::from_parts(parts, body);
            answer(&shared, door, request, early, began, &mut responder).await
        }
    };
    answered.unwrap_or_else(|refusal| responder.failure(&refusal))
}

fn content_type(parts: &Parts) -> Option<&str> {
    parts.headers.get(CONTENT_TYPE)?.to_str().ok()
}

/// `responder` becomes that of the model which is asked.
async fn answer(
    shared: &Arc<Shared>,
    door: Door,
    request: Request,
    early: Early,
    began: Instant,
    responder: &mut Arc<Responder>,
) -> Result<Response, Refusal> {
    let (parts, body) = request.into_parts();
    let properties = Properties::new(&parts);
    if let Some(asked) = deferred::Poll::read(&properties)? {
        return deferred::poll(&shared.results, &asked);
    }
    let defers = deferred::wanted(&properties)?;
    let timeout = match &early {
        Some(Ok(known)) => known.model.manner().predict_timeout,
        _ => shared.gateway.manner().predict_timeout,
    };
    let body = shared.bodies.read(body, began, timeout).await?;
    if let Some(fate) = parts.extensions.get::<Fate>() {
        fate.read(&body, defers);
    }
    let tally = parts.extensions.get::<Tally>().cloned().unwrap_or_default();
    let accepted = {
        let shared = Arc::clone(shared);
        // Parsing and tokenising a large body takes long enough to hold up other requests.
        blocking::run(move || enter(&shared, door, &parts, &body, early, began))
    };
    let Entered {
        model,
        responder: of_model,
        work,
    } = accepted.await??;
    *responder = Arc::clone(&of_model);
    let work = work?;
    let watch = Watch {
        tally,
        pause: shared.settings.chunked_read_timeout,
        responder: of_model,
        _model: model,
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

/// A request that has found its model.
struct Entered {
    model: Arc<dyn Served>,
    responder: Arc<Responder>,
    work: Result<Work, Refusal>,
}

/// Finds the model, which a field of a form may name, and asks it.
fn enter(
    shared: &Shared,
    door: Door,
    parts: &Parts,
    body: &Bytes,
    early: Early,
    began: Instant,
) -> Result<Entered, Refusal> {
    let properties = Properties::new(parts);
    let raw = Raw {
        body,
        content_type: content_type(parts),
        query: properties.query(),
        tables: door.form == Form::Native,
    };
    let (found, known, form) = match early {
        Some(Ok(Known {
            model,
            task,
            responder,
        })) => (Ok(model), Some((task, responder)), Ok(None)),
        Some(Err(refusal)) => (Err(refusal), None, Ok(None)),
        None => {
            let form = sconce_api::raw::routing(&raw);
            let fields = form.as_ref().ok().and_then(|fields| fields.as_deref());
            let find =
                |fields: &[_]| target::find(&*shared.gateway, &door.place, &properties, fields);
            let named = door
                .reads_model()
                .then(|| openai::named_model(body))
                .flatten();
            let found = match named {
                // OpenAI's clients always name a model: where there is only one, its name does not matter, unless it may
                // be that of an adapter.
                Some(name) => find(&[("model_name".into(), name.clone())]).or_else(|unknown| {
                    let of_adapter = adapters::model_of(&*shared.gateway, &name);
                    of_adapter.map_or_else(
                        || match find(&[]) {
                            Ok(only) if !adapters::has_any(&*only) => Ok(only),
                            _ => Err(unknown),
                        },
                        Ok,
                    )
                }),
                None => find(fields.unwrap_or_default()),
            };
            (found, None, form)
        }
    };
    let model = found?;
    let door = door.of_model(&*model);
    let status = model.status();
    let responder = match known {
        // It may have become ready meanwhile.
        Some((task, responder)) if task == status.task => responder,
        _ => door.responder(shared, Some((&*model, status.task))),
    };
    let asked = raw::Asked {
        parts,
        properties: &properties,
        raw,
        body,
        model: &model,
        name: &status.name,
        deadline: began + model.manner().predict_timeout,
    };
    // What is wrong with a form is told in the dialect of the model.
    let work = form
        .map_err(Refusal::from)
        .and_then(|_| accept(shared, &door, &asked, &responder.wire, &status));
    Ok(Entered {
        responder,
        work,
        model,
    })
}

/// Parses and submits; all prompts are queued or none is answered.
fn accept(
    shared: &Shared,
    door: &Door,
    asked: &raw::Asked<'_>,
    wire: &Wire,
    status: &ModelStatus,
) -> Result<Work, Refusal> {
    let adapter = adapters::named(asked.properties);
    if let Some(adapter) = adapter.filter(|_| asked.model.adapters().is_none()) {
        let text = format!("The adapter {adapter} has not been registered: LoRA is not enabled");
        return Err(ServeError::Malformed(text).into());
    }
    if let Some(waiter) = raw::accept(shared, door, asked, status)? {
        return Ok(Work::Raw(waiter));
    }
    refuse_encoded(asked.parts)?;
    let task = task(status);
    let mut script = Script::find(shared, door, asked)?;
    let json = match script.as_mut().map_or(Ok(None), Script::read)? {
        Some(json) => Cow::from(json.to_vec()),
        // Pictures come as parts of forms.
        None if task == Ok(Task::TextToImage) => Cow::from(asked.raw.body),
        None => content::decode(&asked.raw)?.json,
    };
    let task = task?;
    let fate = asked.parts.extensions.get::<Fate>();
    let drawn = || (Uuid::new_v4().to_string(), crate::openai::now());
    let (id, created) = fate.map_or_else(drawn, Fate::stamp);
    let stamp = Stamp {
        id: &id,
        created,
        model: asked.name,
    };
    let native = door
        .is_alias(&json, task)
        .then(|| Door::native(door.place.clone()));
    let (mut inputs, answer) = match &native {
        Some(native) => {
            let wire = native.wire(asked.model.manner(), status.task);
            native.accept(&wire, (&json, &asked.raw), stamp, task)?
        }
        None => door.accept(wire, (&json, &asked.raw), stamp, task)?,
    };
    // OpenAI's clients name an adapter as if it were a model.
    let as_model = || {
        let name = door
            .reads_model()
            .then(|| openai::named_model(&json))
            .flatten()?;
        (name != asked.name && adapters::has(&**asked.model, &name)).then_some(name)
    };
    if let Some(adapter) = adapter.map(str::to_owned).or_else(as_model) {
        let adapter: Arc<str> = adapter.into();
        for input in &mut inputs {
            if let Input::Generate(generate) = input {
                generate.params.adapter = Some(Arc::clone(&adapter));
            }
        }
    }
    let watched = asked.parts.extensions.get().cloned().unwrap_or_default();
    let telemetry = &shared.settings.telemetry;
    if let Some(fate) = fate {
        fate.settle(&mut inputs);
        if script.is_some() {
            fate.by_code();
        }
    }
    let submit = |input: Input| {
        let most = match &input {
            Input::Generate(generate) => generate.params.max_tokens.bound(),
            // Some schedulers take two predictions for a step.
            Input::Task(Ask::Draw(draw)) if draw.tells.is_some() => 2 * draw.steps.unwrap_or(50),
            Input::Task(_) | Input::Raw(_) => 1,
        };
        let (reply, events) = reply::reply(most);
        let id = shared.next_job();
        let submitted = asked.model.submit(Job {
            id,
            input,
            reply: telemetry.measure(Box::new(reply), id, status, &watched),
            deadline: asked.deadline.into_std(),
        });
        submitted.inspect_err(|error| telemetry.refused(status, error))?;
        Ok(Waiter {
            events,
            deadline: asked.deadline,
            seconds: asked.seconds(),
            model: asked.name.to_owned(),
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
fn task(status: &ModelStatus) -> Result<Task, ServeError> {
    match status.task {
        None if status.phase.is_coming() => Err(ServeError::NotReady {
            model: status.name.clone(),
            phase: status.phase.to_string(),
        }),
        task => Ok(task.unwrap_or_default()),
    }
}
