//! One request inside the server, from the parsed body to the reply channel.

use std::fmt;
use std::time::Instant;

use crate::dialogue::Dialogue;
use crate::params::GenerateParams;
use crate::raw::RawInput;
use crate::task::Ask;
use crate::traits::Reply;

/// Identifies a job in logs; unique within the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct JobId(pub u64);

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "job-{}", self.0)
    }
}

/// A unit of work for one model. Dropping it without an answer closes the reply channel.
pub struct Job {
    /// Name of the job in logs.
    pub id: JobId,
    /// What is asked.
    pub input: Input,
    /// Where the answers go.
    pub reply: Box<dyn Reply>,
    /// When the job fails with [`crate::ServeError::Timeout`], whatever state it is in.
    pub deadline: Instant,
}

/// What a job asks of its model.
#[derive(Clone, Debug, PartialEq)]
#[expect(
    clippy::large_enum_variant,
    reason = "most jobs are of the largest kind, and each is moved a few times only"
)]
pub enum Input {
    /// Continue a prompt.
    Generate(Generate),
    /// Anything but text.
    Task(Ask),
    /// Answer as the model's own code does.
    Raw(RawInput),
}

/// What a model goes on with.
#[derive(Clone, Debug, PartialEq)]
pub enum Prompt {
    /// A text as the client sent it; special tokens in it are recognised, and those that the tokenizer begins texts with
    /// are put before it.
    Text(String),
    /// Its tokens, all of them.
    Tokens(Vec<u32>),
    /// A dialogue, which the checkpoint's template makes a text of.
    Dialogue(Box<Dialogue>),
}

impl Default for Prompt {
    fn default() -> Self {
        Self::Text(String::new())
    }
}

impl From<String> for Prompt {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<&str> for Prompt {
    fn from(text: &str) -> Self {
        Self::Text(text.into())
    }
}

/// A prompt and how to continue it.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct Generate {
    /// What is continued.
    pub prompt: Prompt,
    /// Length, sampling, stopping and reporting.
    pub params: GenerateParams,
}
