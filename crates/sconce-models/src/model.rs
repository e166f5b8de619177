//! What the engine sees of a model.

use candle_core::{Device, Result, Tensor};
use sconce_nn::{KvCache, KvShape, Step};

/// A model that turns steps into logits. One rank of it: built and used in that rank's thread.
pub trait Model: Send {
    /// The cache that this rank needs.
    fn kv_shape(&self) -> KvShape;

    /// Logits per token.
    fn vocab(&self) -> usize;

    /// Where this rank computes, and its cache is.
    fn device(&self) -> Device {
        Device::Cpu
    }

    /// Computes all tokens of the step, writes their keys and values to the cache, and returns f32 logits
    /// `[step.sampled.len(), vocab]`, the same on all ranks. All ranks must be called with the same step.
    fn forward(&mut self, step: &Step, kv: &mut KvCache) -> Result<Tensor>;
}
