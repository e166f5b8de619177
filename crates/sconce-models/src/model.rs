//! What the engine sees of a model.

use std::sync::Arc;

use candle_core::{Device, Result, Tensor};
use sconce_nn::{DeviceMemory, KvCache, KvShape, Scores, Step};

use crate::adapter::Adapter;

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

    /// What its device had before it was loaded; `None`: it is the processor.
    fn found(&self) -> Option<DeviceMemory> {
        None
    }

    /// What does not work as it should and does no harm, if anything: it is slower.
    fn problem(&self) -> Option<&str> {
        None
    }

    /// Computes all tokens of the step, writes their keys and values to the cache, and returns f32 logits
    /// `[step.sampled.len(), vocab]`, the same on all ranks. All ranks must be called with the same step, and with the same
    /// adapters: those of its rows in their order, or none for all.
    fn forward(
        &mut self,
        step: &Step,
        adapters: &[Option<Arc<Adapter>>],
        kv: &mut KvCache,
    ) -> Result<Tensor>;

    /// As [`Model::forward`], but only as much of the logits as `step.best` asks for, where that spares copies; ranks
    /// other than the first may leave out all of it.
    fn scores(
        &mut self,
        step: &Step,
        adapters: &[Option<Arc<Adapter>>],
        kv: &mut KvCache,
    ) -> Result<Scores> {
        self.forward(step, adapters, kv).map(Scores::whole)
    }
}
