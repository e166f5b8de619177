//! The engine's handle: loads the model in its thread, makes tokens of requests at the door, queues them.

use std::collections::VecDeque;
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::JoinHandle;

use sconce_core::{Backend, Gauges, Job, Load, Phase, Progress, ServeError, Task};
use sconce_engine::{EngineError, Plan, Room};
use sconce_models::seq2seq::{Reading, Seq2Seq};
use sconce_nn::{KvCache, Step, StepRow};
use tracing::{error, info, warn};

use crate::describe::Seq2SeqDescription;
use crate::door::Door;
use crate::error::Seq2SeqError;
use crate::pool::Pool;
use crate::settings::Seq2SeqSettings;
use crate::worker::{Message, Worker};

/// Told of the phases on the way to readiness and of the bytes of the present one.
pub type Observer = dyn Fn(Phase, Progress) + Send + Sync;

/// An engine that has passed its canary.
pub struct Seq2SeqEngine {
    task: Task,
    door: Door,
    gauges: Arc<Gauges>,
    failure: Arc<OnceLock<String>>,
    inbox: SyncSender<Message>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Seq2SeqEngine {
    /// Loads the checkpoint of `settings.dir`; returns when a canary has passed through the model.
    pub fn start(settings: Seq2SeqSettings, observer: Arc<Observer>) -> Result<Self, Seq2SeqError> {
        let description = Seq2SeqDescription::read(&settings)?;
        if let Some(threads) = settings.threads {
            sconce_nn::pool::configure(threads);
        }
        let plan = plan(&settings, &description)?;
        let gauges = Arc::new(Gauges::default());
        let door = Door::new(&settings, &description, plan.blocks, Arc::clone(&gauges));
        // One place more than may wait: `Stop` must always find room.
        let (inbox, outbox) = sync_channel(settings.queue + settings.max_rows + 1);
        let (tell_ready, ready) = sync_channel(1);
        let failure = Arc::new(OnceLock::new());
        let (told, counted, task) = (Arc::clone(&failure), Arc::clone(&gauges), settings.task);
        let thread = std::thread::Builder::new()
            .name("seq2seq".into())
            .spawn(move || {
                let name = settings.name.clone();
                let loaded = load(settings, &description, &plan, counted, &*observer);
                let mut worker = match loaded {
                    Ok(worker) => worker,
                    Err(error) => {
                        let _ = tell_ready.send(Err(error));
                        return;
                    }
                };
                let _ = tell_ready.send(Ok(()));
                let told_to_all = match worker.run(&outbox) {
                    Ok(()) => ServeError::Draining,
                    Err(cause) => {
                        error!(
                            model = name,
                            cause, "the engine failed; its jobs fail with it"
                        );
                        // Nobody else sets it: this thread ends once.
                        let _ = told.set(cause.clone());
                        ServeError::Engine { model: name, cause }
                    }
                };
                worker.fail_all(&outbox, &told_to_all);
            })
            .map_err(|source| EngineError::System {
                what: "starting the engine",
                source,
            })?;
        ready.recv().map_err(|_| Seq2SeqError::Panicked)??;
        Ok(Self {
            task,
            door,
            gauges,
            failure,
            inbox,
            thread: Mutex::new(Some(thread)),
        })
    }
}

impl Backend for Seq2SeqEngine {
    fn submit(&self, job: Job) -> Result<(), ServeError> {
        let broken = || {
            let cause = self.failure.get().cloned();
            ServeError::Engine {
                model: self.door.name().to_owned(),
                cause: cause.unwrap_or_else(|| "it was stopped".into()),
            }
        };
        if self.failure.get().is_some() {
            return Err(broken());
        }
        let admitted = Message::Job(Box::new(self.door.admit(job)?));
        self.inbox
            .try_send(admitted)
            .map_err(|refused| match refused {
                TrySendError::Full(_) => self.door.full(),
                TrySendError::Disconnected(_) => broken(),
            })
    }

    fn task(&self) -> Option<Task> {
        Some(self.task)
    }

    fn load(&self) -> Load {
        self.gauges.load()
    }

    fn failure(&self) -> Option<String> {
        self.failure.get().cloned()
    }

    fn stop(&self) {
        let _ = self.inbox.send(Message::Stop);
        let thread = self
            .thread
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(thread) = thread {
            let _ = thread.join();
        }
    }
}

impl Drop for Seq2SeqEngine {
    fn drop(&mut self) {
        self.stop();
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
        &Room::of_this_machine(1, sconce_nn::pool::threads()),
    )?;
    if let Some(text) = plan.shortened(&needs) {
        warn!(
            model = settings.name,
            "{text}; here those are the tokens of what is read and written together"
        );
    }
    let mib = |bytes: u64| bytes / (1 << 20);
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
    let model = Seq2Seq::load(
        description.arch,
        &description.spec,
        &*description.weights,
        &settings.load_options(),
        &mut progress,
    )?;
    let cache = model.reserve(plan.blocks);
    let mut cache = cache.map_err(|error| EngineError::Canary(error.to_string()))?;
    observer(Phase::Warming, Progress::default());
    canary(&model, &mut cache)?;
    gauges.set_blocks(0, plan.blocks);
    Ok(Worker {
        model,
        cache,
        pool: Pool::new(plan.blocks),
        tokenizer: Arc::clone(&description.tokenizer),
        gauges,
        max_rows: settings.max_rows,
        max_read_tokens: settings.max_read_tokens,
        predict_timeout: settings.predict_timeout,
        waiting: VecDeque::new(),
        running: Vec::new(),
        step: Step::default(),
    })
}

/// Reads and writes one token; the logits must be numbers. The blocks are free afterwards: nothing reads a slot before
/// a text has written it.
fn canary(model: &Seq2Seq, cache: &mut KvCache) -> Result<(), EngineError> {
    let reading = Reading {
        ids: vec![0],
        lens: vec![1],
        slots: vec![0],
    };
    let read = model.read(&reading, cache);
    read.map_err(|error| EngineError::Canary(error.to_string()))?;
    let row = |block| StepRow {
        q_start: 0,
        q_len: 1,
        k_len: 1,
        known: 1,
        blocks: vec![block],
    };
    let step = Step {
        ids: vec![0],
        positions: vec![0],
        slots: vec![sconce_nn::BLOCK as u32],
        rows: vec![row(1)],
        sampled: Vec::new(),
    };
    let texts = Step {
        rows: vec![row(0)],
        ..Step::default()
    };
    let logits = model.write(&step, &texts, cache);
    let logits = logits.map_err(|error| EngineError::Canary(error.to_string()))?;
    match logits.numbers.iter().position(|value| !value.is_finite()) {
        Some(at) => Err(EngineError::Canary(format!(
            "logit {at} is {}",
            logits.numbers[at]
        ))),
        None => Ok(()),
    }
}
