//! Models of the native engine whose `model.py` has functions for requests or answers.
//!
//! The function for requests makes the body that the dialect reads; events become lines that the
//! function for answers makes bytes of. Both run in a worker of Python beside the engine, which is
//! asked through the model. What they are told is `sconce_api::formatted`'s.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use sconce_api::formatted::{self, Generation};
use sconce_api::raw::Contents;
use sconce_core::{
    Event, Formats, Input, Job, JobId, RawEvent, RawInput, Reply, ServeError, Served,
};
use tokio::runtime::Handle;
use tokio::time::{Instant, timeout};
use tracing::warn;

use crate::app::Shared;
use crate::head::Head;
use crate::inference::Door;
use crate::produce::{Body, Broken, Produced, Waiter, Watch};
use crate::raw::Asked;
use crate::refusal::Refusal;
use crate::{raw, reply};

/// An answer of the worker comes in one part.
const PARTS: usize = 1;

/// The functions of one model, asked for one request.
pub(crate) struct Script {
    model: Arc<dyn Served>,
    name: String,
    formats: Formats,
    generation: Generation,
    job: JobId,
    deadline: Instant,
    seconds: u64,
    pause: Duration,
    contents: Contents,
    properties: Vec<(String, String)>,
    /// Whether the worker may still know of the request.
    is_known: bool,
}

impl Script {
    /// The functions of the model that is asked; `None`: it has none.
    pub(crate) fn find(
        shared: &Shared,
        door: &Door,
        asked: &Asked<'_>,
    ) -> Result<Option<Self>, Refusal> {
        let formats = asked.model.formats();
        if !door.is_native() || !(formats.input || formats.output) {
            return Ok(None);
        }
        let contents = sconce_api::raw::contents(&asked.raw, asked.body)?;
        let mut properties = asked.properties.all();
        if contents.is_json {
            properties.push(("Content-Type".into(), "application/json".into()));
        }
        if let Some(id) = raw::request_id(asked.parts) {
            properties.push(("requestId".into(), id));
        }
        Ok(Some(Self {
            model: Arc::clone(asked.model),
            name: asked.name.to_owned(),
            formats,
            generation: Generation::of(asked.model.manner().dialect),
            job: shared.next_job(),
            deadline: asked.deadline,
            seconds: asked.seconds(),
            pause: shared.settings.chunked_read_timeout,
            contents,
            properties,
            is_known: false,
        }))
    }

    /// The body that the function for requests makes; `None`: there is no such function. Waits, so
    /// it is called where blocking is allowed.
    pub(crate) fn read(&mut self) -> Result<Option<Bytes>, ServeError> {
        if !self.formats.input {
            return Ok(None);
        }
        self.is_known = self.writes();
        let content = std::mem::take(&mut self.contents.pairs);
        let properties = std::mem::take(&mut self.properties);
        let asked = self.ask("read", properties, content);
        Handle::current().block_on(asked).map(Some)
    }

    fn writes(&self) -> bool {
        self.formats.output && self.generation.has_output()
    }

    /// What is asked of the function for answers, if it makes the answer to this request.
    pub(crate) fn output(
        self,
        request: &[u8],
        mut waiters: Vec<Waiter>,
    ) -> Result<Formatted, ServeError> {
        let waiter = waiters.pop().filter(|_| waiters.is_empty());
        let waiter = waiter.ok_or_else(|| {
            let problem = "the model's own function for answers makes one answer; send one string";
            ServeError::parameter("inputs", "a list", problem)
        })?;
        Ok(Formatted {
            streams: formatted::streams(request),
            request: Some(Bytes::copy_from_slice(request)),
            script: self,
            waiter,
            failed: None,
            has_ended: false,
        })
    }

    /// Whether its function makes the answer to this request.
    pub(crate) fn answers(&self, request: &[u8]) -> bool {
        let own_form =
            self.generation == Generation::Rolling && formatted::names_formatter(request);
        self.writes() && !own_form
    }

    async fn ask(
        &self,
        function: &str,
        mut properties: Vec<(String, String)>,
        content: Vec<(String, Bytes)>,
    ) -> Result<Bytes, ServeError> {
        let (reply, events) = reply::patient(PARTS, self.pause);
        properties.extend(self.told(function));
        self.submit(properties, content, Box::new(reply))?;
        let mut waiter = Waiter {
            events,
            deadline: self.deadline,
            seconds: self.seconds,
            model: self.name.clone(),
        };
        let head = match waiter.next().await {
            Event::Raw(RawEvent::Head(head)) => head,
            other => return Err(raw::unexpected(other)),
        };
        let body = raw::collect(waiter).await?;
        match head.code {
            200 => Ok(body),
            _ => Err(ServeError::BadAnswer {
                problem: String::from_utf8_lossy(&body).into_owned(),
            }),
        }
    }

