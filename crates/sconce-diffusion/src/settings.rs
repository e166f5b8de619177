//! What the engine has to know of the configuration.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use sconce_models::LoadOptions;
use sconce_nn::weights::{StoredDtype, has_huge_pages};

/// Settings of one engine.
#[derive(Clone, Debug)]
pub struct DiffusionSettings {
    /// The model's name in messages.
    pub name: String,
    /// Directory of the pipeline.
    pub dir: PathBuf,
    /// Weights are converted to this dtype; `None`: as stored.
    pub dtype: Option<StoredDtype>,
    /// Threads of the CPU kernels; `None`: all cores at hand.
    pub threads: Option<usize>,
    /// Pictures that are denoised together, at most.
    pub max_images: usize,
    /// Bytes that all of it may take, where others were promised memory that they do not use yet;
    /// `None`: as many as the machine has left.
    pub room: Option<u64>,
    /// What is left of the machine's memory beside all that was promised, while it serves; `None`: nobody shares it.
    pub spare: Option<Spare>,
    /// Requests that may wait; more are refused.
    pub queue: usize,
    /// Whether pictures are shown without asking the safety checker, if the pipeline has one.
    pub skips_safety_checker: bool,
    /// Whether large pictures pass the autoencoder tile by tile; `None`: those that memory does not hold otherwise.
    pub tiles: Option<bool>,
    /// Seconds after which a request fails; only for the message.
    pub predict_timeout: u64,
}

/// Tells how many bytes nobody was promised; `None`: the system does not tell.
#[derive(Clone)]
pub struct Spare(Arc<dyn Fn() -> Option<u64> + Send + Sync>);

impl Spare {
    /// By way of a function.
    pub fn new(left: impl Fn() -> Option<u64> + Send + Sync + 'static) -> Self {
        Self(Arc::new(left))
    }

    pub(crate) fn left(&self) -> Option<u64> {
        (self.0)()
    }
}

impl fmt::Debug for Spare {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Spare").field(&self.left()).finish()
    }
}

impl DiffusionSettings {
    /// How weights are kept, planned and loaded alike.
    pub(crate) fn load_options(&self) -> LoadOptions {
        LoadOptions {
            dtype: self.dtype,
            quantise: None,
            in_huge_pages: has_huge_pages(),
            // There is no cache of keys and values.
            ..LoadOptions::default()
        }
    }

    /// The same for a part that has to be computed in float32.
    pub(crate) fn exact_options(&self) -> LoadOptions {
        LoadOptions {
            dtype: self.dtype.filter(|dtype| *dtype != StoredDtype::BF16),
            ..self.load_options()
        }
    }
}
