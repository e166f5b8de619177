//! Fields of vLLM's `EngineArgs` that DJL Serving hands on as they stand: what requests and answers
//! are made of, what is logged, and caches that several servers share.

use super::reason::{
    BUILT_IN, CACHE_STAYS, GRAMMARS, METRICS, POOLED, PYTHON_ONLY, TEXT_ONLY, TRACES,
};
use super::{OPTION, refused};
use crate::entry::{Entry, Status, Variable::Fills};
use crate::kind::Kind;

pub(super) const VLLM_REQUESTS: &[Entry] = &[
    Entry {
        key: "option.tokenizer_pool_size",
        kind: Kind::Number,
        since: "0.32",
        until: "0.34",
        doc: "vLLM: tokenizers that work at the same time.",
        status: Status::NoOp(BUILT_IN),
        ..OPTION
    },
    Entry {
        key: "option.tokenizer_pool_type",
        since: "0.32",
        until: "0.34",
        doc: "vLLM: what runs these tokenizers.",
        status: Status::NoOp(BUILT_IN),
        ..OPTION
    },
    Entry {
        key: "option.tokenizer_pool_extra_config",
        since: "0.32",
        until: "0.34",
        doc: "vLLM: settings of these tokenizers.",
        status: Status::NoOp(BUILT_IN),
        ..OPTION
    },
    Entry {
        key: "option.enable_prompt_embeds",
        kind: Kind::Flag,
        since: "0.32",
        doc: "vLLM: whether prompts may be vectors.",
        status: refused("prompts are texts; remove it", &["false"]),
        ..OPTION
    },
    Entry {
        key: "option.runner",
        since: "0.32",
        doc: "vLLM: what the model does.",
        status: refused(
            "option.task says what the model does; remove it",
            &["auto", "generate"],
        ),
        ..OPTION
    },
    Entry {
        key: "option.convert",
        since: "0.32",
        doc: "vLLM: whether the model is turned into another.",
        status: refused(
            "option.task says what the model does; remove it",
            &["auto", "none"],
        ),
        ..OPTION
    },
    Entry {
        key: "option.pooler_config",
        kind: Kind::Json,
        since: "0.32",
        doc: "vLLM: how vectors of tokens become one.",
        status: Status::NoOp(POOLED),
        ..OPTION
    },
    Entry {
        key: "option.override_pooler_config",
        kind: Kind::Json,
        since: "0.32",
        doc: "vLLM: how vectors of tokens become one.",
        status: Status::NoOp(POOLED),
        ..OPTION
    },
    Entry {
        key: "option.structured_outputs_config",
        kind: Kind::Json,
        ..GRAMMAR
    },
    Entry {
        key: "option.guided_decoding_backend",
        ..GRAMMAR
    },
    Entry {
        key: "option.guided_decoding_disable_fallback",
        ..GRAMMAR
    },
    Entry {
        key: "option.guided_decoding_disable_any_whitespace",
        ..GRAMMAR
    },
    Entry {
        key: "option.guided_decoding_disable_additional_properties",
        ..GRAMMAR
    },
    Entry {
        key: "option.logits_processor_pattern",
        since: "0.32",
        doc: "vLLM: functions that a request may name.",
        status: Status::NoOp(PYTHON_ONLY),
        ..OPTION
    },
    Entry {
        key: "option.logits_processors",
        since: "0.32",
        doc: "vLLM: functions that change the choice of tokens.",
        status: refused(
            "it names Python code, and none runs yet; remove it",
            &["None"],
        ),
        ..OPTION
    },
    Entry {
        key: "option.io_processor_plugin",
        since: "0.32",
        doc: "vLLM: a parser of requests, in Python.",
        status: refused(
            "it names Python code, and none runs yet; remove it",
            &["None"],
        ),
        ..OPTION
    },
    Entry {
        key: "option.limit_mm_per_prompt",
        since: "0.32",
        doc: "vLLM: most pictures, films and sounds of a prompt.",
        status: Status::NoOp(TEXT_ONLY),
        ..OPTION
    },
    Entry {
        key: "option.mm_processor_kwargs",
        kind: Kind::Json,
        ..MEDIA
    },
    Entry {
        key: "option.disable_mm_preprocessor_cache",
        kind: Kind::Flag,
        ..MEDIA
    },
    Entry {
        key: "option.mm_processor_cache_gb",
        kind: Kind::Number,
        ..MEDIA
    },
    Entry {
        key: "option.mm_processor_cache_type",
        ..MEDIA
    },
    Entry {
        key: "option.mm_shm_cache_max_object_size_mb",
        kind: Kind::Number,
        ..MEDIA
    },
    Entry {
        key: "option.mm_encoder_tp_mode",
        ..MEDIA
    },
    Entry {
        key: "option.mm_encoder_attn_backend",
        ..MEDIA
    },
    Entry {
        key: "option.enable_mm_embeds",
        kind: Kind::Flag,
        ..MEDIA
    },
    Entry {
        key: "option.interleave_mm_strings",
        kind: Kind::Flag,
        ..MEDIA
    },
    Entry {
        key: "option.media_io_kwargs",
        kind: Kind::Json,
        ..MEDIA
    },
    Entry {
        key: "option.skip_mm_profiling",
        kind: Kind::Flag,
        ..MEDIA
    },
    Entry {
        key: "option.video_pruning_rate",
        kind: Kind::Number,
        ..MEDIA
    },
    Entry {
        key: "option.enable_multimodal_encoder_data_parallel",
        kind: Kind::Flag,
        ..MEDIA
    },
    Entry {
        key: "option.allowed_local_media_path",
        ..MEDIA
    },
    Entry {
        key: "option.allowed_media_domains",
        ..MEDIA
    },
    Entry {
        key: "option.image_placeholder_token",
        since: "0.29",
        doc: "The token that stands for a picture.",
        status: Status::NoOp(TEXT_ONLY),
        ..OPTION
    },
    Entry {
        key: "option.disable_log_stats",
        kind: Kind::Flag,
        since: "0.32",
        doc: "vLLM: whether times are not logged.",
        status: Status::NoOp(METRICS),
        ..OPTION
    },
    Entry {
        key: "option.disable_log_requests",
        kind: Kind::Flag,
        since: "0.32",
        doc: "vLLM: whether requests are not logged.",
        status: Status::NoOp("contents of requests are never logged"),
        ..OPTION
    },
    Entry {
        key: "option.enable_log_requests",
        kind: Kind::Flag,
        since: "0.32",
        doc: "vLLM: whether requests are logged.",
        status: Status::NoOp("contents of requests are never logged"),
        ..OPTION
    },
    Entry {
        key: "option.aggregate_engine_logging",
        kind: Kind::Flag,
        since: "0.32",
        doc: "vLLM: whether logs of copies are one.",
        status: Status::NoOp(METRICS),
        ..OPTION
    },
    Entry {
        key: "option.show_hidden_metrics_for_version",
        since: "0.32",
        doc: "vLLM: metrics that are going.",
        status: Status::NoOp(METRICS),
        ..OPTION
    },
    Entry {
        key: "option.otlp_traces_endpoint",
        since: "0.32",
        doc: "vLLM: where traces are sent.",
        status: Status::NoOp(TRACES),
        ..OPTION
    },
    Entry {
        key: "option.collect_detailed_traces",
        since: "0.32",
        doc: "vLLM: what is traced.",
        status: Status::NoOp(TRACES),
        ..OPTION
    },
    Entry {
        key: "option.kv_transfer_config",
        kind: Kind::Json,
        since: "0.32",
        doc: "vLLM: how caches are shared between servers.",
        status: Status::NoOp(CACHE_STAYS),
        ..OPTION
    },
    Entry {
        key: "option.kv_events_config",
        kind: Kind::Json,
        since: "0.32",
        doc: "vLLM: who is told of changes of the cache.",
        status: Status::NoOp(CACHE_STAYS),
        ..OPTION
    },
    Entry {
        key: "option.lmcache_config_file",
        variables: &[Fills("LMCACHE_CONFIG_FILE")],
        kind: Kind::Path,
        since: "0.36",
        doc: "LMCache: its own configuration.",
        status: Status::NoOp(CACHE_STAYS),
        ..OPTION
    },
    Entry {
        key: "option.lmcache_auto_config",
        kind: Kind::Flag,
        since: "0.36",
        doc: "LMCache: whether it configures itself.",
        status: Status::NoOp(CACHE_STAYS),
        ..OPTION
    },
];

const GRAMMAR: Entry = Entry {
    since: "0.32",
    doc: "vLLM: how answers keep to a grammar.",
    status: Status::NoOp(GRAMMARS),
    ..OPTION
};

const MEDIA: Entry = Entry {
    since: "0.32",
    doc: "vLLM: how pictures, films and sounds are read.",
    status: Status::NoOp(TEXT_ONLY),
    ..OPTION
};
