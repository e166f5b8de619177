//! How a model's requests are read and its answers written, as its configuration says. Each model
//! of a server has its own manner; what the words mean on the wire is known to the wire's crate.

use std::time::Duration;

/// The wire dialects: those of DJL Serving's releases, of TGI, and of the routes that have one of their own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Dialect {
    /// The DeepSpeed handler's static batch, 0.21 to 0.27.
    DeepSpeed,
    /// The FasterTransformer handler's static batch, 0.21 to 0.25.
    FasterTransformer,
    /// The Hugging Face handler's static batch, 0.21 to today.
    HuggingFace,
    /// The rolling batch of 0.23 to 0.25.
    Rolling2023,
    /// The rolling batch of LMI, 0.26 to 0.36.
    #[default]
    Rolling,
    /// The same with `option.tgi_compat`.
    RollingTgi,
    /// The asynchronous mode of LMI, 0.33 to today and the default since 0.35.
    Async,
    /// Text Generation Inference itself.
    Tgi,
    /// Text Embeddings Inference: its routes for tasks.
    Tei,
    /// OpenAI's routes.
    OpenAi,
}

impl Dialect {
    /// Those that a configuration can name; a route decides for the others.
    pub const ALL: [Self; 8] = [
        Self::DeepSpeed,
        Self::FasterTransformer,
        Self::HuggingFace,
        Self::Rolling2023,
        Self::Rolling,
        Self::RollingTgi,
        Self::Async,
        Self::Tgi,
    ];

    /// The name in documents, messages and `option.api_version`.
    pub fn name(self) -> &'static str {
        match self {
            Self::DeepSpeed => "deepspeed",
            Self::FasterTransformer => "fastertransformer",
            Self::HuggingFace => "huggingface",
            Self::Rolling2023 => "rolling-2023",
            Self::Rolling => "rolling",
            Self::RollingTgi => "tgi-compat",
            Self::Async => "async",
            Self::Tgi => "tgi",
            Self::Tei => "tei",
            Self::OpenAi => "openai",
        }
    }
}

/// The form of an answer that a configuration can name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutputFormatter {
    /// One JSON document.
    Json,
    /// One line of JSON per token.
    JsonLines,
    /// Server-sent events.
    ServerSentEvents,
}

/// What a front end has to know of a model before it asks it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manner {
    /// Which dialect its requests and answers have.
    pub dialect: Dialect,
    /// The layout of answers to requests that name none (`option.output_formatter`).
    pub formatter: Option<OutputFormatter>,
    /// Whether a static batch streams its answers (`option.enable_streaming`).
    pub streaming: bool,
    /// Texts that end every answer, besides those of the request (`option.stop_sequence`).
    pub stop_sequences: Vec<String>,
    /// Time for a request from its headers to the end of its answer (`predict_timeout`).
    pub predict_timeout: Duration,
    /// Requests that are computed at the same time (`option.max_rolling_batch_size`).
    pub concurrency: usize,
    /// Requests that may wait (`job_queue_size`).
    pub queue: usize,
    /// Its name elsewhere: the hub's, or the one it is to be known by; `None`: it has none.
    pub model_id: Option<String>,
    /// The longest prompt and answer together, in tokens, if the configuration says.
    pub max_total_tokens: Option<usize>,
}

impl Default for Manner {
    fn default() -> Self {
        Self {
            dialect: Dialect::default(),
            formatter: None,
            streaming: false,
            stop_sequences: Vec::new(),
            predict_timeout: Duration::from_secs(120),
            concurrency: 1,
            queue: 1000,
            model_id: None,
            max_total_tokens: None,
        }
    }
}
