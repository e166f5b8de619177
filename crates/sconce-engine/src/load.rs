//! From a checkpoint directory to what the engine needs: a loader per rank, a tokenizer, the
//! end-of-text tokens. Everything that can be checked without reading weights is checked here.

use std::sync::Arc;

use sconce_core::{MaxTokens, Sampling};
use sconce_models::{Decoder, HfConfig, LoadOptions, Model};
use sconce_text::Tokenizer;
use tracing::info;

use crate::error::EngineError;
use crate::ranks::Loader;
use crate::settings::EngineSettings;

/// A model that is described but not loaded.
pub struct Checkpoint {
    /// Loads one rank.
    pub loader: Arc<Loader>,
    /// Text of tokens.
    pub tokenizer: Arc<Tokenizer>,
    /// End-of-text tokens.
    pub eos: Vec<u32>,
    /// How tokens are picked where a request does not say.
    pub sampling: Sampling,
    /// How long an answer may become where a request leaves it to the model.
    pub length: MaxTokens,
    /// Longest sequence that the model takes, in tokens.
    pub context: usize,
    /// Length beyond which a sequence has other keys from its beginning on, if there is one.
    pub border: Option<usize>,
}

/// Reads configuration, tokenizer and the headers of the weights.
pub fn open_checkpoint(settings: &EngineSettings) -> Result<Checkpoint, EngineError> {
    let config = HfConfig::read(&settings.dir)?;
    let arch = sconce_models::find(&config)?;
    let spec = (arch.spec)(&config)?;
    let eos = sconce_models::eos_token_ids(&settings.dir, &config)?;
    let sampling = if settings.model_sampling {
        sconce_models::sampling_defaults(&settings.dir)?
    } else {
        Sampling::default()
    };
    let length = sconce_models::length_default(&settings.dir)?;
    let tokenizer = Arc::new(Tokenizer::open(&settings.dir)?);
    let source = sconce_nn::weights::open(&settings.dir)?;
    let (context, border) = (spec.dims.context, spec.border());
    info!(
        model = settings.name,
        "{} with {} layers of width {}, vocabulary {}, context {context}: {:.0} MiB of weights in {}",
        arch.names[0],
        spec.dims.layers,
        spec.dims.width,
        spec.dims.vocab,
        source.total_bytes() as f64 / f64::from(1 << 20),
        settings.dir.display(),
    );
    let options = LoadOptions {
        dtype: settings.dtype,
    };
    let loader: Arc<Loader> = Arc::new(move |communicator, progress| {
        let decoder = Decoder::load(arch, &spec, &*source, communicator, &options, progress)?;
        Ok(Box::new(decoder) as Box<dyn Model>)
    });
    Ok(Checkpoint {
        loader,
        tokenizer,
        eos,
        sampling,
        length,
        context,
        border,
    })
}
