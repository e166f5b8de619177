//! The engine's handle: starts the threads, checks jobs at the door, queues them.

use std::collections::HashMap;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::JoinHandle;

use sconce_core::{
    Backend, Generate, Input, Job, Load, MaxTokens, Phase, Progress, Sampling, ServeError, Task,
};
use sconce_sched::{Limits, Row, Scheduler, SeqId, StepPlan, Want};
use sconce_text::Tokenizer;
use tracing::{error, info, warn};

use crate::draws::Draws;
use crate::error::EngineError;
use crate::length::{Length, truncated};
use crate::live::Admitted;
use crate::load::{Checkpoint, open_checkpoint};
use crate::memory::{Plan, Room};
use crate::pace::Pace;
use crate::ranks::Ranks;
use crate::settings::EngineSettings;
use crate::worker::{Message, Worker};
use sconce_core::Gauges;

/// Told of the phases on the way to readiness and of the bytes of the present one.
pub type Observer = dyn Fn(Phase, Progress) + Send + Sync;

/// A text-generation engine that has passed its canary.
pub struct Engine {
    name: String,
    max_len: usize,
    queue_limit: usize,
    vocab: usize,
    tokenizer: Arc<Tokenizer>,
    /// For what requests leave open.
    sampling: Sampling,
    length: MaxTokens,
    gauges: Arc<Gauges>,
    failure: Arc<OnceLock<String>>,
    inbox: SyncSender<Message>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Engine {
    /// Loads the checkpoint of `settings.dir` and starts computing; returns when a canary
    /// forward pass succeeded on every rank.
    pub fn start(settings: EngineSettings, observer: Arc<Observer>) -> Result<Self, EngineError> {
        let checkpoint = open_checkpoint(&settings)?;
        Self::start_with(settings, checkpoint, observer)
    }

    /// Starts with a model that is already described; tests bring their own.
    pub fn start_with(
        settings: EngineSettings,
        checkpoint: Checkpoint,
        observer: Arc<Observer>,
    ) -> Result<Self, EngineError> {
        // One place more than may wait: `Stop` must always find room.
        let (inbox, outbox) = sync_channel(settings.queue + settings.max_rows + 1);
        let (tell_ready, ready) = sync_channel(1);
        let gauges = Arc::new(Gauges::default());
        let failure = Arc::new(OnceLock::new());
        let engine = EngineParts {
            name: settings.name.clone(),
            queue_limit: settings.queue,
            tokenizer: Arc::clone(&checkpoint.tokenizer),
            sampling: checkpoint.sampling.clone(),
            length: checkpoint.length,
            gauges: Arc::clone(&gauges),
            failure: Arc::clone(&failure),
        };
        let thread = std::thread::Builder::new()
            .name("rank-0".into())
            .spawn(move || {
                let prepared = prepare(&settings, checkpoint, gauges, &*observer);
                let (mut worker, max_len) = match prepared {
                    Ok(prepared) => prepared,
                    Err(error) => {
                        let _ = tell_ready.send(Err(error));
                        return;
                    }
                };
                let _ = tell_ready.send(Ok((worker.ranks.vocab(), max_len)));
                let outcome = worker.run(&outbox);
                conclude(&mut worker, outcome, &outbox, &failure);
            })
            .map_err(|source| EngineError::System {
                what: "starting the engine",
                source,
            })?;
        let died = |_| EngineError::Rank {
            rank: 0,
            cause: "its thread panicked".into(),
        };
        let (vocab, max_len) = ready.recv().map_err(died)??;
        Ok(engine.assemble(max_len, vocab, inbox, thread))
    }

    fn admit(&self, job: Job) -> Result<Admitted, ServeError> {
        let Input::Generate(Generate { prompt, params }) = &job.input else {
            let problem = "this model continues texts; other tasks need other models";
            return Err(ServeError::Malformed(problem.into()));
        };
        let params = params.clone();
        if let Some(&id) = params
            .stop
            .token_ids
            .iter()
            .find(|&&id| id as usize >= self.vocab)
        {
            let problem = format!(
                "the vocabulary ends at {}; name token ids below",
                self.vocab
            );
            return Err(ServeError::parameter("stop_token_ids", id, problem));
        }
        let tokens = self.tokenizer.encode(prompt).map_err(|error| {
            ServeError::parameter("inputs", prompt, format!("cannot be tokenised: {error}"))
        })?;
        let tokens = truncated(tokens, params.truncate);
        let length = Length::of(&params, tokens.len(), self.max_len, self.length)?;
        let permit = self
            .gauges
            .enter(self.queue_limit)
            .ok_or_else(|| self.full())?;
        let sampling = params.sampling.over(&self.sampling);
        let prompt = (tokens, length);
        Ok(Admitted::new(job, params, sampling, prompt, permit))
    }

    fn full(&self) -> ServeError {
        ServeError::QueueFull {
            model: self.name.clone(),
            limit: self.queue_limit,
        }
    }

    fn broken(&self) -> ServeError {
        let cause = self
            .failure
            .get()
            .cloned()
            .unwrap_or_else(|| "it was stopped".into());
        ServeError::Engine {
            model: self.name.clone(),
            cause,
        }
    }
}

impl Backend for Engine {
    fn submit(&self, job: Job) -> Result<(), ServeError> {
        if self.failure.get().is_some() {
            return Err(self.broken());
        }
        let admitted = self.admit(job)?;
        self.inbox
            .try_send(Message::Job(Box::new(admitted)))
            .map_err(|refused| match refused {
                TrySendError::Full(_) => self.full(),
                TrySendError::Disconnected(_) => self.broken(),
            })
    }

    fn task(&self) -> Option<Task> {
        Some(Task::TextGeneration)
    }

    fn load(&self) -> Load {
        self.gauges.load()
    }

