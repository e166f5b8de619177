//! The engine's handle: loads the model in its thread, makes tokens of requests at the door, queues them.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use sconce_core::{
    Backend, Gauges, Inbox, InboxSettings, Job, Load, Observer, Phase, Progress, ServeError, Task,
};
use sconce_engine::{EngineError, Place, Plan, RankLoader, Room, Team};
use sconce_models::seq2seq::{Reading, Seq2Seq};
use sconce_nn::{Pulse, Step, StepRow};
use tracing::{info, warn};

use crate::describe::Seq2SeqDescription;
use crate::door::Door;
use crate::error::Seq2SeqError;
use crate::job::Admitted;
use crate::pool::Pool;
use crate::rank::{Answer, Order, Rank, Writing};
use crate::settings::Seq2SeqSettings;
use crate::worker::Worker;

/// An engine that has passed its canary.
pub struct Seq2SeqEngine {
    task: Task,
    planned: u64,
    door: Door,
    inbox: Inbox<Admitted>,
}

impl Seq2SeqEngine {
    /// Loads the checkpoint of `settings.dir`; returns when a canary has passed through the model.
    pub fn start(settings: Seq2SeqSettings, observer: Arc<Observer>) -> Result<Self, Seq2SeqError> {
        let description = Seq2SeqDescription::read(&settings)?;
        if let Some(threads) = settings.threads {
            sconce_nn::pool::configure(threads);
        }
        let plan = plan(&settings, &description)?;
        let door = Door::new(&settings, &description, plan.blocks);
        let (task, planned) = (settings.task, plan.total() * settings.ranks as u64);
        let entrance = InboxSettings {
            model: settings.name.clone(),
            thread: "seq2seq",
            limit: settings.queue,
        };
        let (inbox, ()) = Inbox::start(entrance, move |gauges| {
            let worker = load(settings, &description, &plan, gauges, &*observer)?;
            Ok::<_, Seq2SeqError>((worker, ()))
        })?;
        Ok(Self {
            task,
            planned,
            door,
            inbox,
        })
    }

    /// Bytes that were planned for it, whether it uses them already or not.
    pub fn planned(&self) -> u64 {
        self.planned
    }
}

impl Backend for Seq2SeqEngine {
    fn submit(&self, job: Job) -> Result<(), ServeError> {
        self.inbox.submit(|permit| self.door.admit(job, permit))
    }

    fn task(&self) -> Option<Task> {
        Some(self.task)
    }

    fn load(&self) -> Load {
        self.inbox.load()
    }

    fn failure(&self) -> Option<String> {
        self.inbox.failure()
    }

    fn prove_every(&self, pause: Option<Duration>) {
        self.inbox.prove_every(pause);
    }

    fn stop(&self) {
        self.inbox.stop();
    }
}

/// Decides, before a weight is read, what is reserved for the cache.
fn plan(
    settings: &Seq2SeqSettings,
    description: &Seq2SeqDescription,
) -> Result<Plan, Seq2SeqError> {
    let needs = description.needs(settings)?;
    let plan = Plan::new(
        &needs,
        &Room::of_this_machine(settings.ranks, sconce_nn::pool::threads())
            .at_most(settings.room, settings.ranks),
    )?;
    if let Some(text) = plan.shortened(&needs) {
        warn!(
            model = settings.name,
            "{text}; here those are the tokens of what is read and written together"
        );
    }
    let mib = |bytes: u64| bytes * settings.ranks as u64 / (1 << 20);
    info!(
        model = settings.name,
        "{} for {}: {} + {} layers, texts of at most {} tokens; {} MiB of weights, {} MiB of activations, {} MiB reserved \
         for keys and values of {} tokens",
        description.arch.name,
        settings.task,
        description.spec.encoder.layers,
        description.spec.decoder.layers,
        description.max_read,
        mib(plan.weights),
        mib(plan.activations),
        mib(plan.cache),
        plan.tokens(),
    );
    Ok(plan)
}

/// Loads the weights, reserves the cache and proves that the model computes.
fn load(
    settings: Seq2SeqSettings,
    description: &Seq2SeqDescription,
    plan: &Plan,
    gauges: Arc<Gauges>,
    observer: &Observer,
) -> Result<Worker, Seq2SeqError> {
    observer(Phase::Loading, Progress::default());
    let mut progress = |done, total| observer(Phase::Loading, Progress { done, total });
    let (arch, options) = (description.arch, settings.load_options());
    let (spec, weights) = (description.spec.clone(), Arc::clone(&description.weights));
    let loader: Arc<RankLoader<Rank>> = Arc::new(move |seat, progress| {
        let communicator = seat.on_processor();
        let model = Seq2Seq::load(arch, &spec, &*weights, communicator, &options, progress)?;
        Ok(Rank::new(model))
    });
    let (world, patience) = (settings.ranks, settings.collective_timeout);
    let mut ranks = Team::load(world, patience, loader, &mut progress)?;
    let reserved = ranks.obey(Place::Reserving, Order::Reserve(plan.blocks));
    reserved.map_err(EngineError::Canary)?;
    observer(Phase::Warming, Progress::default());
    canary(&mut ranks, 0).map_err(EngineError::Canary)?;
    gauges.set_blocks(0, plan.blocks);
    Ok(Worker {
        ranks,
        orders: ORDERS_OF_CANARY,
        pool: Pool::new(plan.blocks),
        tokenizer: Arc::clone(&description.tokenizer),
        _pulse: Pulse::counting(gauges.signs()).attach(),
        gauges,
        max_rows: settings.max_rows,
        max_read_tokens: settings.max_read_tokens,
        predict_timeout: settings.predict_timeout,
        waiting: VecDeque::new(),
        running: Vec::new(),
    })
}

/// A canary gives so many orders.
pub(crate) const ORDERS_OF_CANARY: u64 = 2;

/// Reads and writes one token while nobody has blocks; the logits must be numbers. The blocks are free afterwards:
/// nothing reads a slot before a text has written it.
pub(crate) fn canary(ranks: &mut Team<Rank>, orders: u64) -> Result<(), String> {
    let reading = Reading {
        ids: vec![0],
        lens: vec![1],
        slots: vec![0],
    };
    ranks.obey(Place::Step(orders), Order::Read(Arc::new(reading)))?;
    let row = |block| StepRow {
        q_start: 0,
        q_len: 1,
        k_len: 1,
        known: 1,
        blocks: vec![block],
    };
    let writing = Writing {
        copies: Vec::new(),
        step: Step {
            ids: vec![0],
            positions: vec![0],
            slots: vec![sconce_nn::BLOCK as u32],
            rows: vec![row(1)],
            ..Step::default()
        },
        texts: Step {
            rows: vec![row(0)],
            ..Step::default()
        },
    };
    let written = ranks.obey(Place::Step(orders + 1), Order::Write(Arc::new(writing)));
    let Answer::Logits(logits) = written? else {
        return Err("rank 0 did something else than it was told".into());
    };
    match logits.numbers.iter().position(|value| !value.is_finite()) {
        Some(at) => Err(format!("logit {at} is {}", logits.numbers[at])),
        None => Ok(()),
    }
}
