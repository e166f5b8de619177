//! The seam between HTTP and the wire dialects: what every dialect reads and what it writes.
//!
//! A [`Wire`] is a dialect with the model's choices for it. It makes an [`Accepted`] of a request:
//! prompts for the engine, and an answer that will be told of their events. Statuses are the
//! caller's; where a body carries a number, the caller hands it in.

use sconce_core::{Event, Generate, Output, ServeError, Token};

use crate::lmi::Formatter;
use crate::{error, lmi};

/// The wire dialects. Each has a file or a folder of its own in this crate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Dialect {
    /// The rolling batch of LMI, DJL Serving 0.26 to 0.36.
    #[default]
    Lmi,
}

/// A dialect, and what a model's configuration chooses within it.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Wire {
    /// Which dialect.
    pub dialect: Dialect,
    /// The layout of answers to requests that name none (`option.output_formatter`).
    pub formatter: Option<Formatter>,
}

/// A request as it came over HTTP.
#[derive(Clone, Copy, Debug, Default)]
pub struct Incoming<'a> {
    /// The whole body.
    pub body: &'a [u8],
    /// The header Content-Type, if there is one.
    pub content_type: Option<&'a str>,
}

/// A request that has been understood.
pub struct Accepted {
    /// What the engine is asked; at least one. Events of the answer carry the place in this list.
    pub prompts: Vec<Generate>,
    /// How it is answered.
    pub answer: Answer,
}

/// The two ways of answering.
pub enum Answer {
    /// At once, when all prompts are finished.
    Whole(Box<dyn Whole>),
    /// As tokens come.
    Stream(Box<dyn Stream>),
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

    /// Ends the stream with a failure; `code` is the status that it would have had.
    fn fail(&mut self, error: &ServeError, code: u16) -> Vec<u8>;
}

impl Wire {
    /// Understands a request, or says why not.
    pub fn accept(&self, incoming: &Incoming<'_>) -> Result<Accepted, ServeError> {
        match self.dialect {
            Dialect::Lmi => lmi::accept(incoming, self.formatter),
        }
    }

    /// The body that tells of a failure which is the request's or the model's.
    pub fn failure(&self, failure: &ServeError, code: u16) -> Vec<u8> {
        match self.dialect {
            Dialect::Lmi => error::lmi(failure, code),
        }
    }
}

/// A finished generation.
#[derive(Clone, Debug, PartialEq)]
pub struct Finished {
    /// The generated tokens; empty unless they were wanted.
    pub tokens: Vec<Token>,
    /// The text and why it ended.
    pub output: Output,
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
        }
    }
}
