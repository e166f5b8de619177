//! What the engine has to know of the configuration.

use std::path::PathBuf;
use std::time::Duration;

use sconce_core::Task;
use sconce_models::{LoadOptions, Packing, Quantisation};
use sconce_nn::KvDtype;
use sconce_nn::weights::{StoredDtype, has_huge_pages};

/// Settings of one engine.
#[derive(Clone, Debug)]
pub struct Seq2SeqSettings {
    /// The model's name in messages.
    pub name: String,
    /// Directory of the checkpoint.
    pub dir: PathBuf,
    /// What the model does.
    pub task: Task,
    /// The languages that the name of the task says, from and to.
    pub languages: Option<(String, String)>,
    /// Weights are converted to this dtype; `None`: as stored.
    pub dtype: Option<StoredDtype>,
    /// Threads of the CPU kernels; `None`: all cores at hand.
    pub threads: Option<usize>,
    /// Ranks among which the model is divided, at least 1.
    pub ranks: usize,
    /// Several ranks are given up when none shows a sign of life for so long.
    pub collective_timeout: Duration,
    /// Longest text in tokens, read or written; `None`: what the model allows.
    pub max_len: Option<usize>,
    /// Texts that are written at the same time, beams counted one by one.
    pub max_rows: usize,
    /// Tokens that are read together, at most; a single text may have more.
    pub max_read_tokens: usize,
    /// Whether what requests leave open of sampling is as the checkpoint says.
    pub model_sampling: bool,
    /// What keys and values are kept as; `None`: bf16 where weights are asked for in bf16, else f32.
    pub kv_dtype: Option<KvDtype>,
    /// Bytes for the cache; `None`: planned from the memory at hand.
    pub kv_cache_bytes: Option<u64>,
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

impl Seq2SeqSettings {
    /// How weights, keys and values are kept, planned and loaded alike.
    pub(crate) fn load_options(&self) -> LoadOptions {
        LoadOptions {
            for_gpu: false,
            eager: false,
            dtype: self.dtype,
            quantise: self.quantise,
            in_huge_pages: has_huge_pages(),
            cache: self.kv_dtype.unwrap_or(match self.dtype {
                Some(StoredDtype::BF16) => KvDtype::BF16,
                _ => KvDtype::F32,
            }),
        }
    }
}
