//! From settings to a running backend.

use std::any::Any;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::ScopedJoinHandle;

use sconce_config::{
    Dtype, KvDtype, LoraSettings, ModelSettings, Quantize, SpeculationSettings, Speculator,
};
use sconce_core::inbox::panic_message;
use sconce_core::{Backend, Observer, Task};
use sconce_diffusion::{DiffusionEngine, DiffusionSettings, Spare};
use sconce_engine::{
    BlockFormat, CacheDtype, Engine, EngineError, EngineSettings, GpuShare, Guesser, Lora, Packing,
    Quantisation, Speculation, StoredDtype, Unstarted, open_checkpoint,
};
use sconce_python::{Formatters, Pool};
use sconce_seq2seq::{Seq2SeqEngine, Seq2SeqSettings};
use sconce_tasks::{TaskEngine, TaskSettings, VectorWish};
use tracing::{info, warn};

use crate::coming::Coming;
use crate::device;
use crate::error::ManagerError;
use crate::memory::{self, Memory, Planned, Promise};
use crate::python;
use crate::replicas::Replicas;
use crate::store::{self, Place};
use crate::task::{self, Wish};

/// What answers for a model.
pub(crate) struct Built {
    pub(crate) backend: Arc<dyn Backend>,
    /// The same, where it is the model's own code that answers.
    pub(crate) pool: Option<Arc<Pool>>,
    /// The same, where there are several engines.
    pub(crate) replicas: Option<Arc<Replicas>>,
    /// The model's own functions that change requests and answers, if it has such.
    pub(crate) formatters: Option<Arc<Formatters>>,
    /// The memory that it takes.
    pub(crate) promise: Promise,
}

/// Where models are loaded.
pub(crate) struct Site {
    pub(crate) memory: Arc<Memory>,
    /// Whether SageMaker loads many models, so that each has to say when the next does not fit.
    pub(crate) multi_model: bool,
}

impl Built {
    /// The first cause why it can no longer answer.
    pub(crate) fn failure(&self) -> Option<String> {
        let of_script = || {
            let cause = self.formatters.as_ref()?.failure()?;
            Some(format!("the functions of its script: {cause}"))
        };
        self.backend.failure().or_else(of_script)
    }

    /// Ends it.
    pub(crate) fn stop(&self) {
        self.backend.stop();
        if let Some(formatters) = &self.formatters {
            formatters.stop();
        }
        self.promise.release();
    }
}

/// Fetches and loads a model; the observer is told of each phase.
pub(crate) fn build(
    settings: &ModelSettings,
    site: &Site,
    observer: Arc<Observer>,
) -> Result<Built, ManagerError> {
    // What is wrong with a script shows sooner than a checkpoint is loaded.
    let python = settings.formatters.as_ref();
    let formatters = python.map(|python| python::formatters(settings, python));
    let formatters = formatters.transpose()?.map(Arc::new);
    if let Some(python) = &settings.python {
        let fetched = python::fetch(settings, python, &*observer)?;
        let needed = memory::needed(python, site.multi_model, &fetched.directories());
        let promise = site.memory.reserve(needed, python.reserved_memory)?;
        let pool = Arc::new(python::pool(settings, &fetched, &*observer)?);
        return Ok(Built {
            backend: Arc::clone(&pool) as Arc<dyn Backend>,
            pool: Some(pool),
            replicas: None,
            formatters,
            promise,
        });
    }
    // Nobody waits for what others fetch.
    let place = store::begin(&settings.source, settings.streams, &*observer)?;
    let served = task::served(place.headers(), Wish::of(settings))?;
    let place = match place {
        Place::Coming(coming) if !task::continues_texts(coming.headers(), served) => {
            Place::Here(coming.whole(served, &*observer)?)
        }
        place => place,
    };
    let ((backend, replicas), promise) = match place {
        Place::Here(dir) => {
            let load = |room| native(settings, (served, dir), (room, &site.memory), observer);
            site.memory.promise(load)?
        }
        Place::Coming(coming) => {
            let load =
                |room, planned| decoder(settings, (served, &coming), room, planned, observer);
            let loaded = site.memory.promise_early(load);
            let loaded = loaded.map_err(|error| coming.cause(error))?;
            coming.settle();
            loaded
        }
    };
    Ok(Built {
        backend,
        pool: None,
        replicas,
        formatters,
        promise,
    })
}

