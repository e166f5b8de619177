//! Why an engine cannot start.

use std::path::PathBuf;

use sconce_core::{AdapterRefusal, Unstarted};
use sconce_models::{ConfigError, LoadError, Packing};
use sconce_nn::weights::WeightError;
use sconce_nn::{GpuError, GroupFailure};
use sconce_text::TextError;
use thiserror::Error;

use crate::memory::bytes_for;

/// The first cause that keeps a model from answering.
#[derive(Debug, Error)]
pub enum EngineError {
    /// `config.json` asks for something that cannot be done.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The weight files are missing or broken.
    #[error(transparent)]
    Weights(#[from] WeightError),
    /// The weights do not fit the configuration.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// There is no usable tokenizer.
    #[error(transparent)]
    Text(#[from] TextError),
    /// A GPU cannot be used.
    #[error(transparent)]
    Gpu(GpuError),
    /// A part of a GGUF file that cannot be opened; the weights' error says why.
    #[error("it was not read, since the file that has it cannot be opened")]
    Unopened,
    /// The tokenizer makes ids that the model has no embedding for.
    #[error(
        "{}: the tokenizer has {tokenizer} entries but the model's vocabulary has {model}: the \
         tokenizer belongs to another model",
        dir.display()
    )]
    Vocabulary {
        /// The model's directory.
        dir: PathBuf,
        /// Entries of the tokenizer, added tokens included.
        tokenizer: usize,
        /// Rows of the embedding.
        model: usize,
    },
    /// Nothing says how a dialogue is written out.
    #[error(
        "{}: conversational needs a chat_template, but {cause}; add it to tokenizer_config.json, or set \
         option.task=text-generation and send what the model reads",
        dir.join("tokenizer_config.json").display()
    )]
    NoTemplate {
        /// The model's directory.
        dir: PathBuf,
        /// Why there is none.
        cause: String,
    },
    /// The wanted context is longer than the model's.
    #[error(
        "option.max_model_len = {wanted}: the model's context is {context} tokens; set at most \
         {context}"
    )]
    Context {
        /// The option's value.
        wanted: usize,
        /// The context of `config.json`.
        context: usize,
    },
    /// The key/value cache cannot hold one sequence of the longest length.
    #[error(
        "a key/value cache of {budget} bytes holds {holds} tokens, fewer than one sequence of \
         {max_len} tokens ({per_token} bytes a token); lower option.max_model_len to at most \
         {holds} or raise option.kv_cache_memory to at least {}",
        bytes_for(*max_len, *per_token)
    )]
    Memory {
        /// Bytes planned for the cache.
        budget: u64,
        /// Tokens that fit.
        holds: usize,
        /// The longest sequence.
        max_len: usize,
        /// Bytes of keys and values of one token, all layers.
        per_token: u64,
        /// Whether option.kv_cache_memory says how many, not the memory at hand.
        is_wanted: bool,
    },
    /// The weights, or what computing with them takes, do not fit.
    #[error(
        "there is no room for the model: {} {weights} bytes of weights and {rest} bytes of \
         activations, workspace and program, but has {room} bytes; take a larger machine, or \
         weights of fewer bits (option.quantize=int8 or int4)",
        needing(*ranks)
    )]
    TooLarge {
        /// Ranks of the model.
        ranks: usize,
        /// Bytes of one rank's weights.
        weights: u64,
        /// Bytes that it takes beside them, without the key/value cache.
        rest: u64,
        /// Bytes that it may take.
        room: u64,
    },
    /// Others have taken the memory of a GPU.
    #[error(
        "GPU {ordinal} has {} MiB free of the {} MiB that option.gpu_memory_utilization gives the model there: other \
         models or processes have the rest; end them, choose other GPUs with CUDA_VISIBLE_DEVICES, or set \
         option.gpu_memory_utilization to at most {:.2}",
        free >> 20, wanted >> 20, (*free as f64 / *total as f64 * 100.0).floor() / 100.0
    )]
    GpuTaken {
        /// The GPU's index.
        ordinal: usize,
        /// Bytes that nobody has.
        free: u64,
        /// Bytes that were planned with.
        wanted: u64,
        /// All bytes.
        total: u64,
    },
    /// The wanted key/value cache does not fit beside the weights.
    #[error(
        "option.kv_cache_memory = {wanted}: beside the weights there is room for {left} bytes; \
         set at most {left}, or remove it"
    )]
    CacheTooLarge {
        /// The option's value.
        wanted: u64,
        /// Bytes that are left for it.
        left: u64,
    },
    /// The checkpoint is not packed as the option says.
    #[error(
        "option.quantize = {wanted} says that the checkpoint is packed by {wanted}, but {}; \
         {}, or remove it",
        found.map_or("it is not packed".to_owned(), |found| format!("it is packed by {found}")),
        found.map_or(
            "set option.quantize=int4 to quantise it while it is loaded".to_owned(),
            |found| format!("set option.quantize={found}"),
        )
    )]
    Packing {
        /// The option's value.
        wanted: Packing,
        /// What `config.json` says.
        found: Option<Packing>,
    },
    /// The small model that guesses cannot be used with this one.
    #[error("the model of option.speculative_draft_model, {}: {problem}", dir.display())]
    Draft {
        /// Its folder.
        dir: PathBuf,
        /// Why not, and the cure.
        problem: String,
    },
    /// An adapter of the model's folder cannot be used.
    #[error("{0}")]
    Adapter(AdapterRefusal),
    /// The weights lie otherwise than PEFT's adapters expect.
    #[error(
        "option.enable_lora = true, but the model is a GGUF file, whose rows lie in another order than those that \
         adapters were trained on; serve the checkpoint that it was made from"
    )]
    AdaptersOfGguf,
    /// A forward pass before the first request failed or gave no numbers.
    #[error("the canary forward pass failed: {0}")]
    Canary(String),
    /// A rank could not be loaded.
    #[error("rank {rank} failed while loading: {cause}")]
    Loading {
        /// The first rank that failed.
        rank: usize,
        /// Its error.
        cause: Box<EngineError>,
    },
    /// The group of ranks is of no use any more.
    #[error("{0}{cure}", cure = cure(.0))]
    Group(GroupFailure),
    /// A rank ended while it was being started.
    #[error("rank {rank} failed while loading: {cause}")]
    Rank {
        /// The first rank that failed.
        rank: usize,
        /// Its message.
        cause: String,
    },
    /// There is no thread that computes.
    #[error(transparent)]
    Thread(#[from] Unstarted),
    /// The operating system gave no thread or memory.
    #[error("{what}: {source}")]
    System {
        /// What was asked for.
        what: &'static str,
        /// Its answer.
        source: std::io::Error,
    },
}

