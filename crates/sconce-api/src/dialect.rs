//! The seam between HTTP and the wire dialects: what every dialect reads and what it writes.
//!
//! A [`Wire`] is a dialect with the model's choices for it. It makes an [`Accepted`] of a request:
//! prompts for the engine, and an answer that will be told of their events. Statuses are the
//! caller's; where a body carries a number, the caller hands it in. `DIALECTS.md` describes each
//! dialect for its users.

use sconce_core::{
    Answered, Event, Generate, Manner, Output, OutputFormatter, Progressed, ServeError, Task, Token,
};
pub use sconce_core::{Dialect, Finished};

use crate::openai::{self, Habit, OpenAiRoute, Stamp};
use crate::rolling::{Formatter, Spelling};
use crate::tasks::TaskForm;
use crate::{adapters, asynchronous, batch, error, payload, rolling, rolling_2023, tasks, tgi};

/// A dialect, and what a model's configuration chooses within it.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Wire {
    /// Which dialect.
    pub dialect: Dialect,
    /// The layout of answers to requests that name none (`option.output_formatter`); the rolling
    /// batches have several.
    pub formatter: Option<Formatter>,
    /// Whether a static batch streams its answers (`option.enable_streaming`).
    pub streaming: bool,
    /// Texts that end every answer, besides those of the request (`option.stop_sequence`).
    pub stop_sequences: Vec<String>,
}

impl From<&Manner> for Wire {
    fn from(manner: &Manner) -> Self {
        let formatter = manner.formatter.map(|formatter| match formatter {
            OutputFormatter::Json => Formatter::Json,
            OutputFormatter::JsonLines => Formatter::JsonLines,
            OutputFormatter::ServerSentEvents => Formatter::Sse,
        });
        Self {
            dialect: manner.dialect,
            formatter,
            streaming: manner.streaming,
            stop_sequences: manner.stop_sequences.clone(),
        }
    }
}

/// Whose statuses tell of failures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Statuses {
    /// DJL Serving's.
    Djl,
    /// Those of TGI and of its sister TEI.
    Tgi,
    /// OpenAI's.
    OpenAi,
}

/// A request as it came over HTTP.
#[derive(Clone, Copy, Debug, Default)]
pub struct Incoming<'a> {
    /// The whole body, as [`crate::content`] read it.
    pub body: &'a [u8],
    /// By which of its routes a request of [`Dialect::Tgi`] came; others have one form for all.
    pub route: tgi::Route,
    /// What an answer in OpenAI's form says of itself.
    pub stamp: Stamp<'a>,
}

/// A request that has been understood.
pub struct Accepted {
    /// What the engine is asked; at least one. Events of the answer carry the place in this list.
    pub prompts: Vec<Generate>,
    /// How it is answered.
    pub answer: Answer,
}

/// The ways of answering.
pub enum Answer {
    /// At once, when all prompts are finished.
    Whole(Box<dyn Whole>),
    /// As tokens come.
    Stream(Box<dyn Stream>),
    /// At once, with what was found.
    Task(Box<dyn TaskForm>),
}

/// Writes an answer that is sent at once.
pub trait Whole: Send {
    /// The value of Content-Type.
    fn content_type(&self) -> &'static str;

    /// Whether [`Finished::tokens`] are wanted.
    fn keeps_tokens(&self) -> bool;

    /// The body; `finished` are in the order of the prompts.
    fn body(&self, finished: &[Finished]) -> Vec<u8>;
}

/// Writes an answer while it is generated. Each method gives the bytes to send now, perhaps none;
/// `index` is the place of the prompt.
pub trait Stream: Send {
    /// The value of Content-Type.
    fn content_type(&self) -> &'static str;

    /// Takes a token of a prompt.
    fn token(&mut self, index: usize, token: Token) -> Vec<u8>;

    /// Takes the end of a prompt.
    fn done(&mut self, index: usize, output: &Output) -> Vec<u8>;

    /// Takes a step of a picture.
    fn progress(&mut self, _index: usize, _progressed: &Progressed) -> Vec<u8> {
        Vec::new()
    }

    /// Takes what was found, of jobs that generate nothing.
    fn answered(&mut self, _index: usize, _answered: &Answered) -> Vec<u8> {
        Vec::new()
    }

    /// Ends the stream with a failure; `code` is the status that it would have had.
    fn fail(&mut self, error: &ServeError, code: u16) -> Vec<u8>;
}

