//! One rank: its model, its cache, and the step at hand. In which thread it computes is left to others.

use std::sync::Arc;

use sconce_models::{Adapter, Model};
use sconce_nn::{DeviceMemory, KvCache, Scores, Step, device_memory};
use sconce_sched::StepPlan;
use tracing::warn;

use super::Obey;
use crate::pack::pack;

/// What a rank of a decoder is told.
#[derive(Clone)]
pub(crate) enum Order {
    /// Say how wide a row of logits is.
    Measure,
    /// Say how the memory of its device was and is.
    Memory,
    /// Reserve so many blocks of the cache.
    Reserve(usize),
    /// Run a plan, with the adapters of its rows, or none for all, and with how many of the largest logits suffice, as in
    /// [`Step`].
    Step(Arc<StepPlan>, Arc<[Option<Arc<Adapter>>]>, Arc<[u32]>),
}

/// What it has to say.
pub(crate) enum Answer {
    /// The width of a row of logits.
    Vocabulary(usize),
    /// The memory of a GPU before the model was loaded, and now.
    Memory(Option<[DeviceMemory; 2]>),
    /// There is a cache.
    Reserved,
    /// What is wanted of the logits of the rows that want some.
    Scores(Scores),
}

/// A rank, in the thread that it computes in.
pub(crate) struct Rank {
    model: Box<dyn Model>,
    cache: Option<KvCache>,
    /// The plan at hand as the kernels want it; its vectors are used again.
    step: Step,
    /// Whether the model's problem was told.
    is_told: bool,
}

impl Rank {
    pub(super) fn new(model: Box<dyn Model>) -> Self {
        Self {
            model,
            cache: None,
            step: Step::default(),
            is_told: false,
        }
    }

    fn reserve(&mut self, blocks: usize) -> Result<(), String> {
        let cache = KvCache::new(self.model.kv_shape(), blocks, &self.model.device());
        self.cache = Some(cache.map_err(|error| error.to_string())?);
        Ok(())
    }

    fn memory(&self) -> Option<[DeviceMemory; 2]> {
        let now = device_memory(&self.model.device())?;
        Some([self.model.found()?, now])
    }

    pub(super) fn forward(
        &mut self,
        plan: &StepPlan,
        adapters: &[Option<Arc<Adapter>>],
        best: &[u32],
    ) -> Result<Scores, String> {
        let cache = self
            .cache
            .as_mut()
            .expect("the cache is reserved before the first step");
        for &(from, to) in &plan.copies {
            cache.copy_block(from.0, to.0);
        }
        pack(plan, &mut self.step);
        self.step.best.clear();
        self.step.best.extend_from_slice(best);
        let scores = self.model.scores(&self.step, adapters, cache);
        if let Some(problem) = self.model.problem().filter(|_| !self.is_told) {
            warn!(
                "steps are launched kernel by kernel, as with option.enforce_eager=true: recording one failed: {problem}"
            );
            self.is_told = true;
        }
        scores.map_err(|error| error.to_string())
    }
}

impl Obey for Rank {
    type Order = Order;
    type Answer = Answer;

    fn obey(&mut self, order: Order) -> Result<Answer, String> {
        match order {
            Order::Measure => Ok(Answer::Vocabulary(self.model.vocab())),
            Order::Memory => Ok(Answer::Memory(self.memory())),
            Order::Reserve(blocks) => self.reserve(blocks).map(|()| Answer::Reserved),
            Order::Step(plan, adapters, best) => {
                self.forward(&plan, &adapters, &best).map(Answer::Scores)
            }
        }
    }
}
