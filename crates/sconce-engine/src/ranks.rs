//! One thread per rank: loads the model's shards, runs the same plan on each.
//!
//! Rank 0 is the caller's thread; the others wait for plans on a channel. Plans travel, not
//! tensors: every rank packs the plan by itself. The first failure of any rank is the one that
//! is told, because the others only fail for lack of it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use candle_core::{Device, Tensor};
use sconce_models::Model;
use sconce_nn::{Communicator, KvCache, Solo, Step, Threads};
use sconce_sched::StepPlan;

use crate::error::EngineError;
use crate::pack::pack;

/// Builds the model of one rank inside that rank's thread; told bytes done and in all.
pub type Loader = dyn Fn(
        Box<dyn Communicator + Send>,
        &mut dyn FnMut(u64, u64),
    ) -> Result<Box<dyn Model>, EngineError>
    + Send
    + Sync;

/// All ranks of a model, seen from rank 0's thread.
pub(crate) struct Ranks {
    leader: Rank,
    followers: Vec<Follower>,
    first_failure: FirstFailure,
}

impl Ranks {
    /// Loads `world` ranks at the same time; `progress` is told of rank 0's bytes.
    pub(crate) fn load(
        world: usize,
        loader: Arc<Loader>,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<Self, EngineError> {
        let first_failure = FirstFailure::default();
        let mut communicators = communicators(world).into_iter();
        let leader = communicators.next().expect("a world has at least one rank");
        let mut followers = Vec::with_capacity(world - 1);
        for (index, communicator) in communicators.enumerate() {
            followers.push(Follower::spawn(
                index + 1,
                communicator,
                Arc::clone(&loader),
                first_failure.clone(),
            )?);
        }
        let model = loader(leader, progress)?;
        for follower in &followers {
            follower.loaded()?;
        }
        Ok(Self {
            leader: Rank::new(model),
            followers,
            first_failure,
        })
    }

    /// Width of a row of logits.
    pub(crate) fn vocab(&self) -> usize {
        self.leader.model.vocab()
    }

    /// Reserves the key/value cache on every rank.
    pub(crate) fn reserve(&mut self, blocks: usize) -> Result<(), String> {
        self.tell(&Order::Reserve(blocks))?;
        self.leader
            .reserve(blocks)
            .map_err(|cause| self.first_failure.record(0, cause))
    }

    /// Runs a plan on every rank; the logits `[wanted rows, vocab]` of rank 0.
    pub(crate) fn forward(&mut self, plan: &StepPlan) -> Result<Tensor, String> {
        if !self.followers.is_empty() {
            self.tell(&Order::Step(Arc::new(plan.clone())))?;
        }
        self.leader
            .forward(plan)
            .map_err(|cause| self.first_failure.record(0, cause))
    }

    fn tell(&self, order: &Order) -> Result<(), String> {
        for follower in &self.followers {
            if follower
                .orders
                .as_ref()
                .is_none_or(|orders| orders.send(order.clone()).is_err())
            {
                return Err(self
                    .first_failure
                    .record(follower.rank, "its thread ended".into()));
            }
        }
        Ok(())
    }
}

#[derive(Clone)]
enum Order {
    Reserve(usize),
    Step(Arc<StepPlan>),
}

struct Rank {
    model: Box<dyn Model>,
    cache: Option<KvCache>,
    /// The plan at hand as the kernels want it; its vectors are used again.
    step: Step,
}

impl Rank {
    fn new(model: Box<dyn Model>) -> Self {
        Self {
            model,
            cache: None,
            step: Step::default(),
        }
    }

    fn reserve(&mut self, blocks: usize) -> Result<(), String> {
        let cache = KvCache::new(self.model.kv_shape(), blocks, &Device::Cpu);
        self.cache = Some(cache.map_err(|error| error.to_string())?);
        Ok(())
    }

    fn forward(&mut self, plan: &StepPlan) -> Result<Tensor, String> {
        let cache = self
            .cache
            .as_mut()
            .expect("the cache is reserved before the first step");
        pack(plan, &mut self.step);
        self.model
            .forward(&self.step, cache)
            .map_err(|error| error.to_string())
    }

    fn obey(&mut self, order: &Order) -> Result<(), String> {
        match order {
            Order::Reserve(blocks) => self.reserve(*blocks),
            Order::Step(plan) => self.forward(plan).map(drop),
        }
    }
}

struct Follower {
    rank: usize,
    orders: Option<Sender<Order>>,
    loaded: Receiver<Result<(), EngineError>>,
    thread: Option<JoinHandle<()>>,
}

impl Follower {
    fn spawn(
        rank: usize,
        communicator: Box<dyn Communicator + Send>,
        loader: Arc<Loader>,
        first_failure: FirstFailure,
    ) -> Result<Self, EngineError> {
        let (orders, inbox) = channel();
        let (tell_loaded, loaded) = channel();
        let thread = std::thread::Builder::new()
            .name(format!("rank-{rank}"))
            .spawn(move || {
                let model = match loader(communicator, &mut |_, _| {}) {
                    Ok(model) => model,
                    Err(error) => {
                        // The receiver is gone only if the engine was dropped meanwhile.
                        let _ = tell_loaded.send(Err(error));
                        return;
                    }
                };
                let _ = tell_loaded.send(Ok(()));
                follow(Rank::new(model), rank, &inbox, &first_failure);
            })
            .map_err(|source| EngineError::System {
                what: "starting a rank's thread",
                source,
            })?;
        Ok(Self {
            rank,
            orders: Some(orders),
            loaded,
            thread: Some(thread),
        })
    }

    fn loaded(&self) -> Result<(), EngineError> {
        let died = || EngineError::Rank {
            rank: self.rank,
            cause: "its thread ended".into(),
        };
        self.loaded.recv().unwrap_or_else(|_| Err(died()))
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.orders = None;
        if let Some(thread) = self.thread.take() {
            // A panic of the thread was recorded where it happened.
            let _ = thread.join();
        }
    }
}

/// Runs orders until the channel closes or one fails. Dropping the rank on failure poisons its
/// communicator, which wakes the ranks that wait for it.
fn follow(mut rank: Rank, index: usize, inbox: &Receiver<Order>, failure: &FirstFailure) {
    for order in inbox {
        let outcome = catch_unwind(AssertUnwindSafe(|| rank.obey(&order)))
            .unwrap_or_else(|panic| Err(panic_message(&*panic)));
        if let Err(cause) = outcome {
            failure.record(index, cause);
            return;
        }
    }
}

/// The text of a panic.
pub(crate) fn panic_message(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
    format!(
        "panic: {}",
        text.unwrap_or_else(|| "without a message".into())
    )
}

/// Remembers the first of several failures.
#[derive(Clone, Default)]
struct FirstFailure(Arc<Mutex<Option<String>>>);

impl FirstFailure {
    /// Records a failure unless there was one before; the first one either way.
    fn record(&self, rank: usize, cause: String) -> String {
        let mut first = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        first
            .get_or_insert_with(|| format!("rank {rank}: {cause}"))
            .clone()
    }
}

fn communicators(world: usize) -> Vec<Box<dyn Communicator + Send>> {
    if world == 1 {
        return vec![Box::new(Solo)];
    }
    let group = Threads::group(world).into_iter();
    group
        .map(|rank| Box::new(rank) as Box<dyn Communicator + Send>)
        .collect()
}
