//! The settings while they are being put together: the table's entries write into it.

use std::path::PathBuf;
use std::time::Duration;

use sconce_core::Dialect;

use crate::access::{ApiKeys, TlsDraft};
use crate::bucket::BucketAccess;
use crate::dialect::Facts;
use crate::entry::{Entry, Status};
use crate::handler::Handler;
use crate::observed::{HealthSettings, Observed};
use crate::options::options;
use crate::python::{LoadOn, PythonSettings};
use crate::settings::{
    Cors, Device, Dtype, KvDtype, LoraSettings, Management, ModelSettings, ModelSource, Quantize,
    ServerSettings, SpeculationSettings, Speculator, StatusCodes,
};
use crate::value::{Address, Rejection, Value};

/// Settings under construction, and what decides where the model is.
#[derive(Clone)]
pub(crate) struct Draft {
    pub(crate) server: ServerSettings,
    /// Name and source are set last.
    pub(crate) model: ModelSettings,
    /// `management_address`.
    pub(crate) management_address: Option<Address>,
    pub(crate) tls: TlsDraft,
    /// `load_models`.
    pub(crate) load_models: String,
    /// `model_store`.
    pub(crate) model_store: PathBuf,
    /// `HF_MODEL_ID`.
    pub(crate) hub_model: Option<String>,
    /// `option.model_id`.
    pub(crate) model_id: Option<String>,
    /// `option.revision`.
    pub(crate) revision: Option<String>,
    /// `HF_TOKEN`.
    pub(crate) token: Option<String>,
    /// `HF_ENDPOINT`.
    pub(crate) hub_endpoint: String,
    /// `HF_HUB_CACHE`, or what `HF_HOME` says of it.
    pub(crate) hub_cache: Option<PathBuf>,
    /// `HF_HUB_OFFLINE`.
    pub(crate) hub_offline: bool,
    pub(crate) bucket_access: BucketAccess,
    /// `option.entryPoint`, as written.
    pub(crate) entry_point: Option<String>,
    /// What options say of Python mode, whether or not it is chosen.
    pub(crate) python: PythonSettings,
    /// `option.generation_config`; `None`: the dialect says.
    pub(crate) generation_config: Option<bool>,
    /// What the dialect depends on.
    pub(crate) facts: Facts,
    /// Whether unknown keys are warnings only.
    pub(crate) lenient: bool,
}

impl Draft {
    /// Holds the defaults of the table.
    pub(crate) fn new() -> Self {
        let mut draft = Self::blank();
        for entry in options().filter(|entry| !entry.default.is_empty()) {
            draft
                .apply(entry, entry.default)
                .expect("every default is valid: there is a test");
        }
        draft
    }

    /// Does with a value what the entry says.
    pub(crate) fn apply(&mut self, entry: &Entry, value: &str) -> Value<()> {
        match entry.status {
            Status::Honoured(apply)
            | Status::Translated { apply, .. }
            | Status::OwnCode { apply, .. } => apply(self, value),
            Status::NoOp(_) => entry.kind.check(value),
            Status::Refused { reason, harmless } => {
                if harmless.iter().any(|word| word.eq_ignore_ascii_case(value)) {
                    return Ok(());
                }
                Err(Rejection::Unsupported(reason.into()))
            }
        }
    }

    /// Whether the user's own Python code answers, to which all unknown options belong.
    pub(crate) fn has_own_code(&self) -> bool {
        self.facts.handler == Some(Handler::OwnCode)
    }

    /// Placeholders, which the defaults of the table replace.
    fn blank() -> Self {
        Self {
            server: blank_server(),
            model: blank_model(),
            management_address: None,
            tls: TlsDraft::default(),
            load_models: String::new(),
            model_store: PathBuf::new(),
            hub_model: None,
            model_id: None,
            revision: None,
            token: None,
            hub_endpoint: String::new(),
            hub_cache: None,
            hub_offline: false,
            bucket_access: BucketAccess::default(),
            entry_point: None,
            python: PythonSettings::default(),
            generation_config: None,
            facts: Facts::default(),
            lenient: false,
        }
    }
}

fn blank_server() -> ServerSettings {
    ServerSettings {
        host: String::new(),
        port: 0,
        max_request_size: 0,
        request_id_header_key: String::new(),
        log: String::new(),
        codes: StatusCodes {
            bad_request: 0,
            wlm_error: 0,
            throttle_error: 0,
            server_error: 0,
        },
        cors: Cors::default(),
        chunked_read_timeout: Duration::ZERO,
        max_connections: 0,
        header_timeout: Duration::ZERO,
        body_timeout: Duration::ZERO,
        write_timeout: Duration::ZERO,
        allow_multi_status: false,
        kept_results: 0,
        management: Management::Auto,
        api_keys: ApiKeys::default(),
        tls: None,
        multi_model: false,
        model_url_pattern: None,
        evicts: false,
        observed: Observed::default(),
        health: HealthSettings::default(),
    }
}

fn blank_model() -> ModelSettings {
    ModelSettings {
        name: String::new(),
        version: None,
        url: String::new(),
        source: ModelSource::Directory(PathBuf::new()),
        python: None,
        formatters: None,
        gguf_file: None,
        task: None,
        dtype: Dtype::Auto,
        quantize: Quantize::None,
        device: Device::Auto,
        ranks: 0,
        all_gpus: false,
        load_on: LoadOn::All,
        gpu_memory_thousandths: 0,
        eager: false,
        collective_timeout: Duration::ZERO,
        threads: None,
        max_rolling_batch_size: 0,
        max_batched_tokens: 0,
        batch_size: None,
        max_batch_delay: Duration::ZERO,
        max_batch_tokens: 0,
        pooling: None,
        normalize: None,
        max_model_len: None,
        streams: false,
        prefix_caching: false,
        skips_safety_checker: false,
        vae_tiling: None,
        model_sampling: false,
        kv_dtype: KvDtype::Auto,
        kv_cache_bytes: None,
        speculation: SpeculationSettings {
            by: Speculator::Nobody,
            tokens: 0,
            longest: 0,
            shortest: 0,
        },
        lora: LoraSettings {
            own: None,
            enabled: false,
            max_loras: 0,
            max_cpu_loras: None,
            max_rank: 0,
            dtype: Dtype::Auto,
            dir: PathBuf::new(),
        },
        job_queue_size: 0,
        predict_timeout: Duration::ZERO,
        model_loading_timeout: Duration::ZERO,
        dialect: Dialect::Async,
        output_formatter: None,
        streaming: false,
        stop_sequences: Vec::new(),
        served_model_name: None,
        chat_template: None,
    }
}
