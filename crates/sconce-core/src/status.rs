//! What `/ping`, the management of models and the log tell about a model.

use std::fmt;
use std::time::{Duration, SystemTime};

use crate::registry;
use crate::task::Task;

/// A model's place on its way to answering, and from there to its end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Phase {
    /// Waiting for its turn to load.
    #[default]
    Pending,
    /// Weights are being fetched from a hub or a bucket.
    Fetching,
    /// Weights are being read.
    Loading,
    /// A first forward pass proves that the model computes.
    Warming,
    /// Answers requests.
    Ready,
    /// Is ready and stands still in the middle of its work; the cause. It may go on.
    Stalled(String),
    /// Takes nothing new, and finishes what it has begun.
    Unloading,
    /// Will not answer; the first cause.
    Failed(String),
}

impl Phase {
    /// Whether it is on its way to answering.
    pub fn is_coming(&self) -> bool {
        matches!(
            self,
            Self::Pending | Self::Fetching | Self::Loading | Self::Warming
        )
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pending => f.write_str("pending"),
            Self::Fetching => f.write_str("fetching"),
            Self::Loading => f.write_str("loading"),
            Self::Warming => f.write_str("warming"),
            Self::Ready => f.write_str("ready"),
            Self::Stalled(cause) => write!(f, "stalled: {cause}"),
            Self::Unloading => f.write_str("unloading"),
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

/// How long a model was, or is, on its way to readiness.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LoadTimes {
    /// From the beginning to readiness, or until now.
    pub total: Duration,
    /// The part of it in which weights were fetched.
    pub fetching: Duration,
    /// What is left of the present phase if its bytes go on to come as they came; `None`: bytes say nothing.
    pub left: Option<Duration>,
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
    /// Jobs of the last step; 0 while there is nothing to do.
    pub batch: usize,
    /// Steps since the start.
    pub steps: u64,
    /// By their jobs.
    pub batches: Spread,
    /// By their tokens; none where steps are not of tokens.
    pub tokens: Spread,
    /// Tokens of prompts that were looked for in the cache since the start.
    pub prefix_queries: u64,
    /// Those of them that were there.
    pub prefix_hits: u64,
    /// How often a job gave its blocks back, to be computed again.
    pub preemptions: u64,
    /// Whether the engine's thread has something to do.
    pub works: bool,
    /// Signs of life of the engine's thread since the start.
    pub signs: u64,
}

/// How often something was how large.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Spread {
    /// For each of the limits how often it was that large at most, and larger than the one before; then the others.
    pub counts: [u64; Self::LIMITS.len() + 1],
    /// Of all values.
    pub sum: u64,
}

impl Spread {
    /// Powers of two, among which are vLLM's buckets of the tokens of a step.
    pub const LIMITS: [u64; 15] = [
        1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16_384,
    ];
}

impl std::ops::Add for Spread {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            counts: std::array::from_fn(|at| self.counts[at] + other.counts[at]),
            sum: self.sum + other.sum,
        }
    }
}

/// What works on a model's jobs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Crew {
    /// As many there always are.
    pub min: usize,
    /// As many there are at most.
    pub max: usize,
    /// Those that are there.
    pub workers: Vec<Worker>,
}

/// One that works on jobs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Worker {
    /// Its number, from 1.
    pub id: usize,
    /// When it began.
    pub since: SystemTime,
    /// Whether it takes jobs.
    pub is_ready: bool,
}

/// How a model's jobs are put together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Batching {
    /// Jobs that are computed together at most.
    pub size: usize,
    /// Longest wait for more.
    pub max_delay: Duration,
    /// An unneeded worker ends after so long.
    pub max_idle: Duration,
    /// Jobs that may wait.
    pub queue: usize,
}

/// One model's answer to "how are you".
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ModelStatus {
    /// The model's name.
    pub name: String,
    /// Its version, if it has one; several versions of a name may be there.
    pub version: Option<String>,
    /// Where it came from.
    pub url: String,
    /// Whether the server was started with it; the health of the server is theirs.
    pub at_startup: bool,
    /// Where it is.
    pub phase: Phase,
    /// How far that phase has come.
    pub progress: Progress,
    /// How long the way to readiness takes, or took.
    pub times: LoadTimes,
    /// What it is working on.
    pub load: Load,
    /// What it does; `None`: that is not known before it is ready.
    pub task: Option<Task>,
    /// What works on its jobs.
    pub crew: Crew,
    /// How they are put together.
    pub batching: Batching,
}

impl ModelStatus {
    /// Whether fewer of its workers take jobs than there always should be.
    pub fn lacks_workers(&self) -> bool {
        self.ready_workers() < self.crew.min
    }

    /// Workers that take jobs.
    pub fn ready_workers(&self) -> usize {
        self.crew
            .workers
            .iter()
            .filter(|worker| worker.is_ready)
            .count()
    }

    /// Whether it answers requests now.
    pub fn is_ready(&self) -> bool {
        self.phase == Phase::Ready
    }

    /// The name, with the version if there is one: `name:version`.
    pub fn label(&self) -> String {
        registry::label(&self.name, self.version.as_deref())
    }
}