/// What answers for a native model; the same once more where that is several engines.
type Native = (Arc<dyn Backend>, Option<Arc<Replicas>>);

/// Loads the engine of the model in a directory, within `room` bytes, or one for each group of GPUs that it may use; what it
/// takes of the machine's memory.
fn native(
    settings: &ModelSettings,
    (served, dir): (Task, PathBuf),
    (room, memory): (Option<u64>, &Arc<Memory>),
    observer: Arc<Observer>,
) -> Result<(Native, u64), ManagerError> {
    let continues = task::continues_texts(&dir, served);
    if !continues {
        task::require_no_adapters(settings, served)?;
    }
    match served {
        task if continues => {
            let groups = device::gpus(settings)?;
            let plain = EngineSettings {
                room,
                ..engine_settings(settings, dir, task)
            };
            // Memory of the machine is promised; that of GPUs is planned for each model alone.
            if !groups.is_empty() {
                return Ok((on_gpus(&plain, groups, observer, &Engine::start)?, 0));
            }
            let engine = Engine::start(plain, observer)?;
            let planned = engine.planned();
            Ok(((Arc::new(engine), None), planned))
        }
        Task::TextToImage => {
            device::require_processor(settings, Task::TextToImage)?;
            task::require_one_rank(settings, Task::TextToImage)?;
            task::require_plain_weights(settings)?;
            let memory = Arc::clone(memory);
            let settings = DiffusionSettings {
                room,
                spare: Some(Spare::new(move || memory.left())),
                ..diffusion_settings(settings, dir)
            };
            let engine = DiffusionEngine::start(settings, observer)?;
            let planned = engine.planned();
            Ok(((Arc::new(engine), None), planned))
        }
        task if task.reads_and_writes() => {
            device::require_processor(settings, task)?;
            let settings = Seq2SeqSettings {
                room,
                ..seq2seq_settings(settings, dir, task)
            };
            let engine = Seq2SeqEngine::start(settings, observer)?;
            let planned = engine.planned();
            Ok(((Arc::new(engine), None), planned))
        }
        task => {
            device::require_processor(settings, task)?;
            let settings = TaskSettings {
                room,
                ..task_settings(settings, dir, task)
            };
            let engine = TaskEngine::start(settings, observer)?;
            let planned = engine.planned();
            Ok(((Arc::new(engine), None), planned))
        }
    }
}

/// Loads a decoder while its weights come.
fn decoder(
    settings: &ModelSettings,
    (task, coming): (Task, &Coming),
    room: Option<u64>,
    planned: Planned,
    observer: Arc<Observer>,
) -> Result<Native, ManagerError> {
    let groups = device::gpus(settings)?;
    let plain = EngineSettings {
        room,
        ..engine_settings(settings, coming.dir(), task)
    };
    let open = |settings: &EngineSettings| {
        let there = EngineSettings {
            dir: coming.headers().into(),
            ..settings.clone()
        };
        open_checkpoint(&there, Some(&coming.numbers()))
    };
    if !groups.is_empty() {
        planned(0);
        let start = |settings: EngineSettings, observer| {
            let checkpoint = open(&settings)?;
            Engine::start_with(settings, checkpoint, observer)
        };
        return on_gpus(&plain, groups, observer, &start);
    }
    let mut checkpoint = open(&plain)?;
    checkpoint.planned = Some(planned);
    let engine = Engine::start_with(plain, checkpoint, observer)?;
    Ok((Arc::new(engine), None))
}

/// How an engine is started.
type Start<'a> = &'a (dyn Fn(EngineSettings, Arc<Observer>) -> Result<Engine, EngineError> + Sync);

