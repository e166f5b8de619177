//! What a pool of workers needs to know of the configuration.

use std::path::PathBuf;
use std::time::Duration;

/// One model in Python mode.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PythonSettings {
    /// The model's name in messages.
    pub name: String,
    /// The model's directory, absolute: where its code runs.
    pub dir: PathBuf,
    /// File or module of the handler.
    pub entry_point: String,
    /// The function that answers.
    pub handler: String,
    /// What the first call gets: the model's own settings, without `option.`.
    pub properties: Vec<(String, String)>,
    /// How Python is started.
    pub interpreter: Interpreter,
    /// How many processes there are, and when they begin and end.
    pub workers: Workers,
    /// Whether the handler is a coroutine, which gets requests while it works on others.
    pub asynchronous: bool,
    /// The processes of a worker whose model is split; `None`: one process, which is no rank.
    pub ranks: Option<Ranks>,
    /// Requests that may wait; more are refused.
    pub queue: usize,
    /// Requests that a worker gets at once, at least 1.
    pub batch_size: usize,
    /// How long the first request of a batch waits for more.
    pub max_batch_delay: Duration,
    /// An answer, or the next part of one, that takes longer ends its worker.
    pub predict_timeout: Duration,
    /// A worker that has not loaded its model after this long has failed.
    pub model_loading_timeout: Duration,
    /// Longest value within an answer, in bytes.
    pub message_limit: usize,
}

/// The ranks of a worker: each is a process that is told its place among them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ranks {
    /// Parts of each layer (`tensor_parallel_degree`), at least 1.
    pub tensor: usize,
    /// Groups of layers (`pipeline_parallel_degree`), at least 1.
    pub pipeline: usize,
    /// Whether all ranks get every request, or the first only.
    pub all_answer: bool,
}

impl Ranks {
    /// How many there are.
    pub fn world(&self) -> usize {
        self.tensor.max(1) * self.pipeline.max(1)
    }
}

/// How Python is started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interpreter {
    /// Its name on the search path, or its path.
    pub executable: String,
    /// Variables that are set beside those of this process.
    pub environment: Vec<(String, String)>,
    /// `PYTHONPATH` of this process.
    pub python_path: Option<String>,
    /// Directories for what `requirements.txt` names; the first one that can be written counts.
    pub environments: Vec<PathBuf>,
    /// Whether no index of packages may be asked.
    pub offline: bool,
    /// `debug` or `info`: the level of the worker's own log.
    pub log_level: &'static str,
}

/// How many processes there are, and when they begin and end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Workers {
    /// As many there always are, at least 1.
    pub min: usize,
    /// As many there are when many requests wait, at least `min`.
    pub max: usize,
    /// One above `min` ends after this long without a request.
    pub max_idle: Duration,
    /// Failures of workers after which the model has failed; `None`: they are restarted for ever.
    pub retry_threshold: Option<usize>,
    /// Largest address space of a worker, in bytes.
    pub memory_limit: Option<u64>,
    /// Whether the first workers load the model at the same time.
    pub parallel_loading: bool,
}

impl Default for Workers {
    fn default() -> Self {
        Self {
            min: 1,
            max: 1,
            max_idle: Duration::from_secs(60),
            retry_threshold: None,
            memory_limit: None,
            parallel_loading: false,
        }
    }
}
