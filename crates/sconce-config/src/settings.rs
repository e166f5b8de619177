//! What the rest of the program gets: values that are checked, in units that are named.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use regex::Regex;
use sconce_core::task::Pooling;
use sconce_core::{Dialect, OutputFormatter};

use crate::access::{ApiKeys, TlsFiles};
use crate::observed::{HealthSettings, Observed};
use crate::python::{LoadOn, PythonSettings};
use crate::task::Task;

/// Settings of the server itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerSettings {
    /// Address to listen on.
    pub host: String,
    /// Port to listen on; 0 takes a free one.
    pub port: u16,
    /// Longest body of a request, in bytes.
    pub max_request_size: usize,
    /// Header that carries the client's name of a request.
    pub request_id_header_key: String,
    /// Level or filter of the log, such as `info` or `info,sconce_engine=debug`.
    pub log: String,
    /// Statuses of answers that tell of a failure.
    pub codes: StatusCodes,
    /// Headers for scripts of other origins.
    pub cors: Cors,
    /// Longest wait for the next part of an answer.
    pub chunked_read_timeout: Duration,
    /// Most connections at the same time, at least 1.
    pub max_connections: usize,
    /// Longest time for the headers of a request, and for a connection without one.
    pub header_timeout: Duration,
    /// Longest pause within the body of a request.
    pub body_timeout: Duration,
    /// Longest time in which a client takes nothing of its answer.
    pub write_timeout: Duration,
    /// Whether `/ping` answers 207 while the model is being loaded.
    pub allow_multi_status: bool,
    /// Most answers that are kept for clients that fetch them later, at least 1.
    pub kept_results: usize,
    /// Who may register, scale and remove models.
    pub management: Management,
    /// What requests must bring.
    pub api_keys: ApiKeys,
    /// Files for TLS; `None`: plain HTTP.
    pub tls: Option<TlsFiles>,
    /// Whether SageMaker registers and removes models while the server runs.
    pub multi_model: bool,
    /// From where models may be registered; `None`: from directories of this machine.
    pub model_url_pattern: Option<UrlPattern>,
    /// Whether a model that does not fit may take the place of the one that was longest not asked.
    pub evicts: bool,
    /// What is measured and told.
    pub observed: Observed,
    /// How the server knows whether it is well.
    pub health: HealthSettings,
}

/// Who may manage models.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Management {
    /// Nobody but clients of this machine where SageMaker runs the container, else everybody.
    Auto,
    /// Everybody who reaches the port.
    Everybody,
    /// Clients of this machine.
    Loopback,
    /// Nobody.
    Nobody,
}

/// What the URL of a model that is registered must look like, from its first to its last character.
#[derive(Clone, Debug)]
pub struct UrlPattern(Regex);

impl UrlPattern {
    pub(crate) fn new(pattern: &str) -> Result<Self, regex::Error> {
        Regex::new(&format!("^(?:{pattern})$")).map(Self)
    }

    /// Whether a model may come from there.
    pub fn allows(&self, url: &str) -> bool {
        self.0.is_match(url)
    }
}

impl PartialEq for UrlPattern {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_str() == other.0.as_str()
    }
}

impl Eq for UrlPattern {}

impl fmt::Display for UrlPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.as_str())
    }
}

/// Statuses of answers that tell of a failure, 200 to 599.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StatusCodes {
    /// The request is wrong.
    pub bad_request: u16,
    /// The model is not ready, or no longer.
    pub wlm_error: u16,
    /// The queue is full.
    pub throttle_error: u16,
    /// The server fails.
    pub server_error: u16,
}

/// Values of the headers `access-control-allow-*`; what is `None` is not sent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cors {
    /// `access-control-allow-origin`.
    pub origin: Option<String>,
    /// `access-control-allow-methods`.
    pub methods: Option<String>,
    /// `access-control-allow-headers`.
    pub headers: Option<String>,
}

