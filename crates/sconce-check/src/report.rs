//! The report: plain data with stable names, which `--json` prints as it is. Bytes are bytes,
//! times seconds, rates per second.

use sconce_config::{ConfigErrors, Origin, Provenance};
use serde::Serialize;

/// What `sconce check` found.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    /// Version of these keys.
    pub version: u32,
    /// The verdict.
    pub verdict: Exit,
    /// The verdict as the program's exit code: 0, 1 or 64.
    pub exit_code: u8,
    /// Every reason why a start will fail; empty: none is known.
    pub reasons: Vec<Reason>,
    /// What is probably not meant, or may disappoint.
    pub warnings: Vec<Reason>,
    /// The model; `None`: the configuration does not lead to one.
    pub model: Option<ModelPart>,
    /// What somebody set.
    pub options: Vec<OptionPart>,
    /// What has its default.
    pub defaults: Vec<OptionPart>,
    /// Where it would compute.
    pub device: Option<Device>,
    /// What each rank's memory is used for; `None`: it cannot be planned, `reasons` says why.
    pub plan: Option<PlanPart>,
    /// The same of a model that does not generate text.
    pub encoder: Option<EncoderPart>,
    /// What a pipeline of pictures needs.
    pub pictures: Option<PicturePart>,
    /// Upper bounds of the speed, from bytes and bandwidth.
    pub speed: Option<SpeedPart>,
    /// What to ask SageMaker for.
    pub timeouts: Option<TimeoutPart>,
}

/// The verdict.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Exit {
    /// No reason to fail is known.
    #[default]
    Fine,
    /// The configuration is wrong.
    WrongConfiguration,
    /// The model will not run.
    WillNotRun,
}

impl Exit {
    /// The program's exit code.
    pub fn code(self) -> u8 {
        match self {
            Self::Fine => 0,
            Self::WillNotRun => 1,
            Self::WrongConfiguration => sconce_config::EXIT_CODE,
        }
    }
}

/// One reason: a stable name, and a sentence with values and the cure.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Reason {
    /// Stable, in small letters and dashes.
    pub code: &'static str,
    /// For people.
    pub message: String,
}

/// The model.
#[derive(Clone, Debug, Serialize)]
pub struct ModelPart {
    /// Its name in routes.
    pub name: String,
    /// Directory, or id and address of its hub.
    pub source: String,
    /// What it is for, such as `text-generation`; `None`: it cannot be told.
    pub task: Option<String>,
    /// The wire dialect.
    pub dialect: &'static str,
    /// Who computes.
    pub engine: &'static str,
    /// The class name in `config.json`.
    pub architecture: Option<&'static str>,
    /// Decoder layers.
    pub layers: Option<usize>,
    /// Query heads.
    pub heads: Option<usize>,
    /// Key/value heads.
    pub kv_heads: Option<usize>,
    /// The model's context in tokens.
    pub context: Option<usize>,
    /// Numbers in all tensors.
    pub parameters: Option<u64>,
    /// Type of most stored weights.
    pub stored_dtype: Option<&'static str>,
    /// Type in which they are kept.
    pub dtype: Option<&'static str>,
    /// Bytes of all tensors.
    pub stored_bytes: Option<u64>,
}

/// One option.
#[derive(Clone, Debug, Serialize)]
pub struct OptionPart {
    /// The key of the reference.
    pub key: String,
    /// As written; secrets are hidden.
    pub value: String,
    /// Where it was set, in words.
    pub from: String,
    /// The file that sets it.
    pub file: Option<String>,
    /// Its line there.
    pub line: Option<usize>,
    /// That it is without effect and why, or what it overrides.
    pub note: Option<String>,
}

/// Where it would compute.
#[derive(Clone, Debug, Serialize)]
pub struct Device {
    /// `cpu` or `gpu`.
    pub kind: &'static str,
    /// Its name.
    pub name: String,
    /// How many there are.
    pub count: usize,
    /// Threads of the CPU kernels.
    pub threads: Option<usize>,
    /// Memory of one, as far as it is free; `None`: unknown.
    pub memory_bytes: Option<u64>,
    /// Bandwidth of its memory.
    pub bytes_per_second: f64,
    /// Whether the bandwidth was measured just now.
    pub measured: bool,
}

