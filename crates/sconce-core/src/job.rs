//! One request inside the server, from the parsed body to the reply channel.

use std::fmt;
use std::time::Instant;

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
pub enum Input {
    /// Continue a prompt.
    Generate(Generate),
    /// Anything but text.
    Task(Ask),
    /// Answer as the model's own code does.
    Raw(RawInput),
}

/// A prompt and how to continue it.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct Generate {
    /// The text to continue, as the client sent it; special tokens in it are recognised.
    pub prompt: String,
    /// Length, sampling, stopping and reporting.
    pub params: GenerateParams,
}
