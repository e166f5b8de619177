//! What the engine has to know of the configuration.

use std::path::PathBuf;
use std::time::Duration;

use sconce_core::Task;
use sconce_models::{LoadOptions, Packing, Quantisation};
use sconce_nn::weights::{StoredDtype, has_huge_pages};

use crate::modules::VectorWish;

/// Settings of one engine.
#[derive(Clone, Debug)]
pub struct TaskSettings {
    /// The model's name in messages.
    pub name: String,
    /// Directory of the checkpoint.
    pub dir: PathBuf,
    /// What the model does.
    pub task: Task,
    /// Weights are converted to this dtype; `None`: as stored.
    pub dtype: Option<StoredDtype>,
    /// Threads of the CPU kernels; `None`: all cores at hand.
    pub threads: Option<usize>,
    /// Longest text in tokens; `None`: what tokenizer and model allow.
    pub max_len: Option<usize>,
    /// Requests that are computed together, at most.
    pub batch_size: usize,
    /// Longest wait for a batch to fill.
    pub max_batch_delay: Duration,
    /// Tokens that are computed together, at most; a single text may have more.
    pub max_batch_tokens: usize,
    /// What is asked for of vectors, whatever the checkpoint says.
    pub vectors: VectorWish,
    /// In which formats weights are kept that are not so already; `None`: they stay as they are.
    pub quantise: Option<Quantisation>,
    /// How the checkpoint must be packed, if that is said.
    pub packing: Option<Packing>,
    /// Bytes that all of it may take, where others were promised memory that they do not use yet;
    /// `None`: as many as the machine has left.
    pub room: Option<u64>,
    /// Requests that may wait; more are refused.
    pub queue: usize,
    /// Seconds after which a request fails; only for the message.
    pub predict_timeout: u64,
}

impl TaskSettings {
    /// How weights are kept, planned and loaded alike.
    pub(crate) fn load_options(&self) -> LoadOptions {
        LoadOptions {
            dtype: self.dtype,
            quantise: self.quantise,
            in_huge_pages: has_huge_pages(),
            // There is no cache of keys and values.
            ..LoadOptions::default()
        }
    }
}
