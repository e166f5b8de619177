//! Fields of vLLM's `EngineArgs` that DJL Serving hands on as they stand, and that no other group
//! has: cache, scheduling, ranks, kernels, loading.
//!
//! LMI hands them on since 0.32. The names are those of vLLM 0.7 and 0.11; a field that only the
//! older one has may have gone at any release up to the one that `until` names.

use super::reason::{BUILT_IN, MEMORY_PLAN, NO_CUDA, ONE_ENGINE, TEXT_ONLY};
use super::{OPTION, refused};
use crate::entry::{Entry, Status};
use crate::kind::Kind;

pub(super) const VLLM_ENGINE: &[Entry] = &[
    Entry {
        key: "option.block_size",
        kind: Kind::Number,
        since: "0.32",
        doc: "vLLM: tokens in a block of the cache.",
        status: Status::NoOp(MEMORY_PLAN),
        ..OPTION
    },
    Entry {
        key: "option.swap_space",
        kind: Kind::Number,
        since: "0.32",
        doc: "vLLM: memory of the host for sequences that are put aside, in GiB.",
        status: Status::NoOp("a sequence that is put aside is computed again"),
        ..OPTION
    },
    Entry {
        key: "option.num_gpu_blocks_override",
        kind: Kind::Number,
        since: "0.32",
        doc: "vLLM: blocks of the cache.",
        status: Status::NoOp(MEMORY_PLAN),
        ..OPTION
    },
    Entry {
        key: "option.preemption_mode",
        since: "0.32",
        until: "0.34",
        doc: "vLLM: how a sequence is put aside.",
        status: Status::NoOp("a sequence that is put aside is computed again"),
        ..OPTION
    },
    Entry {
        key: "option.prefix_caching_hash_algo",
        since: "0.32",
        doc: "vLLM: how equal beginnings are found.",
        status: Status::NoOp(BUILT_IN),
        ..OPTION
    },
    Entry {
        key: "option.use_v2_block_manager",
        kind: Kind::Flag,
        since: "0.32",
        until: "0.34",
        doc: "vLLM: another manager of blocks.",
        status: Status::NoOp(BUILT_IN),
        ..OPTION
    },
    Entry {
        key: "option.disable_hybrid_kv_cache_manager",
        kind: Kind::Flag,
        since: "0.32",
        doc: "vLLM: whether layers with and without windows share blocks.",
        status: Status::NoOp(BUILT_IN),
        ..OPTION
    },
    Entry {
        key: "option.calculate_kv_scales",
        kind: Kind::Flag,
        since: "0.32",
        doc: "vLLM: whether the cache's scales are measured.",
        status: Status::NoOp("the cache has the precision of the weights"),
        ..OPTION
    },
    Entry {
        key: "option.kv_sharing_fast_prefill",
        kind: Kind::Flag,
        since: "0.32",
        doc: "vLLM: whether prompts skip layers that share a cache.",
        status: Status::NoOp(BUILT_IN),
        ..OPTION
    },
    Entry {
        key: "option.mamba_cache_dtype",
        since: "0.32",
        doc: "vLLM: precision of the state of Mamba layers.",
        status: Status::NoOp(BUILT_IN),
        ..OPTION
    },
    Entry {
        key: "option.mamba_ssm_cache_dtype",
        since: "0.32",
        doc: "vLLM: precision of the state of Mamba layers.",
        status: Status::NoOp(BUILT_IN),
        ..OPTION
    },
    Entry {
        key: "option.mamba_block_size",
        kind: Kind::Number,
        since: "0.32",
        doc: "vLLM: tokens in a block of Mamba layers.",
        status: Status::NoOp(BUILT_IN),
        ..OPTION
    },
    Entry {
        key: "option.max_num_partial_prefills",
        kind: Kind::Number,
        since: "0.32",
        doc: "vLLM: prompts that are computed in chunks at the same time.",
        status: Status::NoOp(BUILT_IN),
        ..OPTION
    },
    Entry {
        key: "option.max_long_partial_prefills",
        kind: Kind::Number,
        since: "0.32",
        doc: "vLLM: long prompts that are computed in chunks at the same time.",
        status: Status::NoOp(BUILT_IN),
        ..OPTION
    },
    Entry {
        key: "option.long_prefill_token_threshold",
        kind: Kind::Number,
        since: "0.32",
        doc: "vLLM: length from which a prompt is long.",
        status: Status::NoOp(BUILT_IN),
        ..OPTION
    },
    Entry {
        key: "option.num_scheduler_steps",
        kind: Kind::Number,
        since: "0.32",
        until: "0.34",
        doc: "vLLM: steps that are planned together.",
        status: Status::NoOp(BUILT_IN),
        ..OPTION
    },
    Entry {
        key: "option.multi_step_stream_outputs",
        kind: Kind::Flag,
        since: "0.32",
        until: "0.34",
        doc: "vLLM: whether planned steps are streamed one by one.",
        status: Status::NoOp(BUILT_IN),
        ..OPTION
    },
    Entry {
        key: "option.scheduler_delay_factor",
        kind: Kind::Number,
        since: "0.32",
        until: "0.34",
        doc: "vLLM: delay before a prompt is admitted.",
        status: Status::NoOp("requests are admitted as soon as there is room"),
        ..OPTION
    },
    Entry {
        key: "option.scheduler_cls",
        since: "0.32",
        doc: "vLLM: another scheduler, in Python.",
        status: refused(
            "it names Python code, and none runs yet; remove it",
            &["None"],
        ),
        ..OPTION
    },
    Entry {
        key: "option.async_scheduling",
        kind: Kind::Flag,
        since: "0.32",
        doc: "vLLM: whether planning overlaps with computing.",
        status: Status::NoOp(BUILT_IN),
        ..OPTION
    },
    Entry {
        key: "option.disable_async_output_proc",
        kind: Kind::Flag,
        since: "0.32",
        until: "0.34",
        doc: "vLLM: whether answers wait for the step.",
        status: Status::NoOp(BUILT_IN),
        ..OPTION
    },
    Entry {
        key: "option.disable_chunked_mm_input",
        kind: Kind::Flag,
        since: "0.32",
        doc: "vLLM: whether a picture is computed in one step.",
        status: Status::NoOp(TEXT_ONLY),
        ..OPTION
    },
    Entry {
        key: "option.distributed_executor_backend",
        since: "0.32",
        doc: "vLLM: what runs the ranks.",
        status: Status::NoOp("ranks are threads of one process"),
        ..OPTION
    },
    Entry {
        key: "option.max_parallel_loading_workers",
        kind: Kind::Number,
        since: "0.32",
        doc: "vLLM: ranks that load at the same time.",
        status: Status::NoOp("all ranks load at the same time"),
        ..OPTION
    },
    Entry {
        key: "option.ray_workers_use_nsight",
        kind: Kind::Flag,
        since: "0.32",
        doc: "vLLM: whether ranks are profiled.",
        status: Status::NoOp(BUILT_IN),
        ..OPTION
    },
    Entry {
        key: "option.disable_custom_all_reduce",
        kind: Kind::Flag,
        since: "0.32",
        doc: "vLLM: whether ranks add up without vLLM's kernel.",
        status: Status::NoOp(BUILT_IN),
        ..OPTION
    },
    Entry {
        key: "option.worker_cls",
        since: "0.32",
        doc: "vLLM: another worker, in Python.",
        status: refused(
            "it names Python code, and none runs yet; remove it",
            &["auto"],
        ),
        ..OPTION
    },
    Entry {
        key: "option.worker_extension_cls",
        since: "0.32",
        doc: "vLLM: methods for the worker, in Python.",
        status: refused(
            "it names Python code, and none runs yet; remove it",
            &["None"],
        ),
        ..OPTION
    },
    Entry {
        key: "option.decode_context_parallel_size",
        kind: Kind::Number,
        since: "0.32",
        doc: "vLLM: ranks that share the cache of a sequence.",
        status: Status::NoOp(BUILT_IN),
        ..OPTION
    },
    Entry {
        key: "option.data_parallel_size",
        kind: Kind::Number,
        ..COPIES
    },
    Entry {
        key: "option.data_parallel_rank",
        kind: Kind::Number,
        ..COPIES
    },
    Entry {
        key: "option.data_parallel_start_rank",
        kind: Kind::Number,
        ..COPIES
    },
    Entry {
        key: "option.data_parallel_size_local",
        kind: Kind::Number,
        ..COPIES
    },
    Entry {
        key: "option.data_parallel_address",
        ..COPIES
    },
    Entry {
        key: "option.data_parallel_rpc_port",
        kind: Kind::Number,
        ..COPIES
    },
    Entry {
        key: "option.data_parallel_hybrid_lb",
        kind: Kind::Flag,
        ..COPIES
    },
    Entry {
        key: "option.data_parallel_backend",
        ..COPIES
    },
    Entry {
        key: "option.enable_expert_parallel",
        kind: Kind::Flag,
        since: "0.32",
        doc: "vLLM: whether ranks share experts instead of cutting them.",
        status: Status::NoOp(BUILT_IN),
        ..OPTION
    },
    Entry {
        key: "option.expert_placement_strategy",
        since: "0.32",
        doc: "vLLM: which rank has which expert.",
        status: Status::NoOp(BUILT_IN),
        ..OPTION
    },
    Entry {
        key: "option.all2all_backend",
        since: "0.32",
        doc: "vLLM: how tokens reach their experts.",
        status: Status::NoOp(BUILT_IN),
        ..OPTION
    },
    Entry {
        key: "option.enable_eplb",
        kind: Kind::Flag,
        since: "0.32",
        doc: "vLLM: whether experts are moved between ranks.",
        status: Status::NoOp(BUILT_IN),
        ..OPTION
    },
    Entry {
        key: "option.eplb_config",
        kind: Kind::Json,
        since: "0.32",
        doc: "vLLM: how experts are moved.",
        status: Status::NoOp(BUILT_IN),
        ..OPTION
    },
    Entry {
        key: "option.num_redundant_experts",
        kind: Kind::Number,
        since: "0.32",
        doc: "vLLM: copies of busy experts.",
        status: Status::NoOp(BUILT_IN),
        ..OPTION
    },
    Entry {
        key: "option.eplb_window_size",
        kind: Kind::Number,
        since: "0.32",
        doc: "vLLM: steps over which load is counted.",
        status: Status::NoOp(BUILT_IN),
        ..OPTION
    },
    Entry {
        key: "option.eplb_step_interval",
        kind: Kind::Number,
        since: "0.32",
        doc: "vLLM: steps between two moves.",
        status: Status::NoOp(BUILT_IN),
        ..OPTION
    },
    Entry {
        key: "option.eplb_log_balancedness",
        kind: Kind::Flag,
        since: "0.32",
        doc: "vLLM: whether the load is logged.",
        status: Status::NoOp(BUILT_IN),
        ..OPTION
    },
    Entry {
        key: "option.enable_dbo",
        kind: Kind::Flag,
        since: "0.32",
        doc: "vLLM: whether halves of a batch overlap.",
        status: Status::NoOp(BUILT_IN),
        ..OPTION
    },
    Entry {
        key: "option.dbo_decode_token_threshold",
        kind: Kind::Number,
        since: "0.32",
        doc: "vLLM: tokens from which halves overlap.",
        status: Status::NoOp(BUILT_IN),
        ..OPTION
    },
    Entry {
        key: "option.dbo_prefill_token_threshold",
        kind: Kind::Number,
        since: "0.32",
        doc: "vLLM: tokens from which halves overlap.",
        status: Status::NoOp(BUILT_IN),
        ..OPTION
    },
    Entry {
        key: "option.disable_nccl_for_dp_synchronization",
        kind: Kind::Flag,
        since: "0.32",
        doc: "vLLM: how copies of the model agree.",
        status: Status::NoOp(BUILT_IN),
        ..OPTION
    },
    Entry {
        key: "option.max_seq_len_to_capture",
        kind: Kind::Number,
        since: "0.32",
        until: "0.34",
        doc: "vLLM: longest sequence for which launches are recorded.",
        status: Status::NoOp(NO_CUDA),
        ..OPTION
    },
    Entry {
        key: "option.compilation_config",
        since: "0.32",
        doc: "vLLM: how the model is compiled.",
        status: Status::NoOp("kernels are built in"),
        ..OPTION
    },
    Entry {
        key: "option.disable_cascade_attn",
        kind: Kind::Flag,
        since: "0.32",
        doc: "vLLM: whether common beginnings get no kernel of their own.",
        status: Status::NoOp(BUILT_IN),
        ..OPTION
    },
    Entry {
        key: "option.override_attention_dtype",
        since: "0.32",
        doc: "vLLM: precision of attention.",
        status: Status::NoOp("attention has the precision of the weights"),
        ..OPTION
    },
    Entry {
        key: "option.model_impl",
        since: "0.32",
        doc: "vLLM: whose code of the architecture runs.",
        status: Status::NoOp("architectures are built in"),
        ..OPTION
    },
    Entry {
        key: "option.enable_sleep_mode",
        kind: Kind::Flag,
        since: "0.32",
        doc: "vLLM: whether weights can be put aside.",
        status: Status::NoOp("weights stay where they are"),
        ..OPTION
    },
    Entry {
        key: "option.override_neuron_config",
        kind: Kind::Json,
        since: "0.32",
        until: "0.34",
        doc: "vLLM: settings of Neuron.",
        status: Status::NoOp("there is no Neuron device"),
        ..OPTION
    },
    Entry {
        key: "option.additional_config",
        kind: Kind::Json,
        since: "0.32",
        doc: "vLLM: settings of other platforms.",
        status: Status::NoOp(BUILT_IN),
        ..OPTION
    },
    Entry {
        key: "option.use_tqdm_on_load",
        kind: Kind::Flag,
        since: "0.32",
        doc: "vLLM: whether loading shows a bar.",
        status: Status::NoOp(BUILT_IN),
        ..OPTION
    },
    Entry {
        key: "option.pt_load_map_location",
        since: "0.32",
        doc: "vLLM: device on which weights are read.",
        status: Status::NoOp("weights are mapped, never copied as a whole"),
        ..OPTION
    },
    Entry {
        key: "option.model_loader_extra_config",
        kind: Kind::Json,
        since: "0.32",
        doc: "vLLM: settings of the loader.",
        status: Status::NoOp("the files of the checkpoint tell their format"),
        ..OPTION
    },
    Entry {
        key: "option.safetensors_load_strategy",
        since: "0.32",
        doc: "vLLM: how weights are read.",
        status: Status::NoOp("weights are mapped, never copied as a whole"),
        ..OPTION
    },
    Entry {
        key: "option.ignore_patterns",
        since: "0.32",
        doc: "vLLM: files that are not fetched.",
        status: Status::NoOp("only what serving needs is fetched"),
        ..OPTION
    },
];

const COPIES: Entry = Entry {
    since: "0.32",
    doc: "vLLM: copies of the model that share its requests.",
    status: Status::NoOp(ONE_ENGINE),
    ..OPTION
};
