//! A model of a task in some numbers, whichever engine serves it; `sconce check` tells them.

use sconce_nn::weights::WeightSource;

use crate::memory::Needs;

/// A model that does a task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskOverview {
    /// The family, as its class names begin, or the class.
    pub architecture: &'static str,
    /// Layers, of both stacks if there are two.
    pub layers: usize,
    /// Heads of attention.
    pub heads: usize,
    /// Longest text in tokens.
    pub context: usize,
    /// Bytes of all tensors in the files.
    pub stored_bytes: u64,
    /// Numbers in all tensors.
    pub parameters: u64,
    /// What it needs.
    pub memory: TaskMemory,
}

/// What a model of a task needs in memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TaskMemory {
    /// Keys and values are kept from step to step.
    Cached(Needs),
    /// Nothing is kept between batches.
    Batch {
        /// Bytes of the weights that are kept.
        weights: u64,
        /// Bytes that a full batch takes beside them.
        activations: u64,
    },
}

/// The numbers in all tensors of a checkpoint.
pub fn parameters(weights: &dyn WeightSource) -> u64 {
    let names = weights.names();
    let outlines = names.iter().filter_map(|name| weights.outline(name).ok());
    outlines.map(|tensor| tensor.elements() as u64).sum()
}
