//! What the engine has to know of the configuration.

use std::path::PathBuf;
use std::time::Duration;

use sconce_core::Task;
use sconce_models::{LoadOptions, Packing, Quantisation};
use sconce_nn::KvDtype;
use sconce_nn::weights::{StoredDtype, has_huge_pages};

use crate::adapters::Lora;
use crate::speculation::Speculation;

/// Settings of one text-generation engine.
#[derive(Clone, Debug)]
pub struct EngineSettings {
    /// The model's name in messages.
    pub name: String,
    /// Directory of the checkpoint.
    pub dir: PathBuf,
    /// What it is for: to continue texts, or to answer dialogues, each at its end.
    pub task: Task,
    /// The GGUF file in it to serve; `None`: another format, or the only GGUF file there.
    pub gguf_file: Option<String>,
    /// Weights are converted to this dtype; `None`: as stored.
    pub dtype: Option<StoredDtype>,
    /// In which blocks matrices are kept that the checkpoint has as floating-point numbers.
    pub quantise: Option<Quantisation>,
    /// How the checkpoint must be packed; `None`: in any way that is read.
    pub packing: Option<Packing>,
    /// Threads of the CPU kernels; `None`: all cores at hand.
    pub threads: Option<usize>,
    /// Ranks that share the weights (tensor parallelism).
    pub ranks: usize,
    /// A GPU for each rank; empty: they compute on the processor.
    pub gpus: Vec<GpuShare>,
    /// Whether steps on a GPU are launched kernel by kernel, not recorded and played again.
    pub eager: bool,
    /// Several ranks are given up when none of them shows a sign of life for so long.
    pub collective_timeout: Duration,
    /// Longest sequence in tokens; `None`: the model's context.
    pub max_model_len: Option<usize>,
    /// Sequences computed at the same time.
    pub max_rows: usize,
    /// Tokens computed in one step: longer prompts are computed in chunks.
    pub max_step_tokens: usize,
    /// Whether equal beginnings of prompts share their cache blocks.
    pub prefix_sharing: bool,
    /// Whether what requests leave open of sampling is as the checkpoint's `generation_config.json` says.
    pub model_sampling: bool,
    /// The template of dialogues; `None`: the checkpoint's own.
    pub chat_template: Option<PathBuf>,
    /// What keys and values are kept as; `None`: bf16 where weights are asked for in bf16, else f32.
    pub kv_dtype: Option<KvDtype>,
    /// Bytes for the key/value cache; `None`: planned from the memory at hand.
    pub kv_cache_bytes: Option<u64>,
    /// Bytes that all of it may take, where others were promised memory that they do not use yet;
    /// `None`: as many as the machine has left.
    pub room: Option<u64>,
    /// Who guesses what comes next; `None`: nobody.
    pub speculation: Option<Speculation>,
    /// How adapters are taken; `None`: there are none.
    pub lora: Option<Lora>,
    /// Jobs that may wait; more are refused.
    pub queue: usize,
    /// Seconds after which a job fails; only for the message.
    pub predict_timeout: u64,
}

/// What a rank has of a GPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GpuShare {
    /// The GPU's index among those that this process sees.
    pub ordinal: usize,
    /// Bytes that the rank may take.
    pub bytes: u64,
}

impl GpuShare {
    /// So many thousandths of a GPU's bytes, as `option.gpu_memory_utilization` says.
    pub fn of(bytes: u64, thousandths: u32) -> u64 {
        bytes / 1000 * u64::from(thousandths)
    }
}

impl EngineSettings {
    /// What adapters are kept as; `None`: as they are stored.
    pub(crate) fn lora_dtype(&self) -> Option<StoredDtype> {
        let asked = self.lora.as_ref().and_then(|lora| lora.dtype);
        asked.or(self.dtype)
    }

    /// What to say of more ranks than a processor has use for.
    pub fn warn_of_ranks(&self, threads: usize) -> Option<String> {
        (self.ranks > threads.max(1)).then(|| {
            format!(
                "option.tensor_parallel_degree = {}, but {threads} threads compute; ranks of a CPU share its \
                 cores, so 1 is as fast",
                self.ranks
            )
        })
    }

    /// How weights, keys and values are kept, planned and loaded alike.
    pub(crate) fn load_options(&self) -> LoadOptions {
        LoadOptions {
            dtype: self.dtype,
            quantise: self.quantise,
            in_huge_pages: has_huge_pages(),
            for_gpu: !self.gpus.is_empty(),
            eager: self.eager,
            cache: self.kv_dtype.unwrap_or(match self.dtype {
                Some(StoredDtype::BF16) => KvDtype::BF16,
                _ => KvDtype::F32,
            }),
        }
    }
}
