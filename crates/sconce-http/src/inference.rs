//! Inference: a body in, an answer out, whole or token by token.
//!
//! The handlers of all routes end here. Reading and writing of bodies is `sconce-api`'s,
//! statuses are `respond`'s.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Query, Request, State};
use axum::http::header::CONTENT_TYPE;
use axum::http::request::Parts;
use axum::response::Response;
use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream, SelectAll};
use sconce_api::{Accepted, Answer, Collector, Incoming, Stream, Whole};
use sconce_core::{Event, Generate, Input, Job, ServeError};
use tokio::sync::mpsc::Receiver;
use tokio::time::{Instant, timeout_at};

use crate::access::Tally;
use crate::app::Shared;
use crate::{limits, reply, respond};

/// The engine ends late jobs itself; this much later they are given up without it.
const GRACE: Duration = Duration::from_secs(1);

/// Asks the model that query or header `model_name` names, else the only one.
pub(crate) async fn invocations(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    const KEY: &str = "model_name";
    let query = Query::<HashMap<String, String>>::try_from_uri(request.uri());
    let header = || Some(request.headers().get(KEY)?.to_str().ok()?.to_owned());
    let model = query
        .ok()
        .and_then(|mut query| query.remove(KEY))
        .or_else(header);
    infer(shared, model, request).await
}

/// Asks the model that the path names.
pub(crate) async fn named(
    State(shared): State<Arc<Shared>>,
    model: Result<Path<String>, PathRejection>,
    request: Request,
) -> Response {
    match model {
        Ok(Path(model)) => infer(shared, Some(model), request).await,
        // The name is no UTF-8, so that no model can have it.
        Err(_) => respond::failure(&ServeError::UnknownModel(request.uri().path().into())),
    }
}

async fn infer(shared: Arc<Shared>, model: Option<String>, request: Request) -> Response {
    answer(shared, model, request)
        .await
        .unwrap_or_else(|error| respond::failure(&error))
}

async fn answer(
    shared: Arc<Shared>,
    model: Option<String>,
    request: Request,
) -> Result<Response, ServeError> {
    let deadline = Instant::now() + shared.settings.predict_timeout;
    let (parts, body) = request.into_parts();
    let tally = parts.extensions.get::<Tally>().cloned().unwrap_or_default();
    let body = limits::read_body(body, &shared.settings, deadline).await?;
    // Parsing and tokenising a large body takes long enough to hold up other requests.
    let accepting =
        tokio::task::spawn_blocking(move || accept(&shared, model, &parts, &body, deadline));
    let (answer, waiters) = match accepting.await {
        Ok(accepted) => accepted?,
        Err(died) => match died.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(_) => return Err(ServeError::Draining),
        },
    };
    match answer {
        Answer::Whole(whole) => collect(whole, waiters, &tally).await,
        Answer::Stream(stream) => flow(stream, waiters, tally).await,
    }
}

/// Parses and submits; all prompts are queued or none is answered.
fn accept(
    shared: &Shared,
    model: Option<String>,
    parts: &Parts,
    body: &Bytes,
    deadline: Instant,
) -> Result<(Answer, Vec<Waiter>), ServeError> {
    let content_type = parts.headers.get(CONTENT_TYPE);
    let incoming = Incoming {
        body,
        content_type: content_type.and_then(|value| value.to_str().ok()),
    };
    let Accepted { prompts, answer } = shared
        .settings
        .wire
        .accept(&incoming)
        .map_err(|error| explain_form(error, parts))?;
    let name = model
        .clone()
        .or_else(|| Some(shared.gateway.status().first()?.name.clone()));
    let submit = |generate: Generate| {
        let (reply, events) = reply::reply(generate.params.max_tokens.bound());
        shared.gateway.submit(
            model.as_deref(),
            Job {
                id: shared.next_job(),
                input: Input::Generate(generate),
                reply: Box::new(reply),
                deadline: deadline.into_std(),
            },
        )?;
        let seconds = shared.settings.predict_timeout.as_secs();
        Ok(Waiter {
            events,
            deadline,
            seconds,
            model: name.clone().unwrap_or_default(),
        })
    };
    let waiters: Result<Vec<_>, _> = prompts.into_iter().map(submit).collect();
    Ok((answer, waiters?))
}

