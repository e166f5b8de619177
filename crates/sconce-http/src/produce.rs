//! From the events of jobs to the bytes of an answer, whole or token by token.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream, SelectAll};
use sconce_api::tasks::TaskForm;
use sconce_api::{Answer, Collector, Stream, Whole};
use sconce_core::{Answered, Event, ServeError, Served};
use tokio::sync::mpsc::Receiver;
use tokio::time::{Instant, timeout, timeout_at};

use crate::access::Tally;
use crate::formatted::{self, Formatted};
use crate::head::Head;
use crate::raw;
use crate::respond::Responder;

/// The engine ends late jobs itself; this much later they are given up without it.
const GRACE: Duration = Duration::from_secs(1);

/// An answer that has begun.
pub(crate) struct Produced {
    pub(crate) head: Head,
    pub(crate) body: Body,
}

/// What follows the head.
pub(crate) enum Body {
    /// All of it.
    Whole(Bytes),
    /// Its parts, as they come.
    Stream(BoxStream<'static, Result<Bytes, Broken>>),
}

/// A stream that ends too early, in a form that has no place for the reason.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub(crate) struct Broken(pub(crate) ServeError);

/// What was asked, as far as the answer depends on it.
pub(crate) enum Work {
    /// Prompts for a native engine.
    Native(Answer, Vec<Waiter>),
    /// A prompt for a native engine, whose answer a function of the model's own makes.
    Formatted(Box<Formatted>),
    /// A request to the model's own code.
    Raw(Waiter),
}

/// What watches over an answer while it is produced.
pub(crate) struct Watch {
    /// Counts tokens for the log.
    pub(crate) tally: Tally,
    /// Longest pause between two parts of a stream.
    pub(crate) pause: Duration,
    /// Numbers the failure that ends a stream.
    pub(crate) responder: Arc<Responder>,
    /// Held until the answer is complete, so that the model stays so long.
    pub(crate) _model: Arc<dyn Served>,
}

/// Waits for the whole answer, or for the first event of a stream: a job that fails before it
/// still has a status.
pub(crate) async fn produce(work: Work, watch: Watch) -> Result<Produced, ServeError> {
    match work {
        Work::Native(Answer::Whole(whole), waiters) => collect(whole, waiters, &watch.tally).await,
        Work::Native(Answer::Stream(stream), waiters) => flow(stream, waiters, watch).await,
        Work::Native(Answer::Task(form), waiters) => gather(form, waiters, &watch.tally).await,
        Work::Formatted(formatted) => formatted::produce(*formatted, watch).await,
        Work::Raw(waiter) => raw::produce(waiter, watch).await,
    }
}

/// The events of one job, until its deadline.
pub(crate) struct Waiter {
    pub(crate) events: Receiver<Event>,
    pub(crate) deadline: Instant,
    /// `predict_timeout`, for the message.
    pub(crate) seconds: u64,
    pub(crate) model: String,
}

impl Waiter {
    /// The failure of a job whose reply was dropped.
    pub(crate) fn dropped(&self) -> ServeError {
        ServeError::Engine {
            model: self.model.clone(),
            cause: "it dropped the job without an answer".into(),
        }
    }

    /// The next event; whatever goes wrong on the way is a failed job.
    pub(crate) async fn next(&mut self) -> Event {
        match timeout_at(self.deadline + GRACE, self.events.recv()).await {
            Ok(Some(event)) => event,
            Ok(None) => Event::Failed(self.dropped()),
            Err(_) => Event::Failed(ServeError::Timeout {
                seconds: self.seconds,
            }),
        }
    }
}

/// Waits for all jobs.
async fn collect(
    whole: Box<dyn Whole>,
    waiters: Vec<Waiter>,
    tally: &Tally,
) -> Result<Produced, ServeError> {
    let mut all = Vec::with_capacity(waiters.len());
    for mut waiter in waiters {
        let mut collector = Collector::new(whole.keeps_tokens());
        let finished = loop {
            if let Some(ended) = collector.push(waiter.next().await) {
                break ended?;
            }
        };
        tally.add(finished.output.all_generated());
        all.push(finished);
    }
    Ok(Produced {
        head: Head::ok(whole.content_type()),
        body: Body::Whole(whole.body(&all).into()),
    })
}

/// Waits for what all jobs find.
async fn gather(
    form: Box<dyn TaskForm>,
    waiters: Vec<Waiter>,
    tally: &Tally,
) -> Result<Produced, ServeError> {
    let mut all: Vec<Answered> = Vec::with_capacity(waiters.len());
    for mut waiter in waiters {
        let event = loop {
            match waiter.next().await {
                // Nobody is told before all is there.
                Event::Progress(_) => {}
                event => break event,
            }
        };
        match event {
            Event::Answered(answered) => all.push(answered),
            Event::Failed(error) => return Err(error),
            Event::Token(_) | Event::Done(_) | Event::Raw(_) | Event::Progress(_) => {
                return Err(ServeError::Engine {
                    model: waiter.model,
                    cause: "it continued a text where it should have found something".into(),
                });
            }
        }
    }
    tally.add(all.iter().map(|answered| answered.tokens).sum());
    // A long list of vectors takes a while to write.
    let body = tokio::task::spawn_blocking(move || (form.content_type(), form.body(&all))).await;
    match body {
        Ok((content_type, body)) => Ok(Produced {
            head: Head::ok(content_type),
            body: Body::Whole(body.into()),
        }),
        Err(died) => match died.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(_) => Err(ServeError::Draining),
        },
    }
}