    fn told(&self, function: &str) -> [(String, String); 3] {
        [
            ("handler".into(), function.into()),
            ("sconce_request".into(), self.job.to_string()),
            ("sconce_dialect".into(), self.generation.name().into()),
        ]
    }

    fn submit(
        &self,
        properties: Vec<(String, String)>,
        content: Vec<(String, Bytes)>,
        reply: Box<dyn Reply>,
    ) -> Result<(), ServeError> {
        let job = Job {
            id: self.job,
            input: Input::Raw(RawInput {
                properties,
                content,
            }),
            reply,
            deadline: self.deadline.into_std(),
        };
        self.model.format(job)
    }
}

impl Drop for Script {
    /// The worker forgets a request whose answer is not made to its end.
    fn drop(&mut self) {
        if self.is_known {
            let forgotten = self.submit(self.told("forget").into(), vec![], Box::new(Nobody));
            if let Err(error) = forgotten {
                tracing::debug!("{} stays known to the worker: {error}", self.job);
            }
        }
    }
}

/// Takes what is of no interest.
struct Nobody;

impl Reply for Nobody {
    fn send(&mut self, _: Event) -> bool {
        true
    }

    fn gone(&self) -> bool {
        false
    }
}

/// An answer that the function for answers makes.
pub(crate) struct Formatted {
    script: Script,
    waiter: Waiter,
    /// The body that was read, until the worker has it.
    request: Option<Bytes>,
    streams: bool,
    /// A failure that comes after what was generated before it.
    failed: Option<ServeError>,
    has_ended: bool,
}

/// Waits for the first bytes that the function makes: until then a failure has a status. If they
/// are also the last, they are the answer.
pub(crate) async fn produce(
    mut formatted: Formatted,
    watch: Watch,
) -> Result<Produced, ServeError> {
    let first = formatted.next(&watch).await?.unwrap_or_default();
    let head = match (formatted.script.generation, formatted.streams) {
        (Generation::Async, false) => Head::ok("application/json"),
        (Generation::Async, true) => Head::ok("application/jsonlines"),
        // Only the function knows.
        _ => Head::untyped(),
    };
    let body = if formatted.has_ended {
        Body::Whole(first)
    } else {
        Body::Stream(flow(first, formatted, watch))
    };
    Ok(Produced { head, body })
}

fn flow(
    first: Bytes,
    formatted: Formatted,
    watch: Watch,
) -> BoxStream<'static, Result<Bytes, Broken>> {
    let rest = stream::unfold(Some((formatted, watch)), |running| async {
        let (mut formatted, watch) = running?;
        match formatted.next(&watch).await {
            Ok(None) => None,
            Ok(Some(bytes)) => Some((Ok(bytes), Some((formatted, watch)))),
            Err(error) => {
                warn!("a stream ends with an error: {error}");
                let code = watch.responder.status(&error).as_u16();
                let mut last = watch.responder.wire.failure(&error, code);
                last.push(b'\n');
                Some((Ok(last.into()), None))
            }
        }
    });
    stream::iter([Ok(first)]).chain(rest).boxed()
}

impl Formatted {
    /// The next bytes that are not empty; `None`: the answer has ended.
    async fn next(&mut self, watch: &Watch) -> Result<Option<Bytes>, ServeError> {
        loop {
            if let Some(error) = self.failed.take() {
                self.has_ended = true;
                return Err(error);
            }
            if self.has_ended {
                return Ok(None);
            }
            let lines = self.lines(watch).await?;
            if lines.is_empty() {
                continue;
            }
            let mut content = vec![("data".into(), lines.into())];
            if let Some(request) = self.request.take() {
                content.push(("request".into(), request));
            }
            self.script.is_known = !self.has_ended;
            let bytes = self.script.ask("write", vec![], content).await?;
            if !bytes.is_empty() || self.has_ended {
                return Ok(Some(bytes));
            }
        }
    }

    /// Lines of the events that are there, at least of one.
    async fn lines(&mut self, watch: &Watch) -> Result<Vec<u8>, ServeError> {
        let seconds = watch.pause.as_secs();
        let next = timeout(watch.pause, self.waiter.next());
        let mut event = next.await.map_err(|_| ServeError::Stalled { seconds })?;
        let mut lines = Vec::new();
        loop {
            match formatted::line(&event) {
                Some(line) => lines.extend(line),
                None => {
                    self.failed = Some(raw::unexpected(event));
                    return Ok(lines);
                }
            }
            match event {
                Event::Done(_) => {
                    self.has_ended = true;
                    return Ok(lines);
                }
                _ => watch.tally.add(1),
            }
            event = match self.waiter.events.try_recv() {
                Ok(event) => event,
                Err(_) => return Ok(lines),
            };
        }
    }
}