/// curl calls every body a form unless told otherwise. DJL answers that with 204 and nothing;
/// here JSON is taken for what it is, and anything else is told why it may have been spoilt.
fn explain_form(error: ServeError, parts: &Parts) -> ServeError {
    let kind = parts
        .headers
        .get(CONTENT_TYPE)
        .map_or(&b""[..], |value| value.as_bytes());
    match error {
        ServeError::Malformed(text) if kind.starts_with(b"application/x-www-form-urlencoded") => {
            ServeError::Malformed(format!(
                "{text}. The Content-Type is application/x-www-form-urlencoded, curl's default; \
                 send JSON with -H 'Content-Type: application/json'"
            ))
        }
        other => other,
    }
}

/// The events of one job, until its deadline.
struct Waiter {
    events: Receiver<Event>,
    deadline: Instant,
    seconds: u64,
    model: String,
}

impl Waiter {
    /// The next event; whatever goes wrong on the way is a failed job.
    async fn next(&mut self) -> Event {
        match timeout_at(self.deadline + GRACE, self.events.recv()).await {
            Ok(Some(event)) => event,
            Ok(None) => Event::Failed(ServeError::Engine {
                model: self.model.clone(),
                cause: "it dropped the job without an answer".into(),
            }),
            Err(_) => Event::Failed(ServeError::Timeout {
                seconds: self.seconds,
            }),
        }
    }
}

/// Waits for all jobs and answers at once.
async fn collect(
    whole: Box<dyn Whole>,
    waiters: Vec<Waiter>,
    tally: &Tally,
) -> Result<Response, ServeError> {
    let mut all = Vec::with_capacity(waiters.len());
    for mut waiter in waiters {
        let mut collector = Collector::new(whole.keeps_tokens());
        let finished = loop {
            if let Some(ended) = collector.push(waiter.next().await) {
                break ended?;
            }
        };
        tally.add(finished.output.generated_tokens);
        all.push(finished);
    }
    Ok(respond::success(
        whole.content_type(),
        whole.body(&all).into(),
    ))
}

/// Answers token by token. The status waits for the first event, because a job that fails before
/// it still has one.
async fn flow(
    writer: Box<dyn Stream>,
    waiters: Vec<Waiter>,
    tally: Tally,
) -> Result<Response, ServeError> {
    let content_type = writer.content_type();
    let mut events = SelectAll::from_iter(waiters.into_iter().enumerate().map(events));
    let first = match events.next().await {
        Some((_, Event::Failed(error))) => return Err(error),
        first => first,
    };
    let running = Running {
        events,
        writer,
        first,
        tally,
    };
    let chunks = stream::unfold(Some(running), |running| async {
        let (bytes, rest) = running?.chunk().await;
        Some((Ok::<_, std::convert::Infallible>(Bytes::from(bytes)), rest))
    });
    Ok(respond::success(content_type, Body::from_stream(chunks)))
}

/// The events of one job with its place among the prompts, until its end.
fn events((index, waiter): (usize, Waiter)) -> BoxStream<'static, (usize, Event)> {
    let events = stream::unfold(Some(waiter), move |waiter| async move {
        let mut waiter = waiter?;
        let event = waiter.next().await;
        let goes_on = matches!(event, Event::Token(_));
        Some(((index, event), goes_on.then_some(waiter)))
    });
    events.boxed()
}

/// A stream that has not ended.
struct Running {
    events: SelectAll<BoxStream<'static, (usize, Event)>>,
    writer: Box<dyn Stream>,
    first: Option<(usize, Event)>,
    tally: Tally,
}

impl Running {
    /// The next bytes, and the stream if it goes on.
    async fn chunk(mut self) -> (Vec<u8>, Option<Self>) {
        loop {
            let event = match self.first.take() {
                Some(first) => Some(first),
                None => self.events.next().await,
            };
            let bytes = match event {
                None => return (Vec::new(), None),
                Some((index, Event::Token(token))) => {
                    self.tally.add(1);
                    self.writer.token(index, token)
                }
                Some((index, Event::Done(output))) => {
                    let bytes = self.writer.done(index, &output);
                    if self.events.is_empty() {
                        return (bytes, None);
                    }
                    bytes
                }
                Some((_, Event::Failed(error))) => {
                    tracing::warn!("a stream ends with an error: {error}");
                    let code = respond::status(&error).as_u16();
                    return (self.writer.fail(&error, code), None);
                }
            };
            if !bytes.is_empty() {
                return (bytes, Some(self));
            }
        }
    }
}