impl Wire {
    /// Understands a request, or says why not.
    pub fn accept(&self, incoming: &Incoming<'_>) -> Result<Accepted, ServeError> {
        let mut payload = payload::read(incoming)?;
        let adapters = adapters::take(&mut payload.fields)?;
        let mut accepted = match self.dialect {
            // LMI takes OpenAI's bodies on all routes.
            Dialect::Rolling | Dialect::RollingTgi if payload.fields.has("messages") => {
                openai::chat(payload.fields, Habit::Rolling, incoming.stamp)
            }
            Dialect::Async if payload.fields.has("prompt") => {
                openai::completions(payload.fields, Habit::Async, incoming.stamp)
            }
            Dialect::Async if payload.fields.has("messages") && !payload.fields.has("inputs") => {
                openai::chat(payload.fields, Habit::Async, incoming.stamp)
            }
            Dialect::DeepSpeed | Dialect::HuggingFace => batch::generate(payload, self.streaming),
            Dialect::FasterTransformer => batch::faster_transformer(payload, self.streaming),
            Dialect::Rolling2023 => rolling_2023::accept(payload, self.formatter),
            Dialect::Rolling => rolling::accept(payload, self.formatter, Spelling::Lmi),
            Dialect::RollingTgi => rolling::accept(payload, self.formatter, Spelling::Tgi),
            Dialect::Async => asynchronous::accept(payload),
            Dialect::Tgi => tgi::accept(payload, incoming.route),
            Dialect::Tei | Dialect::OpenAi => Err(ServeError::Malformed(
                "this model generates text, which this route does not".into(),
            )),
        }?;
        adapters::assign(&adapters, &mut accepted)?;
        self.add_stops(&mut accepted);
        Ok(accepted)
    }

    /// Understands a request that came by one of OpenAI's routes, or says why not.
    pub fn accept_openai(
        &self,
        route: OpenAiRoute,
        incoming: &Incoming<'_>,
    ) -> Result<Accepted, ServeError> {
        let mut accepted = openai::accept(route, incoming)?;
        self.add_stops(&mut accepted);
        Ok(accepted)
    }

    fn add_stops(&self, accepted: &mut Accepted) {
        for Generate { params, .. } in &mut accepted.prompts {
            params
                .stop
                .sequences
                .extend_from_slice(&self.stop_sequences);
        }
    }

    /// Whose statuses failures have.
    pub fn statuses(&self) -> Statuses {
        match self.dialect {
            Dialect::Tgi | Dialect::Tei => Statuses::Tgi,
            Dialect::OpenAi => Statuses::OpenAi,
            _ => Statuses::Djl,
        }
    }

    /// Whether a model of that task is sent prompts to continue, as decoders are. Models that read a text and write another
    /// are where the configuration asks for a rolling batch, for TGI, or for streams: LMI served them so too.
    pub fn has_prompts_for(&self, task: Task) -> bool {
        let rolling = matches!(
            self.dialect,
            Dialect::Rolling2023 | Dialect::Rolling | Dialect::RollingTgi | Dialect::Tgi
        );
        task == Task::TextGeneration || (task.reads_and_writes() && (rolling || self.streaming))
    }

    /// The wire of a model that does not generate text: only handlers with fixed batches had such tasks.
    pub fn of_tasks(&self) -> Self {
        let dialect = match self.dialect {
            Dialect::DeepSpeed | Dialect::FasterTransformer => Dialect::DeepSpeed,
            _ => Dialect::HuggingFace,
        };
        Self {
            dialect,
            ..self.clone()
        }
    }

    /// The body that tells of a failure which is the request's or the model's.
    pub fn failure(&self, failure: &ServeError, code: u16) -> Vec<u8> {
        match self.dialect {
            Dialect::DeepSpeed | Dialect::FasterTransformer => {
                error::handler(failure, "prediction failure", code)
            }
            Dialect::HuggingFace => error::handler(failure, "invoke handler failure", code),
            Dialect::Rolling2023 => rolling_2023::failure(failure, code),
            Dialect::Rolling | Dialect::RollingTgi => error::lmi(failure, code),
            Dialect::Async => asynchronous::failure(failure, code),
            Dialect::Tgi => tgi::failure(failure),
            Dialect::Tei => tasks::tei::failure(failure),
            Dialect::OpenAi => tasks::openai::failure(failure, code),
        }
    }
}

impl Answer {
    /// An answer that is sent at once.
    pub(crate) fn whole(answer: impl Whole + 'static) -> Self {
        Self::Whole(Box::new(answer))
    }

    /// An answer that is sent as tokens come.
    pub(crate) fn stream(answer: impl Stream + 'static) -> Self {
        Self::Stream(Box::new(answer))
    }
}

/// Gathers the events of one job until it ends.
#[derive(Debug)]
pub struct Collector {
    keeps_tokens: bool,
    tokens: Vec<Token>,
}

impl Collector {
    /// Keeps the tokens, or only the end.
    pub fn new(keeps_tokens: bool) -> Self {
        Self {
            keeps_tokens,
            tokens: Vec::new(),
        }
    }

    /// Takes an event; the result once the job has ended.
    pub fn push(&mut self, event: Event) -> Option<Result<Finished, ServeError>> {
        match event {
            Event::Token(token) => {
                if self.keeps_tokens {
                    self.tokens.push(token);
                }
                None
            }
            Event::Done(output) => Some(Ok(Finished {
                tokens: std::mem::take(&mut self.tokens),
                output,
            })),
            Event::Failed(error) => Some(Err(error)),
            Event::Progress(_) => None,
            Event::Answered(_) => Some(Err(ServeError::Malformed(
                "the model found something where it should have continued a text".into(),
            ))),
            Event::Raw(_) => Some(Err(ServeError::BadAnswer {
                problem: "the model's code answered, and the request was not for it".into(),
            })),
        }
    }
}
