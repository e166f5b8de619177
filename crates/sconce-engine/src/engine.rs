//! The engine's handle: loads the model in its thread, checks jobs at the door, queues them.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use sconce_core::{
    Adapters, Backend, Gauges, Generate, Inbox, InboxSettings, Input, Job, Load, MaxTokens,
    Observer, Permit, Phase, Progress, Sampling, ServeError, Task,
};
use sconce_models::AdapterLoader;
use sconce_nn::{KvDtype, Pulse};
use sconce_sched::{Limits, Scheduler};
use sconce_text::Tokenizer;
use tracing::{info, warn};

use crate::adapters::{AdapterStore, Lent};
use crate::converse;
use crate::draws::Draws;
use crate::error::EngineError;
use crate::guided::Guided;
use crate::length::{Length, truncated};
use crate::live::Admitted;
use crate::load::{Checkpoint, open_checkpoint};
use crate::memory::{Plan, Room};
use crate::pace::Pace;
use crate::prompt::Prompts;
use crate::ranks::Ranks;
use crate::search::Wide;
use crate::settings::EngineSettings;
use crate::warm::reserve_and_warm;
use crate::worker::Worker;

/// A text-generation engine that has passed its canary.
pub struct Engine {
    task: Task,
    tokenizer: Arc<Tokenizer>,
    max_len: usize,
    planned: u64,
    vocab: usize,
    prompts: Prompts,
    guided: Guided,
    /// What searches may take.
    wide: Wide,
    /// For what requests leave open.
    sampling: Sampling,
    length: MaxTokens,
    adapters: Option<Arc<AdapterStore>>,
    /// Of requests that name none.
    own_adapter: Option<Lent>,
    inbox: Inbox<Admitted>,
}

impl Engine {
    /// Loads the checkpoint of `settings.dir` and starts computing; returns when a canary
    /// forward pass succeeded on every rank.
    pub fn start(settings: EngineSettings, observer: Arc<Observer>) -> Result<Self, EngineError> {
        let checkpoint = open_checkpoint(&settings, None)?;
        Self::start_with(settings, checkpoint, observer)
    }

    /// Starts with a model that is already described, such as one whose numbers are elsewhere; tests bring their own.
    pub fn start_with(
        settings: EngineSettings,
        checkpoint: Checkpoint,
        observer: Arc<Observer>,
    ) -> Result<Self, EngineError> {
        let door = InboxSettings {
            model: settings.name.clone(),
            thread: "rank-0",
            limit: settings.queue,
        };
        let (tokenizer, templates) = (
            Arc::clone(&checkpoint.tokenizer),
            checkpoint.templates.clone(),
        );
        let (sampling, length) = (checkpoint.sampling.clone(), checkpoint.length);
        let eos = checkpoint.eos.clone();
        let adapters = adapters(&settings, checkpoint.adapters.clone())?;
        let own_adapter = own_adapter(&settings, checkpoint.own_adapter.as_ref())?;
        let (task, ranks) = (settings.task, settings.ranks as u64);
        // A step has a token of each text at least.
        let max_rows = settings.max_rows.min(settings.max_step_tokens);
        let on_gpu = !settings.gpus.is_empty();
        let (inbox, (vocab, plan)) = Inbox::start(door, move |gauges| {
            let (worker, plan) = prepare(&settings, checkpoint, gauges, &*observer)?;
            let vocab = worker.ranks.vocab();
            Ok::<_, EngineError>((worker, (vocab, plan)))
        })?;
        Ok(Self {
            task,
            tokenizer: Arc::clone(&tokenizer),
            max_len: plan.max_len,
            planned: plan.total() * ranks,
            vocab,
            guided: Guided::new(Arc::clone(&tokenizer), vocab, eos),
            prompts: Prompts::new(tokenizer, templates, vocab),
            wide: Wide {
                rows: max_rows,
                blocks: plan.blocks,
                on_gpu,
            },
            sampling,
            length,
            adapters,
            own_adapter,
            inbox,
        })
    }

    /// Bytes that were planned for it, whether it uses them already or not.
    pub fn planned(&self) -> u64 {
        self.planned
    }

    fn admit(&self, job: Job, permit: Permit) -> Result<Admitted, ServeError> {
        let (job, unsaid) = match self.task {
            Task::Conversational => (
                converse::prompt(job, &self.tokenizer, &self.sampling)?,
                converse::UNSAID,
            ),
            _ => (job, self.length),
        };
        let Input::Generate(Generate {
            prompt,
            params,
            tokens,
        }) = &job.input
        else {
            let problem = "this model continues texts; other tasks need other models";
            return Err(ServeError::Malformed(problem.into()));
        };
        let params = params.clone();
        let stop = &params.stop;
        ServeError::check_ids(stop.token_ids_key, &stop.token_ids, self.vocab)?;
        let tokens = tokens.get_or_find(|| self.prompts.tokens(prompt))?;
        let tokens = truncated(&tokens, params.truncate);
        let length = Length::of(&params, tokens.len(), self.max_len, unsaid)?;
        let mut sampling = params.sampling.over(&self.sampling);
        // Whatever the checkpoint says: a search draws nothing.
        sampling.do_sample &= params.beams.is_none();
        let biased = sampling.logit_bias.iter().map(|(id, _)| id);
        ServeError::check_ids("logit_bias", biased, self.vocab)?;
        if let Some(asked) = &params.beams {
            self.wide.check(asked, tokens.len() + length.most)?;
        }
        let guide = self.guided.follow(&params)?;
        let adapter = self.adapter(params.adapter.as_deref())?;
        let prompt = (tokens, length);
        Ok(Admitted {
            guide,
            adapter,
            ..Admitted::new(job, params, sampling, prompt, permit)
        })
    }
}

