//! Why an engine cannot start.

use std::path::PathBuf;

use sconce_models::{ConfigError, LoadError};
use sconce_nn::weights::WeightError;
use sconce_text::TextError;
use thiserror::Error;

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
        *max_len as u64 * per_token
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
    },
    /// A forward pass before the first request failed or gave no numbers.
    #[error("the canary forward pass failed: {0}")]
    Canary(String),
    /// A rank ended while it was being started.
    #[error("rank {rank} failed while loading: {cause}")]
    Rank {
        /// The first rank that failed.
        rank: usize,
        /// Its message.
        cause: String,
    },
    /// The operating system gave no thread or memory.
    #[error("{what}: {source}")]
    System {
        /// What was asked for.
        what: &'static str,
        /// Its answer.
        source: std::io::Error,
    },
}