/// Settings of one model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelSettings {
    /// Name in `/predictions/{name}` and in messages.
    pub name: String,
    /// Its version, if `load_models` or a registration names one.
    pub version: Option<String>,
    /// Where it came from, for who lists the models.
    pub url: String,
    /// Where its files are.
    pub source: ModelSource,
    /// The user's own code that answers; `None`: a native engine does.
    pub python: Option<PythonSettings>,
    /// The user's own functions that change requests or answers of the native engine.
    pub formatters: Option<PythonSettings>,
    /// The GGUF file among them to serve; `None`: another format, or the only GGUF file there.
    pub gguf_file: Option<String>,
    /// What it is asked to do; `None`: the checkpoint says.
    pub task: Option<Task>,
    /// Precision of the weights.
    pub dtype: Dtype,
    /// Weights in fewer bits.
    pub quantize: Quantize,
    /// Where it computes.
    pub device: Device,
    /// Ranks that share the weights (tensor parallelism), at least 1.
    pub ranks: usize,
    /// Whether there are to be as many ranks as GPUs, where there are any.
    pub all_gpus: bool,
    /// Which of the devices it computes on.
    pub load_on: LoadOn,
    /// Thousandths of a GPU's memory that a rank takes.
    pub gpu_memory_thousandths: u32,
    /// Whether steps on a GPU are launched kernel by kernel, not recorded and played again.
    pub eager: bool,
    /// Several ranks have failed when none of them shows a sign of life for so long.
    pub collective_timeout: Duration,
    /// Threads of the CPU kernels; `None`: as many as there are cores.
    pub threads: Option<usize>,
    /// Sequences computed at the same time, at least 1.
    pub max_rolling_batch_size: usize,
    /// Tokens computed in one step, at least 1; longer prompts are computed in chunks.
    pub max_batched_tokens: usize,
    /// Requests for other tasks than text generation that are computed together, at least 1; `None`: nobody says.
    pub batch_size: Option<usize>,
    /// Longest wait for such a batch to fill.
    pub max_batch_delay: Duration,
    /// Tokens of such a batch, at least 1; a single text may have more.
    pub max_batch_tokens: usize,
    /// How the vectors of tokens become one; `None`: as the checkpoint says.
    pub pooling: Option<Pooling>,
    /// Whether vectors have the length 1; `None`: as the checkpoint says.
    pub normalize: Option<bool>,
    /// Longest sequence, prompt and answer, in tokens; `None`: the model's context.
    pub max_model_len: Option<usize>,
    /// Whether weights come straight from S3 into memory.
    pub streams: bool,
    /// Whether equal beginnings of prompts share their part of the key/value cache.
    pub prefix_caching: bool,
    /// Whether pictures are answered without asking the safety checker that the pipeline has.
    pub skips_safety_checker: bool,
    /// Whether large pictures pass the autoencoder in tiles; `None`: where memory does not hold them in one piece.
    pub vae_tiling: Option<bool>,
    /// Whether what requests leave open of sampling is as the checkpoint's
    /// `generation_config.json` says; unless `option.generation_config` says so, it is what the
    /// dialect has.
    pub model_sampling: bool,
    /// What keys and values are kept as.
    pub kv_dtype: KvDtype,
    /// Bytes of the key/value cache; `None`: planned from the memory at hand.
    pub kv_cache_bytes: Option<u64>,
    /// Adapters.
    pub lora: LoraSettings,
    /// Guesses of what comes next.
    pub speculation: SpeculationSettings,
    /// Requests that may wait; more are refused.
    pub job_queue_size: usize,
    /// A request that is not finished after this long fails.
    pub predict_timeout: Duration,
    /// A model that is not ready after this long has failed.
    pub model_loading_timeout: Duration,
    /// Which of DJL Serving's wire dialects its requests and answers have.
    pub dialect: Dialect,
    /// Form of answers; `None`: whole answers as JSON, streams as JSON lines.
    pub output_formatter: Option<OutputFormatter>,
    /// Whether a static-batch dialect streams every answer.
    pub streaming: bool,
    /// Texts that end every answer.
    pub stop_sequences: Vec<String>,
    /// Name of the model in answers that name one.
    pub served_model_name: Option<String>,
    /// File with the template of dialogues; `None`: the checkpoint's own. Relative to the model's folder.
    pub chat_template: Option<PathBuf>,
}

/// Guesses of what comes next, so that a step computes several tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpeculationSettings {
    /// Who guesses.
    pub by: Speculator,
    /// Tokens that are guessed at a time, at least 1.
    pub tokens: usize,
    /// Tokens of the longest run that is looked for in the text, at least 1.
    pub longest: usize,
    /// Those of the shortest one, at least 1.
    pub shortest: usize,
}

/// Who guesses tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Speculator {
    /// Nobody: tokens are computed one by one.
    Nobody,
    /// The text itself: what followed the same tokens before.
    Lookup,
    /// A small model in this folder; within the model's, if it is relative.
    Model(PathBuf),
}

/// How a model takes LoRA adapters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoraSettings {
    /// The one that changes the model for every request that names none: that of a folder which is an adapter.
    pub own: Option<PathBuf>,
    /// Whether it takes any.
    pub enabled: bool,
    /// Adapters of the requests that are computed together, at least 1.
    pub max_loras: usize,
    /// Adapters in memory, if that is more.
    pub max_cpu_loras: Option<usize>,
    /// The greatest rank of an adapter.
    pub max_rank: usize,
    /// Precision of adapters.
    pub dtype: Dtype,
    /// The folder with those that are there from the start; within the model's, if it is relative.
    pub dir: PathBuf,
}

/// Where a model's files are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ModelSource {
    /// A directory with `config.json` or a GGUF file.
    Directory(PathBuf),
    /// A repository of the Hugging Face hub.
    Hub(HubModel),
    /// The objects below a prefix of an S3 bucket.
    S3(S3Model),
}

