//! A model on all its ranks: loads the shards, has each do the same.
//!
//! A model of one rank computes in the engine's thread. Of several, each has a thread of its own,
//! so that the engine's never waits for what may not come: it tells the ranks what to do and hears
//! of it, or of the first that failed, or that nothing moves any more. Plans travel, not tensors:
//! every rank packs the plan by itself. What a rank does is [`Obey`]'s matter: the decoder's is here,
//! `sconce-seq2seq` has its own.

mod group;
mod rank;

use std::sync::Arc;
use std::time::Duration;

use sconce_models::{Adapter, Model};
use sconce_nn::{Communicator, DeviceMemory, Place, Scores, Solo, SoloOn, Threads};
use sconce_sched::StepPlan;

use crate::error::EngineError;
use crate::memory;
use crate::settings::GpuShare;
use group::Group;
use rank::{Answer, Order, Rank};

/// A rank of a model, in the thread that it computes in.
pub trait Obey: 'static {
    /// What it can be told; all ranks are told the same.
    type Order: Clone + Send + 'static;
    /// What it has to say when it is done.
    type Answer: Send + 'static;
    /// Does it, or says why it cannot be done.
    fn obey(&mut self, order: Self::Order) -> Result<Self::Answer, String>;
}

/// A rank's place in its team, before it is known where it computes.
pub enum Seat {
    /// The only one.
    Alone,
    /// One of several.
    Member(Threads),
    /// One whose communicator is made already, wherever it computes.
    Made(Box<dyn Communicator + Send>),
}

impl Seat {
    /// On the processor.
    pub fn on_processor(self) -> Box<dyn Communicator + Send> {
        match self {
            Self::Alone => Box::new(Solo),
            Self::Member(threads) => Box::new(threads),
            Self::Made(communicator) => communicator,
        }
    }

    /// Which rank it is.
    pub fn rank(&self) -> usize {
        match self {
            Self::Alone => 0,
            Self::Member(threads) => threads.rank(),
            Self::Made(communicator) => communicator.rank(),
        }
    }

    /// On the GPU that is this rank's, where there are any; with others when all of them have come.
    pub fn on(self, gpus: &[GpuShare]) -> Result<Box<dyn Communicator + Send>, EngineError> {
        let rank = self.rank();
        let Some(gpu) = gpus.get(rank) else {
            return Ok(self.on_processor());
        };
        let device = sconce_nn::open_gpu(gpu.ordinal).map_err(EngineError::Gpu)?;
        if let Some(DeviceMemory { free, total }) = sconce_nn::device_memory(&device)
            && free < gpu.bytes.saturating_sub(memory::CUDA_CONTEXT)
        {
            return Err(EngineError::GpuTaken {
                ordinal: gpu.ordinal,
                free,
                wanted: gpu.bytes,
                total,
            });
        }
        match self {
            Self::Made(communicator) => Ok(communicator),
            Self::Alone => Ok(Box::new(SoloOn(device))),
            Self::Member(threads) => {
                let joined = sconce_nn::over_nccl(threads, device);
                joined.map_err(|error| EngineError::Rank {
                    rank,
                    cause: error.to_string(),
                })
            }
        }
    }
}

/// Builds one rank inside its thread; told bytes done and in all.
pub type RankLoader<R> =
    dyn Fn(Seat, &mut dyn FnMut(u64, u64)) -> Result<R, EngineError> + Send + Sync;

/// Builds the decoder of one rank.
pub type Loader = RankLoader<Box<dyn Model>>;

/// All ranks of a model.
pub enum Team<R: Obey> {
    /// One, in the engine's thread.
    Alone(R),
    /// Several, each in its own.
    Several(Group<R>),
}

impl<R: Obey> Team<R> {
    /// Loads `world` ranks at the same time; `progress` is told of rank 0's bytes. Several ranks
    /// are given up when none of them shows a sign of life for `patience`.
    pub fn load(
        world: usize,
        patience: Duration,
        loader: Arc<RankLoader<R>>,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<Self, EngineError> {
        if world == 1 {
            return Ok(Self::Alone(loader(Seat::Alone, progress)?));
        }
        Group::load(world, patience, &loader, progress).map(Self::Several)
    }

    /// Has all ranks do the same; what rank 0 has to say.
    pub fn obey(&mut self, place: Place, order: R::Order) -> Result<R::Answer, String> {
        match self {
            Self::Alone(rank) => rank.obey(order).map_err(|cause| format!("rank 0: {cause}")),
            Self::Several(group) => group.obey(place, &order),
        }
    }
}

/// All ranks of a decoder.
pub(crate) struct Ranks {
    team: Team<Rank>,
    vocab: usize,
    steps: u64,
}

impl Ranks {
    /// As [`Team::load`].
    pub(crate) fn load(
        world: usize,
        patience: Duration,
        loader: Arc<Loader>,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<Self, EngineError> {
        let rank: Arc<RankLoader<Rank>> =
            Arc::new(move |seat, progress| Ok(Rank::new(loader(seat, progress)?)));
        let mut team = Team::load(world, patience, rank, progress)?;
        let vocab = match team.obey(Place::Loading, Order::Measure) {
            Ok(Answer::Vocabulary(vocab)) => Ok(vocab),
            Ok(_) => Err(DISOBEYED.into()),
            Err(cause) => Err(cause),
        };
        let vocab = vocab.map_err(|cause| EngineError::Rank { rank: 0, cause })?;
        Ok(Self {
            team,
            vocab,
            steps: 0,
        })
    }

    /// Width of a row of logits.
    pub(crate) fn vocab(&self) -> usize {
        self.vocab
    }

    /// The memory of rank 0's GPU before it was loaded, and now; `None`: it computes on the processor.
    pub(crate) fn memory(&mut self) -> Result<Option<[DeviceMemory; 2]>, String> {
        match self.team.obey(Place::Loading, Order::Memory)? {
            Answer::Memory(memory) => Ok(memory),
            _ => Err(DISOBEYED.into()),
        }
    }

    /// Reserves the key/value cache on every rank.
    pub(crate) fn reserve(&mut self, blocks: usize) -> Result<(), String> {
        self.team
            .obey(Place::Reserving, Order::Reserve(blocks))
            .map(drop)
    }

    /// Runs a plan on every rank; what rank 0 has of the logits of the wanted rows. `adapters` are those of the rows, or
    /// none for all; `best` as in [`sconce_nn::Step`].
    pub(crate) fn forward(
        &mut self,
        plan: &StepPlan,
        adapters: &[Option<Arc<Adapter>>],
        best: &[u32],
    ) -> Result<Scores, String> {
        let place = Place::Step(self.steps);
        self.steps += 1;
        // One rank computes in this thread, and needs no copy of the plan.
        let answer = match &mut self.team {
            Team::Alone(rank) => rank
                .forward(plan, adapters, best)
                .map(Answer::Scores)
                .map_err(|cause| format!("rank 0: {cause}")),
            several => {
                let order = Order::Step(Arc::new(plan.clone()), adapters.into(), best.into());
                several.obey(place, order)
            }
        };
        match answer? {
            Answer::Scores(scores) => Ok(scores),
            _ => Err(DISOBEYED.into()),
        }
    }
}

/// An answer to another order.
const DISOBEYED: &str = "rank 0 did something else than it was told";
