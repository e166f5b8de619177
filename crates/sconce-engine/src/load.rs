//! From a checkpoint directory to what the engine needs: a loader per rank, a tokenizer, the
//! end-of-text tokens, the needs in memory. Everything that can be checked without reading weights
//! is checked here.

use std::sync::Arc;

use sconce_core::{MaxTokens, Sampling};
use sconce_models::{AdapterLoader, Decoder, Model};
use sconce_nn::weights::Numbers;
use sconce_text::{ChatTemplate, Tokenizer};
use tracing::info;

use crate::describe::{Description, check_vocabulary};
use crate::error::EngineError;
use crate::memory::Needs;
use crate::ranks::Loader;
use crate::settings::EngineSettings;
use crate::speculation::draft::DraftCheckpoint;

/// A model that is described but not loaded.
pub struct Checkpoint {
    /// Loads one rank.
    pub loader: Arc<Loader>,
    /// Text of tokens.
    pub tokenizer: Arc<Tokenizer>,
    /// Templates of dialogues, or why there are none.
    pub templates: Result<Arc<ChatTemplate>, String>,
    /// End-of-text tokens.
    pub eos: Vec<u32>,
    /// How tokens are picked where a request does not say.
    pub sampling: Sampling,
    /// How long an answer may become where a request leaves it to the model.
    pub length: MaxTokens,
    /// Length beyond which a sequence has other keys from its beginning on, if there is one.
    pub border: Option<usize>,
    /// Loads adapters; `None`: none are taken.
    pub adapters: Option<AdapterLoader>,
    /// Loads the one of requests that name none, if there is one.
    pub own_adapter: Option<AdapterLoader>,
    /// The small model that guesses what comes next.
    pub draft: Option<DraftCheckpoint>,
    /// What each rank takes in memory.
    pub needs: Needs,
    /// Told what all ranks take, before a weight is read.
    pub planned: Option<Planned>,
}

/// Hears how many bytes were planned.
pub type Planned = Box<dyn FnOnce(u64) + Send>;

/// Reads configuration, tokenizer and the headers of the weights. With `numbers`, the weight files of the folder have
/// headers alone, and what follows them is fetched while it is loaded.
pub fn open_checkpoint(
    settings: &EngineSettings,
    numbers: Option<&Arc<dyn Numbers>>,
) -> Result<Checkpoint, EngineError> {
    let gguf_file = settings.gguf_file.as_deref();
    let own = settings.lora.as_ref().and_then(|lora| lora.own.as_deref());
    let sampling = settings.model_sampling;
    let description = Description::read_with(&settings.dir, gguf_file, sampling, numbers);
    let description = description.with_adapter(own);
    let description = match &settings.chat_template {
        Some(path) => description.with_template(path)?,
        None => description,
    };
    let templates = description.templates.clone();
    description.check_dialogues(settings.task)?;
    let (model, tokenizer, weights) = description.parts()?;
    let dims = model.spec.dims;
    check_vocabulary(&settings.dir, &tokenizer, dims.vocab)?;
    info!(
        model = settings.name,
        "{} with {} layers of width {}, vocabulary {}, context {}: {:.0} MiB of weights in {}",
        model.arch.names[0],
        dims.layers,
        dims.width,
        dims.vocab,
        dims.context,
        weights.total_bytes() as f64 / f64::from(1 << 20),
        settings.dir.display(),
    );
    let needs = model.needs(&*weights, settings)?;
    let adapters = model.adapters(settings)?;
    let own_adapter = model.own_adapter(settings)?;
    let draft = DraftCheckpoint::open(settings, dims.vocab)?;
    let needs = Needs {
        draft: draft.as_ref().map(DraftCheckpoint::needs),
        ..needs
    };
    let (arch, border, spec) = (model.arch, model.spec.border(), model.spec);
    let options = settings.load_options();
    let gpus = settings.gpus.clone();
    let loader: Arc<Loader> = Arc::new(move |seat, progress| {
        let communicator = seat.on(&gpus)?;
        let decoder = Decoder::load(arch, &spec, &*weights, communicator, &options, progress)?;
        Ok(Box::new(decoder) as Box<dyn Model>)
    });
    Ok(Checkpoint {
        loader,
        tokenizer,
        templates,
        eos: model.eos,
        sampling: model.sampling,
        length: model.length,
        border,
        adapters,
        own_adapter,
        draft,
        needs,
        planned: None,
    })
}