/// What a rank's memory is used for.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PlanPart {
    /// Ranks that share the model.
    pub ranks: usize,
    /// Weights of one rank.
    pub weights_bytes: u64,
    /// Adapters, as many as may be in memory.
    pub adapters_bytes: u64,
    /// The small model that guesses what comes next.
    pub draft_bytes: u64,
    /// Activations of the largest step, at most.
    pub activations_bytes: u64,
    /// Scratch of kernels and tables of positions.
    pub workspace_bytes: u64,
    /// What is taken whatever the model: program, or context and communication of a GPU.
    pub overhead_bytes: u64,
    /// Cache of keys and values.
    pub cache_bytes: u64,
    /// All of these.
    pub total_bytes: u64,
    /// What there is.
    pub available_bytes: Option<u64>,
    /// Keys and values of one token on one rank.
    pub kv_bytes_per_token: u64,
    /// Tokens that the cache holds.
    pub cache_tokens: usize,
    /// Longest sequence.
    pub max_len: usize,
    /// Sequences computed at the same time.
    pub max_sequences: usize,
    /// Sequences of the longest length that the cache holds at once.
    pub full_sequences: usize,
    /// Tokens of each when all run.
    pub tokens_each: usize,
}

/// What the memory of a pipeline of pictures is used for.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PicturePart {
    /// The class of the scheduler.
    pub scheduler: String,
    /// Pixels of a picture where a request names none.
    pub height: usize,
    /// Pixels.
    pub width: usize,
    /// Pictures of that size that are denoised together.
    pub images: usize,
    /// Pixels of the largest picture, if the memory is known.
    pub most_pixels: Option<u64>,
    /// Whether a safety checker looks at pictures.
    pub safety_checker: bool,
    /// Bytes of the weights.
    pub weights_bytes: u64,
    /// Bytes of one picture beside them.
    pub picture_bytes: u64,
}

/// What the memory of an encoder is used for.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct EncoderPart {
    /// Weights.
    pub weights_bytes: u64,
    /// Activations of the largest batch, at most.
    pub activations_bytes: u64,
    /// Scratch of kernels, and what is taken whatever the model.
    pub overhead_bytes: u64,
    /// All three.
    pub total_bytes: u64,
    /// What there is.
    pub available_bytes: Option<u64>,
    /// Tokens of the largest batch, unless a single text has more.
    pub batch_tokens: usize,
}

/// Upper bounds of the speed.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SpeedPart {
    /// Bytes that one token of one sequence reads on one rank.
    pub bytes_per_token: u64,
    /// Tokens per second of one sequence.
    pub one_sequence: f64,
    /// Sequences that run at the same time.
    pub sequences: usize,
    /// Tokens per second of all these together, little in the cache.
    pub all_sequences: f64,
    /// The same with a full cache.
    pub all_sequences_full_cache: f64,
}

/// What to ask SageMaker for, in seconds.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TimeoutPart {
    /// `ModelDataDownloadTimeoutInSeconds`; `None`: the platform fetches nothing.
    pub model_data_download: Option<u64>,
    /// `ContainerStartupHealthCheckTimeoutInSeconds`.
    pub container_startup_health_check: u64,
    /// Answers to InvokeEndpoint must end within.
    pub invocation: u64,
    /// Tokens that one sequence gets within that, at most.
    pub tokens_within_invocation: u64,
    /// Tokens that each of all sequences gets within that, at most.
    pub tokens_within_invocation_all: u64,
}

impl Report {
    pub(crate) fn new() -> Self {
        Self {
            version: 1,
            ..Self::default()
        }
    }

    /// The configuration is wrong in these places.
    pub(crate) fn refused(errors: &ConfigErrors) -> Self {
        let reason = |error: &sconce_config::ConfigError| Reason {
            code: error.code(),
            message: error.to_string(),
        };
        let mut report = Self::new();
        report.reasons = errors.problems.iter().map(reason).collect();
        report.conclude(Exit::WrongConfiguration)
    }

    /// Sets the verdict, `worst` if there are reasons.
    pub(crate) fn conclude(mut self, worst: Exit) -> Self {
        if !self.reasons.is_empty() {
            self.verdict = worst;
        }
        self.exit_code = self.verdict.code();
        self
    }
}

impl From<&Origin> for OptionPart {
    fn from(origin: &Origin) -> Self {
        let (file, line) = match &origin.from {
            Provenance::File { path, line } => (Some(path.display().to_string()), Some(*line)),
            _ => (None, None),
        };
        Self {
            key: origin.key.clone(),
            value: origin.value.clone(),
            from: origin.from.to_string(),
            file,
            line,
            note: origin.note.clone(),
        }
    }
}
