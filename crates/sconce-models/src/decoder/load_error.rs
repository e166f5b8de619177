//! Why weights do not make the decoder that the configuration describes.

use sconce_nn::weights::{StoredDtype, WeightError};
use thiserror::Error;

/// The first thing that keeps a checkpoint from being loaded.
#[derive(Debug, Error)]
pub enum LoadError {
    /// A tensor that the configuration asks for is not in the checkpoint.
    #[error("the checkpoint has no tensor `{tensor}`{hint}")]
    Missing {
        /// Its full name.
        tensor: String,
        /// What in the configuration could be at odds with it; may be empty.
        hint: &'static str,
    },
    /// The checkpoint has tensors that the decoder would not use.
    #[error(
        "the checkpoint has {} tensors that its config.json gives no place to: {}; \
         the configuration belongs to another model, or leaves out a feature of this one",
        names.len(),
        first_of(names)
    )]
    Unread {
        /// All such names, sorted.
        names: Vec<String>,
    },
    /// A tensor has another shape than the configuration says.
    #[error("tensor `{tensor}` has shape {found:?} where config.json asks for {wanted:?}: {keys}")]
    Shape {
        /// The tensor.
        tensor: String,
        /// Its shape in the file.
        found: Vec<usize>,
        /// The shape that was expected in the file.
        wanted: Vec<usize>,
        /// The configuration's keys for each dimension.
        keys: String,
    },
    /// A tensor's numbers are not of a type that weights can have.
    #[error(
        "tensor `{tensor}` is stored as {dtype}; weights can be float64, float32, float16, bfloat16 or quantised as GGUF, AWQ or GPTQ"
    )]
    Dtype {
        /// The tensor.
        tensor: String,
        /// Its type.
        dtype: StoredDtype,
    },
    /// The heads cannot be divided among the ranks.
    #[error(
        "{heads} attention heads and {kv_heads} key/value heads cannot be divided among {world} ranks; \
         set option.tensor_parallel_degree to one of {}",
        joined(possible)
    )]
    Ranks {
        /// Ranks asked for.
        world: usize,
        /// Query heads of the model.
        heads: usize,
        /// Key/value heads of the model.
        kv_heads: usize,
        /// Numbers of ranks that are possible.
        possible: Vec<usize>,
    },
    /// The checkpoint cannot be read.
    #[error(transparent)]
    Weights(#[from] WeightError),
    /// A layer refuses its weights.
    #[error("building `{tensor}`: {cause}")]
    Layer {
        /// The tensor that the layer was made of.
        tensor: String,
        /// What the layer said.
        #[source]
        cause: candle_core::Error,
    },
}

impl LoadError {
    /// The stable name of the problem, for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Missing { .. } => "tensor-missing",
            Self::Unread { .. } => "tensors-left-over",
            Self::Shape { .. } => "shape-mismatch",
            Self::Dtype { .. } => "quantised-weights",
            Self::Ranks { .. } => "tp-does-not-divide-heads",
            Self::Weights(error) => error.code(),
            Self::Layer { .. } => "layer-refused",
        }
    }
}

fn first_of(names: &[String]) -> String {
    const SHOWN: usize = 10;
    let mut text = names
        .iter()
        .take(SHOWN)
        .cloned()
        .collect::<Vec<_>>()
        .join(", ");
    if names.len() > SHOWN {
        text.push_str(", …");
    }
    text
}

fn joined(numbers: &[usize]) -> String {
    numbers
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(", ")
}
