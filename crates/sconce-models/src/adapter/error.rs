//! Why a folder is no adapter of a model.

use std::path::PathBuf;

use sconce_nn::weights::WeightError;
use thiserror::Error;

/// The first thing that keeps an adapter from being used.
#[derive(Debug, Error)]
pub enum AdapterError {
    /// Its configuration cannot be read.
    #[error("cannot read {}: {cause}; an adapter is a folder as PEFT's save_pretrained writes it", file.display())]
    Read {
        /// The file.
        file: PathBuf,
        /// What the system said.
        #[source]
        cause: std::io::Error,
    },
    /// Its configuration is not what PEFT writes.
    #[error("{}: {problem}", file.display())]
    Config {
        /// The file.
        file: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// Its configuration asks for something else than thin matrices beside linear layers.
    #[error("{}: `{key}` = {value} is not supported; {cure}", file.display())]
    Unsupported {
        /// The file.
        file: PathBuf,
        /// The key.
        key: &'static str,
        /// Its value as JSON, shortened.
        value: String,
        /// What to do.
        cure: &'static str,
    },
    /// Its tensors cannot be read.
    #[error(transparent)]
    Weights(#[from] WeightError),
    /// It changes something that no adapter may change here.
    #[error(
        "the adapter's tensor `{tensor}` has no place: adapters may change the projections of attention and of \
         dense MLPs of {family}; is it of another base model?"
    )]
    NoPlace {
        /// The tensor.
        tensor: String,
        /// Class name of the base model.
        family: &'static str,
    },
    /// The base model has fewer layers.
    #[error(
        "the adapter's tensor `{tensor}` is of layer {layer}, the base model has {layers}; it is of another base model"
    )]
    Layer {
        /// The tensor.
        tensor: String,
        /// Its layer.
        layer: usize,
        /// Layers of the base.
        layers: usize,
    },
    /// One of the two matrices is not there.
    #[error("the adapter has `{there}` without `{missing}`")]
    Half {
        /// The one.
        there: String,
        /// The other.
        missing: String,
    },
    /// A matrix has another shape than the base model's layer.
    #[error(
        "the adapter's tensor `{tensor}` has shape {found:?} where the base model asks for {wanted}; it is of another base model"
    )]
    Shape {
        /// The tensor.
        tensor: String,
        /// Its shape.
        found: Vec<usize>,
        /// The shape that would fit, with the keys that say so.
        wanted: String,
    },
    /// Its rank is greater than what is served.
    #[error("the adapter's rank is {rank}, option.max_lora_rank = {most}; raise it")]
    Rank {
        /// The rank.
        rank: usize,
        /// The option.
        most: usize,
    },
    /// A module that the configuration names has no tensors.
    #[error("{}: `target_modules` names {module:?}, for which the adapter has no tensors; save it again", file.display())]
    Absent {
        /// The file.
        file: PathBuf,
        /// The module.
        module: String,
    },
}
