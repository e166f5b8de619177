//! What the engine has to know of the configuration.

use std::path::PathBuf;

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
    /// Requests that may wait; more are refused.
    pub queue: usize,
    /// Whether pictures are shown without asking the safety checker, if the pipeline has one.
    pub skips_safety_checker: bool,
    /// Whether large pictures pass the autoencoder tile by tile; `None`: those that memory does not hold otherwise.
    pub tiles: Option<bool>,
    /// Seconds after which a request fails; only for the message.
    pub predict_timeout: u64,
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
