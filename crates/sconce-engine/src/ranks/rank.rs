//! One rank: its model, its cache, and the step at hand. In which thread it computes is left to others.

use candle_core::{Device, Tensor};
use sconce_models::Model;
use sconce_nn::{KvCache, Step};
use sconce_sched::StepPlan;

use crate::pack::pack;

/// A rank, in the thread that it computes in.
pub(crate) struct Rank {
    model: Box<dyn Model>,
    cache: Option<KvCache>,
    /// The plan at hand as the kernels want it; its vectors are used again.
    step: Step,
}

impl Rank {
    pub(super) fn new(model: Box<dyn Model>) -> Self {
        Self {
            model,
            cache: None,
            step: Step::default(),
        }
    }

    pub(super) fn vocab(&self) -> usize {
        self.model.vocab()
    }

    pub(super) fn reserve(&mut self, blocks: usize) -> Result<(), String> {
        let cache = KvCache::new(self.model.kv_shape(), blocks, &Device::Cpu);
        self.cache = Some(cache.map_err(|error| error.to_string())?);
        Ok(())
    }

    pub(super) fn forward(&mut self, plan: &StepPlan) -> Result<Tensor, String> {
        let cache = self
            .cache
            .as_mut()
            .expect("the cache is reserved before the first step");
        pack(plan, &mut self.step);
        self.model
            .forward(&self.step, cache)
            .map_err(|error| error.to_string())
    }
}