/// Waits for the first event.
async fn flow(
    writer: Box<dyn Stream>,
    waiters: Vec<Waiter>,
    watch: Watch,
) -> Result<Produced, ServeError> {
    let content_type = writer.content_type();
    let mut running = Running {
        events: SelectAll::from_iter(waiters.into_iter().enumerate().map(events)),
        writer,
        first: None,
        watch,
    };
    running.first = match running.next().await {
        Some((_, Event::Failed(error))) => return Err(error),
        first => first,
    };
    let chunks = stream::unfold(Some(running), |running| async {
        let (bytes, rest) = running?.chunk().await;
        Some((Ok(Bytes::from(bytes)), rest))
    });
    Ok(Produced {
        head: Head::ok(content_type),
        body: Body::Stream(chunks.boxed()),
    })
}

/// The events of one job with its place among the prompts, until its end.
fn events((index, waiter): (usize, Waiter)) -> BoxStream<'static, (usize, Event)> {
    let events = stream::unfold(Some(waiter), move |waiter| async move {
        let mut waiter = waiter?;
        let event = waiter.next().await;
        let goes_on = matches!(event, Event::Token(_) | Event::Progress(_));
        Some(((index, event), goes_on.then_some(waiter)))
    });
    events.boxed()
}

/// A stream that has not ended.
struct Running {
    events: SelectAll<BoxStream<'static, (usize, Event)>>,
    writer: Box<dyn Stream>,
    first: Option<(usize, Event)>,
    watch: Watch,
}

impl Running {
    /// The next event of any job; a pause that is too long is a failure.
    async fn next(&mut self) -> Option<(usize, Event)> {
        let pause = self.watch.pause;
        timeout(pause, self.events.next())
            .await
            .unwrap_or_else(|_| {
                let seconds = pause.as_secs();
                Some((0, Event::Failed(ServeError::Stalled { seconds })))
            })
    }

    /// The next bytes, and the stream if it goes on.
    async fn chunk(mut self) -> (Vec<u8>, Option<Self>) {
        loop {
            let event = match self.first.take() {
                Some(first) => Some(first),
                None => self.next().await,
            };
            let bytes = match event {
                None => return (Vec::new(), None),
                Some((index, Event::Token(token))) => {
                    self.watch.tally.add(1);
                    self.writer.token(index, token)
                }
                Some((index, Event::Done(output))) => {
                    let bytes = self.writer.done(index, &output);
                    if self.events.is_empty() {
                        return (bytes, None);
                    }
                    bytes
                }
                Some((index, Event::Progress(progressed))) => {
                    self.writer.progress(index, &progressed)
                }
                Some((index, Event::Answered(answered))) => {
                    self.watch.tally.add(answered.tokens);
                    let bytes = self.writer.answered(index, &answered);
                    if self.events.is_empty() {
                        return (bytes, None);
                    }
                    bytes
                }
                Some((_, failed @ (Event::Failed(_) | Event::Raw(_)))) => {
                    let error = match failed {
                        Event::Failed(error) => error,
                        _ => ServeError::BadAnswer {
                            problem: "the model's code answered a request for text".into(),
                        },
                    };
                    tracing::warn!("a stream ends with an error: {error}");
                    let code = self.watch.responder.status(&error).as_u16();
                    return (self.writer.fail(&error, code), None);
                }
            };
            if !bytes.is_empty() {
                return (bytes, Some(self));
            }
        }
    }
}