impl Engine {
    fn adapter(&self, name: Option<&str>) -> Result<Option<Lent>, ServeError> {
        match (name, &self.adapters) {
            (None, _) => Ok(self.own_adapter.clone()),
            (Some(name), Some(adapters)) => adapters.lend(name).map(Some),
            (Some(name), None) => {
                let problem =
                    "is not registered: LoRA is not enabled; set option.enable_lora = true";
                Err(ServeError::parameter("adapters", name, problem))
            }
        }
    }
}

impl Backend for Engine {
    fn submit(&self, job: Job) -> Result<(), ServeError> {
        self.inbox.submit(|permit| self.admit(job, permit))
    }

    fn task(&self) -> Option<Task> {
        Some(self.task)
    }

    fn adapters(&self) -> Option<Arc<dyn Adapters>> {
        let adapters = self.adapters.as_ref()?;
        Some(Arc::clone(adapters) as Arc<dyn Adapters>)
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

/// The adapters that are there from the start.
fn adapters(
    settings: &EngineSettings,
    loader: Option<AdapterLoader>,
) -> Result<Option<Arc<AdapterStore>>, EngineError> {
    let (Some(lora), Some(loader)) = (&settings.lora, loader) else {
        return Ok(None);
    };
    let store = AdapterStore::new(loader, settings.dir.clone(), lora.most);
    if let Some(dir) = &lora.dir {
        store.register_all(&settings.dir.join(dir))?;
    }
    Ok(Some(Arc::new(store)))
}

/// The adapter that changes the model for requests that name none.
fn own_adapter(
    settings: &EngineSettings,
    loader: Option<&AdapterLoader>,
) -> Result<Option<Lent>, EngineError> {
    let own = settings.lora.as_ref().and_then(|lora| lora.own.as_ref());
    let own = own.zip(loader);
    own.map(|(dir, loader)| Lent::own(loader, dir)).transpose()
}

/// Plans the memory, loads the ranks, reserves the cache and proves that the model computes.
fn prepare(
    settings: &EngineSettings,
    checkpoint: Checkpoint,
    gauges: Arc<Gauges>,
    observer: &Observer,
) -> Result<(Worker, Plan), EngineError> {
    if let Some(threads) = settings.threads {
        sconce_nn::pool::configure(threads);
    }
    let plan = plan(settings, &checkpoint)?;
    if let Some(planned) = checkpoint.planned {
        planned(plan.total() * settings.ranks as u64);
    }
    observer(Phase::Loading, Progress::default());
    let mut progress = |done, total| observer(Phase::Loading, Progress { done, total });
    let (world, patience) = (settings.ranks, settings.collective_timeout);
    let mut ranks = Ranks::load(world, patience, checkpoint.loader, &mut progress)?;
    let draft = checkpoint
        .draft
        .map(|draft| draft.load(&plan))
        .transpose()?;
    let warming = || observer(Phase::Warming, Progress::default());
    reserve_and_warm(&mut ranks, settings, &plan, warming)?;
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
        _pulse: Pulse::counting(gauges.signs()).attach(),
        gauges,
        pace: Pace::new(settings.max_step_tokens, settings.max_rows),
        draws: Draws::default(),
        asks_for_best: !settings.gpus.is_empty(),
        best: Vec::new(),
        picked: Vec::new(),
        adapters: Vec::new(),
        speculation: settings.speculation.clone(),
        draft,
        live: HashMap::new(),
        next: 0,
    };
    Ok((worker, plan))
}

/// Decides, before a weight is read, what is reserved for the cache.
fn plan(settings: &EngineSettings, checkpoint: &Checkpoint) -> Result<Plan, EngineError> {
    let room = room(settings, checkpoint.needs.kv.dtype);
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
         them {} MiB of weights, {} MiB of adapters, {} MiB of activations and {} MiB of workspace",
        mib(plan.cache),
        plan.tokens(),
        plan.tokens() as f64 / max_len as f64,
        mib(plan.weights),
        mib(plan.adapters),
        mib(plan.activations),
        mib(plan.workspace + plan.overhead),
    );
    Ok(plan)
}

/// The memory of each rank.
fn room(settings: &EngineSettings, keys: KvDtype) -> Room {
    let ranks = settings.ranks;
    match settings.gpus.iter().map(|gpu| gpu.bytes).min() {
        Some(bytes) => Room::of_gpu(bytes, ranks, keys.bytes() as u64),
        None => {
            Room::of_this_machine(ranks, sconce_nn::pool::threads()).at_most(settings.room, ranks)
        }
    }
}