/// A repository of the Hugging Face hub, and how to get it.
#[derive(Clone, PartialEq, Eq)]
pub struct HubModel {
    /// `organisation/name` or `name`.
    pub id: String,
    /// Branch, tag or commit; `None`: the main branch.
    pub revision: Option<String>,
    /// Access token; never printed.
    pub token: Option<String>,
    /// The hub's address, without a slash at its end.
    pub endpoint: String,
    /// Where fetched files stay, in the layout of the Python library `huggingface_hub`.
    pub cache: PathBuf,
    /// Whether the hub is left alone: what the cache has is all there is.
    pub offline: bool,
    /// The GGUF file to fetch; `None`: weights of another format, or the only GGUF file.
    pub gguf_file: Option<String>,
}

impl fmt::Debug for HubModel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HubModel")
            .field("id", &self.id)
            .field("revision", &self.revision)
            .field("token", &self.token.as_ref().map(|_| "(hidden)"))
            .field("endpoint", &self.endpoint)
            .field("cache", &self.cache)
            .field("offline", &self.offline)
            .field("gguf_file", &self.gguf_file)
            .finish()
    }
}

/// The objects directly below a prefix of an S3 bucket, and how to get them.
#[derive(Clone, PartialEq, Eq)]
pub struct S3Model {
    /// Name of the bucket.
    pub bucket: String,
    /// Without slashes at its ends; empty: the whole bucket.
    pub prefix: String,
    /// What its own `serving.properties` is to these settings.
    pub settings: PrefixSettings,
    /// The environment's `AWS_*`: region, endpoint, credentials; never printed.
    pub variables: Vec<(String, String)>,
    /// Directories for fetched objects; the first one that can be written counts.
    pub caches: Vec<PathBuf>,
    /// The GGUF file to fetch; `None`: weights of another format, or the only GGUF file.
    pub gguf_file: Option<String>,
    /// Whether all objects are fetched, those of folders below too: Python code says itself what it
    /// reads.
    pub all: bool,
}

/// What the `serving.properties` below a prefix is to the settings of the model there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PrefixSettings {
    /// Not theirs: `option.model_id` names the prefix, and the settings stand beside it.
    Elsewhere,
    /// It has been read, and the object had this entity tag; `None`: there is no such object.
    Read(Option<String>),
    /// Nobody could read it. Settings that it may have are missing.
    Unread,
}

impl S3Model {
    /// `s3://bucket/prefix/`.
    pub fn url(&self) -> String {
        match self.prefix.as_str() {
            "" => format!("s3://{}/", self.bucket),
            prefix => format!("s3://{}/{prefix}/", self.bucket),
        }
    }

    /// An `AWS_*` variable of the environment.
    pub fn variable(&self, name: &str) -> Option<&str> {
        let mut variables = self.variables.iter();
        let found = variables.find(|(known, _)| known == name)?;
        Some(&found.1)
    }
}

impl fmt::Debug for S3Model {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.variables.iter().map(|(name, _)| name);
        f.debug_struct("S3Model")
            .field("url", &self.url())
            .field("settings", &self.settings)
            .field("variables", &names.collect::<Vec<_>>())
            .field("caches", &self.caches)
            .finish()
    }
}

/// Precision of the weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dtype {
    /// As stored in the checkpoint.
    Auto,
    /// IEEE 754, 32 bits.
    F32,
    /// IEEE 754, 16 bits.
    F16,
    /// The upper half of an `F32`.
    Bf16,
}

/// What keys and values are kept as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KvDtype {
    /// As bf16 where the weights are asked for in it, else as `F32`.
    Auto,
    /// IEEE 754, 32 bits.
    F32,
    /// The upper half of an `F32`.
    Bf16,
}

/// Weights in fewer bits: the formats are llama.cpp's, of the same names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quantize {
    /// As the checkpoint has them.
    None,
    /// 4 bits, in the format that suits each matrix best.
    Int4,
    /// 4 bits around zero.
    Q4_0,
    /// 4 bits above a minimum.
    Q4_1,
    /// 5 bits around zero.
    Q5_0,
    /// 5 bits above a minimum.
    Q5_1,
    /// 8 bits around zero.
    Q8_0,
    /// 8 bits around zero with one scale for a row.
    Q8Row,
    /// 4 bits above a minimum, in blocks of 256.
    Q4K,
    /// 5 bits above a minimum, in blocks of 256.
    Q5K,
    /// 6 bits around zero, in blocks of 256.
    Q6K,
    /// As the checkpoint has them, which must be in AWQ's packing.
    Awq,
    /// As the checkpoint has them, which must be in GPTQ's packing.
    Gptq,
}

/// Where a model computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Device {
    /// The fastest device that this build can use.
    Auto,
    /// The processor.
    Cpu,
    /// GPUs, or the start fails.
    Cuda,
}
