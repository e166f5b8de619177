//! What `/ping` and the log tell about a model.

use std::fmt;

use crate::task::Task;

/// A model's place on its way to answering.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Waiting for its turn to load.
    Pending,
    /// Weights are being fetched from a hub or a bucket.
    Fetching,
    /// Weights are being read.
    Loading,
    /// A first forward pass proves that the model computes.
    Warming,
    /// Answers requests.
    Ready,
    /// Will not answer; the first cause.
    Failed(String),
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pending => f.write_str("pending"),
            Self::Fetching => f.write_str("fetching"),
            Self::Loading => f.write_str("loading"),
            Self::Warming => f.write_str("warming"),
            Self::Ready => f.write_str("ready"),
            Self::Failed(cause) => write!(f, "failed: {cause}"),
        }
    }
}

/// How far the present phase has come, in bytes; both 0 where bytes say nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Bytes fetched or read.
    pub done: u64,
    /// Bytes to fetch or read.
    pub total: u64,
}

/// Told of the phases on the way to readiness and of the bytes of the present one.
pub type Observer = dyn Fn(Phase, Progress) + Send + Sync;

/// The load of a backend.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// Jobs accepted and not yet computed on.
    pub queued: usize,
    /// Jobs being computed.
    pub running: usize,
    /// Blocks of the key/value cache owned by running jobs.
    pub used_blocks: usize,
    /// Blocks of the key/value cache in all.
    pub total_blocks: usize,
}

/// One model's answer to "how are you".
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelStatus {
    /// The model's name.
    pub name: String,
    /// Where it is.
    pub phase: Phase,
    /// How far that phase has come.
    pub progress: Progress,
    /// What it is working on.
    pub load: Load,
    /// What it does; `None`: that is not known before it is ready.
    pub task: Option<Task>,
}
