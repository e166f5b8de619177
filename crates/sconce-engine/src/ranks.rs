//! The model on all its ranks: loads the shards, runs the same plan on each.
//!
//! A model of one rank computes in the engine's thread. Of several, each has a thread of its own,
//! so that the engine's never waits for what may not come: it tells the ranks what to do and hears
//! of it, or of the first that failed, or that nothing moves any more. Plans travel, not tensors:
//! every rank packs the plan by itself.

mod group;
mod rank;

use std::sync::Arc;
use std::time::Duration;

use candle_core::Tensor;
use sconce_models::Model;
use sconce_nn::{Communicator, Solo};
use sconce_sched::StepPlan;

use crate::error::EngineError;
use group::Group;
use rank::Rank;

/// Builds the model of one rank inside that rank's thread; told bytes done and in all.
pub type Loader = dyn Fn(
        Box<dyn Communicator + Send>,
        &mut dyn FnMut(u64, u64),
    ) -> Result<Box<dyn Model>, EngineError>
    + Send
    + Sync;

/// All ranks of a model.
pub(crate) enum Ranks {
    Alone(Rank),
    Several(Group),
}

impl Ranks {
    /// Loads `world` ranks at the same time; `progress` is told of rank 0's bytes. Several ranks
    /// are given up when none of them shows a sign of life for `patience`.
    pub(crate) fn load(
        world: usize,
        patience: Duration,
        loader: Arc<Loader>,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<Self, EngineError> {
        if world == 1 {
            let model = loader(Box::new(Solo), progress)?;
            return Ok(Self::Alone(Rank::new(model)));
        }
        Group::load(world, patience, &loader, progress).map(Self::Several)
    }

    /// Width of a row of logits.
    pub(crate) fn vocab(&self) -> usize {
        match self {
            Self::Alone(rank) => rank.vocab(),
            Self::Several(group) => group.vocab(),
        }
    }

    /// Reserves the key/value cache on every rank.
    pub(crate) fn reserve(&mut self, blocks: usize) -> Result<(), String> {
        match self {
            Self::Alone(rank) => rank.reserve(blocks).map_err(of_the_only),
            Self::Several(group) => group.reserve(blocks),
        }
    }

    /// Runs a plan on every rank; the logits `[wanted rows, vocab]` of rank 0.
    pub(crate) fn forward(&mut self, plan: &StepPlan) -> Result<Tensor, String> {
        match self {
            Self::Alone(rank) => rank.forward(plan).map_err(of_the_only),
            Self::Several(group) => group.forward(plan),
        }
    }
}

fn of_the_only(cause: String) -> String {
    format!("rank 0: {cause}")
}
