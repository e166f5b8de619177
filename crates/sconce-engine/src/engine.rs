//! The engine's handle: starts the threads, checks jobs at the door, queues them.

use std::collections::HashMap;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::JoinHandle;

use sconce_core::{
    Backend, Generate, Input, Job, Load, MaxTokens, Phase, Progress, Sampling, ServeError,
};
use sconce_sched::{BLOCK, Limits, Row, Scheduler, SeqId, StepPlan, Want};
use sconce_text::Tokenizer;
use tracing::{error, info};

use crate::error::EngineError;
use crate::gauges::Gauges;
use crate::length::{Length, truncated};
use crate::live::Admitted;
use crate::load::{Checkpoint, open_checkpoint};
use crate::memory::{CacheNeeds, available_memory, plan_blocks};
use crate::ranks::Ranks;
use crate::sampler::Scratch;
use crate::settings::EngineSettings;
use crate::worker::{Message, Worker};

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
        let max_len = longest_sequence(&settings, checkpoint.context)?;
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
                let mut worker = match prepare(&settings, checkpoint, max_len, gauges, &*observer) {
                    Ok(worker) => worker,
                    Err(error) => {
                        let _ = tell_ready.send(Err(error));
                        return;
                    }
                };
                let _ = tell_ready.send(Ok(worker.ranks.vocab()));
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
        let vocab = ready.recv().map_err(died)??;
        Ok(engine.assemble(max_len, vocab, inbox, thread))
    }

    fn admit(&self, job: Job) -> Result<Admitted, ServeError> {
        let Input::Generate(Generate { prompt, params }) = &job.input;
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

fn longest_sequence(settings: &EngineSettings, context: usize) -> Result<usize, EngineError> {
    match settings.max_model_len {
        Some(wanted) if wanted > context => Err(EngineError::Context { wanted, context }),
        wanted => Ok(wanted.unwrap_or(context)),
    }
}

/// Loads the ranks, reserves the cache and proves that the model computes.
fn prepare(
    settings: &EngineSettings,
    checkpoint: Checkpoint,
    max_len: usize,
    gauges: Arc<Gauges>,
    observer: &Observer,
) -> Result<Worker, EngineError> {
    if let Some(threads) = settings.threads {
        sconce_nn::pool::configure(threads);
    }
    observer(Phase::Loading, Progress::default());
    let mut progress = |done, total| observer(Phase::Loading, Progress { done, total });
    let mut ranks = Ranks::load(settings.ranks, checkpoint.loader, &mut progress)?;
    check_vocabulary(settings, &checkpoint.tokenizer, ranks.vocab())?;
    let blocks = reserve_cache(settings, max_len, &mut ranks)?;
    observer(Phase::Warming, Progress::default());
    canary(&mut ranks)?;
    gauges.set_blocks(0, blocks);
    Ok(Worker {
        name: settings.name.clone(),
        ranks,
        scheduler: Scheduler::new(Limits {
            max_rows: settings.max_rows,
            max_step_tokens: settings.max_step_tokens,
            max_len,
            blocks,
            prefix_sharing: settings.prefix_sharing,
            border: checkpoint.border,
        }),
        tokenizer: checkpoint.tokenizer,
        eos: checkpoint.eos.into(),
        predict_timeout: settings.predict_timeout,
        gauges,
        scratch: Scratch::default(),
        live: HashMap::new(),
        next: 0,
    })
}

/// Fewer entries than embeddings are usual (padding); more would index outside.
fn check_vocabulary(
    settings: &EngineSettings,
    tokenizer: &Tokenizer,
    model: usize,
) -> Result<(), EngineError> {
    let entries = tokenizer.vocab_size();
    if entries > model {
        let dir = settings.dir.clone();
        return Err(EngineError::Vocabulary {
            dir,
            tokenizer: entries,
            model,
        });
    }
    Ok(())
}

fn reserve_cache(
    settings: &EngineSettings,
    max_len: usize,
    ranks: &mut Ranks,
) -> Result<usize, EngineError> {
    let per_rank = sconce_nn::KvCache::bytes_per_block(&ranks.kv_shape()) as u64;
    let needs = CacheNeeds {
        bytes_per_block: per_rank * ranks.world() as u64,
        max_len,
        max_rows: settings.max_rows,
        wanted_bytes: settings.kv_cache_bytes,
    };
    let blocks = plan_blocks(needs, available_memory())?;
    ranks.reserve(blocks).map_err(EngineError::Canary)?;
    let mib = blocks as u64 * needs.bytes_per_block / (1 << 20);
    info!(
        model = settings.name,
        "reserved {mib} MiB for keys and values: {} tokens, {:.1} sequences of {max_len}",
        blocks * BLOCK,
        (blocks * BLOCK) as f64 / max_len as f64,
    );
    Ok(blocks)
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