/// An engine on each group of GPUs, all loaded at the same time.
fn on_gpus(
    plain: &EngineSettings,
    groups: Vec<Vec<GpuShare>>,
    observer: Arc<Observer>,
    start: Start<'_>,
) -> Result<Native, ManagerError> {
    let count = groups.len();
    let settings: Vec<_> = groups
        .into_iter()
        .map(|gpus| EngineSettings {
            ranks: gpus.len(),
            gpus,
            ..plain.clone()
        })
        .collect();
    if let [only] = &*settings {
        let engine = start(only.clone(), observer)?;
        return Ok((Arc::new(engine), None));
    }
    info!(
        model = plain.name,
        "{count} replicas, each on GPUs of its own"
    );
    // Of what is read the first one tells; the others read the same.
    let nobody: Arc<Observer> = Arc::new(|_, _| {});
    let started: Vec<Result<Engine, EngineError>> = std::thread::scope(|scope| {
        let spawn = |(index, settings): (usize, &EngineSettings)| {
            let observer = Arc::clone(if index == 0 { &observer } else { &nobody });
            let settings = settings.clone();
            scope.spawn(move || start(settings, observer))
        };
        let threads: Vec<_> = settings.iter().enumerate().map(spawn).collect();
        let ended = |thread: ScopedJoinHandle<Result<Engine, EngineError>>| {
            let panicked = |panic: Box<dyn Any + Send>| {
                Err(Unstarted::Panicked(panic_message(&*panic)).into())
            };
            thread.join().unwrap_or_else(panicked)
        };
        threads.into_iter().map(ended).collect()
    });
    let mut engines: Vec<Arc<dyn Backend>> = Vec::new();
    for (index, engine) in started.into_iter().enumerate() {
        let failed = |cause: EngineError| ManagerError::Replica {
            number: index + 1,
            count,
            gpus: settings[index].gpus.iter().map(|gpu| gpu.ordinal).collect(),
            cause: Box::new(cause),
        };
        engines.push(Arc::new(engine.map_err(failed)?));
    }
    let replicas = Arc::new(Replicas::new(&plain.name, engines));
    Ok((Arc::clone(&replicas) as Arc<dyn Backend>, Some(replicas)))
}

/// Requests that are computed together where nobody says.
const BATCH_SIZE: usize = 32;

pub(crate) fn diffusion_settings(settings: &ModelSettings, dir: PathBuf) -> DiffusionSettings {
    DiffusionSettings {
        name: settings.name.clone(),
        dir,
        dtype: stored_dtype(settings.dtype),
        threads: settings.threads,
        max_images: settings.max_rolling_batch_size,
        queue: settings.job_queue_size,
        skips_safety_checker: settings.skips_safety_checker,
        tiles: settings.vae_tiling,
        room: None,
        spare: None,
        predict_timeout: settings.predict_timeout.as_secs(),
    }
}

pub(crate) fn seq2seq_settings(
    settings: &ModelSettings,
    dir: PathBuf,
    task: Task,
) -> Seq2SeqSettings {
    let named = settings.task.as_ref();
    Seq2SeqSettings {
        name: settings.name.clone(),
        dir,
        task,
        languages: named.and_then(sconce_config::Task::languages),
        ranks: settings.ranks,
        collective_timeout: settings.collective_timeout,
        dtype: stored_dtype(settings.dtype),
        threads: settings.threads,
        max_len: settings.max_model_len,
        max_rows: settings.max_rolling_batch_size,
        max_read_tokens: settings.max_batch_tokens,
        model_sampling: settings.model_sampling,
        kv_dtype: cache_dtype(settings.kv_dtype),
        kv_cache_bytes: settings.kv_cache_bytes,
        quantise: quantisation(settings.quantize),
        packing: packing(settings.quantize),
        room: None,
        queue: settings.job_queue_size,
        predict_timeout: settings.predict_timeout.as_secs(),
    }
}

pub(crate) fn task_settings(settings: &ModelSettings, dir: PathBuf, task: Task) -> TaskSettings {
    if settings.ranks > 1 {
        warn!(
            "option.tensor_parallel_degree = {} has no effect: {task} is computed in one piece, by all threads",
            settings.ranks
        );
    }
    TaskSettings {
        name: settings.name.clone(),
        dir,
        task,
        dtype: stored_dtype(settings.dtype),
        threads: settings.threads,
        max_len: settings.max_model_len,
        batch_size: settings.batch_size.unwrap_or(BATCH_SIZE),
        max_batch_delay: settings.max_batch_delay,
        max_batch_tokens: settings.max_batch_tokens,
        vectors: VectorWish {
            pooling: settings.pooling,
            normalize: settings.normalize,
        },
        quantise: quantisation(settings.quantize),
        packing: packing(settings.quantize),
        room: None,
        queue: settings.job_queue_size,
        predict_timeout: settings.predict_timeout.as_secs(),
    }
}

