//! Requests to a model's own code, and its answers: what comes is handed on, as DJL Serving does.
//!
//! Query parameters, form fields and bodies become contents, headers and custom attributes
//! properties; status, message and properties of the answer become its head. What a handler means
//! by them is not known here.

use std::sync::Arc;

use axum::body::Bytes;
use axum::http::request::Parts;
use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use sconce_api::content::Raw;
use sconce_api::raw;
use sconce_core::{Event, Input, Job, ModelStatus, RawEvent, RawInput, ServeError, Served};
use tokio::time::{Instant, timeout};
use tracing::warn;

use crate::access::RequestId;
use crate::app::Shared;
use crate::head::Head;
use crate::inference::Door;
use crate::produce::{Body, Broken, Produced, Waiter, Watch};
use crate::properties::Properties;
use crate::record::Fate;
use crate::refusal::Refusal;
use crate::reply;

/// Parts of a stream that may wait for their client before its worker does.
const AHEAD: usize = 16;

/// A request whose body has been read, and the model that it is for.
pub(crate) struct Asked<'a> {
    pub(crate) parts: &'a Parts,
    pub(crate) properties: &'a Properties<'a>,
    pub(crate) raw: Raw<'a>,
    pub(crate) body: &'a Bytes,
    pub(crate) model: &'a Arc<dyn Served>,
    /// The model's name, for messages.
    pub(crate) name: &'a str,
    pub(crate) deadline: Instant,
}

impl Asked<'_> {
    /// `predict_timeout`, for messages.
    pub(crate) fn seconds(&self) -> u64 {
        self.model.manner().predict_timeout.as_secs()
    }
}

/// Submits a request to a model whose own code answers; `None`: no such code does.
pub(crate) fn accept(
    shared: &Shared,
    door: &Door,
    asked: &Asked<'_>,
    status: &ModelStatus,
) -> Result<Option<Waiter>, Refusal> {
    if !asked.model.takes_raw() {
        return Ok(None);
    }
    if !door.is_native() {
        // The other routes ask for something certain.
        return Err(ServeError::UnknownRoute.into());
    }
    if let Some(fate) = asked.parts.extensions.get::<Fate>() {
        fate.by_code();
    }
    let contents = raw::contents(&asked.raw, asked.body)?;
    let mut properties = asked.properties.all();
    if contents.is_json {
        properties.push(("Content-Type".into(), "application/json".into()));
    }
    if let Some(id) = request_id(asked.parts) {
        properties.push(("requestId".into(), id));
    }
    let pause = shared.settings.chunked_read_timeout;
    let (reply, events) = reply::patient(AHEAD, pause);
    let watched = asked.parts.extensions.get().cloned().unwrap_or_default();
    let (id, telemetry) = (shared.next_job(), &shared.settings.telemetry);
    let submitted = asked.model.submit(Job {
        id,
        input: Input::Raw(RawInput {
            properties,
            content: contents.pairs,
        }),
        reply: telemetry.measure(Box::new(reply), id, status, &watched),
        deadline: asked.deadline.into_std(),
    });
    submitted.inspect_err(|error| telemetry.refused(status, error))?;
    Ok(Some(Waiter {
        events,
        deadline: asked.deadline,
        seconds: asked.seconds(),
        model: asked.name.to_owned(),
    }))
}

/// The id of a request, as handlers know it.
pub(crate) fn request_id(parts: &Parts) -> Option<String> {
    let RequestId(id) = parts.extensions.get()?;
    Some(id.clone())
}

/// Waits for the head of an answer, and for all of it unless it is streamed: then for its first
/// part, so that a worker that fails before it still has a status.
pub(crate) async fn produce(mut waiter: Waiter, watch: Watch) -> Result<Produced, ServeError> {
    let (head, streams) = match waiter.next().await {
        Event::Raw(RawEvent::Head(raw)) => (Head::try_from(&raw)?, raw.streams),
        other => return Err(unexpected(other)),
    };
    let body = if streams {
        Body::Stream(flow(waiter, watch).await?)
    } else {
        Body::Whole(collect(waiter).await?)
    };
    Ok(Produced { head, body })
}

/// All chunks of an answer whose head has come.
pub(crate) async fn collect(mut waiter: Waiter) -> Result<Bytes, ServeError> {
    let mut body = Bytes::new();
    loop {
        match waiter.next().await {
            Event::Raw(RawEvent::Chunk(bytes)) if body.is_empty() => body = bytes,
            Event::Raw(RawEvent::Chunk(bytes)) => body = [body, bytes].concat().into(),
            Event::Raw(RawEvent::End) => return Ok(body),
            other => return Err(unexpected(other)),
        }
    }
}

async fn flow(
    mut waiter: Waiter,
    watch: Watch,
) -> Result<BoxStream<'static, Result<Bytes, Broken>>, ServeError> {
    let first = match part(&mut waiter, &watch).await? {
        Some(bytes) => bytes,
        None => return Ok(stream::empty().boxed()),
    };
    let rest = stream::unfold(Some((waiter, watch)), |running| async {
        let (mut waiter, watch) = running?;
        match part(&mut waiter, &watch).await {
            Ok(None) => None,
            Ok(Some(bytes)) => Some((Ok(bytes), Some((waiter, watch)))),
            Err(error) => {
                // The status is sent; a body that breaks off is the only way left to tell.
                warn!("a stream breaks off: {error}");
                // What came before it is written out while nothing more is there.
                tokio::task::yield_now().await;
                Some((Err(Broken(error)), None))
            }
        }
    });
    Ok(stream::iter([Ok(first)]).chain(rest).boxed())
}

/// The next part of a stream; `None`: it has ended.
async fn part(waiter: &mut Waiter, watch: &Watch) -> Result<Option<Bytes>, ServeError> {
    let seconds = watch.pause.as_secs();
    // The time limit of a whole answer does not bind one that comes in parts.
    let event = match timeout(watch.pause, waiter.events.recv()).await {
        Err(_) => return Err(ServeError::Stalled { seconds }),
        Ok(event) => event,
    };
    match event {
        Some(Event::Raw(RawEvent::Chunk(bytes))) => Ok(Some(bytes)),
        Some(Event::Raw(RawEvent::End)) => Ok(None),
        Some(other) => Err(unexpected(other)),
        None => Err(waiter.dropped()),
    }
}

/// The failure that an event is which nobody expects.
pub(crate) fn unexpected(event: Event) -> ServeError {
    match event {
        Event::Failed(error) => error,
        _ => ServeError::BadAnswer {
            problem: "the parts of the answer came in a wrong order".into(),
        },
    }
}