    fn failure(&self) -> Option<String> {
        self.failure.get().cloned()
    }

    fn stop(&self) {
        // A full or closed queue means that the thread ends by itself or is busy; a closed
        // one is fine, a full one is waited out.
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

impl Drop for Engine {
    fn drop(&mut self) {
        self.stop();
    }
}

struct EngineParts {
    name: String,
    queue_limit: usize,
    tokenizer: Arc<Tokenizer>,
    /// For what requests leave open.
    sampling: Sampling,
    length: MaxTokens,
    gauges: Arc<Gauges>,
    failure: Arc<OnceLock<String>>,
}

impl EngineParts {
    fn assemble(
        self,
        max_len: usize,
        vocab: usize,
        inbox: SyncSender<Message>,
        thread: JoinHandle<()>,
    ) -> Engine {
        let Self {
            name,
            queue_limit,
            tokenizer,
            sampling,
            length,
            gauges,
            failure,
        } = self;
        let thread = Mutex::new(Some(thread));
        Engine {
            name,
            max_len,
            queue_limit,
            vocab,
            tokenizer,
            sampling,
            length,
            gauges,
            failure,
            inbox,
            thread,
        }
    }
}

/// Records the cause before any job hears of it, so that whoever was failed finds it.
fn conclude(
    worker: &mut Worker,
    outcome: Result<(), String>,
    outbox: &Receiver<Message>,
    failure: &OnceLock<String>,
) {
    let told = match outcome {
        Ok(()) => ServeError::Draining,
        Err(cause) => {
            error!(
                model = worker.name,
                cause, "the engine failed; its jobs fail with it"
            );
            // Nobody else sets it: this thread ends once.
            let _ = failure.set(cause.clone());
            ServeError::Engine {
                model: worker.name.clone(),
                cause,
            }
        }
    };
    worker.fail_all(outbox, &told);
}

/// Plans the memory, loads the ranks, reserves the cache and proves that the model computes; the
/// longest sequence, too.
fn prepare(
    settings: &EngineSettings,
    checkpoint: Checkpoint,
    gauges: Arc<Gauges>,
    observer: &Observer,
) -> Result<(Worker, usize), EngineError> {
    if let Some(threads) = settings.threads {
        sconce_nn::pool::configure(threads);
    }
    let plan = plan(settings, &checkpoint)?;
    observer(Phase::Loading, Progress::default());
    let mut progress = |done, total| observer(Phase::Loading, Progress { done, total });
    let (world, patience) = (settings.ranks, settings.collective_timeout);
    let mut ranks = Ranks::load(world, patience, checkpoint.loader, &mut progress)?;
    ranks.reserve(plan.blocks).map_err(EngineError::Canary)?;
    observer(Phase::Warming, Progress::default());
    canary(&mut ranks)?;
    gauges.set_blocks(0, plan.blocks);
    let worker = Worker {
        name: settings.name.clone(),
        ranks,
        scheduler: Scheduler::new(Limits {
            max_rows: settings.max_rows,
            max_step_tokens: settings.max_step_tokens,
            max_len: plan.max_len,
            blocks: plan.blocks,
            prefix_sharing: settings.prefix_sharing,
            border: checkpoint.border,
        }),
        tokenizer: checkpoint.tokenizer,
        eos: checkpoint.eos.into(),
        predict_timeout: settings.predict_timeout,
        gauges,
        pace: Pace::new(settings.max_step_tokens, settings.max_rows),
        draws: Draws::default(),
        picked: Vec::new(),
        live: HashMap::new(),
        next: 0,
    };
    Ok((worker, plan.max_len))
}

/// Decides, before a weight is read, what is reserved for the cache.
fn plan(settings: &EngineSettings, checkpoint: &Checkpoint) -> Result<Plan, EngineError> {
    let room = Room::of_this_machine(settings.ranks, sconce_nn::pool::threads());
    let plan = Plan::new(&checkpoint.needs, &room)?;
    if let Some(text) = settings.warn_of_ranks(sconce_nn::pool::threads()) {
        warn!(model = settings.name, "{text}");
    }
    let (ranks, max_len) = (settings.ranks as u64, plan.max_len);
    if let Some(text) = plan.shortened(&checkpoint.needs) {
        warn!(model = settings.name, "{text}");
    }
    let mib = |bytes: u64| bytes * ranks / (1 << 20);
    info!(
        model = settings.name,
        "reserving {} MiB for keys and values: {} tokens, {:.1} sequences of {max_len}; beside \
         them {} MiB of weights, {} MiB of activations and {} MiB of workspace",
        mib(plan.cache),
        plan.tokens(),
        plan.tokens() as f64 / max_len as f64,
        mib(plan.weights),
        mib(plan.activations),
        mib(plan.workspace + plan.overhead),
    );
    Ok(plan)
}

/// One forward pass through every rank; its logits must be numbers. The block it writes to is
/// free afterwards: nothing reads a slot before a sequence has written it.
fn canary(ranks: &mut Ranks) -> Result<(), EngineError> {
    let row = Row {
        seq: SeqId(u64::MAX),
        tokens: vec![0],
        start: 0,
        blocks: vec![sconce_sched::BlockId(0)],
        known: 1,
        want: Want::Last,
    };
    let logits = ranks
        .forward(&StepPlan { rows: vec![row] })
        .map_err(EngineError::Canary)?;
    let values = logits
        .flatten_all()
        .and_then(|logits| logits.to_vec1::<f32>());
    let values = values.map_err(|error| EngineError::Canary(error.to_string()))?;
    match values.iter().position(|value| !value.is_finite()) {
        Some(at) => Err(EngineError::Canary(format!("logit {at} is {}", values[at]))),
        None => Ok(()),
    }
}