pub(crate) fn engine_settings(
    settings: &ModelSettings,
    dir: PathBuf,
    task: Task,
) -> EngineSettings {
    EngineSettings {
        task,
        name: settings.name.clone(),
        chat_template: settings.chat_template.as_ref().map(|path| dir.join(path)),
        speculation: speculation(&settings.speculation, &dir),
        dir,
        gguf_file: settings.gguf_file.clone(),
        dtype: stored_dtype(settings.dtype),
        quantise: quantisation(settings.quantize),
        packing: packing(settings.quantize),
        threads: settings.threads,
        ranks: settings.ranks,
        gpus: Vec::new(),
        eager: settings.eager,
        collective_timeout: settings.collective_timeout,
        max_model_len: settings.max_model_len,
        max_rows: settings.max_rolling_batch_size,
        max_step_tokens: settings.max_batched_tokens,
        prefix_sharing: settings.prefix_caching,
        // transformers' pipelines always do as generation_config.json says.
        model_sampling: settings.model_sampling || task == Task::Conversational,
        kv_dtype: cache_dtype(settings.kv_dtype),
        kv_cache_bytes: settings.kv_cache_bytes,
        room: None,
        lora: lora(&settings.lora),
        queue: settings.job_queue_size,
        predict_timeout: settings.predict_timeout.as_secs(),
    }
}

fn speculation(settings: &SpeculationSettings, dir: &Path) -> Option<Speculation> {
    let by = match &settings.by {
        Speculator::Nobody => return None,
        Speculator::Lookup => Guesser::Lookup {
            longest: settings.longest.max(settings.shortest),
            shortest: settings.shortest.min(settings.longest),
        },
        Speculator::Model(folder) => Guesser::Draft(dir.join(folder)),
    };
    Some(Speculation {
        tokens: settings.tokens,
        by,
    })
}

fn lora(settings: &LoraSettings) -> Option<Lora> {
    let enabled = settings.enabled;
    (enabled || settings.own.is_some()).then(|| Lora {
        most: match enabled {
            true => settings.max_cpu_loras.unwrap_or(0).max(settings.max_loras),
            false => 0,
        },
        max_rank: settings.max_rank,
        dtype: stored_dtype(settings.dtype),
        dir: enabled.then(|| settings.dir.clone()),
        own: settings.own.clone(),
    })
}

pub(crate) fn quantisation(quantize: Quantize) -> Option<Quantisation> {
    let format = match quantize {
        Quantize::None | Quantize::Awq | Quantize::Gptq => return None,
        Quantize::Int4 => return Some(Quantisation::Int4),
        Quantize::Q4_0 => BlockFormat::Q4_0,
        Quantize::Q4_1 => BlockFormat::Q4_1,
        Quantize::Q5_0 => BlockFormat::Q5_0,
        Quantize::Q5_1 => BlockFormat::Q5_1,
        Quantize::Q8_0 => BlockFormat::Q8_0,
        Quantize::Q8Row => BlockFormat::Q8Row,
        Quantize::Q4K => BlockFormat::Q4K,
        Quantize::Q5K => BlockFormat::Q5K,
        Quantize::Q6K => BlockFormat::Q6K,
    };
    Some(Quantisation::Blocks(format))
}

/// How the checkpoint must be packed.
fn packing(quantize: Quantize) -> Option<Packing> {
    match quantize {
        Quantize::Awq => Some(Packing::Awq),
        Quantize::Gptq => Some(Packing::Gptq),
        _ => None,
    }
}

fn cache_dtype(dtype: KvDtype) -> Option<CacheDtype> {
    match dtype {
        KvDtype::Auto => None,
        KvDtype::F32 => Some(CacheDtype::F32),
        KvDtype::Bf16 => Some(CacheDtype::BF16),
    }
}

fn stored_dtype(dtype: Dtype) -> Option<StoredDtype> {
    match dtype {
        Dtype::Auto => None,
        Dtype::F32 => Some(StoredDtype::F32),
        Dtype::F16 => Some(StoredDtype::F16),
        Dtype::Bf16 => Some(StoredDtype::BF16),
    }
}
