//! TensorRT-LLM: what its engines were compiled with, and what its runtime reads.

use super::reason::{ALWAYS_ROLLING, MEMORY_PLAN, NOT_COMPILED, ONE_BACKEND};
use super::{OPTION, refused};
use crate::entry::{Entry, Status};
use crate::kind::Kind;

pub(super) const TRTLLM: &[Entry] = &[
    Entry {
        key: "option.backend",
        since: "0.33",
        doc: "TensorRT-LLM: what runs the model.",
        status: Status::NoOp(ONE_BACKEND),
        ..OPTION
    },
    Entry {
        key: "option.max_beam_width",
        kind: Kind::Number,
        since: "0.26",
        doc: "TensorRT-LLM: most beams.",
        status: Status::NoOp("requests say how many; option.max_rolling_batch_size is the most"),
        ..OPTION
    },
    Entry {
        key: "option.max_num_sequences",
        kind: Kind::Number,
        since: "0.25",
        doc: "TensorRT-LLM: most sequences of a compiled engine.",
        status: Status::NoOp(NOT_COMPILED),
        ..OPTION
    },
    Entry {
        key: "option.batch_scheduler_policy",
        since: "0.25",
        doc: "TensorRT-LLM: when requests are admitted.",
        status: Status::NoOp("requests are admitted as soon as there is room"),
        ..OPTION
    },
    Entry {
        key: "option.batching_type",
        since: "0.33",
        doc: "TensorRT-LLM: how requests are batched.",
        status: Status::NoOp(ALWAYS_ROLLING),
        ..OPTION
    },
    Entry {
        key: "option.use_custom_all_reduce",
        kind: Kind::Flag,
        since: "0.25",
        until: "0.30",
        doc: "TensorRT-LLM: how ranks add up.",
        status: Status::NoOp(NOT_COMPILED),
        ..OPTION
    },
    Entry {
        key: "option.tokens_per_block",
        kind: Kind::Number,
        since: "0.25",
        doc: "TensorRT-LLM: tokens in a block of the cache.",
        status: Status::NoOp(MEMORY_PLAN),
        ..OPTION
    },
    Entry {
        key: "option.enable_trt_overlap",
        kind: Kind::Flag,
        since: "0.25",
        doc: "TensorRT-LLM: whether batches overlap.",
        status: Status::NoOp(NOT_COMPILED),
        ..OPTION
    },
    Entry {
        key: "option.enable_overlap_scheduler",
        kind: Kind::Flag,
        since: "0.33",
        doc: "TensorRT-LLM: whether planning overlaps with computing.",
        status: Status::NoOp(NOT_COMPILED),
        ..OPTION
    },
    Entry {
        key: "option.multi_block_mode",
        kind: Kind::Flag,
        since: "0.26",
        until: "0.30",
        doc: "TensorRT-LLM: how attention is cut.",
        status: Status::NoOp(NOT_COMPILED),
        ..OPTION
    },
    Entry {
        key: "option.use_fused_mlp",
        kind: Kind::Flag,
        since: "0.26",
        doc: "TensorRT-LLM: whether layers are fused.",
        status: Status::NoOp(NOT_COMPILED),
        ..OPTION
    },
    Entry {
        key: "option.logits_dtype",
        since: "0.29",
        doc: "TensorRT-LLM: precision of logits.",
        status: Status::NoOp("logits are computed in 32 bits"),
        ..OPTION
    },
    Entry {
        key: "option.load_by_shard",
        kind: Kind::Flag,
        since: "0.29",
        doc: "TensorRT-LLM: whether the checkpoint is converted part by part.",
        status: Status::NoOp(NOT_COMPILED),
        ..OPTION
    },
    Entry {
        key: "option.num_engine_workers",
        kind: Kind::Number,
        since: "0.30",
        doc: "TensorRT-LLM: processes that compile.",
        status: Status::NoOp(NOT_COMPILED),
        ..OPTION
    },
    Entry {
        key: "option.num_checkpoint_workers",
        kind: Kind::Number,
        since: "0.30",
        doc: "TensorRT-LLM: processes that convert.",
        status: Status::NoOp(NOT_COMPILED),
        ..OPTION
    },
    Entry {
        key: "option.baichuan_model_version",
        ..MODEL_OF_FAMILY
    },
    Entry {
        key: "option.chatglm_model_version",
        ..MODEL_OF_FAMILY
    },
    Entry {
        key: "option.gpt_model_version",
        ..MODEL_OF_FAMILY
    },
    Entry {
        key: "option.rotary_base",
        kind: Kind::Number,
        ..ROTATION
    },
    Entry {
        key: "option.rotary_dim",
        kind: Kind::Number,
        ..ROTATION
    },
    Entry {
        key: "option.rotary_scaling_type",
        ..ROTATION
    },
    Entry {
        key: "option.rotary_scaling_factor",
        kind: Kind::Number,
        ..ROTATION
    },
    Entry {
        key: "option.max_attention_window",
        since: "0.33",
        doc: "TensorRT-LLM: how far attention sees.",
        status: refused(
            "the architecture says how far attention sees; remove it",
            &[],
        ),
        ..OPTION
    },
    Entry {
        key: "option.sink_token_length",
        kind: Kind::Number,
        since: "0.33",
        doc: "TensorRT-LLM: first tokens that attention always sees.",
        status: refused(
            "the architecture says how far attention sees; remove it",
            &["0"],
        ),
        ..OPTION
    },
    Entry {
        key: "option.host_cache_size",
        kind: Kind::Number,
        since: "0.33",
        doc: "TensorRT-LLM: memory of the host for the cache.",
        status: Status::NoOp(MEMORY_PLAN),
        ..OPTION
    },
    Entry {
        key: "option.onboard_blocks",
        kind: Kind::Flag,
        since: "0.33",
        doc: "TensorRT-LLM: whether blocks return to the GPU.",
        status: Status::NoOp(MEMORY_PLAN),
        ..OPTION
    },
    Entry {
        key: "option.cross_kv_cache_fraction",
        kind: Kind::Number,
        since: "0.33",
        doc: "TensorRT-LLM: share of the cache for encoders.",
        status: Status::NoOp(MEMORY_PLAN),
        ..OPTION
    },
    Entry {
        key: "option.secondary_offload_min_priority",
        kind: Kind::Number,
        since: "0.33",
        doc: "TensorRT-LLM: which blocks go to the host.",
        status: Status::NoOp(MEMORY_PLAN),
        ..OPTION
    },
    Entry {
        key: "option.event_buffer_max_size",
        kind: Kind::Number,
        since: "0.33",
        doc: "TensorRT-LLM: changes of the cache that are kept.",
        status: Status::NoOp(MEMORY_PLAN),
        ..OPTION
    },
    Entry {
        key: "option.context_parallel_size",
        kind: Kind::Number,
        since: "0.33",
        doc: "TensorRT-LLM: ranks that share a prompt.",
        status: Status::NoOp(NOT_COMPILED),
        ..OPTION
    },
    Entry {
        key: "option.moe_tensor_parallel_size",
        kind: Kind::Number,
        since: "0.33",
        doc: "TensorRT-LLM: ranks that cut experts.",
        status: Status::NoOp(NOT_COMPILED),
        ..OPTION
    },
    Entry {
        key: "option.moe_expert_parallel_size",
        kind: Kind::Number,
        since: "0.33",
        doc: "TensorRT-LLM: ranks that share experts.",
        status: Status::NoOp(NOT_COMPILED),
        ..OPTION
    },
    Entry {
        key: "option.moe_backend",
        since: "0.33",
        doc: "TensorRT-LLM: kernel of experts.",
        status: Status::NoOp(NOT_COMPILED),
        ..OPTION
    },
    Entry {
        key: "option.attn_backend",
        since: "0.33",
        doc: "TensorRT-LLM: kernel of attention.",
        status: Status::NoOp(NOT_COMPILED),
        ..OPTION
    },
    Entry {
        key: "option.use_cuda_graph",
        kind: Kind::Flag,
        since: "0.33",
        doc: "TensorRT-LLM: whether launches are recorded.",
        status: Status::NoOp(NOT_COMPILED),
        ..OPTION
    },
    Entry {
        key: "option.enable_attention_dp",
        kind: Kind::Flag,
        since: "0.33",
        doc: "TensorRT-LLM: whether ranks share sequences.",
        status: Status::NoOp(NOT_COMPILED),
        ..OPTION
    },
    Entry {
        key: "option.auto_parallel",
        kind: Kind::Flag,
        since: "0.33",
        doc: "TensorRT-LLM: whether the plan of ranks is searched.",
        status: Status::NoOp(NOT_COMPILED),
        ..OPTION
    },
    Entry {
        key: "option.auto_parallel_world_size",
        kind: Kind::Number,
        since: "0.33",
        doc: "TensorRT-LLM: ranks for which a plan is searched.",
        status: Status::NoOp(NOT_COMPILED),
        ..OPTION
    },
    Entry {
        key: "option.embedding_parallel_mode",
        since: "0.33",
        doc: "TensorRT-LLM: how embeddings are cut.",
        status: Status::NoOp(NOT_COMPILED),
        ..OPTION
    },
    Entry {
        key: "option.fast_build",
        kind: Kind::Flag,
        since: "0.33",
        doc: "TensorRT-LLM: whether compiling is quick.",
        status: Status::NoOp(NOT_COMPILED),
        ..OPTION
    },
    Entry {
        key: "option.enable_build_cache",
        kind: Kind::Flag,
        since: "0.33",
        doc: "TensorRT-LLM: whether compiled engines are kept.",
        status: Status::NoOp(NOT_COMPILED),
        ..OPTION
    },
    Entry {
        key: "option.extended_runtime_perf_knob_config",
        kind: Kind::Json,
        since: "0.33",
        doc: "TensorRT-LLM: settings of kernels.",
        status: Status::NoOp(NOT_COMPILED),
        ..OPTION
    },
    Entry {
        key: "option.iter_stats_max_iterations",
        kind: Kind::Number,
        since: "0.33",
        doc: "TensorRT-LLM: steps that are counted.",
        status: Status::NoOp(NOT_COMPILED),
        ..OPTION
    },
    Entry {
        key: "option.request_stats_max_iterations",
        kind: Kind::Number,
        since: "0.33",
        doc: "TensorRT-LLM: requests that are counted.",
        status: Status::NoOp(NOT_COMPILED),
        ..OPTION
    },
    Entry {
        key: "option.normalize_log_probs",
        kind: Kind::Flag,
        since: "0.33",
        doc: "TensorRT-LLM: whether log-probabilities are divided by lengths.",
        status: refused("they are those of the model; remove it", &["false"]),
        ..OPTION
    },
    Entry {
        key: "option.gather_generation_logits",
        kind: Kind::Flag,
        since: "0.33",
        doc: "TensorRT-LLM: whether logits are kept.",
        status: Status::NoOp("they are computed where a request asks for them"),
        ..OPTION
    },
    Entry {
        key: "option.max_output_size",
        kind: Kind::Number,
        since: "0.26",
        doc: "TensorRT-LLM: longest answer of a compiled engine.",
        status: Status::NoOp("an answer may be as long as option.max_model_len leaves room"),
        ..OPTION
    },
];

const MODEL_OF_FAMILY: Entry = Entry {
    since: "0.26",
    doc: "TensorRT-LLM: which model of the family it is.",
    status: Status::NoOp("config.json says"),
    ..OPTION
};

const ROTATION: Entry = Entry {
    since: "0.26",
    doc: "TensorRT-LLM: how positions are rotated.",
    status: Status::NoOp("config.json says"),
    ..OPTION
};
