//! Why an engine cannot start.

use std::path::PathBuf;

use sconce_core::inbox::Unstarted;
use sconce_models::{ConfigError, LoadError};
use sconce_nn::weights::WeightError;
use sconce_text::TextError;
use thiserror::Error;

/// The first cause that keeps a pipeline from making pictures.
#[derive(Debug, Error)]
pub enum DiffusionError {
    /// A configuration asks for something that cannot be done.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Weight files are missing or broken.
    #[error(transparent)]
    Weights(#[from] WeightError),
    /// Weights do not fit their configuration.
    #[error("{}: {cause}", dir.display())]
    Load {
        /// The part's folder.
        dir: PathBuf,
        /// What does not fit.
        #[source]
        cause: Box<LoadError>,
    },
    /// There is no usable tokenizer.
    #[error(transparent)]
    Text(#[from] TextError),
    /// A part that the pipeline needs is not named, or has no folder.
    #[error(
        "{}: the pipeline needs the part `{part}`, {problem}; fetch the whole folder again, as diffusers' save_pretrained \
         writes it",
        file.display()
    )]
    Missing {
        /// `model_index.json`.
        file: PathBuf,
        /// The part.
        part: &'static str,
        /// What is wrong with it.
        problem: String,
    },
    /// Parts that do not go together.
    #[error("{}: {problem}", file.display())]
    Contradiction {
        /// The file that says so.
        file: PathBuf,
        /// Both sides.
        problem: String,
    },
    /// Not even one picture of the pipeline's own size fits into memory.
    #[error(
        "not enough memory: {} MiB of weights, {} MiB for one picture of {height} × {width} pixels and {} MiB beside them \
         need more than the {} MiB at hand; serve it on a larger instance, or with option.dtype=bf16",
        weights >> 20, picture >> 20, beside >> 20, bytes >> 20
    )]
    Memory {
        /// Bytes of the weights.
        weights: u64,
        /// Bytes that are taken whatever the picture.
        beside: u64,
        /// Bytes of one picture's activations.
        picture: u64,
        /// Its pixels.
        height: usize,
        /// Its pixels.
        width: usize,
        /// Bytes at hand.
        bytes: u64,
    },
    /// A picture before the first request failed or had no numbers.
    #[error("the canary picture failed: {0}")]
    Canary(String),
    /// There is no thread.
    #[error(transparent)]
    Thread(#[from] Unstarted),
}

impl DiffusionError {
    /// Bytes that have to become free before the pipeline can start, if nothing but memory is missing.
    pub fn missing_memory(&self) -> Option<u64> {
        match self {
            Self::Memory {
                weights,
                beside,
                picture,
                bytes,
                ..
            } => Some((weights + beside + picture).saturating_sub(*bytes)),
            _ => None,
        }
    }

    /// The stable name of the problem, for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Config(error) => error.code(),
            Self::Weights(error) => error.code(),
            Self::Load { cause, .. } => cause.code(),
            Self::Text(error) => error.code(),
            Self::Missing { .. } => "part-missing",
            Self::Contradiction { .. } => "parts-disagree",
            Self::Memory { .. } => "not-enough-memory",
            Self::Canary(_) => "canary-failed",
            Self::Thread(error) => error.code(),
        }
    }
}