fn needing(ranks: usize) -> String {
    match ranks {
        1 => "it needs".into(),
        ranks => format!("each of {ranks} ranks needs"),
    }
}

fn cure(failure: &GroupFailure) -> &'static str {
    match failure {
        GroupFailure::Stalled { .. } => {
            "; if the ranks are only slow, raise option.collective_timeout"
        }
        _ => "",
    }
}

impl EngineError {
    /// The stable name of the problem, for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Config(error) => error.code(),
            Self::Weights(error) => error.code(),
            Self::Load(error) => error.code(),
            Self::Text(error) => error.code(),
            Self::Gpu(_) => "gpu-unusable",
            Self::Unopened => "unopened",
            Self::Vocabulary { .. } => "tokenizer-of-another-model",
            Self::NoTemplate { .. } => "template-missing",
            Self::Context { .. } => "context-too-long",
            Self::Memory { .. } => "cache-too-small",
            Self::TooLarge { .. } => "not-enough-memory",
            Self::CacheTooLarge { .. } => "cache-too-large",
            Self::GpuTaken { .. } => "gpu-memory-taken",
            Self::Packing { .. } => "packed-otherwise",
            Self::Draft { .. } => "draft-of-another-model",
            Self::Adapter(_) => "adapter-refused",
            Self::AdaptersOfGguf => "adapters-of-gguf",
            Self::Canary(_) => "canary-failed",
            Self::Loading { cause, .. } => cause.code(),
            Self::Group(_) | Self::Rank { .. } => "rank-failed",
            Self::Thread(error) => error.code(),
            Self::System { .. } => "system",
        }
    }
}

impl EngineError {
    /// Bytes that have to become free before the model can start, if nothing but memory is missing.
    pub fn missing_memory(&self) -> Option<u64> {
        match self {
            Self::Memory {
                budget,
                max_len,
                per_token,
                is_wanted: false,
                ..
            } => Some(bytes_for(*max_len, *per_token).saturating_sub(*budget)),
            Self::TooLarge {
                ranks,
                weights,
                rest,
                room,
            } => Some((weights + rest).saturating_sub(*room) * *ranks as u64),
            Self::CacheTooLarge { wanted, left } => Some(wanted.saturating_sub(*left)),
            _ => None,
        }
    }
}

/// Lets the error of another engine be made of what an [`EngineError`] is made of, by way of it.
#[macro_export]
macro_rules! through_engine_error {
    ($error:ty) => {
        $crate::through_engine_error!(
            $error,
            $crate::ConfigError,
            $crate::LoadError,
            $crate::TextError,
            $crate::Unstarted,
            $crate::WeightError
        );
    };
    ($error:ty, $($part:ty),+) => {
        $(impl From<$part> for $error {
            fn from(part: $part) -> Self {
                $crate::EngineError::from(part).into()
            }
        })+
    };
}
